"""What the store does on its own."""

import asyncio
from unittest import mock

from multiraft import errors
from multiraft.client.database import Database
from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch, LatchStatus
from multiraft.model.requests import AdminSplit
from multiraft.ranges.change import LatchedChange
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import (
    holder_of,
    leader_of,
)


@cluster_test()
async def test_a_halt_ends_tasks_in_the_order_in_which_they_began(
    cluster: Cluster, db: Database
) -> None:
    store = cluster.members[1].up.store
    ended: list[int] = []

    async def wait(number: int) -> None:
        try:
            await asyncio.sleep(3_600)
        finally:
            ended.append(number)

    for number in range(50):
        store.spawn(wait(number), name=f"wait {number}")
    await asyncio.sleep(0)
    await store.halt()
    assert ended == list(range(50))


@cluster_test()
async def test_a_halt_ends_a_split_that_waits_for_its_latch_and_leaves_nothing_of_it(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    holder = holder_of(leader)
    other = LatchedChange(holder, Latch(write_points=(latches.DESCRIPTOR,)))
    await other.acquire()
    replies = cluster.submit(leader.number, (AdminSplit(b"m"),))
    await cluster.until(lambda: holder.latches.status().waiting == 1)
    assert len(holder.observers) == 1, "writes are counted meanwhile"
    await leader.up.store.halt()
    assert holder.observers == []
    other.give_back()
    assert holder.latches.status() == LatchStatus(held=0, waiting=0, points=0, with_spans=0)
    assert replies == []


@cluster_test()
async def test_a_store_that_fails_in_the_middle_of_a_split_stops(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    broken = errors.StoreFailedError(reason="the disk is gone")
    with mock.patch.object(leader.engine, "view", side_effect=broken):
        replies = cluster.submit(leader.number, (AdminSplit(b"m"),))
        assert await leader.up.failed is broken
    assert replies == [], "nobody is told anything by a store that has stopped"
    assert cluster.errors == [broken]
    cluster.errors.clear()
    await cluster.crash(leader.number)
    await cluster.restart(leader.number)
