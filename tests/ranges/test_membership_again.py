"""A membership change that is asked for again, and a replica that missed its removal."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster import replica_gc
from multiraft.cluster.replica_gc import ReplicaGc
from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch
from multiraft.ids import NodeId, RangeId, ReplicaId
from multiraft.model.descriptor import (
    RangeDescriptor,
    ReplicaDescriptor,
    ReplicaKind,
    initial_descriptor,
)
from multiraft.raft.messages import AppendEntriesReply, StillLeading
from multiraft.ranges import membership
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
from multiraft.ranges.change import LatchedChange
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import holder_of, leader_of

SLOW_SNAPSHOTS = msgspec.structs.replace(
    FAST,
    ranges=msgspec.structs.replace(
        FAST.ranges, snapshot_bytes_per_s=1_024, snapshot_chunk_bytes=1_024
    ),
)
BEFORE = initial_descriptor(RangeId(2), b"a", b"z", (NodeId(1), NodeId(2), NodeId(3)))
SEEN = BEFORE.generation


def with_learner(node: int, generation: int) -> RangeDescriptor:
    learner = ReplicaDescriptor(NodeId(node), ReplicaId(4), ReplicaKind.LEARNER)
    return msgspec.structs.replace(
        BEFORE, generation=generation, replicas=(*BEFORE.replicas, learner)
    )


@pytest.mark.parametrize(
    ("descriptor", "may"),
    [
        (BEFORE, True),
        (with_learner(4, SEEN + 1), True),
        (with_learner(5, SEEN + 1), False),
        (with_learner(4, SEEN + 2), False),
        (msgspec.structs.replace(BEFORE, generation=SEEN + 1), False),
    ],
    ids=["unchanged", "its own learner", "another's learner", "more has changed", "a split"],
)
def test_a_change_goes_on_from_its_own_first_step_and_from_no_other_change(
    descriptor: RangeDescriptor, may: bool
) -> None:
    wanted = frozenset({NodeId(2), NodeId(3), NodeId(4)})
    assert membership.is_next_for(descriptor, wanted, SEEN) is may


def test_a_change_that_is_done_is_done_again_whatever_was_seen() -> None:
    voters = frozenset({NodeId(1), NodeId(2), NodeId(3)})
    assert membership.is_next_for(BEFORE, voters, SEEN + 7)


THREE = (NodeId(1), NodeId(2), NodeId(3))


async def remove_while_down(cluster: Cluster, db: Database) -> tuple[Member, Member]:
    """Take a follower of the range down and leave it out; return the leader and that follower."""
    await db.admin.change_replicas(USER_RANGE_ID, (NodeId(1), NodeId(2), NodeId(3)))
    leader = leader_of(cluster)
    await cluster.until_applied()
    away = next(m for m in cluster.followers() if USER_RANGE_ID in m.up.store.replicas)
    await cluster.crash(away.number)
    rest = tuple(NodeId(n) for n in cluster.members if n != away.number)
    await db.admin.change_replicas(USER_RANGE_ID, rest)
    return leader, away


@cluster_test(nodes=4)
async def test_a_replica_that_was_removed_while_its_node_was_down_ends_when_it_is_back(
    cluster: Cluster, db: Database
) -> None:
    leader, away = await remove_while_down(cluster, db)
    # Its new epoch ends what bound the replica to it.
    await cluster.crash(leader.number)
    await cluster.restart(leader.number)
    began = cluster.loop.time()
    await cluster.restart(away.number)
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)
    assert cluster.loop.time() - began < 10, "it waited for the replica GC"


@cluster_test(nodes=4)
async def test_a_removed_replica_that_is_bound_to_a_living_leader_ends_after_a_restart(
    cluster: Cluster, db: Database
) -> None:
    """It has a leader, whose store supports it, so it never campaigns: only meta can tell."""
    leader, away = await remove_while_down(cluster, db)
    await cluster.restart(away.number)
    assert away.replica().core.leader, "it remembers whom it is fortified to"
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)
    assert cluster.leader() is leader


@cluster_test(nodes=4)
async def test_a_removed_replica_ends_even_if_what_it_asks_its_leader_is_lost(
    cluster: Cluster, db: Database
) -> None:
    leader, away = await remove_while_down(cluster, db)
    cluster.wiretap.drop = lambda source, target, envelope: type(envelope.message) is StillLeading
    await cluster.restart(away.number)
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)
    assert cluster.wiretap.dropped
    assert cluster.leader() is leader


@cluster_test(nodes=4)
async def test_a_voter_that_missed_its_demotion_is_removed_only_when_it_knows(
    cluster: Cluster, db: Database
) -> None:
    """If word of both is lost it stays bound to its leader, whose store lives: for ever."""
    await db.admin.change_replicas(USER_RANGE_ID, THREE)
    await cluster.until_applied()
    cluster.slow_down(sync_s=0.002, link_s=0.002)
    leader = leader_of(cluster)
    away = next(
        member
        for member in cluster.followers()
        if USER_RANGE_ID in member.up.store.replicas
        and member is not cluster.leader(FIRST_RANGE_ID)
    )
    rest = tuple(NodeId(n) for n in cluster.members if n != away.number)
    change = asyncio.create_task(db.admin.change_replicas(USER_RANGE_ID, rest))

    def is_joint() -> bool:
        descriptor = leader.replica().descriptor
        return descriptor is not None and descriptor.is_joint

    await cluster.until(is_joint, step_s=0.0005)
    cluster.cut(leader.number, away.number)
    cluster.reset(leader.number, away.number)
    await asyncio.sleep(0.5)  # Support lasts longer, so nobody seems dead.
    cluster.heal(leader.number, away.number)
    await change
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)
    assert leader_of(cluster) is leader


async def begin_to_add_the_fourth(
    cluster: Cluster, db: Database, *, snapshot_bytes: int
) -> tuple[Member, "asyncio.Task[RangeDescriptor]"]:
    """Return node 4 and the change that adds it, once it waits for its snapshot."""
    await db.admin.change_replicas(USER_RANGE_ID, THREE)
    await db.put(b"k", cluster.random.randbytes(snapshot_bytes))
    newcomer = cluster.members[4]
    change = asyncio.create_task(db.admin.change_replicas(USER_RANGE_ID, (*THREE, NodeId(4))))
    await cluster.until(lambda: USER_RANGE_ID in newcomer.up.store.replicas)
    return newcomer, change


@contextmanager
def looked_at() -> Iterator[list[Replica]]:
    """Give a list of the replicas for which meta is asked whether they are members."""
    looked: list[Replica] = []
    look_at = ReplicaGc._look_at

    async def note(gc: ReplicaGc, replica: Replica) -> None:
        looked.append(replica)
        await look_at(gc, replica)

    with mock.patch.object(ReplicaGc, "_look_at", note):
        yield looked


@cluster_test()
async def test_meta_is_asked_for_those_that_know_no_leader_and_for_nobody_else(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    away = cluster.followers()[0]
    with looked_at() as looked:
        await asyncio.sleep(2 * replica_gc.INTERVAL_S)
        assert looked == []
        cluster.isolate(away.number)
        await asyncio.sleep(2 * replica_gc.INTERVAL_S)
    assert {replica.context.node_id for replica in looked} == {away.number}
    cluster.rejoin(away.number)


@cluster_test(nodes=4, config=SLOW_SNAPSHOTS)
async def test_a_removed_replica_that_never_had_its_state_ends_after_a_restart(
    cluster: Cluster, db: Database
) -> None:
    """It knows nobody, and nobody calls it: its store must know what to ask meta for."""
    away, change = await begin_to_add_the_fourth(cluster, db, snapshot_bytes=10_000)
    await cluster.crash(away.number)
    with pytest.raises(errors.OutcomeUnknownError, match="did not catch up"):
        await change
    await db.admin.change_replicas(USER_RANGE_ID, THREE)
    await cluster.restart(away.number)
    assert away.replica().descriptor is None
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)


@cluster_test(nodes=4, config=SLOW_SNAPSHOTS)
async def test_a_member_that_waits_for_its_state_stays_when_its_store_asks(
    cluster: Cluster, db: Database
) -> None:
    newcomer, change = await begin_to_add_the_fourth(cluster, db, snapshot_bytes=50_000)
    replica = newcomer.replica()
    with looked_at() as looked:
        await asyncio.sleep(2 * replica_gc.INTERVAL_S)
    assert replica in looked
    assert replica.descriptor is None
    await change
    assert newcomer.replica() is replica


@cluster_test(nodes=4, config=SLOW_SNAPSHOTS)
async def test_a_snapshot_that_waited_till_its_receiver_was_removed_is_refused(
    cluster: Cluster, db: Database
) -> None:
    """Installed, it would be a replica that its own descriptor leaves out: no store starts so."""
    await db.admin.change_replicas(USER_RANGE_ID, THREE)
    sender = leader_of(cluster).up.store.snapshots
    for _ in range(SLOW_SNAPSHOTS.ranges.snapshots_concurrent_max):
        await sender._slots.acquire()
    away, change = await begin_to_add_the_fourth(cluster, db, snapshot_bytes=1_000)
    with pytest.raises(errors.OutcomeUnknownError, match="did not catch up"):
        await change
    assert sender.is_sending(USER_RANGE_ID), "it waits for its turn"
    began = cluster.loop.time()
    with mock.patch.object(Store, "post_removal"):  # It is lost.
        await db.admin.change_replicas(USER_RANGE_ID, THREE)
    assert cluster.loop.time() - began < 1.0, "who has no state has nothing to unlearn"
    sender._slots.release()
    await cluster.until(lambda: not sender.is_sending(USER_RANGE_ID))
    assert "is no member any more" in sender.last_failure
    assert away.replica().descriptor is None
    await cluster.crash(away.number, keep=away.engine.unsynced_count)
    await cluster.restart(away.number)
    await cluster.until(lambda: USER_RANGE_ID not in away.up.store.replicas)


@cluster_test(nodes=4, config=SLOW_SNAPSHOTS)
async def test_who_has_its_state_but_is_far_behind_does_not_vote_yet(
    cluster: Cluster, db: Database
) -> None:
    """It would count for a majority that waits for it."""
    newcomer, change = await begin_to_add_the_fourth(cluster, db, snapshot_bytes=5_000)
    for _ in range(100):
        await db.increment(b"n")
    assert newcomer.replica().descriptor is None, "its snapshot is older than all of these"
    acknowledged: list[int] = []

    def lose_all_but_the_first(source: int, _target: int, envelope: GroupEnvelope) -> bool:
        message = envelope.message
        if source != newcomer.number or envelope.range_id != USER_RANGE_ID:
            return False
        if not isinstance(message, AppendEntriesReply) or not message.accepted:
            return False
        acknowledged.append(message.match_index)
        return message.match_index > acknowledged[0]

    cluster.wiretap.drop = lose_all_but_the_first
    await cluster.until(lambda: bool(acknowledged), within_s=30.0)
    await asyncio.sleep(1.0)
    descriptor = leader_of(cluster).replica().descriptor
    assert descriptor is not None
    assert [replica.kind for replica in descriptor.replicas][3:] == [ReplicaKind.LEARNER]
    cluster.wiretap.drop = None
    assert {replica.kind for replica in (await change).replicas} == {ReplicaKind.VOTER}


@cluster_test(nodes=4, config=SLOW_SNAPSHOTS)
async def test_a_learner_that_another_change_has_left_is_neither_waited_for_nor_kept(
    cluster: Cluster, db: Database
) -> None:
    away, change = await begin_to_add_the_fourth(cluster, db, snapshot_bytes=10_000)
    await cluster.crash(away.number)
    with pytest.raises(errors.OutcomeUnknownError, match="did not catch up"):
        await change
    leader = leader_of(cluster)
    staying = sorted({leader.node_id, *THREE[:2]})[:2]
    left = await db.admin.change_replicas(USER_RANGE_ID, tuple(staying))
    assert [(r.node_id, r.kind) for r in left.replicas] == [
        (node_id, ReplicaKind.VOTER) for node_id in staying
    ]


@cluster_test()
async def test_a_step_waits_for_the_descriptors_latch_and_is_refused_if_another_came_first(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    replica, holder = leader.replica(), holder_of(leader)
    other = LatchedChange(holder, Latch(read_points=(latches.DESCRIPTOR,)))
    await other.acquire()
    seen = replica.descriptor
    assert seen is not None
    new = msgspec.structs.replace(seen, generation=seen.generation + 1)
    step = asyncio.create_task(membership.propose_descriptor(replica, holder, seen, new))
    await asyncio.sleep(1.0)
    assert not step.done()
    other.give_back()
    await step
    assert replica.descriptor == new
    with pytest.raises(errors.ConflictingChangeError):
        await membership.propose_descriptor(replica, holder, seen, new)
    await db.admin.split(b"m", deadline_s=1.0)  # The latch is free.
