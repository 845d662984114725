"""What the rows of a scan must be: the judge of the `scans` workload, whose docstring says why."""

import bisect
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from multiraft.testing.checkers import Anomaly
from multiraft.testing.history import Operation

FIXED = "fixed"
PAIR = "pair-"
RUNG = "rung-"
"""How the last part of a key of each kind begins; `-`, and which of the pair or ladder, ends it."""

Rows = tuple[tuple[str, int], ...]


class Span(NamedTuple):
    """What a scan was asked for: keys in `[start, end)`, at most `limit`."""

    start: str
    end: str
    reverse: bool
    limit: int | None


class _Scan:
    """A scan that was answered, and which keys it had to give."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.span = Span(*operation.argument)
        self.rows: Rows = operation.result
        self.values = dict(self.rows)
        self._first, self._last = self.span.start, self.span.end
        limit = self.span.limit
        self._is_cut_short = limit is not None and len(self.rows) >= limit

    def covers(self, key: str) -> bool:
        """Whether the scan looked at `key`."""
        if not self.span.start <= key < self.span.end:
            return False
        if not self._is_cut_short:
            return True
        if not self.rows:
            return False
        last = self.rows[-1][0]
        return key >= last if self.span.reverse else key <= last

    def anomaly(self, name: str, story: str) -> Anomaly:
        """Return an anomaly that this scan shows."""
        span = self.span
        direction = "down" if span.reverse else "up"
        limit = "" if span.limit is None else f", at most {span.limit} rows"
        return Anomaly(
            name,
            f"scan #{self.operation.id} of [{span.start}, {span.end}) {direction}{limit}: {story}",
            (self.operation.id,),
        )


def judge(
    history: Iterable[Operation], fixed: Mapping[str, int], pairs: Iterable[str]
) -> Iterator[Anomaly]:
    """Judge every scan of the history. `pairs` are those that no split has cut."""
    operations = list(history)
    pairs = tuple(pairs)
    ladders = _Ladders(o for o in operations if o.function == "rung")
    for operation in operations:
        if operation.function == "scan" and operation.outcome == "ok":
            scan = _Scan(operation)
            yield from _order(scan)
            yield from _fixed(scan, fixed)
            yield from _pairs(scan, pairs)
            yield from ladders.judge(scan)


def _order(scan: _Scan) -> Iterator[Anomaly]:
    keys = [key for key, _ in scan.rows]
    in_order = sorted(keys, reverse=scan.span.reverse)
    if keys != in_order:
        yield scan.anomaly("given-twice", "its rows are not in order")
    for key, following in itertools.pairwise(in_order):
        if key == following:
            yield scan.anomaly("given-twice", f"{key} stands in it twice")
    for key in keys:
        if not scan.span.start <= key < scan.span.end:
            yield scan.anomaly("outside", f"{key} stands in it")
    if scan.span.limit is not None and len(keys) > scan.span.limit:
        yield scan.anomaly("outside", f"it has {len(keys)} rows")


def _fixed(scan: _Scan, fixed: Mapping[str, int]) -> Iterator[Anomaly]:
    for key, value in fixed.items():
        if not scan.covers(key):
            continue
        if key not in scan.values:
            yield scan.anomaly("missed", f"{key} was there all the time")
        elif scan.values[key] != value:
            yield scan.anomaly("wrong-value", f"{key} is {value}, not {scan.values[key]}")


def _pairs(scan: _Scan, pairs: Iterable[str]) -> Iterator[Anomaly]:
    for pair in pairs:
        halves = [half for half in (f"{pair}-a", f"{pair}-b") if scan.covers(half)]
        found = {half: scan.values[half] for half in halves if half in scan.values}
        if len(found) < len(halves):
            yield scan.anomaly("missed", f"{pair} was there all the time, but it found {found}")
        elif len(set(found.values())) > 1:
            yield scan.anomaly("torn-pair", f"{pair} was written at once, but it found {found}")


class _Ladders:
    """The rungs that anybody asked to raise, and what was acknowledged: heights only grow."""

    def __init__(self, writes: Iterable[Operation]) -> None:
        self._rungs: dict[str, dict[int, str]] = {}
        self._ends: dict[str, list[float]] = {}
        self._heights: dict[str, list[int]] = {}
        for write in writes:
            ladder, _, number = write.key.rpartition("/")[2].rpartition("-")
            self._rungs.setdefault(ladder, {})[int(number)] = write.key
            if write.outcome == "ok":
                self._ends.setdefault(write.key, []).append(write.deadline)
                self._heights.setdefault(write.key, []).append(write.argument)

    def judge(self, scan: _Scan) -> Iterator[Anomaly]:
        """Look at each ladder as the scan found it."""
        for ladder, rungs in self._rungs.items():
            # They were climbed in the order of their numbers, and so are they kept here.
            found = {number: scan.values.get(k, 0) for number, k in rungs.items() if scan.covers(k)}
            heights = list(found.values())
            falls = sorted(heights, reverse=True) == heights
            if heights and not (falls and heights[0] <= heights[-1] + 1):
                story = f"{ladder} was climbed rung by rung, but its rungs stand at {found}"
                yield scan.anomaly("out-of-order", story)
            for key in rungs.values():
                yield from self._missed(scan, key)

    def _missed(self, scan: _Scan, key: str) -> Iterator[Anomaly]:
        written = bisect.bisect_left(self._ends.get(key, []), scan.operation.invoked)
        if written and scan.covers(key):
            least, found = self._heights[key][written - 1], scan.values.get(key, 0)
            if found < least:
                story = f"{key} had been raised to {least}, but it found {found}"
                yield scan.anomaly("stale-scan", story)
