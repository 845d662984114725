"""Transactions over lists: what each one appended and read, and what is wrong in them one by one.

Purpose
    Parse the operations of the `txn` function, and find what needs no look at orders:
    a transaction that contradicts itself, reads of what was aborted, of what was not final, or of
    what nobody appended.
Source
    Adya, "Weak consistency" (1999), section 4.2; Kingsbury and Alvaro, "Elle" (2020), section 4.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from multiraft.testing.checkers.verdict import Anomaly, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

FUNCTION = "txn"
APPEND = "append"
READ = "r"

Version = tuple[Any, ...]
"""A list as it stood at some moment."""


class Read(NamedTuple):
    """What a transaction found in a key before its own appends."""

    key: Any
    version: Version


class Transaction:
    """One transaction: its reads of others' lists and its appends."""

    __slots__ = ("appends", "operation", "reads")

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.appends: dict[Any, list[Any]] = {}
        self.reads: list[Read] = []

    @property
    def id(self) -> int:
        """The id of its operation."""
        return self.operation.id

    def __str__(self) -> str:
        return f"T{self.operation.id}"


def parse(operations: Iterable[Operation]) -> tuple[list[Transaction], list[Anomaly]]:
    """Return all transactions, and the `internal` anomalies met on the way.

    Raises BadHistoryError for operations that are not transactions over lists.
    """
    transactions, anomalies = [], []
    for operation in operations:
        transaction = Transaction(operation)
        known: dict[Any, Version] = {}
        for kind, key, value in _parts(operation):
            own = transaction.appends.get(key, [])
            if kind == APPEND:
                transaction.appends.setdefault(key, []).append(value)
                if key in known:
                    known[key] = (*known[key], value)
                continue
            if operation.outcome != "ok":
                continue
            found = () if value is None else value
            expected = known.get(key)
            ends_well = not own or found[-len(own) :] == tuple(own)
            if not ends_well or (expected is not None and found != expected):
                anomalies.append(_internal(transaction, key, found, expected, own))
            else:
                transaction.reads.append(Read(key, found[: len(found) - len(own)]))
            known[key] = found
        anomalies += _reads_of_the_future(transaction)
        transactions.append(transaction)
    return transactions, anomalies


def _reads_of_the_future(transaction: Transaction) -> Iterator[Anomaly]:
    for key, version in transaction.reads:
        for value in transaction.appends.get(key, ()):
            if value in version:
                text = (
                    f"{transaction} read {show(key)} as {show(version)} before it appended "
                    f"{show(value)} itself"
                )
                yield Anomaly("internal", text, (transaction.id,))


def _parts(operation: Operation) -> Iterator[tuple[str, Any, Any]]:
    asked = operation.argument
    is_answered = operation.outcome == "ok" and operation.result is not None
    parts = operation.result if is_answered else asked
    if not isinstance(parts, tuple):
        raise BadHistoryError(f"operation {operation.id}: a txn is a list of [what, key, value]")
    for part in parts:
        if not isinstance(part, tuple) or len(part) != 3 or part[0] not in (APPEND, READ):
            raise BadHistoryError(
                f"operation {operation.id}: {show(part)} is neither [append, key, value] "
                "nor [r, key, list]"
            )
        if part[0] == READ and not isinstance(part[2], tuple | None):
            raise BadHistoryError(f"operation {operation.id}: a read finds a list, not {part[2]!r}")
        yield part


def _internal(
    transaction: Transaction, key: object, found: Version, expected: Version | None, own: list[Any]
) -> Anomaly:
    should = (
        f"a list that ends with its own appends {show(tuple(own))}"
        if expected is None
        else show(expected)
    )
    return Anomaly(
        "internal",
        f"{transaction} read {show(key)} as {show(found)}, but what it did before demands {should}",
        (transaction.id,),
    )


def writers_of(transactions: Iterable[Transaction]) -> dict[tuple[Any, Any], Transaction]:
    """Return who appended each (key, value). Raises BadHistoryError if a value is used twice."""
    writers: dict[tuple[Any, Any], Transaction] = {}
    for transaction in transactions:
        for key, values in transaction.appends.items():
            for value in values:
                other = writers.setdefault((key, value), transaction)
                if other is not transaction or values.count(value) > 1:
                    raise BadHistoryError(
                        f"operation {transaction.id}: {show(value)} is appended to {show(key)} "
                        f"twice (also by operation {other.id}): list values must be unique"
                    )
    return writers


def seen_writers(
    transactions: Iterable[Transaction],
    longest: Mapping[Any, Version],
    writers: Mapping[tuple[Any, Any], Transaction],
) -> frozenset[int]:
    """Return the ids of those of whom a read shows something, in whatever order."""
    contradictory = {
        (key, version)
        for transaction in transactions
        for key, version in transaction.reads
        if longest[key][: len(version)] != version
    }
    return frozenset(
        writers[key, value].id
        for key, version in (*longest.items(), *contradictory)
        for value in version
        if (key, value) in writers
    )


def wrong_reads(
    transactions: Iterable[Transaction], writers: dict[tuple[Any, Any], Transaction]
) -> Iterator[Anomaly]:
    """Yield the anomalies that single reads show; the same fault of a key is told once."""
    told: set[tuple[str, Any, Any]] = set()
    sound: set[tuple[Any, Version]] = set()
    for reader in transactions:
        for key, version in reader.reads:
            if (key, version) in sound:
                continue
            faults = list(_faults(reader, key, version, writers))
            if not faults and key not in reader.appends:  # Of its own it may see a part.
                sound.add((key, version))
            for name, value, text, culprit in faults:
                if (name, key, value) in told:
                    continue
                told.add((name, key, value))
                ids = (reader.id,) if culprit is None else (reader.id, culprit.id)
                yield Anomaly(name, f"{reader} read {show(key)} as {show(version)}: {text}", ids)


_Fault = tuple[str, Any, str, Transaction | None]


def _faults(
    reader: Transaction,
    key: object,
    version: Version,
    writers: dict[tuple[Any, Any], Transaction],
) -> Iterator[_Fault]:
    seen: set[Any] = set()
    aborted: tuple[Any, Transaction] | None = None
    for position, value in enumerate(version):
        if value in seen:
            yield "duplicate-append", value, f"it holds {show(value)} twice", None
        seen.add(value)
        writer = writers.get((key, value))
        if writer is None:
            yield "unwritten", value, f"nobody appended {show(value)}", None
            continue
        if writer.operation.outcome == "failed":
            yield "G1a", value, f"{show(value)} was appended by {writer}, which aborted", writer
            aborted = value, writer
        elif aborted is not None and writer is not aborted[1]:
            text = f"{writer} appended {show(value)} to a list with {aborted[1]}'s aborted append"
            yield "dirty-update", value, text, writer
            aborted = None
        own = writer.appends[key]
        place = own.index(value)
        following = version[position + 1 : position + 2]
        if place + 1 < len(own) and following != (own[place + 1],) and writer is not reader:
            text = f"{writer} appended {show(own[place + 1])} right after {show(value)}"
            yield "G1b", value, text, writer
