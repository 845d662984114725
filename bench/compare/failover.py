"""The operation `failover`: how long one writer waits when the leader is killed."""

import asyncio
import time
from collections.abc import Awaitable, Callable

from bench.compare.peer import Load
from bench.failover import Stalls, Target
from multiraft.cli.measure import Latency


async def run(target: Target, kill: Callable[[], Awaitable[None]], seconds: float) -> Load:
    """Write without a pause, kill the leader after so many seconds, and see when writes go on."""
    began = time.perf_counter()
    stalls = Stalls(target, callers=1, pause_s=0.0)
    try:
        await asyncio.sleep(seconds)
        longest_s = await stalls.around(kill)
    finally:
        await stalls.stop()
    longest_ms = longest_s * 1_000
    latency = Latency(longest_ms, longest_ms, longest_ms, longest_ms)
    return Load(1, time.perf_counter() - began, latency, None)
