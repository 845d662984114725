"""A set to which clients add elements that nobody else adds, read as a whole.

Purpose
    Judge every read of every set, in real time: an element whose addition was acknowledged is in
    all later reads, and what one read showed, later ones show.
Anomalies
    lost         an acknowledged element is in no read that began after its acknowledgement
    stale        such a read lacks it, though another one has it; or a read lacks an element that an
                 earlier read showed
    unexpected   an element that nobody added, or whose addition failed for certain
    duplicated   an element stands twice in one read
Source
    Jepsen's set-full workload.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from multiraft.testing.checkers.verdict import Anomaly, Verdict, listed, passed_over, select, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

ADDS = frozenset({"add", "put"})
READS = frozenset({"read", "get", "scan"})


def check(history: Iterable[Operation]) -> Verdict:
    """Judge the set of each key. Raises BadHistoryError for a read that is not a list."""
    operations, others = select(history, ADDS | READS)
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    anomalies = tuple(
        anomaly for key, of_key in by_key.items() for anomaly in _check_set(key, of_key)
    )
    reads = sum(o.function in READS and o.outcome == "ok" for o in operations)
    notes = () if reads else ("no read was answered, so nothing is known of the elements",)
    return Verdict("set", len(operations), anomalies, (*notes, *passed_over(others)))


def _check_set(key: object, operations: list[Operation]) -> Iterator[Anomaly]:
    adds: dict[Any, Operation] = {}
    for operation in operations:
        if operation.function in ADDS:
            first = adds.setdefault(operation.argument, operation)
            if first is not operation:
                raise BadHistoryError(
                    f"operation {operation.id} adds {show(operation.argument)} again, as "
                    f"operation {first.id} did: elements must be unique"
                )
    reads = [o for o in operations if o.function in READS and o.outcome == "ok"]
    for read in reads:
        yield from _wrong_elements(key, read, adds)
    yield from _missing(key, reads, adds)


def _wrong_elements(key: object, read: Operation, adds: dict[Any, Operation]) -> Iterator[Anomaly]:
    if not isinstance(read.result, tuple):
        raise BadHistoryError(f"operation {read.id}: a read of a set is a list of its elements")
    of = f" of {show(key)}" if key is not None else ""
    counts = Counter(read.result)
    twice = [element for element, count in counts.items() if count > 1]
    if twice:
        text = f"read #{read.id}{of} holds more than once: {listed(twice)}"
        yield Anomaly("duplicated", text, (read.id,))
    alien = [e for e in counts if e not in adds or adds[e].invoked > read.deadline]
    if alien:
        text = f"read #{read.id}{of} holds what nobody had begun to add: {listed(alien)}"
        yield Anomaly("unexpected", text, (read.id,))
    undead = [e for e in counts if e in adds and adds[e].outcome == "failed"]
    if undead:
        text = f"read #{read.id}{of} holds what was refused for certain: {listed(undead)}"
        yield Anomaly("unexpected", text, (read.id, *(adds[e].id for e in undead)))


def _missing(key: object, reads: list[Operation], adds: dict[Any, Operation]) -> Iterator[Anomaly]:
    """Compare each read with what was known to be there before it began."""
    known = {e: add for e, add in adds.items() if add.outcome == "ok"}
    last_seen: dict[Any, Operation] = {}
    for read in reads:
        for element in read.result:
            known_by = known.get(element)
            if known_by is None or read.deadline < known_by.deadline:
                known[element] = read
            latest = last_seen.get(element)
            if latest is None or latest.invoked < read.invoked:
                last_seen[element] = read
    lost: dict[Any, Operation] = {}
    by_knowledge = sorted(known.items(), key=lambda entry: entry[1].deadline)
    of = f" of {show(key)}" if key is not None else ""
    due: list[Any] = []
    position = 0
    for read in sorted(reads, key=lambda one: one.invoked):
        while position < len(by_knowledge) and by_knowledge[position][1].deadline < read.invoked:
            due.append(by_knowledge[position][0])
            position += 1
        found = frozenset(read.result)
        missing = [element for element in due if element not in found]
        stale = []
        for element in missing:
            seen = last_seen.get(element)
            if seen is not None and seen.invoked > read.invoked:
                stale.append(element)
            else:
                lost.setdefault(element, read)
        if stale:
            text = (
                f"read #{read.id}{of} lacks what was known before it began, and is there later: "
                f"{listed(stale)} (known by #{known[stale[0]].id})"
            )
            yield Anomaly("stale", text, (read.id, *(known[element].id for element in stale)))
    if lost:
        elements = list(lost)
        text = (
            f"{len(lost)} elements{of} were known and are gone from read "
            f"#{lost[elements[0]].id} on: {listed(elements)}"
        )
        yield Anomaly("lost", text, tuple(known[e].id for e in elements))
