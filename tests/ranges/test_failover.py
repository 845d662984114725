"""How long writes wait after the node of a leader was killed, with default timers on virtual time.

The longest wait is made of support that the dead store was granted just before (1,000 ms) and of
jitter (400 ms at most); the rest is for the election, and for clients to find out.
"""

import asyncio

import pytest

from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config, LivenessConfig
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import Cluster
from multiraft.sim.loop import VirtualLoop

CONFIG = Config(
    liveness=LivenessConfig(clock_offset_ms_max=10), client=ClientConfig(deadline_s=30.0)
)
WRITERS = 3
KILLS = 5
STALL_S_MAX = 1.6
SETTLED_S = 0.5


class Writers:
    """Callers that write without a pause."""

    def __init__(self, loop: VirtualLoop, db: Database) -> None:
        self.longest_s = 0.0
        """The longest that one of them waited, since a test set it to zero."""
        self._loop = loop
        self._db = db
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]

    async def all_went_on(self) -> None:
        """Return when every range that they write to serves, and they have noticed."""
        await asyncio.gather(*(self._db.put(b"key%d" % n, b"") for n in range(WRITERS)))
        await asyncio.sleep(SETTLED_S)

    async def stop(self) -> None:
        """End the callers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, number: int) -> None:
        while True:
            began = self._loop.time()
            await self._db.put(b"key%d" % number, b"value")
            self.longest_s = max(self.longest_s, self._loop.time() - began)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("pause_s", [0.01, 0.77])
def test_writes_resume_soon_after_every_one_of_many_kills(seed: int, pause_s: float) -> None:
    """Even when the next leader dies right after the last one came back, and led all ranges."""

    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop, config=CONFIG, seed=seed)
        cluster.slow_down(sync_s=0.001, link_s=0.0005)
        await cluster.start()
        async with cluster.connect() as db:
            await db.admin.split(b"key1")
            writers = Writers(loop, db)
            for _ in range(KILLS):
                await asyncio.sleep(pause_s + cluster.random.random() * 0.2)
                await cluster.until(lambda: cluster.leader() is not None)
                victim = cluster.leader()
                assert victim is not None
                writers.longest_s = 0.0
                await cluster.crash(victim.number)
                await writers.all_went_on()
                assert writers.longest_s < STALL_S_MAX
                await cluster.restart(victim.number)
            await writers.stop()
        await cluster.stop()

    virtual_loop.run(main, limit_s=10_000)
