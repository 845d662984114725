"""Users who are found by their ID and by their address, which no two of them share.

A unique index is a second key that is written in the same transaction: `emails/ADDRESS` holds the
ID of the user whose record is at `users/ID`. Neither is ever seen without the other.
"""

import json

import multiraft
from multiraft.errors import ConditionFailedError

USERS, EMAILS = b"users/", b"emails/"


class TakenError(Exception):
    """Another user has that address."""


async def register(db: multiraft.Database, user_id: str, email: str) -> None:
    """Add a user. Raises TakenError."""

    async def add(txn: multiraft.Transaction) -> None:
        await _claim(txn, email, user_id)
        await txn.put(USERS + user_id.encode(), json.dumps({"email": email}).encode())

    await db.run(add)


async def change_email(db: multiraft.Database, user_id: str, email: str) -> None:
    """Give a user another address, and free the old one. Raises TakenError, KeyError."""

    async def change(txn: multiraft.Transaction) -> None:
        record = await txn.get(USERS + user_id.encode())
        if record is None:
            raise KeyError(user_id)
        user = json.loads(record)
        if user["email"] == email:
            return
        await _claim(txn, email, user_id)
        await txn.delete(EMAILS + user["email"].encode())
        await txn.put(USERS + user_id.encode(), json.dumps(user | {"email": email}).encode())

    await db.run(change)


async def find(db: multiraft.Database, email: str) -> str | None:
    """Return the ID of the user who has that address."""
    user_id = await db.get(EMAILS + email.encode())
    return None if user_id is None else user_id.decode()


async def _claim(txn: multiraft.Transaction, email: str, user_id: str) -> None:
    try:
        await txn.put(EMAILS + email.encode(), user_id.encode(), expected=None)
    except ConditionFailedError:
        raise TakenError(email) from None


async def check(db: multiraft.Database) -> None:
    """Assert that users and addresses belong together, one to one."""

    async def read(txn: multiraft.Transaction) -> tuple[dict[str, str], dict[str, str]]:
        users = {
            key.removeprefix(USERS).decode(): json.loads(record)["email"]
            async for key, record in txn.scan(prefix=USERS)
        }
        emails = {
            key.removeprefix(EMAILS).decode(): user_id.decode()
            async for key, user_id in txn.scan(prefix=EMAILS)
        }
        return users, emails

    users, emails = await db.run(read)
    assert users == {user_id: email for email, user_id in emails.items()}
