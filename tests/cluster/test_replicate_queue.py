"""Ranges get their voters in places apart; learners that nobody wants go, but not too soon."""

import asyncio

import msgspec

from multiraft.client.database import Database
from multiraft.cluster.placement import NO_OTHER_HOST
from multiraft.cluster.replicate_queue import INTERVAL_S, LEARNERS_PATIENCE_S
from multiraft.ids import NodeId, ReplicaId
from multiraft.model import locality
from multiraft.model.descriptor import ReplicaDescriptor, ReplicaKind
from multiraft.ranges import membership
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
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


def places(cluster: Cluster, range_id: int = USER_RANGE_ID) -> tuple[int, ...]:
    """The nodes that vote in a range, as its leader has it; nobody as long as none leads."""
    leader = cluster.leader(range_id)
    return () if leader is None else leader.replica(range_id).voter_nodes


def told(cluster: Cluster, range_id: int = USER_RANGE_ID) -> list[tuple[str, tuple[int, ...], str]]:
    """What the leader of a range tells of voters on one host, and why."""
    leader = cluster.leader(range_id)
    assert leader is not None
    shared = leader.up.status().replication.shared_hosts
    return [(each.host, each.nodes, each.reason) for each in shared]


def changes(cluster: Cluster) -> int:
    return sum(member.up.status().replication.changes for member in cluster.running())


@cluster_test(nodes=4, localities=("host=a", "host=a", "host=b", "host=c"))
async def test_of_two_replicas_on_one_host_one_is_moved_and_then_nothing_more(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    await cluster.until(lambda: changes(cluster) == 2)
    await asyncio.sleep(20 * INTERVAL_S)
    assert changes(cluster) == 2, "one for each range"
    assert [places(cluster, each)[1:] for each in (FIRST_RANGE_ID, USER_RANGE_ID)] == [(3, 4)] * 2
    assert told(cluster) == []
    assert await db.get(b"k") == b"v"


@cluster_test(nodes=4, localities=("host=a", "host=a", "host=b", "host=b"))
async def test_replicas_stay_on_one_host_as_long_as_there_is_no_other_and_the_reason_is_told(
    cluster: Cluster, db: Database
) -> None:
    await asyncio.sleep(3 * INTERVAL_S)
    assert told(cluster) == [("host=a", (1, 2), NO_OTHER_HOST)]
    assert (places(cluster), changes(cluster)) == ((1, 2, 3), 0)
    cluster.members[4].locality = locality.parse("host=c")
    await cluster.crash(4)
    await cluster.restart(4)
    await cluster.until(lambda: places(cluster)[1:] == (3, 4))


@cluster_test(nodes=4, localities=("host=a", "host=b", "host=c", "host=d"))
async def test_a_node_that_says_it_is_elsewhere_has_replicas_moved_away(
    cluster: Cluster, db: Database
) -> None:
    await asyncio.sleep(3 * INTERVAL_S)
    assert (places(cluster), changes(cluster)) == ((1, 2, 3), 0)
    cluster.members[3].locality = locality.parse("host=a")
    await cluster.crash(3)
    await cluster.restart(3)
    await cluster.until(lambda: places(cluster) in ((1, 2, 4), (2, 3, 4)))


@cluster_test(nodes=4, localities=("host=a", "host=b", "host=c", "host=c"))
async def test_where_no_host_is_left_the_number_of_voters_counts_for_more(
    cluster: Cluster, db: Database
) -> None:
    await db.admin.change_replicas(USER_RANGE_ID, (NodeId(1),))
    for number in (1, 2):
        cluster.members[number].locality = locality.parse("host=c")
        await cluster.crash(number)
        await cluster.restart(number)
    await cluster.until(lambda: len(places(cluster)) == 3)
    await cluster.until(lambda: told(cluster) == [("host=c", places(cluster), NO_OTHER_HOST)])


@cluster_test(nodes=4, localities=("host=a", "host=b", "host=c", "host=c"))
async def test_a_change_that_somebody_else_made_is_not_undone(
    cluster: Cluster, db: Database
) -> None:
    leader = cluster.leader()
    assert leader is not None
    seen = leader.replica().descriptor
    assert seen is not None
    await db.admin.change_replicas(USER_RANGE_ID, (NodeId(1), NodeId(2), NodeId(4)))
    await leader.up._replication._change(leader.replica(), seen, (NodeId(1),))
    assert places(cluster) == (1, 2, 4)
