"""The commands that show who waits for whom: locks, txn list."""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from multiraft.cli import keytext, node_view, tables
from multiraft.cli.cluster_view import show_boundary
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import AddressOption, JsonOption, Session, TimeoutOption
from multiraft.client.contention import RangeLocksInfo, TransactionInfo
from multiraft.config import RangesConfig
from multiraft.model.lock_status import LockStatus, WaiterStatus

_ID_DIGITS = 8
"""Of a transaction's ID, which is random: enough to tell those of a table apart."""

_SHORT_S = 100.0
"""Below that, tenths of seconds are of interest."""

_SILENT_S = RangesConfig().transaction_expiry_ms / 1_000
"""Whose client has shown no sign of life for so long ends as soon as anybody waits for it."""

_WAITERS = {
    "reads": "reads what was written",
    "writes": "wants to write or lock it",
    "follows": "is behind who comes next",
}

WaitedForOption = Annotated[
    bool, typer.Option("--waiting", help="Only keys that somebody waits for.")
]


def locks(
    context: typer.Context,
    waiting: WaitedForOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the keys that are locked: who has them, who waits for them, for how long, and why.

    A client sends a request that has waited for two seconds (ranges.lock_wait_ms) again: its place
    in line stays, but its wait is counted anew. With --json, `age_s` goes on.

    Exit status 3 if the leader of a range does not answer.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    found = session.run(lambda database: database.admin.locks())
    if session.json:
        session.write_json([_range_members(info, waiting=waiting) for info in found])
    else:
        _show_locks(session, found, waiting=waiting)
    if any(info.status is None for info in found):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def list_transactions(
    context: typer.Context,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the transactions that hold locks or wait for some, and what each waits for.

    One that has only read, or still keeps what it writes to itself, is known to its client alone.
    What it waits is counted anew whenever its client sends the request again, after two seconds at
    most (ranges.lock_wait_ms); its age goes on.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    found = session.run(lambda database: database.admin.transactions())
    if session.json:
        session.write_json([_transaction_members(info) for info in found])
    elif found:
        session.out.print(_transactions_table(found))
        for info in found:
            if info.reason:
                session.out.print(Text(f"{_short(info.id)}: {info.reason}"))
    else:
        session.out.print("no transaction holds a lock or waits for one")


# -- locks -----------------------------------------------------------------------------------------


def _show_locks(session: Session, found: Sequence[RangeLocksInfo], *, waiting: bool) -> None:
    table = tables.table()
    for name in ("range", "key"):
        table.add_column(name, overflow="fold")
    table.add_column("transaction", no_wrap=True)
    table.add_column("what")
    table.add_column("for", justify="right", no_wrap=True)
    remarks: list[str] = []
    for info in found:
        name = f"r{info.descriptor.range_id}"
        status = info.status
        if status is None:
            remarks.append(f"{name}: its leader does not answer")
            continue
        shown = _shown(info, waiting=waiting)
        for lock in shown:
            _add_lock(table, name, lock)
        if not waiting and status.locks > len(shown):
            remarks.append(f"{name}: {status.locks - len(shown):,} further locks")
        if not status.is_complete:
            remarks.append(f"{name}: has more intents than its leader keeps in memory")
    if table.row_count:
        session.out.print(table)
    else:
        session.out.print("nobody waits" if waiting else "no key is locked")
    for remark in remarks:
        session.out.print(remark)


def _shown(info: RangeLocksInfo, *, waiting: bool) -> list[LockStatus]:
    keys = () if info.status is None else info.status.keys
    return [lock for lock in keys if lock.waiters or not waiting]


def _add_lock(table: Table, range_name: str, lock: LockStatus) -> None:
    key = Text(show_boundary(lock.key))
    what = f"has a {lock.kind}" if lock.kind == "claim" else f"holds {_article(lock.kind)}"
    table.add_row(range_name, key, _short(lock.transaction), what, show_seconds(lock.held_s))
    for waiter in lock.waiters:
        table.add_row("", "", Text(_short(waiter.transaction), "yellow"), *_wait(waiter))


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _wait(waiter: WaiterStatus) -> tuple[Text, str]:
    what = f"  waits: {_WAITERS.get(waiter.why, waiter.why)}"
    return Text(what), show_seconds(waiter.waits_s)


def _range_members(info: RangeLocksInfo, *, waiting: bool) -> dict[str, Any]:
    status = info.status
    return {
        "range_id": info.descriptor.range_id,
        "leader": None if status is None else status.node_id,
        "is_complete": None if status is None else status.is_complete,
        "locks": None if status is None else status.locks,
        "waiters": None if status is None else status.waiters,
        "keys": [_with_text(lock) for lock in _shown(info, waiting=waiting)],
    }


def _with_text(lock: LockStatus) -> dict[str, Any]:
    """Return the members of a lock, with keys as JSON can hold them."""
    waiters = [_members(waiter, anchor=waiter.anchor) for waiter in lock.waiters]
    return _members(lock, key=lock.key, anchor=lock.anchor) | {"waiters": waiters}


def _members(struct: msgspec.Struct, **keys: bytes) -> dict[str, Any]:
    members = {name: getattr(struct, name) for name in struct.__struct_fields__ if name not in keys}
    for name, key in keys.items():
        members |= keytext.to_json(name, key)
    return members


# -- transactions ----------------------------------------------------------------------------------


def _transactions_table(found: Sequence[TransactionInfo]) -> Table:
    table = tables.table()
    table.add_column("transaction", no_wrap=True)
    table.add_column("state")
    for name in ("age", "locks"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("waits for", overflow="fold")
    table.add_column("for", justify="right", no_wrap=True)
    table.add_column("behind it", justify="right", no_wrap=True)
    for info in found:
        waits = Text("\n").join(
            Text(f"{show_boundary(wait.key)}, held by {_short(wait.holder)}") for wait in info.waits
        )
        table.add_row(
            _short(info.id),
            _state(info),
            show_seconds(info.age_s),
            f"{info.locks:,}",
            waits,
            "\n".join(show_seconds(wait.waits_s) for wait in info.waits),
            f"{info.requests_waiting:,}" if info.requests_waiting else "",
        )
    return table


def _state(info: TransactionInfo) -> Text:
    style = {"aborted": "red", "staging": "yellow", "unknown": "red"}.get(info.status, "")
    shown = Text(info.status, style)
    silent_s = info.silent_s or 0.0
    if info.status in ("pending", "staging") and silent_s > _SILENT_S:
        shown.append(f", silent {show_seconds(silent_s)}", "yellow")
    return shown


def _transaction_members(info: TransactionInfo) -> dict[str, Any]:
    waits = [_members(wait, key=wait.key) for wait in info.waits]
    keys = [keytext.to_json("key", key) for key in info.keys]
    return _members(info, anchor=info.anchor) | {"keys": keys, "waits": waits}


def _short(transaction: str) -> str:
    return transaction[:_ID_DIGITS] or "(none)"


def show_seconds(seconds: float) -> str:
    """Return how long something has lasted, to the tenth if that is not long."""
    return f"{seconds:.1f}s" if seconds < _SHORT_S else node_view.show_duration(seconds)
