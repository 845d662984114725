"""The clocks of simulated nodes: all run on the loop's time, each may be wrong in its own way."""

from typing import Protocol


class HasTime(Protocol):
    """A loop, virtual or not."""

    def time(self) -> float:
        """Return its time in seconds."""
        ...


_NEVER = (-1.0, 0)


class VirtualClock:
    """A `runtime.Clock` on a loop's time: one node's clock, which may be wrong.

    It shows `wall_us` at the loop's time 0, and gains or loses by `rate`: both clocks drift alike.
    """

    START_US = 1_700_000_000_000_000

    def __init__(self, loop: HasTime, *, wall_us: int = START_US, rate: float = 1.0) -> None:
        self._loop = loop
        self._wall_us = wall_us
        self._rate = rate
        self._granularity_us = 1
        self._shown = _NEVER
        """The time of the loop at which `wall_us` was last asked, and what it was: much happens at
        one moment of virtual time."""

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall_us(self) -> int:
        """Return what this node's wall clock shows now."""
        now_s = self._loop.time()
        if self._shown[0] != now_s:
            shown = self._wall_us + round(now_s * self._rate * 1e6)
            self._shown = (now_s, shown - shown % self._granularity_us)
        return self._shown[1]

    def coarsen(self, granularity_us: int) -> None:
        """Show whole multiples of that only: in between the clock stands still."""
        self._granularity_us = granularity_us
        self._shown = _NEVER

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back if negative."""
        self._wall_us += round(seconds * 1e6)
        self._shown = _NEVER

    def offset_s(self) -> float:
        """Return how far the wall clock is ahead of the true time, negative if behind."""
        return (self.wall_us() - self.START_US) / 1e6 - self._loop.time()

    def drift(self, rate: float) -> None:
        """Run at `rate` seconds a second from now on; what it shows now stays."""
        self._wall_us += round(self._loop.time() * (self._rate - rate) * 1e6)
        self._rate = rate
        self._shown = _NEVER
