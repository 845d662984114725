import asyncio

from bench.compare import failover
from multiraft.sim import loop as virtual_loop


class Cluster:
    """Answers puts in ten milliseconds, and none from the kill until 1.4 s later."""

    def __init__(self) -> None:
        self.is_serving = asyncio.Event()
        self.is_serving.set()

    async def put(self, key: bytes, value: bytes) -> None:
        await asyncio.sleep(0.01)
        await self.is_serving.wait()

    async def kill(self) -> None:
        self.is_serving.clear()
        asyncio.get_running_loop().call_later(1.4, self.is_serving.set)


def test_the_longest_wait_of_the_writer_is_told_as_a_latency() -> None:
    async def measure() -> float:
        cluster = Cluster()
        load = await failover.run(cluster, cluster.kill, 3.0)
        assert load.requests == 1
        return load.latency_ms.max

    assert 1_400 <= virtual_loop.run(lambda _loop: measure()) <= 1_411
