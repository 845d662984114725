"""What a simulated process leaves behind when it is killed."""

import asyncio
import gc
from collections.abc import Callable

import pytest

from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.process import Process


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
