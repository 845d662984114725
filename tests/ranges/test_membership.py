"""Changing who keeps a range, on whole clusters (safety rules S4, S5, A5, L6)."""

import asyncio
from unittest import mock

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.ids import NodeId, Timestamp
from multiraft.model import hlc
from multiraft.model.descriptor import ReplicaKind
from multiraft.model.requests import AdminChangeReplicas
from multiraft.ranges import membership
from multiraft.ranges.addressing import AddressingWriter
from multiraft.ranges.admin import AdminRequests
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import ask, holder_of, leader_of, put


def nodes(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def keepers(cluster: Cluster) -> list[int]:
    """Return the nodes that have a replica of the users' range."""
    return [m.number for m in cluster.running() if USER_RANGE_ID in m.up.store.replicas]


def others_than(member: Member) -> list[int]:
    return [number for number in range(1, 5) if number != member.number]


@cluster_test(nodes=4)
async def test_a_range_moves_while_it_is_written_and_nothing_is_lost(
    cluster: Cluster, db: Database
) -> None:
    cluster.slow_down(sync_s=0.002, link_s=0.002)  # Else writes take no time, and it never passes.
    await db.admin.change_replicas(USER_RANGE_ID, nodes(1, 2, 3))
    written = 0
    stopping = False

    async def write() -> None:
        nonlocal written
        while not stopping:
            await db.increment(b"n")
            written += 1
            await asyncio.sleep(0.01)

    writer = asyncio.create_task(write())
    for voters in (nodes(2, 3, 4), nodes(1, 3, 4), nodes(1, 2, 4)):
        await db.admin.change_replicas(USER_RANGE_ID, voters)
        await cluster.until(lambda voters=voters: keepers(cluster) == list(voters))  # type: ignore[misc]
    stopping = True
    await writer
    assert await db.increment(b"n", 0) == written
    await cluster.until_applied()
    cluster.check_statistics()


@cluster_test(nodes=4)
async def test_a_change_asked_for_before_a_split_is_refused_until_it_is_asked_for_again(
    cluster: Cluster, db: Database
) -> None:
    before = await db.admin.change_replicas(USER_RANGE_ID, nodes(1, 2, 3))
    left, _ = await db.admin.split(b"m")
    stale = AdminChangeReplicas(nodes(2, 3, 4), before.generation)
    replies = cluster.submit(leader_of(cluster).number, (stale,))
    await cluster.until(lambda: bool(replies))
    assert replies[0].error is not None
    error = errors.from_wire(replies[0].error)
    assert isinstance(error, errors.RangeChangedError)
    assert error.generation == left.generation
    assert keepers(cluster) == [1, 2, 3]
    await db.admin.change_replicas(USER_RANGE_ID, nodes(2, 3, 4))
    await cluster.until(lambda: keepers(cluster) == [2, 3, 4])


@cluster_test(nodes=4)
async def test_no_old_voter_is_removed_before_meta_names_the_new_ones(
    cluster: Cluster, db: Database
) -> None:
    """L6: else the last address of the range could vanish with its old replicas."""
    leader = leader_of(cluster)
    staying = others_than(leader)[:2]
    leaving = others_than(leader)[2]
    voters = nodes(leader.number, *staying)
    with mock.patch.object(AddressingWriter, "look_at"):  # Nobody writes to meta.
        change = asyncio.create_task(
            db.admin.change_replicas(USER_RANGE_ID, voters, deadline_s=60.0)
        )
        await asyncio.sleep(5.0)
        assert leaving in keepers(cluster)
        descriptor = leader.replica().descriptor
        assert descriptor is not None
        demoted = descriptor.replica_on(NodeId(leaving))
        assert demoted is not None
        assert demoted.kind is ReplicaKind.LEARNER, "it votes no more, but it is there"
    leader.up.store.descriptor_changed(leader.replica())
    await change
    await cluster.until(lambda: leaving not in keepers(cluster))


@cluster_test(nodes=4)
async def test_a_joint_configuration_is_not_split_and_is_left_by_whoever_leads_next(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    staying = others_than(leader)[:2]

    async def forget(*_: object) -> None:
        """The leader that entered it does not leave it."""

    with mock.patch.object(membership, "leave_joint", forget):
        change = asyncio.create_task(
            db.admin.change_replicas(USER_RANGE_ID, nodes(leader.number, *staying), deadline_s=60.0)
        )
        await cluster.until(lambda: leader.replica().core.configuration.is_joint)
        with pytest.raises(errors.OutcomeUnknownError, match="membership change"):
            await db.admin.split(b"m", deadline_s=1.0)
    assert len(cluster.range_ids()) == 2, "there are the first two ranges only"
    await db.admin.transfer(USER_RANGE_ID, NodeId(staying[0]))
    await cluster.until(lambda: not cluster.replicas()[0].core.configuration.is_joint)
    await change
    await cluster.until_served()


@cluster_test(nodes=4)
async def test_a_leader_that_leaves_tries_to_hand_over_until_somebody_can_take_over(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    replica, store = leader.replica(), leader.up.store
    staying = others_than(leader)

    async def later(*_: object) -> None:
        """What it does comes below."""

    with mock.patch.object(membership, "leave_joint", later):
        change = asyncio.create_task(
            db.admin.change_replicas(USER_RANGE_ID, nodes(*staying), deadline_s=60.0)
        )
        await cluster.until(lambda: replica.core.configuration.is_joint)
    cluster.wiretap.drop = lambda *_: True
    ask(cluster, leader, put(b"k", b"v"))
    await cluster.until(lambda: replica.core.last_index > replica.core.commit_index)
    real = AdminRequests.hand_over_to_any
    with mock.patch.object(
        AdminRequests, "hand_over_to_any", autospec=True, side_effect=real
    ) as handed_over:
        store.descriptor_changed(replica)
        await cluster.until(lambda: handed_over.call_count == 2, within_s=10.0)
        assert replica.leaseholder is not None, "nobody has the entry, so nobody is told to lead"
        cluster.wiretap.drop = None
        await change
    assert replica.leaseholder is None
    await cluster.until(lambda: keepers(cluster) == staying)


@cluster_test(nodes=4)
async def test_a_joint_configuration_waits_until_it_carries_the_promised_lease(
    cluster: Cluster, db: Database
) -> None:
    """S4: what was promised under one configuration binds no voter of the next one."""
    leader = leader_of(cluster)
    holder = holder_of(leader)
    leadership = leader.replica().core.leadership
    assert leadership is not None
    leadership.lease_promised = Timestamp(leader.replica().lease.end() + hlc.from_ms(5_000))
    began = cluster.loop.time()
    voters = nodes(leader.number, *others_than(leader)[:2])
    await db.admin.change_replicas(USER_RANGE_ID, voters, deadline_s=60.0)
    assert cluster.loop.time() - began >= 4.0, "only a lease as long as that one will do"
    assert leader.replica().leaseholder is holder
