"""Transactions at their ranges, in raw requests: one phase, intents, records, conflicts."""

import asyncio

from multiraft.client.database import Database
from multiraft.model.requests import Get, Put, Scan
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import HeartbeatTransaction
from multiraft.mvcc import statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import answered, ask, get, holder_of, leader_of, now_of, plain, put
from tests.support.transactions import ABORTED, COMMITTED, STAGING, Transaction, record_of


async def check_counts(cluster: Cluster) -> None:
    """Statistics equal a recount on every node, and the lock table what lies there."""
    await cluster.until_applied()
    for member in cluster.members.values():
        replica = member.replica()
        assert replica.descriptor is not None
        counted = statistics.count(
            EngineReader(member.engine), replica.descriptor.start, replica.descriptor.end
        )
        assert replica.applied.stats == counted
    holder = holder_of(leader_of(cluster))
    assert holder.intents == leader_of(cluster).replica().applied.stats.locks
    assert holder.latches.status().held == 0
    assert holder.latches.status().waiting == 0


@cluster_test()
async def test_a_commit_in_one_phase_writes_versions_at_once(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"gone", b"v")
    txn = Transaction(cluster, b"a")
    replica = leader_of(cluster).replica()
    index = replica.applied.index
    asked = txn.one_phase({b"a": b"1", b"b": b"2", b"gone": None})
    await answered(cluster, asked)
    record = record_of(asked)
    assert record.status is COMMITTED
    assert record.timestamp == asked.reply.timestamp
    assert replica.applied.index == index + 1, "one round of consensus"
    assert [await db.get(key) for key in (b"a", b"b", b"gone")] == [b"1", b"2", None]
    assert replica.applied.stats.locks == 0
    await check_counts(cluster)


@cluster_test()
async def test_intents_are_read_by_nobody_until_the_transaction_commits(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"a", b"old")
    txn = Transaction(cluster, b"a")
    assert await txn.get(b"a") == b"old"
    at = await txn.laid_down({b"a": b"new", b"b": b"new"})
    assert await txn.get(b"a") == b"old", "its own intents are read through"
    await check_counts(cluster)
    member = leader_of(cluster)
    reader = ask(cluster, member, get(b"a"))
    writer = ask(cluster, member, put(b"b", b"later"))
    scanner = ask(cluster, member, Scan(plain(b""), plain(b"z")))
    await asyncio.sleep(0.01)
    assert not reader.is_answered
    assert not writer.is_answered
    assert not scanner.is_answered
    record = await txn.ended(STAGING, at)
    assert record.status is STAGING
    record = await txn.ended(COMMITTED, at)
    assert record.status is COMMITTED
    await answered(cluster, reader, writer, scanner)
    assert reader.value == b"new"
    assert writer.code == ""
    assert scanner.rows[:2] == (plain(b"a"), b"new")
    await check_counts(cluster)


@cluster_test()
async def test_a_transaction_that_is_rolled_back_leaves_nothing(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"a", b"old")
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new", b"b": b"new"})
    reader = ask(cluster, leader_of(cluster), get(b"a"))
    record = await txn.ended(ABORTED)
    assert record.status is ABORTED
    await answered(cluster, reader)
    assert reader.value == b"old"
    assert await db.get(b"b") is None
    assert (await txn.ended(ABORTED)).status is ABORTED, "it may come again"
    asked = txn.end(STAGING, txn.laid_at)
    await answered(cluster, asked)
    assert asked.code == "transaction_aborted", "for good"
    await check_counts(cluster)


@cluster_test()
async def test_two_ranges_commit_in_parallel_and_the_rest_is_resolved_behind(
    cluster: Cluster, db: Database
) -> None:
    right = (await db.admin.split(b"m"))[1].range_id
    await cluster.until_served()
    txn = Transaction(cluster, b"a")
    at = Transaction(cluster).issued_at  # Below all that is written: a first wish.
    left_part = txn.end(STAGING, at)
    await answered(cluster, left_part)
    assert record_of(left_part).status is STAGING
    assert right != USER_RANGE_ID
    first = await txn.laid_down({b"a": b"1"})
    second = await txn.laid_down({b"z": b"2"}, range_id=right)
    commit_at = max(first, second)
    record = await txn.ended(STAGING, commit_at)
    assert record.timestamp == commit_at
    assert (await txn.ended(COMMITTED, commit_at)).status is COMMITTED
    assert await db.get(b"a") == b"1"
    assert await db.get(b"z") == b"2"
    await cluster.until(lambda: leader_of(cluster, right).replica(right).applied.stats.locks == 0)


@cluster_test()
async def test_a_writer_waits_for_another_and_is_told_who_has_the_key(
    cluster: Cluster, db: Database
) -> None:
    one, other = Transaction(cluster, b"a"), Transaction(cluster, b"a")
    await one.laid_down({b"a": b"1"})
    asked = other.lay({b"a": b"2"})
    while not asked.is_answered:
        await one.do(HeartbeatTransaction(plain(b"a")))
        await asyncio.sleep(0.5)
    assert asked.code == "lock_wait"
    assert asked.reply.error is not None
    assert asked.reply.error.facts["holder"] == one.id.hex()
    assert asked.reply.error.facts["key"] == "/plain/a"
    again = other.lay({b"a": b"2"})
    await one.ended(ABORTED)
    await answered(cluster, again)
    assert again.code == ""
    await check_counts(cluster)


@cluster_test()
async def test_heartbeats_in_line_for_one_record_are_two_entries_of_the_log(
    cluster: Cluster, db: Database
) -> None:
    """The end of their transaction, behind them in the line, does not wait for an entry of each.

    The first is written at once, the second since it came later; it overtakes the others.
    """
    txn = Transaction(cluster, b"a")
    at = await txn.laid_down({b"a": b"1"})
    core = leader_of(cluster).replica(USER_RANGE_ID).core
    before = core.log.last_index
    beats = [txn.send(HeartbeatTransaction(plain(b"a"))) for _ in range(20)]
    end = txn.end(COMMITTED, at)
    await answered(cluster, *beats, end)
    assert {record_of(beat).status for beat in beats} == {TransactionStatus.PENDING}
    assert record_of(end).status is COMMITTED
    assert core.log.last_index == before + 2 + 1
    await check_counts(cluster)


@cluster_test()
async def test_an_abandoned_transaction_is_in_the_way_for_a_bounded_time(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"a", b"old")
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new", b"b": b"new"})
    assert await db.get(b"a") == b"old"
    assert await db.get(b"b") is None
    asked = txn.query()
    await answered(cluster, asked)
    assert record_of(asked).status is ABORTED
    await check_counts(cluster)


@cluster_test()
async def test_locked_reads_take_turns(cluster: Cluster, db: Database) -> None:
    await db.put(b"n", b"0")
    one, other = Transaction(cluster, b"n"), Transaction(cluster, b"n")
    assert await one.get(b"n", is_locking=True) == b"0"
    assert await db.get(b"n") == b"0", "a lock is in no reader's way"
    second = other.send(Get(plain(b"n")), is_locking=True)
    await asyncio.sleep(0.01)
    assert not second.is_answered
    asked = one.one_phase({b"n": b"1"}, read=(b"n",), is_movable=True)
    await answered(cluster, asked, second)
    assert asked.code == ""
    assert second.value == b"1"
    await check_counts(cluster)


@cluster_test()
async def test_scans_that_lock_take_turns(cluster: Cluster, db: Database) -> None:
    """Who waits looks anew when it has its turn: it does not wait for what is gone by then."""
    await db.put_many({b"job/1": b"x", b"job/2": b"x", b"job/3": b"x"})
    span = Scan(plain(b"job/"), plain(b"job0"), limit_keys=1)
    workers = [Transaction(cluster, b"job/") for _ in range(3)]
    asked = [worker.send(span, is_locking=True) for worker in workers]
    await answered(cluster, asked[0])
    assert asked[0].rows == (plain(b"job/1"), b"x")
    assert not asked[1].is_answered
    await db.put(b"job/0", b"new")
    await db.put(b"job/2", b"in nobody's way")
    assert await db.get(b"job/1") == b"x", "a lock is in no reader's way"
    claimed = workers[0].one_phase({b"job/1": None}, read=(b"job/1",), is_movable=True)
    await answered(cluster, claimed, asked[1])
    assert claimed.code == ""
    assert asked[1].rows == (plain(b"job/0"), b"new")
    assert not asked[2].is_answered
    done = workers[1].one_phase({b"job/0": None}, read=(b"job/0",), is_movable=True)
    await answered(cluster, done, asked[2])
    assert asked[2].rows == (plain(b"job/2"), b"in nobody's way")
    await check_counts(cluster)


@cluster_test()
async def test_a_scan_that_locks_waits_for_intents_above_its_time(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many({b"a": b"1", b"b": b"1"})
    one = Transaction(cluster, b"a")
    assert await one.get(b"a") == b"1"
    await asyncio.sleep(0.5)
    other = Transaction(cluster, b"b")
    laid = other.lay({b"b": b"2", b"c": b"2"}, at=now_of(leader_of(cluster)))
    await answered(cluster, laid)
    span = Scan(plain(b"a"), plain(b"z"))
    plain_scan = one.send(span)
    await answered(cluster, plain_scan)
    assert plain_scan.rows == (plain(b"a"), b"1", plain(b"b"), b"1"), (
        "what is laid later is in no reader's way"
    )
    asked = one.send(span, is_locking=True)
    await asyncio.sleep(0.01)
    assert not asked.is_answered
    assert (await other.ended(COMMITTED, laid.reply.timestamp)).status is COMMITTED
    await answered(cluster, asked)
    assert asked.code == "read_uncertain", "a lock is for what is there now"
    await check_counts(cluster)


@cluster_test()
async def test_a_write_that_was_delayed_past_the_commit_lays_nothing(
    cluster: Cluster, db: Database
) -> None:
    """S18: the leaseholder remembers the IDs of all versions that a resolution writes."""
    await asyncio.sleep(0.5)  # It then trusts its memory, and searches nothing.
    txn = Transaction(cluster, b"a")
    at = await txn.laid_down({b"a": b"1", b"b": b"1"})
    assert (await txn.ended(COMMITTED, at)).status is COMMITTED
    await db.put(b"b", b"2")
    late = txn.send(Put(plain(b"b"), b"1"), sequence=1)
    await answered(cluster, late)
    assert late.reply.timestamp == at
    assert await db.get(b"b") == b"2"
    await check_counts(cluster)


@cluster_test()
async def test_large_intents_are_resolved_in_several_commands(
    cluster: Cluster, db: Database
) -> None:
    """However many a part names, no entry of the log is much larger than what clients may write."""
    names = [b"k%02d" % number for number in range(12)]
    txn = Transaction(cluster, b"k00")
    for name in names:
        await txn.laid_down({name: name * 100_000})
    at = txn.laid_at
    replica = leader_of(cluster).replica()
    index = replica.applied.index
    asked = txn.resolve(COMMITTED, *names, at=at)
    await answered(cluster, asked)
    assert asked.code == ""
    assert 3 <= replica.applied.index - index <= 12
    for name in names:
        assert await db.get(name) == name * 100_000
    await check_counts(cluster)
