"""Connections between stores, as a cluster makes them."""

import asyncio

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import NO_EPOCH, NodeId
from multiraft.ranges import bootstrap
from multiraft.ranges.bootstrap import USER_RANGE_ID
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


@cluster_test()
async def test_a_node_hears_from_those_it_dials_whom_it_does_not_know(
    cluster: Cluster, db: Database
) -> None:
    """A node that joined while this one was away need not reach it first."""
    await cluster.crash(1)
    forget(cluster, 1, 3)
    cluster.cut(3, 1)
    await cluster.restart(1)
    store = cluster.members[1].up.store
    await cluster.until(lambda: store.known_nodes() == {1, 2, 3})
    cluster.heal(3, 1)
    await cluster.until(lambda: store.liveness.support_from(NodeId(3))[0] != NO_EPOCH)


@cluster_test(nodes=4)
async def test_a_replica_goes_to_a_node_that_its_leader_has_not_heard_of(
    cluster: Cluster, db: Database
) -> None:
    """The leader may have been down while that node joined, and took over a moment ago."""
    for number in (1, 2, 3):
        await cluster.crash(number)
    for number in (1, 2, 3):
        forget(cluster, number, 4)
        cluster.cut(4, number)
        await cluster.restart(number)
    await cluster.until_served()
    changing = asyncio.create_task(db.admin.change_replicas(USER_RANGE_ID, voters(1, 2, 4)))
    leader = cluster.leader()
    assert leader is not None
    await cluster.until(lambda: NodeId(4) in leader.up.store.known_nodes())
    for number in (1, 2, 3):
        cluster.heal(4, number)
    changed = await changing
    assert sorted(replica.node_id for replica in changed.replicas) == [1, 2, 4]
    with pytest.raises(errors.AdminRefusedError, match="this cluster has no node n9"):
        await db.admin.change_replicas(USER_RANGE_ID, voters(1, 2, 9))


def forget(cluster: Cluster, number: int, other: int) -> None:
    """Let a node that is down come back without an idea of another."""
    engine = cluster.members[number].engine
    batch = engine.new_batch()
    known = tuple(n for n in bootstrap.read_nodes(engine) if n.node_id != other)
    bootstrap.write_nodes(batch, engine, known)
    engine.write(batch)


def voters(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)
