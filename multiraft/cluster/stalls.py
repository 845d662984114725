"""When the loop of a process stood still, for how long, and what it did then.

Purpose
    Who has asked the loop for a turn calls `look` when it comes. By how much it came late is a
    stall: nothing else got a turn in that time either. The longest are kept, with what the stages
    of the process (instruments.py) counted since the look before, which tells what caused it.
Caveats
    A stall that begins between two looks seems shorter than it is by up to their distance.
"""

import heapq
from collections.abc import Callable, Mapping

import msgspec

from multiraft.cluster.instruments import Reading
from multiraft.runtime import Clock

KEPT_MAX = 10


class Stall(msgspec.Struct, frozen=True):
    """One time that the loop stood still; the rest is about the time since the look before."""

    at_us: int
    """When it was over, by the machine's clock, in microseconds since 1970."""
    us: int
    loop_cpu_us: int
    """Processor time of the loop: if it is far below `us`, the loop waited."""
    garbage_us: int
    """Spent in Python's garbage collections, whatever the stage."""
    stage: str
    """The stage that took longest; empty if none took any time."""
    stage_us: int


class Stalls:
    """See the module. `read` returns what the stages and, under `garbage`, collections counted."""

    def __init__(
        self,
        clock: Clock,
        cpu: Callable[[], float],
        read: Callable[[], Mapping[str, Reading]],
        stages: frozenset[str],
        garbage: str,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._read = read
        self._stages = stages
        self._garbage = garbage
        self._longest: list[tuple[int, int, Stall]] = []
        self._looks = 0
        self._looked()

    def look(self, after_s: float) -> None:
        """The loop gives a turn that should have come `after_s` after the one before."""
        at, cpu_s, readings = self._at, self._cpu_s, self._readings
        self._looked()
        late_us = _us(self._at - at - after_s)
        if late_us > 0:
            self._keep(late_us, _us(self._cpu_s - cpu_s), readings)

    def longest(self) -> tuple[Stall, ...]:
        """Return the longest stalls so far, longest first."""
        return tuple(stall for _, _, stall in sorted(self._longest, reverse=True))

    def _looked(self) -> None:
        self._looks += 1
        self._at = self._clock.monotonic()
        self._cpu_s = self._cpu()
        self._readings = self._read()

    def _keep(self, late_us: int, cpu_us: int, before: Mapping[str, Reading]) -> None:
        if len(self._longest) == KEPT_MAX and late_us <= self._longest[0][0]:
            return
        spent = {
            name: _us(reading.since(before.get(name, Reading())).seconds)
            for name, reading in self._readings.items()
        }
        stage = max(self._stages & spent.keys(), key=lambda name: (spent[name], name), default="")
        stall = Stall(
            at_us=self._clock.wall_us(),
            us=late_us,
            loop_cpu_us=cpu_us,
            garbage_us=spent.get(self._garbage, 0),
            stage=stage if spent.get(stage) else "",
            stage_us=spent.get(stage, 0),
        )
        heapq.heappush(self._longest, (late_us, self._looks, stall))
        if len(self._longest) > KEPT_MAX:
            heapq.heappop(self._longest)


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
