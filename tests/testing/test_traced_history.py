"""Calls stand in the history and in the trace alike."""

import asyncio

import pytest

from multiraft import errors
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.trace import Ended, Invoked, Trace
from multiraft.testing.checkers.verdict import Anomaly
from multiraft.testing.trace_page import Mark
from multiraft.testing.traced_history import TracedHistory


def test_every_call_is_traced_when_it_begins_and_with_its_outcome() -> None:
    trace = Trace(keep=True)

    async def fail() -> None:
        await asyncio.sleep(1.0)
        raise errors.DeadlineExceededError(deadline_s=1.0, last_error="none")

    async def main(loop: VirtualLoop) -> TracedHistory:
        trace.bind(loop)
        history = TracedHistory(loop.time, trace, "register")
        history.ok(history.invoke(1, "get", key="k"), 5)
        with pytest.raises(errors.DeadlineExceededError):
            await history.record(2, "put", [b"k"], 1, fail())
        history.unknown(history.invoke(1, "put", key="k"), "gone")
        return history

    history = virtual_loop.run(main)
    assert [(event.t_us, event.what) for event in trace.events] == [
        (0, Invoked(1, "register 1", "get", "k")),
        (0, Ended(1, "register 1", "get", "k", "ok")),
        (0, Invoked(2, "register 2", "put", (b"k",))),
        (1_000_000, Ended(2, "register 2", "put", (b"k",), "failed", "DeadlineExceededError")),
        (1_000_000, Invoked(3, "register 1", "put", "k")),
        (1_000_000, Ended(3, "register 1", "put", "k", "unknown", "gone")),
    ]
    assert [operation.outcome for operation in history] == ["ok", "failed", "unknown"]
    marks = history.marks([Anomaly("stale", "5 was old", (0, 2))])
    assert marks == (Mark("stale: 5 was old", (1, 3)),)
