"""An asyncio event loop whose time is a number: waiting costs nothing, and every run is the same.

Purpose
    Run real drivers, timers and tasks in tests without sleeping and without the machine's clocks.
    When nothing is ready to run, time jumps to the next timer.
Invariants
    - Time moves only when no callback is ready, or by `skip`.
    - A loop on which nothing will ever happen again raises StuckError instead of hanging.
    - No file descriptor is ever polled: sockets, threads and subprocesses do not work here.
"""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StuckError(Exception):
    """Nothing is ready and no timer is set: what the test waits for cannot happen any more."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Time starts at `start_s`; going past `limit_s` raises StuckError."""

    def __init__(self, *, start_s: float = 0.0, limit_s: float = 1e6) -> None:
        self._now_s = start_s
        self._limit_s = limit_s
        super().__init__(_TimeSelector(self._idle))

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def skip(self, seconds: float) -> None:
        """Let time pass while nothing runs, as if the process had been stopped that long.

        Timers that became due run afterwards, late.
        """
        assert seconds >= 0, "time does not go back"
        self._now_s += seconds

    def _idle(self, seconds: float | None) -> None:
        if seconds is None:
            raise StuckError("nothing is ready and no timer is set")
        self._now_s += seconds
        if self._now_s > self._limit_s:
            raise StuckError(f"still running after {self._limit_s:g} virtual seconds")


class _TimeSelector(selectors.SelectSelector):
    """Knows no events; being asked to wait means that time may pass."""

    def __init__(self, idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self._idle = idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._idle(timeout)
        return []


class VirtualClock:
    """A `runtime.Clock` on a virtual loop: one node's clock, which may be wrong.

    It shows `wall_us` at the loop's time 0, and gains or loses by `rate`.
    """

    START_US = 1_700_000_000_000_000

    def __init__(self, loop: VirtualLoop, *, wall_us: int = START_US, rate: float = 1.0) -> None:
        self._loop = loop
        self._wall_us = wall_us
        self._rate = rate

    def monotonic(self) -> float:
        """Return the loop's time."""
        return self._loop.time()

    def wall_us(self) -> int:
        """Return what this node's wall clock shows now."""
        return self._wall_us + round(self._loop.time() * self._rate * 1e6)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock forward, or back if negative."""
        self._wall_us += round(seconds * 1e6)


def run(main: Callable[[VirtualLoop], Coroutine[Any, Any, T]], *, limit_s: float = 1e6) -> T:
    """Run `main(loop)` to its end on a fresh virtual loop, and return what it returns."""
    loop = VirtualLoop(limit_s=limit_s)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))


def on_virtual_time(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, None]],
) -> Callable[[], None]:
    """Make a test of an `async def test_...(loop: VirtualLoop)`."""

    def test() -> None:
        run(main, limit_s=10_000)

    test.__doc__ = main.__doc__
    return test
