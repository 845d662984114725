"""Connections between stores, as a cluster makes them."""

import asyncio

from multiraft.client.database import Database
from multiraft.ids import NO_EPOCH, NodeId
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test


@cluster_test()
async def test_a_node_that_comes_back_is_dialed_as_soon_as_it_dials(
    cluster: Cluster, db: Database
) -> None:
    """Its support counts after a heartbeat or two, not after pauses that its absence earned."""
    await cluster.crash(3)
    await asyncio.sleep(10.0)
    await db.put(b"k", b"v")
    await cluster.restart(3)
    others = [cluster.members[number].up.store.liveness for number in (1, 2)]
    await cluster.until(
        lambda: all(other.support_from(NodeId(3))[0] != NO_EPOCH for other in others),
        within_s=2 * cluster.config.liveness.heartbeat_ms / 1_000,
    )
