"""A run of a simulated cluster in which much happens; as a program it prints the run's digest."""

import asyncio
import contextlib
import random
import sys

from multiraft import errors
from multiraft.client.database import Database
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import Cluster
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.network import LAN
from multiraft.sim.trace import Trace
from multiraft.testing.traced_history import TracedHistory


def run(seed: int, trace: Trace | None) -> int:
    """Run clients while nodes crash, freeze and are cut off, and ranges split.

    Returns how many callbacks that took.
    """

    async def main(loop: VirtualLoop) -> int:
        rng = random.Random(seed)
        cluster = Cluster(loop, seed=seed, trace=trace)
        cluster.conditions.delay = LAN
        await cluster.start()
        history = TracedHistory(loop.time, trace or _unheard(loop), "counter")
        async with cluster.connect(deadline_s=3.0) as db, asyncio.TaskGroup() as tasks:
            clients = [tasks.create_task(_count(db, n, rng, history)) for n in range(3)]
            await db.admin.split(b"k4")
            for hurt in (_crash, _freeze, _cut, _isolate):
                await hurt(cluster, rng)
                await asyncio.sleep(0.2)
            cluster.break_connections(1)
            await db.admin.split(b"k7")
            for client in clients:
                client.cancel()
        await cluster.until_served()
        for range_id in cluster.range_ids():
            await cluster.until_applied(range_id)
        await asyncio.sleep(1.0)
        await cluster.stop()
        return loop.callbacks

    return virtual_loop.run(main, limit_s=1_000, scheduling=random.Random(seed))


def _unheard(loop: VirtualLoop) -> Trace:
    trace = Trace()
    trace.bind(loop)
    return trace


async def _count(db: Database, number: int, rng: random.Random, history: TracedHistory) -> None:
    while True:
        key = b"k%d" % rng.randrange(10)
        with contextlib.suppress(errors.MultiraftError):
            await history.record(number, "increment", key, 1, db.increment(key))
        await asyncio.sleep(rng.random() * 0.05)


async def _crash(cluster: Cluster, rng: random.Random) -> None:
    victim = rng.randint(1, 3)
    cluster.kill(victim)
    await asyncio.sleep(rng.random())
    await cluster.restart(victim)


async def _freeze(cluster: Cluster, rng: random.Random) -> None:
    victim = rng.randint(1, 3)
    cluster.freeze(victim)
    await asyncio.sleep(2.0 + rng.random())
    cluster.thaw(victim)


async def _cut(cluster: Cluster, rng: random.Random) -> None:
    source = rng.randint(1, 3)
    target = source % 3 + 1
    cluster.cut(source, target)
    await asyncio.sleep(rng.random())
    cluster.heal(source, target)


async def _isolate(cluster: Cluster, rng: random.Random) -> None:
    victim = rng.randint(1, 3)
    cluster.isolate(victim)
    await asyncio.sleep(rng.random())
    cluster.rejoin(victim)


if __name__ == "__main__":
    printed = Trace()
    run(int(sys.argv[1]), printed)
    print(printed.digest())
