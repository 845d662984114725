"""The schedules of the safety rules that end at a range, with splits, transfers and restarts."""

import asyncio

import pytest
from msgspec.structs import replace

from multiraft.client.database import Database
from multiraft.ids import RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import BatchRequest, Get, Operation, Put, Scan
from multiraft.model.transaction import IntentRef, TransactionMeta
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    QueryIntent,
    QueryTransaction,
    RecoverTransaction,
    Refresh,
    ResolveIntent,
    TransactionContext,
)
from multiraft.mvcc import reads, statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.transactions import latches_of
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import (
    answered,
    ask,
    codes,
    get,
    holder_of,
    leader_of,
    now_of,
    plain,
    put,
)
from tests.support.transactions import (
    ABORTED,
    COMMITTED,
    STAGING,
    Transaction,
    record_of,
)

# -- what is the same everywhere -------------------------------------------------------------------


async def check(cluster: Cluster, *range_ids: int) -> None:
    """On every node statistics equal a recount; at leaders, the lock table what lies there."""
    for range_id in range_ids or (USER_RANGE_ID,):
        await cluster.until_applied(RangeId(range_id))
        for member in cluster.members.values():
            replica = member.replica(range_id)
            assert replica.descriptor is not None
            start, end = replica.descriptor.start, replica.descriptor.end
            assert replica.applied.stats == statistics.count(
                EngineReader(member.engine), start, end
            )
        leader = leader_of(cluster, range_id)
        holder = holder_of(leader, range_id)
        assert holder.intents == leader.replica(range_id).applied.stats.locks
        assert holder.latches.status().points == 0


def versions_of(member: Member, key: bytes, write_id: bytes) -> int:
    """Return how many versions of a key the transaction has left."""
    found = 0
    since = Timestamp(0)
    reader = EngineReader(member.engine)
    while (version := reads.find_write(reader, plain(key), write_id, since)) is not None:
        found += 1
        since = version.timestamp
    return found


async def split_at(cluster: Cluster, db: Database, key: bytes) -> RangeId:
    right = (await db.admin.split(key))[1].range_id
    await cluster.until_served()
    return right


async def transfer(cluster: Cluster, db: Database, range_id: int = USER_RANGE_ID) -> None:
    before = leader_of(cluster, range_id)
    target = next(m for m in cluster.members.values() if m is not before)
    await db.admin.transfer(RangeId(range_id), target.node_id)
    await cluster.until(lambda: cluster.leader(RangeId(range_id)) is target)
    await cluster.until_served()


# -- S9: commits of unknown fate -------------------------------------------------------------------


@cluster_test()
async def test_s9_attempts_in_flight_together_commit_once(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    attempts = [txn.one_phase({b"a": b"1", b"b": b"2"}, attempt=n + 1) for n in range(4)]
    await answered(cluster, *attempts)
    assert len({asked.reply.timestamp for asked in attempts}) == 1
    for key in (b"a", b"b"):
        assert versions_of(leader_of(cluster), key, txn.id) == 1
    await check(cluster)


@pytest.mark.parametrize("event", ["transfer", "split before the anchor", "split behind it"])
def test_s9_a_commit_whose_reply_was_lost_is_found_again(event: str) -> None:
    """By its versions: they travel with the keys, whoever leads them."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        txn = Transaction(cluster, b"k")
        first = txn.one_phase({b"k": b"1", b"m": b"2"})
        await answered(cluster, first)
        range_id: int = USER_RANGE_ID
        if event == "transfer":
            await transfer(cluster, db)
        else:
            right = await split_at(cluster, db, b"c" if "before" in event else b"l")
            range_id = right if "before" in event else USER_RANGE_ID
        end = txn.end(ABORTED, range_id=range_id)
        push = txn.push(force=True, range_id=range_id)
        await answered(cluster, end, push)
        for asked in (end, push):
            record = record_of(asked)
            assert (record.status, record.timestamp) == (COMMITTED, first.reply.timestamp)
        if "behind" not in event:
            again = txn.one_phase({b"k": b"1", b"m": b"2"}, range_id=range_id, attempt=2)
            await answered(cluster, again)
            assert again.reply.timestamp == first.reply.timestamp
        assert versions_of(leader_of(cluster, range_id), b"k", txn.id) == 1

    run()


@cluster_test()
async def test_s9_an_attempt_from_an_old_socket_comes_after_the_end(
    cluster: Cluster, db: Database
) -> None:
    txn = Transaction(cluster, b"a")
    assert (await txn.ended(ABORTED)).status is ABORTED
    await transfer(cluster, db)
    late = txn.one_phase({b"a": b"1"})
    await answered(cluster, late)
    assert late.code == "transaction_aborted"
    assert await db.get(b"a") is None


# -- leaders change between the steps --------------------------------------------------------------


@cluster_test()
async def test_a_transaction_goes_on_over_a_change_of_leader_between_all_its_steps(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"a", b"old")
    txn = Transaction(cluster, b"a")
    assert await txn.get(b"a") == b"old"
    await transfer(cluster, db)
    at = await txn.laid_down({b"a": b"new", b"b": b"new"})
    await transfer(cluster, db)
    await check(cluster)
    assert holder_of(leader_of(cluster)).locks.locks == 2, "rebuilt (rule A8)"
    reader = ask(cluster, leader_of(cluster), get(b"a"))
    await asyncio.sleep(0.005)
    assert not reader.is_answered
    again = txn.send(
        Put(plain(b"a"), b"new"), Put(plain(b"b"), b"new"), sequence=1, timestamp=txn.read_at
    )
    await answered(cluster, again)
    assert again.reply.timestamp == at, "they are there"
    asked = txn.end(STAGING, at)
    await answered(cluster, asked)
    assert record_of(asked).status is STAGING
    await transfer(cluster, db)
    assert (await txn.ended(COMMITTED, at)).timestamp == at
    await transfer(cluster, db)
    late = txn.send(Put(plain(b"b"), b"late"), sequence=1, timestamp=txn.read_at)
    await answered(cluster, late)
    assert late.reply.timestamp == at, "S18: it has committed"
    assert await db.get(b"a") == b"new"
    assert await db.get(b"b") == b"new"
    await check(cluster)


@cluster_test()
async def test_who_waits_when_the_term_ends_is_sent_on(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"1"})
    old = leader_of(cluster)
    waiting = [ask(cluster, old, get(b"a")), ask(cluster, old, put(b"a", b"2"))]
    await asyncio.sleep(0.005)
    assert not any(asked.is_answered for asked in waiting)
    await transfer(cluster, db)
    await answered(cluster, *waiting)
    assert codes(waiting) == ["not_leaseholder"] * 2


@cluster_test()
async def test_after_a_restart_of_all_nodes_the_locks_are_there(
    cluster: Cluster, db: Database
) -> None:
    txn = Transaction(cluster, b"a")
    at = await txn.laid_down({b"a": b"1", b"b": b"2"})
    for number in list(cluster.members):
        cluster.kill(number)
    for number in list(cluster.members):
        await cluster.restart(number)
    await cluster.until_served()
    await check(cluster)
    holder = holder_of(leader_of(cluster))
    assert holder.locks.locks == 2
    lock = holder.locks.lock_on(plain(b"a"))
    assert lock is not None
    assert (lock.holder, lock.timestamp) == (txn.meta, at)
    assert (await txn.ended(COMMITTED, at)).status is COMMITTED
    assert await db.get(b"b") == b"2"


# -- splits between the steps ----------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before staging", "before the commit"])
@pytest.mark.parametrize("key", [b"c", b"b"])
def test_a_split_between_the_steps(when: str, key: bytes) -> None:
    """With intents on both sides, and the anchor on the left or on the right."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        txn = Transaction(cluster, b"b")
        at = await txn.laid_down({b"a": b"1", b"b": b"2", b"c": b"3"})
        anchor_is_right = key == b"b"
        right: int = USER_RANGE_ID
        if when == "before staging":
            right = await split_at(cluster, db, key)
        home = right if anchor_is_right else USER_RANGE_ID
        staged = txn.end(STAGING, at, range_id=home)
        await answered(cluster, staged)
        assert record_of(staged).status is STAGING
        if when == "before the commit":
            right = await split_at(cluster, db, key)
        home = right if anchor_is_right else USER_RANGE_ID
        await check(cluster, USER_RANGE_ID, right)
        assert (await txn.ended(COMMITTED, at, range_id=home)).status is COMMITTED
        assert [await db.get(k) for k in (b"a", b"b", b"c")] == [b"1", b"2", b"3"]
        await cluster.until(
            lambda: all(
                leader_of(cluster, r).replica(r).applied.stats.locks == 0
                for r in (USER_RANGE_ID, right)
            )
        )
        await check(cluster, USER_RANGE_ID, right)

    run()


@cluster_test()
async def test_who_waits_when_its_key_leaves_the_range_is_told_so(
    cluster: Cluster, db: Database
) -> None:
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"1", b"z": b"2"})
    member = leader_of(cluster)
    left, right = ask(cluster, member, get(b"a")), ask(cluster, member, get(b"z"))
    scan = ask(cluster, member, Scan(plain(b"y"), plain(b"zz")))
    await asyncio.sleep(0.005)
    await split_at(cluster, db, b"m")
    await answered(cluster, right, scan)
    assert codes([right, scan]) == ["range_mismatch"] * 2
    assert not left.is_answered
    await txn.ended(ABORTED)
    await answered(cluster, left)
    assert left.value is None


def meta_of(anchor: bytes) -> TransactionMeta:
    return TransactionMeta(bytes(16), plain(anchor))


@pytest.mark.parametrize(
    "operation",
    [
        EndTransaction(plain(b"m"), STAGING, Timestamp(1)),
        HeartbeatTransaction(plain(b"m")),
        PushTransaction(plain(b"m"), meta_of(b"m"), Timestamp(1), Timestamp(1), PushKind.ABORT),
        QueryTransaction(plain(b"m"), bytes(16)),
        RecoverTransaction(plain(b"m"), bytes(16), Timestamp(1), True),
        QueryIntent(plain(b"m"), bytes(16), 1, Timestamp(1)),
        ResolveIntent(plain(b"m"), bytes(16), ABORTED),
        Refresh(plain(b"m"), b"", Timestamp(0)),
    ],
)
def test_s2_a_split_waits_for_every_part_that_has_a_key_on_its_right(
    operation: Operation,
) -> None:
    """Its latch covers the keys of the right half: the record of an anchor there has to meet it."""
    context = TransactionContext(meta_of(b"m"))
    request = BatchRequest(RangeId(2), (operation,), bytes(16), txn=context)
    latch = latches_of(request, lambda _: True)
    assert plain(b"m") in (*latch.read_points, *latch.write_points)


def test_who_changes_a_record_takes_turns_with_others_who_do() -> None:
    parts: list[Operation] = [
        HeartbeatTransaction(plain(b"m")),
        PushTransaction(plain(b"m"), meta_of(b"m"), Timestamp(1), Timestamp(1), PushKind.ABORT),
        RecoverTransaction(plain(b"m"), bytes(16), Timestamp(1), True),
        EndTransaction(plain(b"m"), STAGING, Timestamp(1)),
    ]
    context = TransactionContext(meta_of(b"m"))
    points = [
        latches_of(BatchRequest(RangeId(2), (p,), bytes(16), txn=context), lambda _: True)
        for p in parts
    ]
    shared = set.intersection(*[set(latch.write_points) for latch in points])
    assert len(shared) == 1


def test_an_end_latches_the_intents_that_it_resolves_but_none_of_another_range() -> None:
    writes = (IntentRef(b"a", 1), IntentRef(b"z", 1))
    end = EndTransaction(b"m", COMMITTED, Timestamp(1), writes)
    request = BatchRequest(RangeId(2), (end,), bytes(16), txn=TransactionContext(meta_of(b"m")))
    latch = latches_of(request, lambda key: key < b"n")
    assert b"a" in latch.write_points
    assert b"z" not in latch.write_points


# -- S12, S13: clocks ------------------------------------------------------------------------------


@cluster_test()
async def test_s12_what_is_above_the_clock_waits_and_does_not_move_it(
    cluster: Cluster, db: Database
) -> None:
    """A commit at a time that another node's clock gave: ours has to get there by itself."""
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"1"})
    member = leader_of(cluster)
    ahead = now_of(member) + hlc.from_ms(150)
    staged = txn.end(STAGING, ahead)
    resolved = txn.resolve(COMMITTED, b"a", at=ahead)
    queried = ask(cluster, member, QueryIntent(plain(b"b"), txn.id, 1, Timestamp(ahead)))
    await asyncio.sleep(0.1)
    assert not any(asked.is_answered for asked in (staged, resolved, queried))
    assert now_of(member) < ahead
    await answered(cluster, staged, resolved, queried)
    assert now_of(member) > ahead
    assert codes([staged, resolved, queried]) == ["", "", ""]


@cluster_test()
async def test_s12_a_time_that_no_clock_shows_is_refused(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    far = now_of(leader_of(cluster)) + hlc.from_ms(3_600_000)
    assert txn.end(STAGING, far).code == "clock_offset"
    assert txn.send(Get(plain(b"a")), timestamp=far).code == "clock_offset"


@cluster_test()
async def test_s13_a_get_does_not_miss_a_commit_above_its_clock(
    cluster: Cluster, db: Database
) -> None:
    """S13 a: the transaction has committed at a time of another range; the intent is still here."""
    right = await split_at(cluster, db, b"m")
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"1"})
    await txn.laid_down({b"z": b"2"}, range_id=right)
    ahead = Timestamp(now_of(leader_of(cluster)) + hlc.from_ms(200))
    asked = txn.end(STAGING, ahead)
    await answered(cluster, asked)
    assert record_of(asked).status is STAGING
    assert await db.get(b"z") == b"2", "waits, has it recovered, and reads above it"
    assert await db.get(b"a") == b"1"


@cluster_test()
async def test_s11_s10_write_skew_is_impossible(cluster: Cluster, db: Database) -> None:
    """Each reads what the other writes, at equal times: one of them has to refresh, and cannot."""
    await db.put(b"x", b"0")
    await db.put(b"y", b"0")
    one, other = Transaction(cluster, b"y"), Transaction(cluster, b"x")
    at = now_of(leader_of(cluster))
    one.read_at = other.read_at = Timestamp(at)
    assert await one.get(b"x") == b"0"
    assert await other.get(b"y") == b"0"
    first = one.one_phase({b"y": b"1"}, read=(b"x",), is_movable=True)
    second = other.one_phase({b"x": b"1"}, read=(b"y",), is_movable=True)
    await answered(cluster, first, second)
    assert sorted(codes([first, second])) == ["", "transaction_pushed"]


# -- A8: more locks than the table holds -----------------------------------------------------------

FEW = replace(FAST, ranges=replace(FAST.ranges, locks_max=2))


@cluster_test(config=FEW)
async def test_a8_locks_that_do_not_fit_into_the_table_are_met_all_the_same(
    cluster: Cluster, db: Database
) -> None:
    names = [b"k%d" % number for number in range(9)]
    txn = Transaction(cluster, b"k0")
    at = await txn.laid_down(dict.fromkeys(names, b"new"))
    holder = holder_of(leader_of(cluster))
    assert not holder.locks.complete
    member = leader_of(cluster)
    waiting = [ask(cluster, member, get(name)) for name in names]
    waiting += [ask(cluster, member, put(name, b"later")) for name in names]
    waiting.append(ask(cluster, member, Scan(plain(b"k5"), plain(b"l"))))
    free = ask(cluster, member, get(b"other"))
    await asyncio.sleep(0.01)
    assert not any(asked.is_answered for asked in waiting)
    assert free.is_answered
    assert (await txn.ended(COMMITTED, at)).status is COMMITTED
    await answered(cluster, *waiting)
    assert codes(waiting) == [""] * len(waiting)
    assert holder.locks.complete, "as soon as they have gone"
    assert holder.locks.is_empty
    await check(cluster)
