"""Power cuts around a split: whatever is lost, both halves come back whole (S1, T5, T13)."""

import asyncio
from itertools import product

import pytest

from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.raft.messages import AppendEntries, PreVote
from multiraft.raft.role import Role
from multiraft.ranges import state
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of

ROWS = {b"%03d" % n: b"v%d" % n for n in range(100)}


async def check_all(cluster: Cluster, db: Database) -> None:
    """Every range is served and equal everywhere, every row is there once, every count is right."""
    await cluster.until_served()
    for range_id in cluster.range_ids():
        await cluster.until_applied(range_id)
        replicas = cluster.replicas(range_id)
        assert len({replica.descriptor for replica in replicas}) == 1
        contents = [cluster.contents(n, range_id) for n in cluster.members]
        assert contents == contents[:1] * len(contents)
    cluster.check_statistics()
    assert [row async for row in db.scan()] == sorted(ROWS.items())


def victims_of(cluster: Cluster, who: str) -> list[Member]:
    leader = leader_of(cluster)
    if who == "leader":
        return [leader]
    if who == "follower":
        return cluster.followers()[:1]
    return [leader, *cluster.followers()]


@pytest.mark.parametrize("who", ["leader", "follower", "all"])
def test_a_power_cut_at_any_moment_of_a_split_leaves_a_whole_range_or_two_whole_halves(
    who: str,
) -> None:
    """T13, T5: for each step of a split's life, and each number of batches that reach the disk."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        await db.put_many(ROWS)
        cluster.slow_down(sync_s=0.004, link_s=0.001)
        cuts = sorted(ROWS)[1:]
        for moment_ms, kept in product(range(1, 15, 2), (0.0, 0.5, 1.0)):
            await cluster.until_served()
            task = asyncio.create_task(db.admin.split(cuts.pop(0)))
            await asyncio.sleep(moment_ms / 1_000)
            victims = victims_of(cluster, who)
            for victim in victims:
                unsynced = victim.engine.unsynced_count
                await cluster.crash(victim.number, keep=round(unsynced * kept))
            for victim in victims:
                await cluster.restart(victim.number)
            left, right = await task
            assert left.end == right.start
            await check_all(cluster, db)
        assert cluster.snapshots_sent() == 0

    run()


@pytest.mark.parametrize("who", ["leader", "follower"])
def test_a_node_that_keeps_any_number_of_its_unsynced_batches_catches_up(who: str) -> None:
    """T5: the applied index is atomic with its effects, whichever prefix of the WAL survives."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        await db.put_many(ROWS)
        cuts = sorted(ROWS)[1:]
        keep = batches_max = 0
        while keep <= batches_max:
            await cluster.until_served()
            victim = victims_of(cluster, who)[0]
            victim.sync_delay_s = 0.05
            await asyncio.gather(
                db.admin.split(cuts.pop(0)), *(db.put(key, ROWS[key]) for key in sorted(ROWS)[:5])
            )
            unsynced = victim.engine.unsynced_count
            batches_max = max(batches_max, unsynced)
            await cluster.crash(victim.number, keep=min(keep, unsynced))
            victim.sync_delay_s = 0.0
            await cluster.restart(victim.number)
            await check_all(cluster, db)
            keep += 1
        assert batches_max > 3, "there was something to lose"
        assert cluster.snapshots_sent() == 0

    run()


@cluster_test()
async def test_a_leader_that_dies_right_after_the_commit_leaves_two_halves_that_are_led(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    cluster.slow_down(sync_s=0.002, link_s=0.001)
    leader = leader_of(cluster)
    followers = cluster.followers()
    task = asyncio.create_task(db.admin.split(b"050"))
    await cluster.until(
        lambda: any(len(m.up.store.replicas) == 3 for m in followers), step_s=0.0005
    )
    await cluster.crash(leader.number, keep=0)
    left, right = await task
    await db.put(b"010", ROWS[b"010"])
    await db.put(b"090", ROWS[b"090"])
    assert leader_of(cluster, left.range_id) is not leader
    assert leader_of(cluster, right.range_id) is not leader
    await cluster.restart(leader.number)
    await check_all(cluster, db)


# -- S1: leadership without election ---------------------------------------------------------------


async def _split_with_slow_disk(
    cluster: Cluster, db: Database
) -> tuple[Member, list[AppendEntries], RangeDescriptor]:
    """Split while the leader's disk takes a second; return what it appends to the right range."""
    leader = leader_of(cluster)
    sent: list[AppendEntries] = []

    def listen(source: int, _target: int, envelope: object) -> bool:
        message = getattr(envelope, "message", None)
        if (
            source == leader.number
            and isinstance(message, AppendEntries)
            and getattr(envelope, "range_id", 0) > USER_RANGE_ID
        ):
            sent.append(message)
        return False

    cluster.wiretap.drop = listen
    leader.sync_delay_s = 1.0
    _, right = await db.admin.split(b"050")
    return leader, sent, right


@cluster_test()
async def test_a_first_leader_says_nothing_before_the_split_is_durable_on_its_own_disk(
    cluster: Cluster, db: Database
) -> None:
    leader, sent, right = await _split_with_slow_disk(cluster, db)
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    await asyncio.sleep(0.1)
    assert leader.engine.unsynced_count > 0
    assert not sent, "the right range's first term is not durable here"


@cluster_test()
async def test_a_leader_that_loses_the_split_it_had_applied_never_leads_the_first_term_again(
    cluster: Cluster, db: Database
) -> None:
    """S1: no two entries with one (term, index), no term led twice: the wiretap looks for both."""
    leader, sent, right = await _split_with_slow_disk(cluster, db)
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    await cluster.crash(leader.number, keep=0)
    leader.sync_delay_s = 0.0
    await cluster.restart(leader.number)
    await cluster.until_served()
    await db.put(b"077", b"after")
    await db.admin.transfer(right.range_id, NodeId(leader.number))
    await db.put(b"077", b"its own")
    assert sent, "it leads"
    assert all(message.term > state.INITIAL_TERM for message in sent)
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    assert all(r.core.term > state.INITIAL_TERM for r in cluster.replicas(right.range_id))
    await cluster.until_applied(right.range_id)
    assert {len(cluster.contents(n, right.range_id)) for n in cluster.members} == {2}


@cluster_test()
async def test_a_split_that_is_applied_after_a_restart_gives_its_first_leader_no_leadership(
    cluster: Cluster, db: Database
) -> None:
    """S1: nobody may be elected meanwhile, so whoever led the right range would lead term t0."""
    leader, sent, right = await _split_with_slow_disk(cluster, db)
    listen = cluster.wiretap.drop
    assert listen is not None
    cluster.wiretap.drop = lambda source, target, envelope: (
        listen(source, target, envelope)
        or (isinstance(envelope.message, PreVote) and envelope.range_id == right.range_id)
    )
    await cluster.crash(leader.number, keep=0)
    leader.sync_delay_s = 0.0
    await cluster.restart(leader.number)
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    await asyncio.sleep(1.0)
    assert {r.core.role for r in cluster.replicas(right.range_id)} <= {
        Role.FOLLOWER,
        Role.PRE_CANDIDATE,
    }
    assert not sent
    cluster.wiretap.drop = None
    await cluster.until_served()


@cluster_test()
async def test_a_first_leader_whose_disk_was_so_slow_that_it_asks_for_votes_stands_for_election(
    cluster: Cluster, db: Database
) -> None:
    leader, _, right = await _split_with_slow_disk(cluster, db)
    cluster.wiretap.drop = lambda _, __, envelope: isinstance(envelope.message, PreVote)
    await cluster.until(
        lambda: leader.replica(right.range_id).core.role is Role.PRE_CANDIDATE, within_s=1.0
    )
    await asyncio.sleep(2.5)
    assert not cluster.errors
    leader.sync_delay_s = 0.0
    cluster.wiretap.drop = None
    await cluster.until_served()


@cluster_test()
async def test_a_leader_that_learns_of_its_splits_commit_with_the_next_term_starts_as_a_follower(
    cluster: Cluster, db: Database
) -> None:
    """S1: applied in the process that proposed it, but in a term that is over.

    Its store asks for no more support, as with a stalled disk: its lease ends without its knowing.
    """
    leader, (heir, other) = leader_of(cluster), cluster.followers()
    old = leader.replica()
    assert old.leaseholder is not None
    cluster.wiretap.drop = lambda _, target, envelope: (
        (target == leader.number and envelope.range_id == USER_RANGE_ID)
        or (isinstance(envelope.message, PreVote) and envelope.range_id > USER_RANGE_ID)
    )
    task = asyncio.create_task(db.admin.split(b"050"))
    await cluster.until(lambda: old.leaseholder is not None and len(old.leaseholder.proposals) > 0)
    await cluster.until(
        lambda: (
            heir.replica().core.last_index == other.replica().core.last_index == old.core.last_index
        )
    )
    leader.up.store.liveness.stop()
    await cluster.until(lambda: len(heir.up.store.replicas) == 3)
    assert len(old.leaseholder.proposals) > 0, "the old leader does not know yet"
    right = max(heir.up.store.replicas)
    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == right
    await cluster.until(lambda: right in leader.up.store.replicas)
    await asyncio.sleep(0.1)
    assert leader.replica(right).core.led_term == 0
    cluster.wiretap.drop = None
    await task
    await cluster.until_served()


@cluster_test()
async def test_what_was_acknowledged_on_the_right_survives_its_first_leaders_power_cut(
    cluster: Cluster, db: Database
) -> None:
    """S1: the right range works on the strength of two durable followers; the leader forgets."""
    leader = leader_of(cluster)
    await db.admin.split(b"050")
    await db.put(b"060", b"first")
    leader.sync_delay_s = 1.0
    await db.put(b"060", b"acknowledged")
    assert leader.engine.unsynced_count > 0
    await cluster.crash(leader.number, keep=0)
    leader.sync_delay_s = 0.0
    await cluster.restart(leader.number)
    assert await db.get(b"060") == b"acknowledged"
    await db.put(b"060", b"and on")
    assert await db.get(b"060") == b"and on"
