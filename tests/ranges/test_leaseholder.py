"""One term of leadership: who waits for what, and what happens to those who wait."""

import asyncio
from collections.abc import Iterator
from unittest import mock

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import LimitsConfig, LivenessConfig
from multiraft.ids import Index, Term, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import ConditionalPut, Get, Increment, Operation
from multiraft.mvcc import reads
from multiraft.sim.cluster import FAST, Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import (
    answered,
    ask,
    get,
    heal,
    holder_of,
    leader_of,
    move,
    now_of,
    plain,
    put,
    scan,
)
from tests.support.transactions import Transaction

OFFSET = hlc.from_ms(LivenessConfig().clock_offset_ms_max)
SMALL_REPLIES = LimitsConfig(key_bytes_max=100, value_bytes_max=600, batch_bytes_max=1_000)

# -- latches -----------------------------------------------------------------------------------


@cluster_test()
async def test_a_read_waits_for_the_write_of_its_key_that_is_in_flight(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"old")
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.02, link_s=0.01)
    write = ask(cluster, leader, put(b"k", b"new"))
    read = ask(cluster, leader, get(b"k"))
    both = ask(cluster, leader, get(b"j"), get(b"k"))
    other = ask(cluster, leader, get(b"j"))
    assert other.is_answered, "nothing is in the way of another key"
    assert not read.is_answered
    assert not both.is_answered
    await answered(cluster, write)
    assert read.value == b"new"
    assert both.is_answered
    assert read.reply.timestamp > write.reply.timestamp


@cluster_test()
async def test_a_scan_waits_for_the_writes_in_its_span_that_are_in_flight(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"a", b"1")
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.02, link_s=0.01)
    write = ask(cluster, leader, put(b"m", b"2"))
    inside = ask(cluster, leader, scan(b"a", b"z"))
    backwards = ask(cluster, leader, msgspec.structs.replace(scan(b"a", b"z"), reverse=True))
    below = ask(cluster, leader, scan(b"a", b"m"))
    above = ask(cluster, leader, scan(b"m\x00", b"z"))
    assert below.rows == (plain(b"a"), b"1")
    assert above.rows == ()
    assert not inside.is_answered
    assert not backwards.is_answered
    await answered(cluster, write)
    assert inside.rows == (plain(b"a"), b"1", plain(b"m"), b"2")
    assert backwards.rows == (plain(b"m"), b"2", plain(b"a"), b"1")


@cluster_test()
async def test_writes_of_one_key_take_turns_and_each_sees_the_one_before(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.005, link_s=0.002)
    asked = [ask(cluster, leader, Increment(plain(b"n"), 1)) for _ in range(20)]
    await answered(cluster, *asked)
    assert [each.number for each in asked] == list(range(1, 21))
    times = [each.reply.timestamp for each in asked]
    assert times == sorted(set(times)), "each at a time of its own"


@cluster_test()
async def test_when_the_term_is_lost_everybody_who_waits_is_told_and_no_latch_stays(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"old")
    leader = leader_of(cluster)
    holder = holder_of(leader)
    cluster.isolate(leader.number)
    write = ask(cluster, leader, put(b"k", b"new"))
    behind = [ask(cluster, leader, get(b"k")), ask(cluster, leader, Increment(plain(b"k"), 1))]
    assert not write.is_answered
    await cluster.until(lambda: leader.replica().leaseholder is not holder)
    assert [each.code for each in (write, *behind)] == ["not_leaseholder"] * 3
    latches = holder.latches.status()
    assert (latches.held, latches.waiting) == (0, 0)
    assert len(holder.proposals) == 0
    assert leader.up.store.context.inflight_bytes == 0
    cluster.rejoin(leader.number)
    await cluster.until_served()
    assert await db.get(b"k") in (b"old", b"new")


@cluster_test()
async def test_a_request_that_waited_for_a_latch_is_checked_again(
    cluster: Cluster, db: Database
) -> None:
    """The range is split while it waits: the key is another range's by then."""
    await db.put(b"x", b"1")
    leader = leader_of(cluster)
    holder = holder_of(leader)
    cluster.slow_down(sync_s=0.02, link_s=0.01)
    split = asyncio.create_task(db.admin.split(b"m"))
    await cluster.until(lambda: len(holder.proposals) > 0, step_s=0.001)
    asked = [
        ask(cluster, leader, get(b"x")),
        ask(cluster, leader, put(b"x", b"2")),
        ask(cluster, leader, scan(b"a", b"z")),
        ask(cluster, leader, scan(b"a", b"m")),
        ask(cluster, leader, get(b"a")),
    ]
    assert [each.is_answered for each in asked] == [False, False, False, True, True]
    await split
    await answered(cluster, *asked)
    assert [each.code for each in asked] == ["range_mismatch"] * 3 + ["", ""]
    assert await db.get(b"x") == b"1"


# -- the lease ---------------------------------------------------------------------------------


async def silence_followers(cluster: Cluster, *, until_ahead_ms: int) -> None:
    """Hold what the followers say to the leader until its lease ends that soon."""
    leader = leader_of(cluster)
    for follower in cluster.followers():
        cluster.network.cut(follower.name, leader.name)
    end = leader.replica().lease.end

    def is_short() -> bool:
        return end() < now_of(leader) + hlc.from_ms(until_ahead_ms)

    await cluster.until(
        lambda: end() < leader.up.store.context.hlc.now() + hlc.from_ms(until_ahead_ms),
        step_s=0.001,
    )
    assert is_short()


@cluster_test()
async def test_a_request_just_beyond_the_lease_waits_for_its_renewal(
    cluster: Cluster, db: Database
) -> None:
    """L5: the lease has not ended, but less than the clock offset is left of it."""
    await db.put(b"k", b"v")
    leader = leader_of(cluster)
    holder = holder_of(leader)
    await silence_followers(cluster, until_ahead_ms=249)
    read = ask(cluster, leader, get(b"k"))
    write = ask(cluster, leader, put(b"j", b"w"))
    rows = ask(cluster, leader, scan(b"a", b"z"))
    assert not any(each.is_answered for each in (read, write, rows))
    await asyncio.sleep(0.05)
    assert not any(each.is_answered for each in (read, write, rows))
    heal(cluster)
    await answered(cluster, read, write, rows, within_s=0.5)
    assert read.value == b"v"
    assert write.code == ""
    assert rows.code == ""
    assert leader.replica().leaseholder is holder, "in the same term"


PATIENT = msgspec.structs.replace(
    FAST, raft=msgspec.structs.replace(FAST.raft, election_timeout_ticks=200)
)
"""A leader without a quorum takes four seconds to step down."""


@cluster_test(config=PATIENT)
async def test_a_request_that_no_renewal_reaches_is_sent_away_after_a_while(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    holder = holder_of(leader)
    await silence_followers(cluster, until_ahead_ms=249)
    asked_at = cluster.loop.time()
    read = ask(cluster, leader, get(b"k"))
    write = ask(cluster, leader, put(b"k", b"v"))
    await answered(cluster, read, write)
    assert 0.99 < cluster.loop.time() - asked_at < 1.1
    assert (read.code, write.code) == ("not_leaseholder", "not_leaseholder")
    assert leader.replica().leaseholder is holder, "it has not stepped down yet"
    assert not holder._waiting
    heal(cluster)


@cluster_test(nodes=1)
async def test_a_request_whose_lease_ran_out_while_it_waited_for_a_latch_waits_on(
    cluster: Cluster, db: Database
) -> None:
    """The disk stalls: the write is done at last, but support has not been renewed meanwhile."""
    leader = leader_of(cluster)
    clock = leader.up.store.context.hlc
    await asyncio.sleep(0.5)
    leader.sync_delay_s = 0.9
    write = ask(cluster, leader, put(b"k", b"v"))
    asked = [
        ask(cluster, leader, get(b"k")),
        ask(cluster, leader, scan(b"a", b"z")),
        ask(cluster, leader, Increment(plain(b"k"), 1)),
    ]
    await answered(cluster, write)
    assert not leader.replica().lease.covers(clock.last, OFFSET)
    assert not any(each.is_answered for each in asked)
    leader.sync_delay_s = 0.0
    await answered(cluster, *asked)
    assert asked[0].value == b"v"


@cluster_test()
async def test_requests_that_wait_for_the_lease_are_sent_away_when_the_term_ends(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    await silence_followers(cluster, until_ahead_ms=249)
    read = ask(cluster, leader, get(b"k"))
    leader.replica().core.step_down()
    leader.up.store.context.mark_dirty(leader.replica())
    await answered(cluster, read, within_s=0.1)
    assert read.code == "not_leaseholder"
    heal(cluster)
    await cluster.until_served()


@cluster_test()
async def test_a_term_that_is_over_proposes_and_serves_nothing(
    cluster: Cluster, db: Database
) -> None:
    """S17: what was evaluated in one term does not get into the log in another one."""
    leader = leader_of(cluster)
    old = holder_of(leader)
    replica = leader.replica()
    other = cluster.followers()[0]
    await move(cluster, db, other)
    await move(cluster, db, leader)
    await cluster.until(lambda: cluster.leader() is leader)
    new = holder_of(leader)
    assert new is not old
    assert new.term > old.term
    replies: list[object] = []
    old.submit(ask(cluster, leader, get(b"k")).request, replies.append)
    assert len(replies) == 1
    assert replica.core.propose(b"", old.term) == Index(0), "refused"
    assert replica.core.propose(b"", Term(new.term + 1)) == Index(0), "refused"


# -- time --------------------------------------------------------------------------------------


@cluster_test()
async def test_a_timestamp_is_read_from_the_clock_when_the_request_is_evaluated(
    cluster: Cluster, db: Database
) -> None:
    """A2: two requests of one turn, and the process stood still for a while between them."""
    leader = leader_of(cluster)
    before = ask(cluster, leader, get(b"k"))
    leader.clock.step_wall(0.1)
    after = ask(cluster, leader, get(b"k"))
    write = ask(cluster, leader, put(b"k", b"v"))
    wall = leader.up.store.context.hlc.wall()
    assert before.reply.timestamp < wall - hlc.from_ms(99)
    assert after.reply.timestamp >= wall
    await answered(cluster, write)
    assert write.reply.timestamp > after.reply.timestamp


@cluster_test()
async def test_a_new_term_counts_every_key_as_read_until_it_began(
    cluster: Cluster, db: Database
) -> None:
    served = ask(cluster, leader_of(cluster), get(b"k")).reply.timestamp
    for _ in range(3):
        before = leader_of(cluster)
        before.clock.step_wall(0.05)
        served = max(served, ask(cluster, before, get(b"k")).reply.timestamp)
        await move(cluster, db, cluster.followers()[0])
        await cluster.until_served()
        assert leader_of(cluster) is not before
        holder = holder_of(leader_of(cluster))
        assert holder.cache.low_water >= served
        assert holder.recent.status().complete_since >= served
        assert holder.cache.write_floor(plain(b"k")) > served


@cluster_test(seed=3)
async def test_no_write_is_dated_at_or_below_a_read_that_was_served_before(
    cluster: Cluster, db: Database
) -> None:
    """T12: leaders with clocks that differ by up to 200 ms take turns, and crash."""
    for number, offset_s in ((1, 0.1), (2, -0.1), (3, 0.0)):
        cluster.members[number].clock.step_wall(offset_s)
    highest: dict[bytes, Timestamp] = {}
    for round_ in range(12):
        await cluster.until_served()
        leader = leader_of(cluster)
        key = b"k%d" % (round_ % 2)
        write = ask(cluster, leader, put(key, b"%d" % round_))
        await answered(cluster, write)
        if write.code == "":
            assert write.reply.timestamp > highest.get(key, 0)
        for name in (b"k0", b"k1"):
            read = ask(cluster, leader, get(name))
            await answered(cluster, read)
            if read.code == "":
                highest[name] = max(highest.get(name, Timestamp(0)), read.reply.timestamp)
        if round_ % 4 == 3:
            await cluster.crash(leader.number)
            await cluster.until(lambda: cluster.leader() is not None)
            await cluster.restart(leader.number)
        else:
            follower = cluster.random.choice(cluster.followers())
            await move(cluster, db, follower)
    assert len(highest) == 2


@cluster_test()
async def test_a_get_meets_a_version_that_lies_above_the_wall_clock_of_its_node(
    cluster: Cluster, db: Database
) -> None:
    """S13: it was written by a leader whose clock is ahead, and acknowledged."""
    old = leader_of(cluster)
    target = cluster.followers()[0]
    old.clock.step_wall(0.15)
    write = ask(cluster, old, put(b"k", b"v"))
    await answered(cluster, write)
    await move(cluster, db, target)
    assert target.up.store.context.hlc.wall() < write.reply.timestamp
    read = ask(cluster, target, get(b"k"))
    assert read.value == b"v"
    assert read.reply.timestamp > write.reply.timestamp
    rows = ask(cluster, target, scan(b"a", b"z"))
    assert rows.rows == (plain(b"k"), b"v")


@cluster_test()
async def test_what_a_request_was_issued_at_makes_it_wait_and_moves_no_clock(
    cluster: Cluster, db: Database
) -> None:
    """S12: a client that is ahead waits; it does not drag the cluster along."""
    leader = leader_of(cluster)
    clock = leader.up.store.context.hlc
    issued_at = clock.now() + hlc.from_ms(100)
    write = ask(cluster, leader, put(b"k", b"v"), issued_at=issued_at)
    read = ask(cluster, leader, scan(b"a", b"z"), timestamp=issued_at)
    assert clock.last < issued_at
    assert not write.is_answered
    assert not read.is_answered
    other = ask(cluster, leader, put(b"k", b"w"))
    await answered(cluster, other, within_s=0.05)
    assert clock.last < issued_at, "a waiting request holds nothing up"
    await answered(cluster, write, read, within_s=0.2)
    assert write.reply.timestamp > issued_at
    assert read.reply.timestamp == issued_at
    assert clock.last - clock.wall() < hlc.from_ms(1), "the clock is the node's own"


@cluster_test()
async def test_a_request_from_too_far_in_the_future_is_refused_with_the_clock(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    clock = leader.up.store.context.hlc
    ahead = clock.now() + hlc.from_ms(1_100)
    for asked in (
        ask(cluster, leader, put(b"k", b"v"), issued_at=ahead),
        ask(cluster, leader, get(b"k"), timestamp=ahead),
        ask(cluster, leader, scan(b"a", b"z"), timestamp=ahead),
    ):
        assert asked.code == "clock_offset"
        assert 0 < asked.reply.clock < ahead
    assert clock.last < ahead
    assert holder_of(leader).latches.status().held == 0


@cluster_test()
async def test_no_request_waits_for_ever(cluster: Cluster, db: Database) -> None:
    """The leader's clock stands still, so that it never gets where the requests are."""
    leader = leader_of(cluster)
    leader.clock_is_wrong = True
    ahead = now_of(leader) + hlc.from_ms(900)
    write = ask(cluster, leader, put(b"k", b"v"), issued_at=ahead)
    read = ask(cluster, leader, get(b"k"), timestamp=ahead)
    for _ in range(250):
        leader.clock.step_wall(-0.005)
        await asyncio.sleep(0.005)
    assert write.is_answered
    assert read.is_answered
    assert not holder_of(leader)._waiting if leader.replica().leaseholder else True


@cluster_test()
async def test_requests_older_than_garbage_collection_are_refused(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    replica = leader.replica()
    threshold = leader.up.store.context.hlc.now()
    replica.applied = msgspec.structs.replace(replica.applied, gc_threshold=threshold)
    for issued_at in (0, threshold - 1, threshold):
        old = ask(cluster, leader, put(b"k", b"v"), issued_at=issued_at)
        await answered(cluster, old)
        assert old.code == "outcome_unknown"
    assert ask(cluster, leader, get(b"k"), timestamp=threshold).code == "read_too_old"
    assert ask(cluster, leader, get(b"k"), timestamp=threshold + 1).code == ""
    fresh = ask(cluster, leader, put(b"k", b"v"), issued_at=threshold + 1)
    await answered(cluster, fresh)
    assert fresh.code == ""


@cluster_test()
async def test_no_version_that_is_applied_lies_above_the_floor_of_the_next_clock(
    cluster: Cluster, db: Database
) -> None:
    """S13: a node that restarts has no clock but its wall's; the range remembers the rest."""
    for _ in range(3):
        write = ask(cluster, leader_of(cluster), put(b"k", b"v"))
        await answered(cluster, write)
        await cluster.until_applied()
        for replica in cluster.replicas():
            assert replica.applied.clock_floor >= write.reply.timestamp


# -- refusals ----------------------------------------------------------------------------------


@cluster_test(config=msgspec.structs.replace(FAST, limits=SMALL_REPLIES))
async def test_reads_that_find_more_than_a_reply_may_hold_are_refused_and_free_their_latches(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    for key in (b"a", b"b"):
        await db.put(key, b"v" * 600)
    gets = ask(cluster, leader, get(b"a"), get(b"b"))
    scans = ask(cluster, leader, scan(b"a", b"b"), scan(b"b", b"c"))
    assert (gets.code, scans.code) == ("batch_too_large", "batch_too_large")
    assert holder_of(leader).latches.status().held == 0
    assert ask(cluster, leader, get(b"a")).value == b"v" * 600


@cluster_test()
async def test_a_full_disk_refuses_writes_and_serves_reads(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    leader = leader_of(cluster)
    index = leader.replica().core.last_index
    context = leader.up.store.context
    context.write_refusal = errors.DiskFullError(path="/data", free_bytes=1, reserve_bytes=2)
    write = ask(cluster, leader, put(b"k", b"w"))
    await answered(cluster, write)
    assert write.code == "disk_full"
    assert ask(cluster, leader, get(b"k")).value == b"v"
    assert ask(cluster, leader, scan(b"a", b"z")).rows == (plain(b"k"), b"v")
    assert leader.replica().core.last_index == index
    with pytest.raises(errors.DiskFullError):
        await db.put(b"k", b"w")
    context.write_refusal = None
    await db.put(b"k", b"w")
    assert await db.get(b"k") == b"w"


# -- write-once at the leaseholder -----------------------------------------------------------------


@pytest.fixture
def searches() -> Iterator[mock.Mock]:
    """Count the searches for an earlier attempt among the versions of a key."""
    with mock.patch.object(reads, "find_write", wraps=reads.find_write) as find_write:
        yield find_write


def test_a_hot_key_costs_no_search_for_earlier_attempts(searches: mock.Mock) -> None:
    """L7: 256 callers write one key; only what was issued before the term began is looked for."""

    @cluster_test()
    async def hot(cluster: Cluster, db: Database) -> None:
        await asyncio.sleep(0.6)
        await db.increment(b"n")
        searches.reset_mock()
        await asyncio.gather(*(db.increment(b"n") for _ in range(256)))
        assert await db.increment(b"n", 0) == 257
        assert searches.call_count == 0
        await move(cluster, db, cluster.followers()[0])
        await cluster.until_served()
        await asyncio.gather(*(db.increment(b"n") for _ in range(4)))
        assert searches.call_count > 0, "a new leader does not know what was written before"
        await asyncio.sleep(0.6)
        searches.reset_mock()
        await asyncio.gather(*(db.increment(b"n") for _ in range(16)))
        assert searches.call_count == 0

    hot()


@cluster_test()
async def test_a_doubled_request_waits_for_the_first_one_and_gets_its_outcome(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.02, link_s=0.01)
    write_id = cluster.random.randbytes(16)
    asked = [
        ask(cluster, leader, Increment(plain(b"n"), 1), id=write_id, attempt=attempt)
        for attempt in (1, 2, 2, 1)
    ]
    other = ask(cluster, leader, Increment(plain(b"n"), 1))
    await answered(cluster, *asked, other)
    assert [each.number for each in asked] == [1, 1, 1, 1]
    assert other.number == 2


@cluster_test()
async def test_what_a_part_that_wrote_nothing_saw_is_not_changed_below_it(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    leader = leader_of(cluster)
    failed = ask(cluster, leader, ConditionalPut(plain(b"k"), b"x", None))
    assert failed.code == ""
    floor = holder_of(leader).cache.write_floor(plain(b"k"))
    assert floor > failed.reply.timestamp


@pytest.mark.parametrize(
    ("operation", "attempt"),
    [(put(b"b", b"1"), 1), (ConditionalPut(plain(b"b"), b"x", None), 2)],
    ids=["with a write", "with an outcome"],
)
def test_what_a_part_that_writes_has_read_is_not_changed_below_it(
    operation: Operation, attempt: int
) -> None:
    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        txn = Transaction(cluster, b"a")
        assert await txn.get(b"b") is None
        part = ask(cluster, leader_of(cluster), Get(plain(b"a")), operation, attempt=attempt)
        await answered(cluster, part)
        assert part.value is None
        commit = txn.one_phase({b"a": b"1"})
        await answered(cluster, commit)
        assert commit.code == "transaction_pushed", "neither has seen what the other wrote"
        assert await db.get(b"a") is None

    run()
