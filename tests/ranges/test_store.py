"""What the store does on its own."""

import asyncio

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test


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
