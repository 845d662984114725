"""What several rounds of the same say: medians with their spread, and ratios between peers.

A ratio is taken within each round, whose peers ran right after each other, and then the median of
the ratios: what slows a whole round down does not count.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence

import msgspec

from bench.compare.peer import FORMS, Operation
from bench.compare.records import Measured, Record

NOT_DURABLE = "*"
"""Marks peers that acknowledge what is not on disk yet."""


class Spread(msgspec.Struct, frozen=True):
    """A median and the extremes."""

    least: float
    median: float
    most: float

    def told(self, form: str = ",.0f") -> str:
        """Return it as people read it, every number in this form."""
        return f"{self.median:{form}} ({self.least:{form}}..{self.most:{form}})"


def spread(values: Iterable[float]) -> Spread | None:
    """Return the spread of some values; None if there are none."""
    found = list(values)
    return Spread(min(found), statistics.median(found), max(found)) if found else None


class Series:
    """All good rounds of one peer, operation and number of callers."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.peer = records[0].peer
        self.label = self.peer if records[0].is_durable else f"{self.peer} {NOT_DURABLE}"
        self.operation = records[0].operation
        self.callers = records[0].callers
        self.form = FORMS[self.operation]
        self._by_round = {
            record.round: record.measured for record in records if record.measured is not None
        }

    def spread(self, quantity: Callable[[Measured], float | None]) -> Spread | None:
        """Return the spread of a quantity over the rounds that have it."""
        values = map(quantity, self._by_round.values())
        return spread(value for value in values if value is not None)

    def rate(self) -> Spread | None:
        """Return how many of the operation's units there were per second."""
        return self.spread(self._rate)

    def ratio_to(self, other: "Series") -> Spread | None:
        """Return how many times the other's rate this one's is, in rounds that both have."""
        common = self._by_round.keys() & other._by_round.keys()
        return spread(
            self._rate(self._by_round[number]) / self._rate(other._by_round[number])
            for number in common
            if other._by_round[number].load.requests
        )

    def latency_ms(self, which: str) -> Spread | None:
        """Return the spread of p50, p99, p999 or max; None if single requests were not timed."""
        values = [getattr(each.load.latency_ms, which) for each in self._by_round.values()]
        return spread(values) if any(values) else None

    def cpu_us(self, seconds: Callable[[Measured], float | None]) -> Spread | None:
        """Return the microseconds of processor time per request."""

        def per_request(measured: Measured) -> float | None:
            used = seconds(measured)
            requests = measured.load.requests
            return None if used is None or not requests else 1e6 * used / requests

        return self.spread(per_request)

    def _rate(self, measured: Measured) -> float:
        return measured.load.requests * self.form.units / measured.load.seconds


def series_of(records: Iterable[Record]) -> list[Series]:
    """Return the records by peer, operation and callers, in the order of their first."""
    found: dict[tuple[str, Operation, int], list[Record]] = {}
    for record in records:
        if record.measured is not None:
            found.setdefault((record.peer, record.operation, record.callers), []).append(record)
    return [Series(each) for each in found.values()]
