"""Counters: every increment happens exactly once.

Purpose
    Judge increments by at least 1 that return the new value, and reads, key by key. A counter
    begins at 0. Simple bounds, so that any number of operations is judged at once; the exact order
    is what the model `register` judges.
Anomalies
    duplicate-result   two increments returned one value
    overlap            two increments counted some of the same steps: one did not see the other
    lost-increment     a value below the sum of what was acknowledged before it was asked for
    extra-increment    a value above the sum of all that had begun when it was answered
    went-back          a value below what another call had been told before this one began
    wrong-result       an increment returned less than it added
"""

import bisect
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from multiraft.testing.checkers.verdict import Anomaly, Verdict, passed_over, select, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

INCREMENTS = frozenset({"increment", "add"})
READS = frozenset({"read", "get"})


def check(history: Iterable[Operation]) -> Verdict:
    """Judge the counter of each key. Raises BadHistoryError for deltas below 0."""
    operations, others = select(history, INCREMENTS | READS)
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    anomalies = tuple(
        anomaly for key, of_key in by_key.items() for anomaly in _check_counter(key, of_key)
    )
    return Verdict("counter", len(operations), anomalies, passed_over(others))


def _check_counter(key: object, operations: list[Operation]) -> Iterator[Anomaly]:
    # An increment by nothing is a read.
    increments = [o for o in operations if o.function in INCREMENTS and _delta(o) > 0]
    answered = [o for o in operations if o.outcome == "ok" and _has_value(o)]
    returned: dict[int, Operation] = {}
    acknowledged = _Running(
        [(o.deadline, _delta(o)) for o in increments if o.outcome == "ok"], operator.add
    )
    told_before = _Running([(o.deadline, o.result or 0) for o in answered], max)
    begun = _Running(
        [(o.invoked, _delta(o)) for o in increments if o.outcome != "failed"], operator.add
    )
    for operation in answered:
        value = 0 if operation.result is None else operation.result
        own = _delta(operation) if operation.function in INCREMENTS else 0
        told = f"#{operation.id} found {show(key)} to be {value}"
        if own:
            first = returned.setdefault(value, operation)
            if first is not operation:
                text = f"increments #{first.id} and #{operation.id} of {show(key)} returned {value}"
                yield Anomaly("duplicate-result", text, (first.id, operation.id))
            if value < own:
                text = f"{told} after adding {own} to it"
                yield Anomaly("wrong-result", text, (operation.id,))
        least = acknowledged.before(operation.invoked) + own
        if value < least:
            text = f"{told}, but increments acknowledged before it began make {least}"
            yield Anomaly("lost-increment", text, (operation.id,))
        elif value < (known := told_before.before(operation.invoked) + own):
            text = f"{told}, but answers before it began make at least {known}"
            yield Anomaly("went-back", text, (operation.id,))
        most = begun.until(operation.deadline)
        if value > most:
            text = f"{told}, but all increments that had begun make no more than {most}"
            yield Anomaly("extra-increment", text, (operation.id,))
    yield from _overlaps(key, [o for o in increments if o.outcome == "ok"])


def _overlaps(key: object, increments: list[Operation]) -> Iterator[Anomaly]:
    """Each increment goes from some value to the one it returned, and no other one goes there."""
    increments.sort(key=lambda one: one.result)
    for one, other in itertools.pairwise(increments):
        found = other.result - _delta(other)
        if found < one.result < other.result:
            text = (
                f"increment #{other.id} of {show(key)} went from {found} to {other.result}, past "
                f"{one.result}, which increment #{one.id} returned"
            )
            yield Anomaly("overlap", text, (one.id, other.id))


class _Running:
    """What the entries before a moment come to."""

    def __init__(
        self, entries: list[tuple[float, int]], combine: Callable[[int, int], int]
    ) -> None:
        entries.sort()
        self._moments = [moment for moment, _ in entries]
        self._totals = list(
            itertools.accumulate((amount for _, amount in entries), combine, initial=0)
        )

    def before(self, moment: float) -> int:
        return self._totals[bisect.bisect_left(self._moments, moment)]

    def until(self, moment: float) -> int:
        return self._totals[bisect.bisect_right(self._moments, moment)]


def _delta(operation: Operation) -> int:
    if operation.argument is None:
        return 1
    if not isinstance(operation.argument, int) or operation.argument < 0:
        raise BadHistoryError(
            f"operation {operation.id}: this model knows increments by 0 or more, "
            f"not by {operation.argument!r}"
        )
    return operation.argument


def _has_value(operation: Operation) -> bool:
    if operation.result is None and operation.function in READS:
        return True
    if isinstance(operation.result, int):
        return True
    raise BadHistoryError(f"operation {operation.id}: {operation.result!r} is no counter's value")
