"""Accounts between which money is moved: no reader ever sees the total change.

Purpose
    Every read of all accounts is a snapshot, so its sum is that of the beginning.
Anomalies
    wrong-total        the balances of a read do not add up to the total
    wrong-accounts     a read holds other accounts than the others did, or one twice
    negative-balance   an account below zero, where that is not allowed
Source
    Jepsen's bank workload.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from multiraft.testing.checkers.verdict import Anomaly, Verdict, listed, passed_over, select, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

READS = frozenset({"read", "scan"})
TRANSFERS = frozenset({"transfer"})


def check(
    history: Iterable[Operation], *, total: int | None = None, allow_negative: bool = False
) -> Verdict:
    """Judge all reads. `total` is that of the first read if it is not given.

    Raises BadHistoryError for a read that is not a list of [account, balance].
    """
    operations, others = select(history, READS | TRANSFERS)
    reads = [o for o in operations if o.function in READS and o.outcome == "ok"]
    anomalies: list[Anomaly] = []
    accounts: frozenset[Any] | None = None
    first = None
    for read in reads:
        balances = _balances(read)
        held = sum(balance for _, balance in balances)
        names = [account for account, _ in balances]
        if first is None:
            first, accounts = read, frozenset(names)
            total = held if total is None else total
        assert accounts is not None, "the first read names the accounts"
        if frozenset(names) != accounts or len(names) != len(accounts):
            anomalies.append(_wrong_accounts(read, first, names, accounts))
        if held != total:
            text = (
                f"read #{read.id} adds up to {held} instead of {total}: "
                f"{listed([f'{show(name)}={balance}' for name, balance in balances], 20)}"
            )
            anomalies.append(Anomaly("wrong-total", text, (read.id,)))
        if not allow_negative:
            anomalies += _negative(read, balances)
    notes = () if reads else ("no read was answered, so nothing is known of the total",)
    return Verdict("bank", len(operations), tuple(anomalies), (*notes, *passed_over(others)))


def _balances(read: Operation) -> list[tuple[Any, int]]:
    balances = []
    for entry in read.result if isinstance(read.result, tuple) else (None,):
        if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[1], int):
            raise BadHistoryError(
                f"operation {read.id}: a read of the bank is a list of [account, balance]"
            )
        balances.append((entry[0], entry[1]))
    return balances


def _wrong_accounts(
    read: Operation, first: Operation, names: list[Any], accounts: frozenset[Any]
) -> Anomaly:
    facts = []
    if missing := [name for name in dict(_balances(first)) if name not in names]:
        facts.append(f"lacks {listed(missing)}")
    if added := [name for name in dict.fromkeys(names) if name not in accounts]:
        facts.append(f"has the unknown {listed(added)}")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        facts.append(f"holds more than once {listed(twice)}")
    text = f"read #{read.id} {', '.join(facts)}, compared with read #{first.id}"
    return Anomaly("wrong-accounts", text, (read.id, first.id))


def _negative(read: Operation, balances: list[tuple[Any, int]]) -> Iterator[Anomaly]:
    below = [f"{show(name)}={balance}" for name, balance in balances if balance < 0]
    if below:
        text = f"read #{read.id} finds less than nothing in {listed(below)}"
        yield Anomaly("negative-balance", text, (read.id,))
