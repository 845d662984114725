"""What transactions leave behind goes after its time, and nothing that still counts."""

import asyncio
from collections.abc import Iterable

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.ids import Timestamp
from multiraft.model.requests import Operation, Put, PutResult, Result
from multiraft.model.transaction import (
    Intent,
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
    unpack_record,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    RecordResult,
    ResolveIntent,
    TransactionContext,
)
from multiraft.mvcc.leftovers import OldIntent
from multiraft.ranges import leftovers
from multiraft.ranges.recovery import Ask
from multiraft.ranges.resolver import Resolver
from multiraft.sim.cluster import Cluster
from multiraft.storage import layout
from tests.ranges.test_garbage import COLLECTED_S, SHORT, TTL_S, thresholds
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of, now_of, plain

ID = bytes(range(16))
LEFT, RIGHT = b"a", b"z"
PENDING, STAGING = TransactionStatus.PENDING, TransactionStatus.STAGING
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED


def records(cluster: Cluster) -> list[TransactionRecord]:
    """Every record in any range, as its leader's engine holds it."""
    found = []
    for range_id in cluster.range_ids():
        member = cluster.leader(range_id)
        assert member is not None
        descriptor = member.replica(range_id).descriptor
        assert descriptor is not None
        span = layout.span(layout.RECORD, descriptor.start, descriptor.end)
        scan = member.engine.scan(*span, member.engine.data)
        found += [unpack_record(stored) for _, stored in scan]
    return found


def locks(cluster: Cluster) -> int:
    return sum(leader_of(cluster, r).replica(r).applied.stats.locks for r in cluster.range_ids())


async def in_two_ranges(db: Database, cluster: Cluster) -> None:
    await db.admin.split(b"m")
    await cluster.until_served()


def soon(cluster: Cluster) -> Timestamp:
    """A time above all that was written so far."""
    return Timestamp(max(now_of(member) for member in cluster.running()) + (1 << 20))


async def leave_intents(ask: Ask, intents: Iterable[OldIntent]) -> bool:
    return True


class Txn:
    """A transaction whose requests are sent one by one, past the coordinator."""

    def __init__(self, cluster: Cluster, db: Database, anchor: bytes = LEFT) -> None:
        self._router = db._router
        began = Timestamp(now_of(leader_of(cluster)) - 1)
        self.meta = TransactionMeta(ID, plain(anchor), 0, began)
        self.began = began

    async def send(self, *operations: Operation, sequence: int = 1) -> None:
        call = self._router.start_in_transaction(
            operations,
            TransactionContext(self.meta, sequence),
            issued_at=self.began,
            timestamp=self.began,
            deadline=self._router.now() + 10.0,
        )
        await call.future

    async def lay(self, key: bytes) -> None:
        await self.send(Put(plain(key), b"new"))

    def end(self, status: TransactionStatus, at: Timestamp, *written: bytes) -> EndTransaction:
        writes = tuple(IntentRef(plain(key), 1) for key in written)
        return EndTransaction(self.meta.anchor, status, at, writes)


@cluster_test(config=SHORT)
async def test_the_record_of_a_commit_stays_for_its_time_and_then_goes(
    cluster: Cluster, db: Database
) -> None:
    await in_two_ranges(db, cluster)

    async def transfer(txn: Transaction) -> None:
        await txn.put(LEFT, b"1")
        await txn.put(RIGHT, b"2")

    await db.run(transfer)
    await asyncio.sleep(TTL_S / 2)
    assert [record.status for record in records(cluster)] == [COMMITTED]
    await asyncio.sleep(COLLECTED_S)
    await cluster.until_applied()
    assert records(cluster) == []
    assert thresholds(cluster) != {0}, "what asks for it now is refused"
    assert await db.get_many([LEFT, RIGHT]) == {LEFT: b"1", RIGHT: b"2"}
    cluster.check_statistics()
    passes = sum(member.up.status().garbage.passes for member in cluster.running())
    await asyncio.sleep(10 * TTL_S)
    assert sum(member.up.status().garbage.passes for member in cluster.running()) == passes


@cluster_test(config=SHORT)
async def test_a_commit_is_resolved_before_its_record_goes(cluster: Cluster, db: Database) -> None:
    """S18: an intent whose record is gone would be taken for one of a transaction that died."""
    await in_two_ranges(db, cluster)
    txn = Txn(cluster, db)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resolver, "add", lambda *_args, **_kwargs: None)
        await txn.lay(LEFT)
        await txn.lay(RIGHT)
        await txn.send(txn.end(COMMITTED, soon(cluster), LEFT, RIGHT))
        patch.setattr(leftovers, "resolve_intents", leave_intents)
        await asyncio.sleep(1.0)
        assert locks(cluster) == 1
        await asyncio.sleep(2 * COLLECTED_S)
        assert records(cluster) == []
        assert locks(cluster) == 0
        assert await db.get(RIGHT) == b"new"


@cluster_test(config=SHORT)
async def test_a_record_stays_while_what_it_names_cannot_be_resolved(
    cluster: Cluster, db: Database
) -> None:
    await in_two_ranges(db, cluster)
    txn = Txn(cluster, db)

    async def fail(ask: Ask, records: Iterable[TransactionRecord]) -> None:
        assert list(records)
        raise errors.DeadlineExceededError(deadline_s=5.0, last_error="nobody answers")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Resolver, "add", lambda *_args, **_kwargs: None)
        await txn.lay(LEFT)
        await txn.lay(RIGHT)
        await txn.send(txn.end(COMMITTED, soon(cluster), LEFT, RIGHT))
        patch.setattr(leftovers, "resolve_writes", fail)
        await asyncio.sleep(3 * COLLECTED_S)
        assert [record.status for record in records(cluster)] == [COMMITTED]
    await asyncio.sleep(COLLECTED_S)
    assert records(cluster) == []
    assert await db.get(RIGHT) == b"new"


@pytest.mark.parametrize("status", [None, PENDING, STAGING])
def test_the_locks_of_a_transaction_that_died_go_though_nobody_meets_them(
    status: TransactionStatus | None,
) -> None:
    @cluster_test(config=SHORT)
    async def run(cluster: Cluster, db: Database) -> None:
        await in_two_ranges(db, cluster)
        await db.put(RIGHT, b"old")
        txn = Txn(cluster, db)
        await txn.lay(LEFT)
        await txn.lay(RIGHT)
        if status is PENDING:
            await txn.send(HeartbeatTransaction(txn.meta.anchor))
        elif status is STAGING:
            await txn.send(txn.end(STAGING, soon(cluster), LEFT, RIGHT))
        assert locks(cluster) == 2
        await asyncio.sleep(3 * COLLECTED_S)
        await cluster.until_applied()
        assert locks(cluster) == 0
        assert records(cluster) == []
        assert await db.get(RIGHT) == (b"new" if status is STAGING else b"old")
        cluster.check_statistics()

    run()


@cluster_test(config=SHORT)
async def test_a_transaction_that_lives_keeps_its_locks_however_old_it_is(
    cluster: Cluster, db: Database
) -> None:
    txn = Txn(cluster, db)
    await txn.lay(LEFT)
    for _ in range(int(3 * COLLECTED_S)):
        await txn.send(HeartbeatTransaction(txn.meta.anchor))
        await asyncio.sleep(1.0)
    assert locks(cluster) == 1
    assert [record.status for record in records(cluster)] == [PENDING]
    await txn.send(txn.end(COMMITTED, soon(cluster), LEFT))
    assert await db.get(LEFT) == b"new"


@cluster_test()
async def test_who_is_told_aborted_below_the_threshold_can_rely_on_it(
    cluster: Cluster, db: Database
) -> None:
    """S9: while its record stands PENDING, its coordinator may come back and commit."""
    txn = Txn(cluster, db)
    await txn.lay(LEFT)
    await txn.send(HeartbeatTransaction(txn.meta.anchor))
    await asyncio.sleep(5.0)
    for replica in cluster.replicas():
        replica.applied = msgspec.structs.replace(replica.applied, gc_threshold=txn.began)
    push = PushTransaction(txn.meta.anchor, txn.meta, txn.began, txn.began, PushKind.ABORT)
    (answer,) = (await db._router.execute((push,))).results
    assert isinstance(answer, RecordResult)
    assert answer.record is not None
    assert answer.record.status is ABORTED
    assert [record.status for record in records(cluster)] == [ABORTED]
    with pytest.raises((errors.TransactionAbortedError, errors.OutcomeUnknownError)):
        await txn.send(txn.end(COMMITTED, soon(cluster), LEFT))
    assert await db.get(LEFT) is None


# -- step by step ----------------------------------------------------------------------------------


class Desk:
    """Whom leftovers ask: it answers pushes, and notes everything."""

    def __init__(self, *answers: RecordResult) -> None:
        self._answers = {meta.id: answer for meta, answer in zip(TWO, answers, strict=False)}
        self.asked: list[tuple[Operation, ...]] = []

    async def ask(self, operations: tuple[Operation, ...]) -> tuple[Result, ...]:
        self.asked.append(operations)
        return tuple([self._answer(operation) for operation in operations])

    def _answer(self, operation: Operation) -> Result:
        if isinstance(operation, PushTransaction):
            return self._answers[operation.txn.id]
        assert isinstance(operation, ResolveIntent), "nothing else is sent in these tests"
        return PutResult()

    @property
    def resolved(self) -> list[Operation]:
        return [o for operations in self.asked for o in operations if isinstance(o, ResolveIntent)]


TWO = (TransactionMeta(ID, plain(LEFT)), TransactionMeta(bytes(16), plain(RIGHT)))
NOBODY_KNOWS = RecordResult(None)


def record(
    status: TransactionStatus, meta: TransactionMeta = TWO[0], *written: bytes
) -> TransactionRecord:
    writes = tuple(IntentRef(key, 1) for key in written)
    return TransactionRecord(meta, status, Timestamp(50), Timestamp(40), Timestamp(30), writes)


def laid(key: bytes, at: int, meta: TransactionMeta = TWO[0]) -> OldIntent:
    return key, Intent(meta, Timestamp(60), 1, b"v", Timestamp(at))


@pytest.mark.parametrize("order", [(5, 9, 7), (9, 7, 5)])
def test_the_youngest_intent_tells_when_its_transaction_was_alive(order: tuple[int, ...]) -> None:
    desk = Desk(NOBODY_KNOWS)
    intents = [laid(b"%d" % at, at) for at in order]
    assert not asyncio.run(leftovers.resolve_intents(desk.ask, intents))
    youngest = Timestamp(9)
    push = PushTransaction(plain(LEFT), TWO[0], youngest, youngest, PushKind.ABORT)
    assert desk.asked == [(push,)]


@pytest.mark.parametrize(
    "answer",
    [NOBODY_KNOWS, RecordResult(record(PENDING)), RecordResult(record(STAGING))],
    ids=["no record", "pending", "staging"],
)
def test_a_transaction_that_lives_is_not_ended(answer: RecordResult) -> None:
    desk = Desk(answer)
    end = leftovers.end_transaction(desk.ask, TWO[0], Timestamp(7), Timestamp(3))
    assert asyncio.run(end) is None
    push = PushTransaction(plain(LEFT), TWO[0], Timestamp(7), Timestamp(3), PushKind.ABORT)
    assert desk.asked == [(push,)], "what is staged is not recovered either"


@pytest.mark.parametrize("other", [PENDING, ABORTED])
def test_all_intents_of_those_that_are_over_are_resolved_as_they_ended(
    other: TransactionStatus,
) -> None:
    committed = RecordResult(record(COMMITTED))
    desk = Desk(committed, RecordResult(record(other, TWO[1])))
    intents = [laid(b"a", 5), laid(b"b", 5, TWO[1]), laid(b"c", 5), laid(b"d", 5, TWO[1])]
    assert asyncio.run(leftovers.resolve_intents(desk.ask, intents)) is (other is ABORTED)
    expected = [ResolveIntent(key, ID, COMMITTED, Timestamp(50)) for key in (b"a", b"c")]
    if other is ABORTED:
        expected += [ResolveIntent(key, TWO[1].id, ABORTED) for key in (b"b", b"d")]
    assert desk.resolved == expected


def test_where_nothing_is_laid_nothing_is_left() -> None:
    desk = Desk()
    assert asyncio.run(leftovers.resolve_intents(desk.ask, []))
    assert desk.asked == []


def test_the_writes_of_records_are_resolved_in_calls_of_a_bounded_size() -> None:
    most = leftovers.RESOLVED_PER_CALL
    written = [b"%05d" % number for number in range(most + 1)]
    desk = Desk()
    records = [record(COMMITTED, TWO[0], *written), record(ABORTED, TWO[1], b"z")]
    asyncio.run(leftovers.resolve_writes(desk.ask, records))
    assert [len(operations) for operations in desk.asked] == [most, 2]
    at = Timestamp(50)
    assert desk.resolved == [
        *(ResolveIntent(key, ID, COMMITTED, at) for key in written),
        ResolveIntent(b"z", TWO[1].id, ABORTED),
    ]
