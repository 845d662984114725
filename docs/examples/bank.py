"""Accounts and transfers: several keys of several ranges change together, or not at all."""

import multiraft

ACCOUNTS = b"accounts/"


class NotEnoughError(Exception):
    """The account does not hold what is to be paid."""


def account(name: str) -> bytes:
    """Return the key of an account."""
    return ACCOUNTS + name.encode()


async def open_account(db: multiraft.Database, name: str, balance: int) -> None:
    """Open an account, unless there is one of that name: then ConditionFailedError."""
    await db.put(account(name), str(balance).encode(), expected=None)


async def transfer(db: multiraft.Database, source: str, target: str, amount: int) -> int:
    """Pay from one account to another, and return what is left in the first."""

    async def pay(txn: multiraft.Transaction) -> int:
        held = await txn.get_many([account(source), account(target)])
        balances = {key: int(value or b"0") for key, value in held.items()}
        if balances[account(source)] < amount:
            raise NotEnoughError(source)  # Ends the transaction, and reaches the caller as it is.
        balances[account(source)] -= amount
        balances[account(target)] += amount
        for key, balance in balances.items():
            await txn.put(key, str(balance).encode())
        return balances[account(source)]

    # `pay` runs again whenever another transfer got in its way; nothing of it counts before.
    return await db.run(pay)


async def total(db: multiraft.Database) -> int:
    """Return the sum of all accounts as of one moment. A scan needs no transaction for that."""
    return sum([int(value) async for _, value in db.scan(prefix=ACCOUNTS)])
