"""Stores with lock tables and records, without ranges or consensus: what pushes are tried on.

A key of the store `n` starts with the letter of `n`; every store has one lock table for all of its
keys, and the records of the transactions that are anchored there. Requests take `LATENCY_S`.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import msgspec

from multiraft import errors, runtime
from multiraft.client.router import Router
from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.lock_waits import Waiter, Wake
from multiraft.config import Config
from multiraft.ids import RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import BatchReply, Operation, PutResult, Result
from multiraft.model.transaction import TransactionMeta, TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import (
    PushTransaction,
    QueryIntent,
    QueryIntentResult,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
    ResolveIntent,
)
from multiraft.ranges.pushes import Pushes
from multiraft.ranges.resolver import Resolver
from multiraft.ranges.store import Store
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng

LATENCY_S = 0.002
NOW = Timestamp(1_000)


def key(store: int, name: str) -> bytes:
    """Return a key of that store."""
    return bytes([0x10, ord("a") + store]) + name.encode()


def transaction(number: int, anchor: bytes, *, priority: int = 0) -> TransactionMeta:
    """Return who began at `number`."""
    return TransactionMeta(number.to_bytes(16, "big"), anchor, priority, Timestamp(number))


class _Clock:
    def __init__(self, loop: VirtualLoop) -> None:
        self.monotonic = loop.time

    @property
    def last(self) -> Timestamp:
        return self.now()

    def now(self) -> Timestamp:
        return hlc.from_us(int(self.monotonic() * 1e6))


class _Context:
    def __init__(self, loop: VirtualLoop) -> None:
        self.clock = self.hlc = _Clock(loop)
        self.config = Config()
        self.rng = SeededRng(7)


class _Target:
    def __init__(self, range_id: int) -> None:
        self.range_id = RangeId(range_id)


class MiniStore:
    """One of the stores of a world."""

    def __init__(self, world: "World", number: int) -> None:
        self.number = number
        self.failures: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self.context = _Context(world.loop)
        self.is_down = False
        router = cast("Router", world)
        self.resolver = Resolver(cast("Store", self), router)
        self.pushes = Pushes(cast("Store", self), router, self.resolver)
        self.table = LockTable(1_000, self.pushes)
        self.records: dict[bytes, TransactionRecord] = {}

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        task = runtime.spawn(coroutine, name=name, on_error=self.failures.append)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def or_fail(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.failures.append(error)


class World:
    """See the module. Its stores' router, too."""

    def __init__(self, loop: VirtualLoop, stores: int = 1) -> None:
        self.loop = loop
        self.addressing = self
        self.asked: list[Operation] = []
        self.dead: set[bytes] = set()
        """Transactions that show no sign of life any more."""
        self.laid: set[tuple[bytes, bytes, int]] = set()
        """Key, transaction and sequence of intents that a recovery finds."""
        self.stores = [MiniStore(self, number) for number in range(stores)]

    async def settle(self) -> None:
        """Nobody waits any more: check that then nothing is under way, and that nothing failed."""
        await asyncio.sleep(1.0)
        for store in self.stores:
            assert store.failures == []
            assert (store.table.waiters, store.pushes.status().waiting) == (0, 0)
            assert store.pushes.status().deadlocks.waits == 0
            assert store.resolver.status().pending == 0
        asked = len(self.asked)
        await asyncio.sleep(10.0)
        assert len(self.asked) == asked

    # -- the router --------------------------------------------------------------------------------

    def cached(self, wanted: bytes, *, before: bool) -> _Target:
        return _Target(self.owner(wanted).number + 1)

    async def execute(
        self, operations: tuple[Operation, ...], *, deadline_s: float | None = None
    ) -> BatchReply:
        self.asked.extend(operations)
        await asyncio.sleep(LATENCY_S)
        results = tuple([self._answer(operation) for operation in operations])
        await asyncio.sleep(LATENCY_S)
        return BatchReply(results)

    async def until_asked(self) -> None:
        """Wait until something has been sent."""
        while not self.asked:  # noqa: ASYNC110  virtual time: nothing is polled in vain
            await asyncio.sleep(0.001)

    def asked_for(self, kind: type[Operation]) -> int:
        """Return how many operations of that kind were sent."""
        return sum(type(operation) is kind for operation in self.asked)

    def owner(self, wanted: bytes) -> MiniStore:
        return self.stores[wanted[1] - ord("a")]

    def _answer(self, operation: Operation) -> Result:
        assert isinstance(operation, tuple(_ANSWERS)), "only what pushes and resolvers send"
        store = self.owner(cast("ResolveIntent", operation).key)
        if store.is_down:
            raise errors.DeadlineExceededError(deadline_s=1.0, last_error="it is down")
        return _ANSWERS[type(operation)](self, store, operation)

    def _push(self, store: MiniStore, push: PushTransaction) -> RecordResult:
        store.pushes.tell(push.edges)
        record = store.records.get(push.txn.id)
        has_expired = push.txn.id in self.dead
        outranks = push.pusher is not None and push.pusher.priority > push.txn.priority
        if record is None or record.status is TransactionStatus.PENDING:
            if push.force or has_expired:
                record = self.record(push.txn, TransactionStatus.ABORTED, reason=push.reason)
            elif outranks and push.push_to:
                above = Timestamp(push.push_to + 1)
                record = self.record(push.txn, TransactionStatus.PENDING, at=above)
        return RecordResult(record, has_expired, store.pushes.edges_to(push.txn.id))

    def _query(self, store: MiniStore, query: QueryTransaction) -> RecordResult:
        return RecordResult(store.records.get(query.id), edges=store.pushes.edges_to(query.id))

    def _query_intent(self, store: MiniStore, query: QueryIntent) -> QueryIntentResult:
        return QueryIntentResult((query.key, query.id, query.sequence) in self.laid)

    def _recover(self, store: MiniStore, decision: RecoverTransaction) -> RecordResult:
        record = store.records[decision.id]
        if record.status is TransactionStatus.STAGING and record.timestamp == decision.timestamp:
            status = TransactionStatus.ABORTED
            if decision.committed:
                status = TransactionStatus.COMMITTED
            record = store.records[decision.id] = msgspec.structs.replace(record, status=status)
        return RecordResult(record)

    def _resolve(self, store: MiniStore, resolution: ResolveIntent) -> PutResult:
        store.table.release(resolution.key, resolution.id)
        return PutResult()

    # -- what tests do -----------------------------------------------------------------------------

    def record(
        self,
        txn: TransactionMeta,
        status: TransactionStatus,
        *,
        at: Timestamp = NOW,
        reason: str = "",
    ) -> TransactionRecord:
        """Write a record at the anchor."""
        record = TransactionRecord(txn, status, at, NOW, NOW, reason=reason)
        self.owner(txn.anchor).records[txn.id] = record
        return record

    def lay(self, wanted: bytes, txn: TransactionMeta, timestamp: int = 10) -> None:
        """Lay an intent."""
        self.owner(wanted).table.lay(wanted, txn, Timestamp(timestamp), NOW)

    def wait(
        self, wanted: bytes, txn: TransactionMeta | None = None, *, limit: int | None = None
    ) -> "Waiting":
        """Wait for the lock on a key."""
        return Waiting(self, wanted, txn, limit)

    def resolve(self, record: TransactionRecord) -> None:
        """Do what a resolver does, everywhere and at once."""
        for store in self.stores:
            for lock in store.table.locks_of(record.txn.id):
                store.table.release(lock.key, record.txn.id)


_ANSWERS: dict[type, Callable[[World, MiniStore, Any], Result]] = {
    PushTransaction: World._push,
    QueryTransaction: World._query,
    QueryIntent: World._query_intent,
    RecoverTransaction: World._recover,
    ResolveIntent: World._resolve,
}


class Waiting:
    """A request that waits; `woken` tells why it need not any more."""

    def __init__(
        self, world: World, wanted: bytes, txn: TransactionMeta | None, limit: int | None
    ) -> None:
        self.world = world
        self.key = wanted
        self.table = world.owner(wanted).table
        self.woken: asyncio.Future[Wake] = world.loop.create_future()
        order = (0, b"") if txn is None else (txn.began, txn.id)
        self.waiter = Waiter(txn, order, self.woken.set_result)
        self.since = world.loop.time()
        at = None if limit is None else Timestamp(limit)
        assert self.table.wait(self.waiter, wanted, self.since, at), "there is a lock"

    def leave(self) -> None:
        self.table.leave(self.waiter)

    async def within(self, seconds: float) -> Wake:
        """Return why it was woken; not later than that since it began to wait."""
        async with asyncio.timeout(seconds + 10.0):
            why = await self.woken
        waited = self.world.loop.time() - self.since
        assert waited <= seconds, f"woken after {waited:g} s"
        return why
