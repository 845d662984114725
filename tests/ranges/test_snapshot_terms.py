"""In whose name a snapshot is sent: its sender's, as long as that one led."""

import asyncio

from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.net.transport import Connection, Handler
from multiraft.raft.messages import AppendEntries
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of


@cluster_test()
async def test_a_leader_that_is_replaced_while_it_connects_sends_no_snapshot(
    cluster: Cluster, db: Database
) -> None:
    """It would speak in the next leader's term, and its receiver would have two leaders."""
    _, right = await db.admin.split(b"z")  # No rows: there is no chunk before which it looks.
    await cluster.until_applied(right.range_id)
    behind, other = cluster.followers(right.range_id)
    old = leader_of(cluster, right.range_id)
    cluster.wiretap.drop = lambda _, target, envelope: (
        envelope.range_id == right.range_id
        and target == behind.number
        and isinstance(envelope.message, AppendEntries)
    )

    async def transfer(to: int) -> None:
        await db.admin.transfer(right.range_id, NodeId(to))
        await cluster.until(lambda: cluster.leader(right.range_id) is cluster.members[to])

    await transfer(other.number)
    await transfer(old.number)
    assert old.replica(right.range_id).applied.index > behind.replica(right.range_id).applied.index
    store = old.up.store
    connect = store.connect_bulk

    async def connect_slowly(node: NodeId, handler: Handler) -> Connection:
        await transfer(other.number)
        new_term = other.replica(right.range_id).core.term
        await cluster.until(lambda: behind.replica(right.range_id).core.term == new_term)
        return await connect(node, handler)

    store.connect_bulk = connect_slowly
    replica = old.replica(right.range_id)
    target = behind.replica(right.range_id).replica_id
    store.snapshots.start(replica, target)
    await cluster.until(lambda: not store.snapshots.is_sending(right.range_id))
    await asyncio.sleep(0.1)
    assert store.snapshots.sent == 0
    cluster.wiretap.drop = None
    await cluster.until_applied(right.range_id)
