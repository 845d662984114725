"""Callers in Python on one event loop: what every peer with a Python client is driven by."""

import asyncio
import itertools
import math
import time
from collections.abc import Awaitable, Callable, Sequence

from bench.compare.peer import Data, Load, Operation
from multiraft.cli.measure import Recorder, Window

Call = Callable[[Sequence[int]], Awaitable[object]]
"""Makes one request on the keys with these numbers; of a scan, on the first key's."""


async def run(
    call: Call,
    operation: Operation,
    data: Data,
    callers: int,
    seconds: float,
    *,
    now: Callable[[], float] = time.perf_counter,
) -> Load:
    """Keep `callers` callers busy for that long in this process, and return what they saw."""
    recorder = Recorder(1)
    samples = recorder.writes[0]
    groups = itertools.cycle(data.groups(operation))

    async def repeat() -> None:
        for group in groups:
            began_call = now()
            if began_call >= stop_at:
                return
            await call(group)
            samples.add(began_call, now())

    cpu_before = time.process_time()
    began = now()
    stop_at = began + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(callers):
            tasks.create_task(repeat())
    seconds_taken = now() - began
    client_cpu_s = time.process_time() - cpu_before
    found = recorder.summary(Window(began, math.inf))
    return Load(found.requests, seconds_taken, found.latency_ms, client_cpu_s)
