"""Workloads of multiraft.testing run here: on a simulated cluster, or on nodes that lie."""

import asyncio
import random
from collections.abc import Callable
from typing import TypeVar

import multiraft
from multiraft import config
from multiraft.client.database import Database
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from multiraft.testing import History
from multiraft.testing.workloads import ClientRun, Workload
from tests.support.fake_cluster import FakeCluster, FakeTransport, address_of

W = TypeVar("W", bound=FakeCluster)


async def drive(
    workload: Workload, db: Database, loop: VirtualLoop, *, seconds: float, seed: int = 1
) -> History:
    """Let a workload run on virtual time, and return what its clients were told."""
    history = History(loop.time)
    await workload.set_up(db, random.Random(seed))
    end = loop.time() + seconds
    async with asyncio.TaskGroup() as group:
        for number in range(workload.clients):
            client = ClientRun(
                db,
                random.Random(seed * 1000 + number),
                number,
                history,
                is_over=lambda: loop.time() >= end,
                think_s=workload.think_s,
            )
            group.create_task(workload.client(client))
    await workload.finish(db, history)
    return history


def on_cluster(
    workload: Workload,
    *,
    seconds: float = 5.0,
    seed: int = 1,
    settings: config.Config = FAST,
    sync_s: float = 0.002,
    link_s: float = 0.001,
    splits: tuple[bytes, ...] = (),
) -> History:
    """Run a workload on a cluster of three simulated nodes with nothing wrong."""

    async def main(loop: VirtualLoop) -> History:
        cluster = Cluster(loop, seed=seed, config=settings)
        cluster.slow_down(sync_s=sync_s, link_s=link_s)
        await cluster.start()
        async with cluster.connect() as db:
            for key in splits:
                await db.admin.split(key)
            history = await drive(workload, db, loop, seconds=seconds, seed=seed)
        await cluster.stop()
        return history

    return virtual_loop.run(main)


def on_liar(
    make: Callable[[VirtualClock], W],
    workload: Workload,
    *,
    seconds: float = 20.0,
    settings: config.Config = FAST,
) -> tuple[History, W]:
    """Run a workload on a stand-in for a cluster."""

    async def main(loop: VirtualLoop) -> tuple[History, W]:
        clock = VirtualClock(loop)
        liar = make(clock)
        async with multiraft.connect(
            *(address_of(node_id) for node_id in liar.node_ids),
            settings=settings,
            transport=FakeTransport(liar),
            clock=clock,
            rng=SeededRng(1),
        ) as db:
            return await drive(workload, db, loop, seconds=seconds), liar

    return virtual_loop.run(main)
