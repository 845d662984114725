"""Followers apply behind their syncs, leaders at once, and everybody in the log's order."""

import asyncio

from multiraft.client.database import Database
from multiraft.raft.messages import AppendEntriesReply
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

SYNC_S = 0.05
WRITES_PER_SYNC = 7


@cluster_test()
async def test_a_follower_applies_when_its_acknowledgement_has_left(
    cluster: Cluster, db: Database
) -> None:
    follower = cluster.followers()[0]
    replica = follower.replica()
    applied_when_acknowledging: list[int] = []

    def hear(source: int, _life: int, _target: int, envelope: GroupEnvelope) -> None:
        message = envelope.message
        if source == follower.number and envelope.range_id == replica.range_id:
            assert type(message) is AppendEntriesReply
            if message.match_index == second:
                applied_when_acknowledging.append(replica.applied.index)

    await db.put(b"k", b"1")
    first = replica.log.last_index()
    assert replica.applied.index < first, "that it is committed comes with the next append"
    second = first + 1
    cluster.wiretap.listeners.append(hear)
    await db.put(b"k", b"2")
    await cluster.until_applied()
    assert applied_when_acknowledging[0] < first
    assert not replica.unapplied


@cluster_test()
async def test_what_a_slow_disk_puts_off_is_applied_in_order_with_what_came_since(
    cluster: Cluster, db: Database
) -> None:
    follower = cluster.followers()[0]
    replica = follower.replica()
    follower.sync_delay_s = SYNC_S
    for _ in range(60):
        await db.increment(b"n")
        await asyncio.sleep(SYNC_S / WRITES_PER_SYNC)
        assert replica.core.commit_index - replica.applied.index == len(replica.unapplied)
        assert len(replica.unapplied) <= 2 * WRITES_PER_SYNC, "each sync that ends lets it apply"
    await cluster.until_applied()
    assert cluster.contents(follower.number) == cluster.contents(cluster.followers()[1].number)


@cluster_test()
async def test_a_follower_that_begins_to_lead_applies_what_it_had_put_off(
    cluster: Cluster, db: Database
) -> None:
    old = cluster.leader()
    assert old is not None
    for member in cluster.members.values():
        member.sync_delay_s = SYNC_S
    for _ in range(5):
        await db.increment(b"n")
    heir = cluster.followers()[0]
    await db.admin.transfer(USER_RANGE_ID, heir.node_id)
    assert await db.increment(b"n") == 6
    assert cluster.leader() is heir
    await cluster.until_applied()
