"""What a run of requests measured: when each one ended, how long it took, and what failed.

Purpose
    Callers append two numbers per request, which costs next to nothing; everything else (rates,
    percentiles, gaps) is worked out after the run, for any window of time and any set of keys.
Words
    A *slot* is a part of the key space that is reported on its own: usually what is, or will
    become, one range. A *stall* is the longest time within a window in which a slot answered
    nothing although callers were waiting all along.
"""

import bisect
import collections
import itertools
from array import array
from collections.abc import Iterable, Sequence

import msgspec
from hdrh.histogram import HdrHistogram

_HISTOGRAM_MAX_US = 600_000_000
_HISTOGRAM_DIGITS = 3


class Window(msgspec.Struct, frozen=True):
    """A span of time on the monotonic clock, in seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it is."""
        return self.end - self.start


class Latency(msgspec.Struct, frozen=True):
    """Percentiles of a set of requests, in milliseconds; all 0 when there was none."""

    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    max: float = 0.0


class Summary(msgspec.Struct, frozen=True):
    """A window of a set of slots; the fields are the members of the JSON form."""

    requests: int
    per_second: float
    latency_ms: Latency
    stall_ms: float
    failed: int


class Samples:
    """Requests of one kind in one slot, in the order in which they ended."""

    __slots__ = ("ends", "seconds")

    def __init__(self) -> None:
        self.ends = array("d")
        self.seconds = array("d")

    def add(self, began: float, ended: float) -> None:
        """Take in one request that succeeded."""
        self.ends.append(ended)
        self.seconds.append(ended - began)

    def within(self, window: Window) -> slice:
        """Return the positions of the requests that ended in the window."""
        return slice(
            bisect.bisect_left(self.ends, window.start), bisect.bisect_left(self.ends, window.end)
        )


class Failed(msgspec.Struct, frozen=True):
    """One request that ended with an error."""

    at: float
    slot: int
    code: str
    message: str


class Recorder:
    """All requests of a run, by slot; reads and writes apart."""

    def __init__(self, slots: int) -> None:
        self.reads = [Samples() for _ in range(slots)]
        self.writes = [Samples() for _ in range(slots)]
        self.failed: list[Failed] = []
        self.rows_read = 0
        self.ended_by_caller: dict[int, int] = {}
        """How many requests of each caller succeeded, warm-up included: who starved, if any."""

    def summary(
        self, window: Window, slots: Iterable[int] | None = None, *, writes_only: bool = False
    ) -> Summary:
        """Return what the window measured in these slots, or in all."""
        chosen = range(len(self.reads)) if slots is None else list(slots)
        samples = [self.writes[slot] for slot in chosen]
        if not writes_only:
            samples += [self.reads[slot] for slot in chosen]
        return Summary(
            requests=(requests := sum(_count(each, window) for each in samples)),
            per_second=round(requests / window.seconds, 1) if window.seconds > 0 else 0.0,
            latency_ms=_latency(samples, window),
            stall_ms=round(1_000 * _longest_gap(samples, window), 2),
            failed=sum(
                window.start <= each.at < window.end and each.slot in chosen for each in self.failed
            ),
        )

    def failures_by_code(self) -> dict[str, int]:
        """Return how many requests failed with each error code."""
        return dict(collections.Counter(each.code for each in self.failed))


def _count(samples: Samples, window: Window) -> int:
    part = samples.within(window)
    return len(range(*part.indices(len(samples.ends))))


def histogram(samples: Sequence[Samples], window: Window) -> HdrHistogram:
    """Return the latencies in the window, in microseconds."""
    result = HdrHistogram(1, _HISTOGRAM_MAX_US, _HISTOGRAM_DIGITS)
    for each in samples:
        for seconds in each.seconds[each.within(window)]:
            result.record_value(max(1, int(seconds * 1e6)))
    return result


def _latency(samples: Sequence[Samples], window: Window) -> Latency:
    measured = histogram(samples, window)
    if not measured.total_count:
        return Latency()
    p50, p99, p999, longest = (
        round(measured.get_value_at_percentile(percentile) / 1_000, 3)
        for percentile in (50.0, 99.0, 99.9, 100.0)
    )
    return Latency(p50, p99, p999, longest)


def _longest_gap(samples: Sequence[Samples], window: Window) -> float:
    ends = sorted(itertools.chain.from_iterable(each.ends[each.within(window)] for each in samples))
    moments = [window.start, *ends, window.end]
    return max(later - earlier for earlier, later in itertools.pairwise(moments))
