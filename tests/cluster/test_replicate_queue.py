"""Ranges get their voters, and learners that nobody wants are removed, but not too soon."""

import msgspec

from multiraft.client.database import Database
from multiraft.cluster.replicate_queue import LEARNERS_PATIENCE_S
from multiraft.ids import ReplicaId
from multiraft.model.descriptor import ReplicaDescriptor, ReplicaKind
from multiraft.ranges import membership
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test


async def leave_a_learner(cluster: Cluster) -> None:
    """Do what the first step of a change does, and then forget about it."""
    leader = cluster.leader()
    assert leader is not None
    replica = leader.replica()
    holder, seen = replica.leaseholder, replica.descriptor
    assert holder is not None
    assert seen is not None
    absent = next(
        m.up.me.node_id for m in cluster.running() if not seen.replica_on(m.up.me.node_id)
    )
    learner = ReplicaDescriptor(absent, seen.next_replica_id, ReplicaKind.LEARNER)
    new = msgspec.structs.replace(
        seen,
        generation=seen.generation + 1,
        replicas=(*seen.replicas, learner),
        next_replica_id=ReplicaId(seen.next_replica_id + 1),
    )
    await membership.propose_descriptor(replica, holder, seen, new)


def kinds(cluster: Cluster) -> list[ReplicaKind]:
    leader = cluster.leader()
    if leader is None:
        return []
    descriptor = leader.replica().descriptor
    assert descriptor is not None
    return [r.kind for r in descriptor.replicas]


@cluster_test(nodes=4)
async def test_learners_are_removed_once_nobody_has_wanted_them_for_a_while(
    cluster: Cluster, db: Database
) -> None:
    nodes = [m.up.me.node_id for m in cluster.running()]
    await db.admin.change_replicas(USER_RANGE_ID, tuple(nodes[:3]))
    await leave_a_learner(cluster)
    began = cluster.loop.time()
    assert ReplicaKind.LEARNER in kinds(cluster)
    await cluster.until(
        lambda: kinds(cluster) == [ReplicaKind.VOTER] * 3, within_s=3 * LEARNERS_PATIENCE_S
    )
    assert cluster.loop.time() - began >= LEARNERS_PATIENCE_S, "its caller had time to go on"
    await cluster.until(lambda: len(cluster.replicas()) == 3)
