"""Whether the rows of a scan are of one moment: the judge of the `scans` workload.

Anomalies
    wrong-value   a fixed key that changed
    torn-pair     two halves that were written at once, of different moments
    out-of-order  rungs of different moments
    stale-scan    a rung as it was before a height that its client was told of before it scanned

What another client was told a moment before may be missing where a scan goes over several ranges
whose clocks differ, and what it had read by then has changed, so that it cannot move on (rule S19).
"""

import bisect
from collections.abc import Iterable, Iterator, Mapping

from multiraft.testing.checkers import Anomaly
from multiraft.testing.checkers.scans import Span
from multiraft.testing.history import Operation, Process

Rows = tuple[tuple[str, int], ...]


def halves(pair: str) -> tuple[str, str]:
    """Return the keys of a pair."""
    return f"{pair}-a", f"{pair}-b"


class _Scan:
    """A scan that was answered, and which keys it looked at."""

    def __init__(self, operation: Operation) -> None:
        self.operation = operation
        self.span = Span(*operation.argument)
        self.rows: Rows = operation.result
        self.values = dict(self.rows)

    def covers(self, key: str) -> bool:
        """Whether the scan looked at `key`."""
        if not self.span.holds(key):
            return False
        limit = self.span.limit
        if limit is None or len(self.rows) < limit:
            return True
        last = self.rows[-1][0]
        return key >= last if self.span.is_reversed else key <= last

    def anomaly(self, name: str, story: str) -> Anomaly:
        """Return an anomaly that this scan shows."""
        return Anomaly(name, f"in scan #{self.operation.id}, {story}", (self.operation.id,))


def judge(
    history: Iterable[Operation], fixed: Mapping[str, int], pairs: Iterable[str]
) -> Iterator[Anomaly]:
    """Judge every scan of the history. Rungs are the keys of `put`; no split has cut `pairs`."""
    operations = list(history)
    pairs = tuple(pairs)
    ladders = _Ladders(o for o in operations if o.function == "put")
    for operation in operations:
        if operation.function == "scan" and operation.outcome == "ok":
            scan = _Scan(operation)
            yield from _fixed(scan, fixed)
            yield from _pairs(scan, pairs)
            yield from ladders.judge(scan)


def _fixed(scan: _Scan, fixed: Mapping[str, int]) -> Iterator[Anomaly]:
    for key, value in scan.rows:
        if fixed.get(key, value) != value:
            yield scan.anomaly("wrong-value", f"{key} is {value} instead of {fixed[key]}")


def _pairs(scan: _Scan, pairs: Iterable[str]) -> Iterator[Anomaly]:
    for pair in pairs:
        found = {half: scan.values[half] for half in halves(pair) if half in scan.values}
        if len(set(found.values())) > 1:
            yield scan.anomaly("torn-pair", f"{pair} was written at once, but is {found}")


class _Ladders:
    """The rungs that anybody asked to raise, and what was acknowledged: heights only grow."""

    def __init__(self, writes: Iterable[Operation]) -> None:
        self._rungs: dict[str, dict[int, str]] = {}
        self._told: dict[tuple[Process, str], tuple[list[float], list[int]]] = {}
        """By client and rung: when it was told of which height."""
        for write in writes:
            ladder, _, number = write.key.rpartition("/")[2].rpartition("-")
            self._rungs.setdefault(ladder, {})[int(number)] = write.key
            if write.outcome == "ok":
                ends, heights = self._told.setdefault((write.process, write.key), ([], []))
                ends.append(write.deadline)
                heights.append(write.argument)

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
        ends, heights = self._told.get((scan.operation.process, key), ([], []))
        written = bisect.bisect_left(ends, scan.operation.invoked)
        if written and scan.covers(key):
            least, found = heights[written - 1], scan.values.get(key, 0)
            if found < least:
                story = f"{key} had been raised to {least}, but is {found}"
                yield scan.anomaly("stale-scan", story)
