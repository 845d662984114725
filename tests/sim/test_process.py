"""What a simulated process leaves behind when it is killed."""

import asyncio
import gc
from collections.abc import AsyncGenerator, Callable

import pytest

from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.process import CURRENT, Process


def _at_once(_: VirtualLoop, process: Process) -> None:
    process.kill()


def _while_frozen(loop: VirtualLoop, process: Process) -> None:
    process.freeze()
    loop.call_later(1.0, process.kill)


@pytest.mark.parametrize("kill", [_at_once, _while_frozen])
def test_nobody_is_told_of_an_error_that_a_killed_process_would_have_heard_of(
    kill: Callable[[VirtualLoop, Process], None],
) -> None:
    told: list[object] = []

    async def main(loop: VirtualLoop) -> None:
        loop.set_exception_handler(lambda _, context: told.append(context))
        process = Process("c1")

        def ask() -> None:
            answer = loop.create_future()
            answer.add_done_callback(lambda done: told.append(done.exception()))
            answer.set_exception(ConnectionError("of a request"))

        process.run(ask)
        kill(loop, process)
        await asyncio.sleep(2.0)
        gc.collect()

    virtual_loop.run(main)
    assert not told


def test_the_dead_are_let_go_of_between_phases_and_the_living_are_not() -> None:
    told: list[str] = []

    async def main(loop: VirtualLoop) -> None:
        async def wait(name: str) -> None:
            try:
                await asyncio.sleep(1_000.0)
            finally:
                assert CURRENT.get() is processes[name], "it ends as its process"
                told.append(name)

        async def rows() -> AsyncGenerator[int, None]:
            yield 1

        async def read() -> None:
            _ = [row async for row in rows()]

        processes = {name: Process(name) for name in ("c1", "c2", "c3")}
        tasks = [processes[name].spawn(wait(name)) for name in ("c1", "c2")]
        await processes["c3"].spawn(read())
        processes["c1"].kill()
        await asyncio.sleep(1.0)
        assert not told
        loop.forget_the_dead()
        assert told == ["c1"]
        assert list(loop._processes) == [processes["c2"]]
        assert not loop._owners
        tasks[1].cancel()
        await asyncio.wait(tasks[1:])

    virtual_loop.run(main)
    assert told == ["c1", "c2"]
