"""The loop that other tests stand on must itself be right."""

import asyncio

import pytest

from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import StuckError, VirtualLoop


def test_sleeping_moves_virtual_time_by_exactly_that_much() -> None:
    async def main(loop: VirtualLoop) -> float:
        await asyncio.sleep(3_600)
        return loop.time()

    assert virtual_loop.run(main) == pytest.approx(3_600)


def test_timers_run_in_order_of_time_and_see_their_own_time() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[str, float]]:
        seen: list[tuple[str, float]] = []
        loop.call_later(2.0, lambda: seen.append(("second", loop.time())))
        loop.call_later(1.0, lambda: seen.append(("first", loop.time())))
        await asyncio.sleep(5.0)
        return seen

    assert virtual_loop.run(main) == [("first", 1.0), ("second", 2.0)]


def test_skipped_time_runs_timers_late() -> None:
    async def main(loop: VirtualLoop) -> list[float]:
        seen: list[float] = []
        loop.call_later(1.0, lambda: seen.append(loop.time()))
        loop.skip(10.0)
        await asyncio.sleep(0.1)
        return seen

    assert virtual_loop.run(main) == [10.0]


def test_waiting_for_nothing_is_an_error_and_not_a_hang() -> None:
    async def main(loop: VirtualLoop) -> None:
        await loop.create_future()

    with pytest.raises(StuckError):
        virtual_loop.run(main)


def test_an_endless_run_is_an_error_and_not_a_hang() -> None:
    async def main(loop: VirtualLoop) -> None:
        def again() -> None:
            loop.call_later(1.0, again)

        again()
        await loop.create_future()

    with pytest.raises(StuckError):
        virtual_loop.run(main, limit_s=100.0)


def test_a_wall_clock_may_drift_and_step_back_while_monotonic_time_does_not() -> None:
    async def main(loop: VirtualLoop) -> list[tuple[float, int]]:
        clock = VirtualClock(loop, wall_us=1_000_000, rate=1.5)
        seen = [(clock.monotonic(), clock.wall_us())]
        await asyncio.sleep(2.0)
        seen.append((clock.monotonic(), clock.wall_us()))
        clock.step_wall(-1.0)
        seen.append((clock.monotonic(), clock.wall_us()))
        return seen

    assert virtual_loop.run(main) == [(0.0, 1_000_000), (2.0, 4_000_000), (2.0, 3_000_000)]
