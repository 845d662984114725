"""What the clients of a node share: turns, and how much is begun in one."""

import asyncio

from multiraft.ranges.admission import BEGUN_BY_ALL_MAX, Admission
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop


def test_who_comes_when_nothing_is_left_of_an_iteration_queues_until_the_next() -> None:
    async def main(_: VirtualLoop) -> None:
        shared = Admission()
        assert not shared.is_crowded
        shared.begun(BEGUN_BY_ALL_MAX - 1)
        assert not shared.is_crowded
        shared.begun(1)
        assert shared.is_crowded
        assert not shared.has_queued, "there was room for all so far"
        await asyncio.sleep(0)
        assert not shared.is_crowded

    virtual_loop.run(main)


def test_who_comes_while_others_queue_does_not_pass_them() -> None:
    async def main(_: VirtualLoop) -> None:
        shared, turns = Admission(), list[int]()

        def begin(number: int) -> None:
            turns.append(number)
            shared.begun(BEGUN_BY_ALL_MAX / 2)

        for number in range(5):
            shared.queue(lambda number=number: begin(number))  # type: ignore[misc]
            assert shared.is_crowded
            assert shared.has_queued
        assert turns == []
        for expected in ([0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4]):
            assert shared.has_queued
            await asyncio.sleep(0)
            assert turns == expected, "as many as fit into an iteration"
        assert not shared.has_queued

    virtual_loop.run(main)


def test_who_queues_again_in_its_turn_has_the_next_in_a_later_iteration() -> None:
    async def main(_: VirtualLoop) -> None:
        shared, turns = Admission(), list[str]()

        def begin_again() -> None:
            turns.append("again")
            shared.queue(begin_again)

        shared.queue(begin_again)
        shared.queue(lambda: turns.append("once"))
        await asyncio.sleep(0)
        assert turns == ["again", "once"]
        await asyncio.sleep(0)
        assert turns == ["again", "once", "again"]

    virtual_loop.run(main)


def test_a_turn_that_fails_takes_none_from_those_behind_it() -> None:
    async def main(loop: VirtualLoop) -> None:
        escaped: list[object] = []
        loop.set_exception_handler(lambda _, context: escaped.append(context["exception"]))
        shared, turns = Admission(), list[str]()
        mistake = ValueError("a mistake")

        def fail() -> None:
            raise mistake

        shared.queue(fail)
        shared.queue(lambda: turns.append("behind"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert escaped == [mistake]
        assert turns == ["behind"]

    virtual_loop.run(main)
