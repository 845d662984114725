"""Work in slices: little of it at once, much of it with the loop in between, in order."""

import asyncio
from collections.abc import Callable

import pytest

from multiraft.ranges.slices import SLICE_MAX, Slices, Steps, unhurried
from multiraft.sim.loop import VirtualLoop
from tests.support.virtual_time import on_virtual_time


def call(action: Callable[[], None]) -> None:
    action()


def append_all(to: list[int], numbers: range) -> Steps:
    for number in numbers:
        to.append(number)
        yield


@on_virtual_time
async def test_little_work_is_done_at_once(loop: VirtualLoop) -> None:
    slices, done = Slices(call), list[int]()
    slices.add(append_all(done, range(SLICE_MAX - 1)))
    assert done == list(range(SLICE_MAX - 1))
    assert not slices


@on_virtual_time
async def test_no_run_of_the_loop_takes_more_than_a_slice(loop: VirtualLoop) -> None:
    slices, done = Slices(call), list[int]()
    slices.add(append_all(done, range(3 * SLICE_MAX)))
    for taken in (1, 2, 3):
        assert done == list(range(taken * SLICE_MAX))
        assert slices
        await asyncio.sleep(0)
    assert not slices


@on_virtual_time
async def test_what_is_added_later_comes_after_what_waits_and_fills_its_slice(
    loop: VirtualLoop,
) -> None:
    slices, done = Slices(call), list[int]()
    slices.add(append_all(done, range(SLICE_MAX + 10)))
    slices.add(append_all(done, range(SLICE_MAX + 10, 3 * SLICE_MAX)))
    assert len(done) == SLICE_MAX
    await asyncio.sleep(0)
    assert done == list(range(2 * SLICE_MAX))


@on_virtual_time
async def test_work_for_later_waits_for_the_loop_however_little_it_is(loop: VirtualLoop) -> None:
    slices, done = Slices(call), list[int]()
    slices.later(append_all(done, range(2)))
    slices.later(append_all(done, range(2, 4)))
    slices.add(append_all(done, range(4, 6)))
    assert not done
    await asyncio.sleep(0)
    assert done == list(range(6))


@on_virtual_time
async def test_work_may_add_more_work(loop: VirtualLoop) -> None:
    slices, done = Slices(call), list[int]()

    def adding() -> Steps:
        slices.add(append_all(done, range(1, 3)))
        done.append(0)
        yield

    slices.add(adding())
    assert done == [0, 1, 2]


@on_virtual_time
async def test_an_error_comes_to_who_added_the_work_or_to_the_guard(loop: VirtualLoop) -> None:
    caught: list[Exception] = []

    def guard(action: Callable[[], None]) -> None:
        try:
            action()
        except RuntimeError as error:
            caught.append(error)

    def failing(after: int) -> Steps:
        for _ in range(after):
            yield
        raise RuntimeError(after)

    with pytest.raises(RuntimeError):
        Slices(guard).add(failing(3))
    Slices(guard).add(failing(SLICE_MAX + 3))
    await asyncio.sleep(0)
    assert [error.args for error in caught] == [(SLICE_MAX + 3,)]


@on_virtual_time
async def test_who_looks_at_all_lets_others_run_after_each_slice(loop: VirtualLoop) -> None:
    looked: list[int] = []
    seen_by_others: list[int] = []

    async def look() -> None:
        async for number in unhurried(range(2 * SLICE_MAX + 1)):
            looked.append(number)

    looking = asyncio.create_task(look())
    while not looking.done():
        await asyncio.sleep(0)
        seen_by_others.append(len(looked))
    assert looked == list(range(2 * SLICE_MAX + 1))
    assert seen_by_others[:3] == [SLICE_MAX, 2 * SLICE_MAX, 2 * SLICE_MAX + 1]
