"""Which transaction must come before which, as told by the lists that were read.

Purpose
    A list tells the order of its appends. From the longest read of each key follow the edges
    ww   one's append comes right before the other's
    wr   the other read the one's append
    rw   the one did not see the other's append
    and, if wanted, `process` and `realtime`: the one had ended before the other began.
Invariants
    - Each edge is certain: in every serial order, the one comes before the other.
    - Whoever is here has committed, in full: an append that nobody read comes after all that was.
Source
    Adya (1999), section 4.1; Elle (2020), section 4.2.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from multiraft.testing.checkers.appends import Transaction, Version
from multiraft.testing.checkers.verdict import Anomaly, show

WW = "ww"
WR = "wr"
RW = "rw"
PROCESS = "process"
REALTIME = "realtime"

Why = Callable[[], str]
"""Says why there is an edge. Most are never asked for."""


class Dependencies:
    """The edges between transactions, each with its kinds and a sentence for each kind."""

    def __init__(self, transactions: Iterable[Transaction]) -> None:
        self.transactions = {transaction.id: transaction for transaction in transactions}
        self._why: dict[tuple[int, int], dict[str, Why]] = {}

    def add(self, before: Transaction, after: Transaction, kind: str, why: Why) -> None:
        """Note that one comes before the other; of itself, nothing is noted."""
        if before is not after:
            self._why.setdefault((before.id, after.id), {}).setdefault(kind, why)

    def edges(self, kinds: Iterable[str]) -> dict[int, list[int]]:
        """Return the successors of each transaction by edges of these kinds."""
        wanted = frozenset(kinds)
        successors: dict[int, list[int]] = {number: [] for number in self.transactions}
        for (before, after), why in self._why.items():
            if not wanted.isdisjoint(why):
                successors[before].append(after)
        return successors

    def of_kind(self, kind: str) -> Iterator[tuple[int, int]]:
        """Yield the edges of one kind."""
        for edge, why in self._why.items():
            if kind in why:
                yield edge

    def kind(self, edge: tuple[int, int], kinds: Iterable[str]) -> str:
        """Return the first of `kinds` that the edge has."""
        return next(kind for kind in kinds if kind in self._why[edge])

    def why(self, edge: tuple[int, int], kind: str) -> str:
        """Return the sentence for an edge."""
        return self._why[edge][kind]()


def longest_versions(
    transactions: Iterable[Transaction],
) -> tuple[dict[Any, Version], list[Anomaly]]:
    """Return the longest list read of each key, and where two reads contradict each other."""
    reads: dict[Any, dict[Version, Transaction]] = {}
    for transaction in transactions:
        for key, version in transaction.reads:
            reads.setdefault(key, {}).setdefault(version, transaction)
    longest, anomalies = {}, []
    for key, versions in reads.items():
        ordered = sorted(versions, key=len)
        for shorter, longer in itertools.pairwise(ordered):
            if longer[: len(shorter)] != shorter:
                one, other = versions[shorter], versions[longer]
                text = (
                    f"{one} read {show(key)} as {show(shorter)}, but {other} read it as "
                    f"{show(longer)}: neither list continues the other"
                )
                anomalies.append(Anomaly("incompatible-order", text, (one.id, other.id)))
                break
        longest[key] = ordered[-1]
    return longest, anomalies


def add_versions(
    graph: Dependencies,
    longest: Mapping[Any, Version],
    writers: Mapping[tuple[Any, Any], Transaction],
) -> None:
    """Add the edges that follow from the lists."""
    unread = _unread(graph, longest)
    for key, version in longest.items():
        for one, other in itertools.pairwise(version):
            _follow(graph, key, one, other, writers)
        for value in unread.get(key, ()) if version else ():
            _follow(graph, key, version[-1], value, writers)
    for reader in tuple(graph.transactions.values()):
        for key, version in reader.reads:
            if version and (writer := writers.get((key, version[-1]))) is not None:
                graph.add(writer, reader, WR, partial(_was_read, key, version, writer, reader))
            full = longest[key]
            missed = full[len(version) : len(version) + 1] or unread.get(key, ())
            for value in missed:
                if (writer := writers.get((key, value))) is not None:
                    why = partial(_was_missed, key, version, value, writer, reader)
                    graph.add(reader, writer, RW, why)


def _was_read(key: object, version: Version, writer: Transaction, reader: Transaction) -> str:
    return f"{reader} read {show(version[-1])} in {show(key)}, which {writer} appended"


def _was_missed(
    key: object, version: Version, value: object, writer: Transaction, reader: Transaction
) -> str:
    return (
        f"{reader} read {show(key)} as {show(version)}, without {show(value)}, which {writer} "
        "appended"
    )


def _was_followed(
    key: object, one: object, other: object, before: Transaction, after: Transaction
) -> str:
    return f"{after} appended {show(other)} to {show(key)} after {before}'s {show(one)}"


def _preceded(before: Transaction, after: Transaction) -> str:
    return f"{before} came before {after} in process {after.operation.process}"


def _had_ended(before: Transaction, after: Transaction) -> str:
    return f"{before} had ended before {after} began"


def _unread(graph: Dependencies, longest: Mapping[Any, Version]) -> dict[Any, list[Any]]:
    """Return the first append of each committed transaction that no read of the key shows."""
    seen = {key: frozenset(version) for key, version in longest.items()}
    unread: dict[Any, list[Any]] = {}
    for transaction in graph.transactions.values():
        for key, values in transaction.appends.items():
            if key in seen and values[0] not in seen[key]:
                unread.setdefault(key, []).append(values[0])
    return unread


def _follow(
    graph: Dependencies,
    key: object,
    one: object,
    other: object,
    writers: Mapping[tuple[Any, Any], Transaction],
) -> None:
    before, after = writers.get((key, one)), writers.get((key, other))
    if before is not None and after is not None:
        graph.add(before, after, WW, partial(_was_followed, key, one, other, before, after))


def add_process_order(graph: Dependencies) -> None:
    """Add an edge between transactions that one process ran one after the other."""
    last: dict[int | str, Transaction] = {}
    for transaction in _by_invocation(graph):
        process = transaction.operation.process
        before = last.get(process)
        if before is not None:
            graph.add(before, transaction, PROCESS, partial(_preceded, before, transaction))
        if transaction.operation.outcome == "ok":  # Another one may take effect later.
            last[process] = transaction


def add_real_time(graph: Dependencies) -> None:
    """Add an edge between transactions of which one had ended before the other began.

    Edges that follow from others are left out: `frontier` holds those that ended and that no
    later one has come after yet.
    """
    frontier: list[Transaction] = []
    running: list[Transaction] = []
    for transaction in _by_invocation(graph):
        begun = transaction.operation.invoked
        ended = sorted(
            (other for other in running if other.operation.deadline < begun),
            key=lambda other: other.operation.deadline,
        )
        running = [other for other in running if other.operation.deadline >= begun]
        for one in ended:
            start = one.operation.invoked
            frontier = [other for other in frontier if other.operation.deadline >= start]
            frontier.append(one)
        for one in frontier:
            graph.add(one, transaction, REALTIME, partial(_had_ended, one, transaction))
        if transaction.operation.outcome == "ok":
            running.append(transaction)


def _by_invocation(graph: Dependencies) -> list[Transaction]:
    return sorted(
        graph.transactions.values(), key=lambda one: (one.operation.invoked, one.operation.id)
    )
