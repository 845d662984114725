"""Replicas that are removed: what stays of them, and that they never come back (traps T14, T16)."""

import asyncio

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term
from multiraft.model import encoding, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import BatchReply, Get
from multiraft.raft.messages import (
    AppendEntries,
    Fortify,
    Message,
    PreVote,
    RequestVote,
    StillLeading,
)
from multiraft.ranges import messages, state
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope, PeerFrame, ReplicaRemoved
from multiraft.ranges.state import Tombstone
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.storage import layout, raft_log
from tests.support.cluster import cluster_test
from tests.support.serving import error_of

HIGH = Term(90)


def receive(member: Member, frame: PeerFrame) -> None:
    member.up.store.receive_frame(NodeId(2), messages.encode(frame))


def deliver(member: Member, target: int, message: Message, *, start: bytes = keys.END) -> None:
    """Deliver a message for the user range; `start` by default where nothing is covered here."""
    envelope = GroupEnvelope(USER_RANGE_ID, ReplicaId(2), ReplicaId(target), message, start)
    receive(member, PeerFrame(member.up.store.context.hlc.now(), envelopes=(envelope,)))


def without(descriptor: RangeDescriptor, node: int, *, newer_by: int = 2) -> RangeDescriptor:
    return msgspec.structs.replace(
        descriptor,
        generation=descriptor.generation + newer_by,
        replicas=tuple(r for r in descriptor.replicas if r.node_id != node),
    )


def remove(member: Member, descriptor: RangeDescriptor) -> None:
    clock = member.up.store.context.hlc.now()
    receive(member, PeerFrame(clock, removals=(ReplicaRemoved(descriptor),)))


def a_follower(cluster: Cluster) -> tuple[Member, RangeDescriptor]:
    member = cluster.followers()[0]
    descriptor = member.replica().descriptor
    assert descriptor is not None
    return member, descriptor


def range_state_on(member: Member) -> dict[bytes, bytes]:
    """Return what the node's engine has of the user range's own state, by suffix."""
    prefix = layout.range_key(USER_RANGE_ID, b"")
    rows = member.engine.scan(prefix, prefix + b"\xff", member.engine.data)
    return {key[len(prefix) :]: value for key, value in rows}


def user_rows_on(member: Member) -> int:
    rows = member.engine.scan(layout.RECORD, b"\xff", member.engine.data)
    return sum(1 for key, _ in rows if key[1:2] == keys.PLAIN)


@cluster_test()
async def test_a_removed_replica_leaves_a_tombstone_and_nothing_else(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    await cluster.until_applied()
    member, descriptor = a_follower(cluster)
    assert user_rows_on(member) == 1
    newer = without(descriptor, member.number)
    remove(member, newer)
    assert USER_RANGE_ID not in member.up.store.replicas
    assert list(range_state_on(member)) == [state.TOMBSTONE]
    assert state.read_tombstone(member.engine, USER_RANGE_ID) == Tombstone(
        descriptor.next_replica_id, newer
    )
    assert user_rows_on(member) == 0
    assert USER_RANGE_ID not in raft_log.range_ids(member.engine)
    assert await db.get(b"k") == b"v", "the others go on"


@cluster_test()
async def test_an_old_or_mistaken_removal_removes_nothing(cluster: Cluster, db: Database) -> None:
    await db.admin.split(b"m")
    await cluster.until_applied()
    member, descriptor = a_follower(cluster)
    remove(member, without(descriptor, member.number, newer_by=-1))
    remove(member, msgspec.structs.replace(descriptor, generation=descriptor.generation + 9))
    added_again = without(descriptor, member.number)
    mine = member.replica().replica_id
    remove(member, msgspec.structs.replace(added_again, next_replica_id=mine))
    remove(member, msgspec.structs.replace(added_again, range_id=RangeId(999)))
    assert member.replica().descriptor == descriptor


@pytest.mark.parametrize(
    "message",
    [
        RequestVote(HIGH, Index(99), HIGH),
        PreVote(HIGH, Index(99), HIGH),
        AppendEntries(HIGH, Index(10), Term(5), (), Index(10)),
        Fortify(HIGH, Epoch(1)),
        StillLeading(HIGH),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_for_a_removed_replica_brings_nothing_back(message: Message) -> None:
    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        member, descriptor = a_follower(cluster)
        remove(member, without(descriptor, member.number))
        for target in (member.number, descriptor.next_replica_id - 1):
            deliver(member, target, message)
            deliver(member, target, message, start=descriptor.start)
        await asyncio.sleep(0.1)
        assert USER_RANGE_ID not in member.up.store.replicas
        assert list(range_state_on(member)) == [state.TOMBSTONE]

    run()


@cluster_test()
async def test_a_replica_id_above_the_tombstone_may_come(cluster: Cluster, db: Database) -> None:
    member, descriptor = a_follower(cluster)
    remove(member, without(descriptor, member.number))
    fresh = descriptor.next_replica_id
    deliver(member, fresh, PreVote(HIGH, Index(99), HIGH))
    assert member.replica().replica_id == fresh
    assert member.replica().descriptor is None
    assert sorted(range_state_on(member)) == [state.PLACEHOLDER, state.TOMBSTONE]


@cluster_test()
async def test_a_message_for_a_later_id_removes_the_replica_that_is_here(
    cluster: Cluster, db: Database
) -> None:
    """It was removed and added again, and nobody told it: the old one goes before the new comes."""
    await db.put(b"k", b"v")
    await cluster.until_applied()
    member, descriptor = a_follower(cluster)
    old = member.replica()
    again = ReplicaId(descriptor.next_replica_id + 1)
    deliver(member, again, PreVote(HIGH, Index(99), HIGH))
    assert old.destroyed
    assert member.replica().replica_id == again
    assert user_rows_on(member) == 0
    tombstone = state.read_tombstone(member.engine, USER_RANGE_ID)
    assert tombstone == Tombstone(again, descriptor)
    deliver(member, old.replica_id, PreVote(HIGH, Index(99), HIGH))
    assert member.replica().replica_id == again, "and messages for the old one are ignored"


@cluster_test()
async def test_an_uninitialised_replica_that_is_removed_leaves_a_tombstone_with_its_id(
    cluster: Cluster, db: Database
) -> None:
    member, descriptor = a_follower(cluster)
    remove(member, without(descriptor, member.number))
    fresh = descriptor.next_replica_id
    deliver(member, fresh, RequestVote(HIGH, Index(99), HIGH))
    await cluster.until(lambda: member.replica().core.vote != 0)
    later = msgspec.structs.replace(
        without(descriptor, member.number, newer_by=5), next_replica_id=ReplicaId(fresh + 1)
    )
    remove(member, later)
    assert list(range_state_on(member)) == [state.TOMBSTONE]
    deliver(member, fresh, RequestVote(HIGH, Index(99), HIGH))
    assert USER_RANGE_ID not in member.up.store.replicas
    assert USER_RANGE_ID not in raft_log.range_ids(member.engine), "its vote is gone with its ID"


@pytest.mark.parametrize("keep", [0, 1])
def test_a_power_cut_leaves_the_replica_or_its_tombstone(keep: int) -> None:
    """Tombstone, data and Raft state go in one batch: never a half of a replica."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        await db.put(b"k", b"v")
        await cluster.until_applied()
        member, descriptor = a_follower(cluster)
        before = member.engine.unsynced_count
        remove(member, without(descriptor, member.number))
        assert member.engine.unsynced_count == before + 1, "one batch"
        await cluster.crash(member.number, keep=before + keep)
        await cluster.restart(member.number)
        await cluster.until(lambda: bool(member.up.store.replicas))
        if keep:
            await asyncio.sleep(3.0)
            assert USER_RANGE_ID not in member.up.store.replicas
            assert user_rows_on(member) == 0
        else:
            await cluster.until_applied()
            assert member.replica().descriptor == descriptor
            assert user_rows_on(member) == 1

    run()


@cluster_test()
async def test_who_waits_at_a_leader_that_is_removed_is_sent_away(
    cluster: Cluster, db: Database
) -> None:
    leader = cluster.leader()
    assert leader is not None
    descriptor = leader.replica().descriptor
    assert descriptor is not None
    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == USER_RANGE_ID
    task = asyncio.create_task(db.admin.split(b"m"))
    holder = leader.replica().leaseholder
    assert holder is not None
    await cluster.until(lambda: len(holder.proposals) > 0)
    replies: list[BatchReply] = cluster.submit(leader.number, (Get(keys.PLAIN + b"x"),))
    assert not replies, "it waits for the split's latch"
    remove(leader, without(descriptor, leader.number))
    assert isinstance(error_of(replies), errors.NotLeaseholderError)
    late = cluster.submit(leader.number, (Get(keys.PLAIN + b"x"),))
    assert isinstance(error_of(late), errors.RetryableError)
    cluster.wiretap.drop = None
    await task
    assert await db.get(b"x") is None


@cluster_test()
async def test_a_client_that_comes_to_a_removed_replica_learns_where_the_range_went(
    cluster: Cluster, db: Database
) -> None:
    """L6: the tombstone keeps the last known members as a hint."""
    member, descriptor = a_follower(cluster)
    newer = without(descriptor, member.number)
    remove(member, newer)
    error = error_of(cluster.submit(member.number, (Get(keys.PLAIN + b"x"),)))
    assert isinstance(error, errors.RangeMismatchError)
    assert [encoding.unpack_descriptor(packed) for packed in error.descriptors] == [newer]
