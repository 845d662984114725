"""Scans of a span of keys to which clients add, and from which they delete.

Purpose
    A scan has every key that was there for its whole duration, and none that was not there at any
    moment of it; in order, each once, within its bounds.
Anomalies
    missed          a key that was surely there
    resurrected     a key that was surely not there: never put, refused, or deleted
    repeated        one key twice
    unordered       keys not in the scan's order
    out-of-bounds   a key outside the span
    too-many        more keys than the limit
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from multiraft.testing.checkers.verdict import Anomaly, Verdict, listed, passed_over, select, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

SCANS = frozenset({"scan"})
PUTS = frozenset({"put", "add", "write", "increment"})
DELETES = frozenset({"delete"})


class Span(NamedTuple):
    """What a scan asks for: the argument [start, end, limit, is_reversed], any of them None."""

    start: Any = None
    end: Any = None
    limit: int | None = None
    is_reversed: bool = False

    def holds(self, key: Any) -> bool:  # noqa: ANN401
        """Whether the key lies in the span."""
        return (self.start is None or key >= self.start) and (self.end is None or key < self.end)


def check(history: Iterable[Operation]) -> Verdict:
    """Judge all scans. Raises BadHistoryError for one that is not as described."""
    operations, others = select(history, SCANS | PUTS | DELETES)
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations:
        if operation.function not in SCANS:
            by_key.setdefault(operation.key, []).append(operation)
    anomalies: list[Anomaly] = []
    for scan in operations:
        if scan.function in SCANS and scan.outcome == "ok":
            span, keys = _span(scan), _keys(scan)
            try:
                anomalies += _form(scan, span, keys)
                anomalies += _contents(scan, span, keys, by_key)
            except TypeError as error:
                raise BadHistoryError(f"operation {scan.id}: keys of two kinds: {error}") from None
    return Verdict("scan", len(operations), tuple(anomalies), passed_over(others))


def _span(scan: Operation) -> Span:
    argument = () if scan.argument is None else scan.argument
    if not isinstance(argument, tuple) or len(argument) > 4:
        raise BadHistoryError(
            f"operation {scan.id}: the argument of a scan is [start, end, limit, is_reversed]"
        )
    span = Span(*argument)
    if not isinstance(span.limit, int | None):
        raise BadHistoryError(f"operation {scan.id}: {span.limit!r} is no limit")
    return span


def _keys(scan: Operation) -> list[Any]:
    if not isinstance(scan.result, tuple):
        raise BadHistoryError(f"operation {scan.id}: a scan finds a list of keys or [key, value]")
    return [row[0] if isinstance(row, tuple) and row else row for row in scan.result]


def _form(scan: Operation, span: Span, keys: list[Any]) -> Iterator[Anomaly]:
    twice = [key for key, count in Counter(keys).items() if count > 1]
    if twice:
        yield Anomaly("repeated", f"scan #{scan.id} holds twice {listed(twice)}", (scan.id,))
    once = list(dict.fromkeys(keys))
    if once != sorted(once, reverse=bool(span.is_reversed)):
        text = f"scan #{scan.id} is not in order: {listed(keys, 20)}"
        yield Anomaly("unordered", text, (scan.id,))
    outside = [key for key in once if not span.holds(key)]
    if outside:
        bounds = f"{show(span.start)} up to {show(span.end)}"
        text = f"scan #{scan.id} of {bounds} holds {listed(outside)}"
        yield Anomaly("out-of-bounds", text, (scan.id,))
    if span.limit is not None and len(keys) > span.limit:
        text = f"scan #{scan.id} holds {len(keys)} keys, and asked for {span.limit}"
        yield Anomaly("too-many", text, (scan.id,))


def _contents(
    scan: Operation, span: Span, keys: list[Any], by_key: dict[Any, list[Operation]]
) -> Iterator[Anomaly]:
    found = set(keys)
    cut = None
    if span.limit is not None and len(keys) >= span.limit:
        cut = (min(keys) if span.is_reversed else max(keys)) if keys else None
        if not keys:
            return  # A limit of nothing.
    missed, by = [], []
    for key, writes in by_key.items():
        if key in found or not span.holds(key):
            continue
        if cut is not None and (key < cut if span.is_reversed else key > cut):
            continue  # Beyond what the limit let through.
        put = _surely_there(scan, writes)
        if put is not None:
            missed.append(key)
            by.append(put.id)
    if missed:
        text = f"scan #{scan.id} lacks {listed(missed)}, which was there (put by #{by[0]})"
        yield Anomaly("missed", text, (scan.id, *by))
    ghosts = [key for key in found if _surely_not_there(scan, by_key.get(key, []))]
    if ghosts:
        text = f"scan #{scan.id} holds what was not there: {listed(sorted(ghosts))}"
        yield Anomaly("resurrected", text, (scan.id,))


def _surely_there(scan: Operation, writes: list[Operation]) -> Operation | None:
    """Return a put that ended before the scan began, with no delete that could undo it."""
    puts = [
        o for o in writes if o.function in PUTS and o.outcome == "ok" and o.deadline < scan.invoked
    ]
    if not puts:
        return None
    put = max(puts, key=lambda one: one.invoked)
    for delete in writes:
        if delete.function in DELETES and delete.outcome != "failed":
            is_before = delete.deadline < put.invoked
            is_after = delete.invoked > scan.deadline
            if not is_before and not is_after:
                return None
    return put


def _surely_not_there(scan: Operation, writes: list[Operation]) -> bool:
    """Whether every put that began early enough was undone before the scan began."""
    puts = [
        o
        for o in writes
        if o.function in PUTS and o.outcome != "failed" and o.invoked <= scan.deadline
    ]
    deletes = [
        o
        for o in writes
        if o.function in DELETES and o.outcome == "ok" and o.deadline < scan.invoked
    ]
    return all(any(delete.invoked > put.deadline for delete in deletes) for put in puts)
