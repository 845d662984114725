"""Working for those who wait for locks: asks how the holders are, and has what has ended resolved.

Purpose
    A lock stays until somebody resolves it. Its holder does, as a rule. For the case that it cannot
    any more, or waits itself, the first of those that wait for it asks at its record now and then;
    and so does whoever waits and may hold locks, because of deadlocks (deadlocks.py).
How
    Everybody who waits on this store is looked at a little while after it began to, then ever less
    often. It is due to push if it is the first at its key, or may hold locks, or has the higher
    priority. A push asks at the holder's anchor, where a holder without a sign of life is aborted.
    What has ended is resolved at once, and what was left STAGING is recovered first (recovery.py).
Invariants
    - With nobody waiting there is no timer, and nothing is sent.
    - A waiter does not outlive its transaction: one that is found to have ended is woken.
Source
    Design §11; CockroachDB's lock table waiters and its txnwait queue.
"""

import asyncio
import contextlib
from collections import OrderedDict
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from multiraft import errors
from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.lock_waits import Lock, Waiter
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.requests import Operation, Result
from multiraft.model.transaction import TransactionMeta, TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import (
    PushKind,
    PushTransaction,
    QueryTransaction,
    RecordResult,
    WaitsFor,
)
from multiraft.ranges import deadlocks, recovery
from multiraft.ranges.deadlocks import Deadlocks, DeadlocksStatus
from multiraft.ranges.resolver import Resolver

if TYPE_CHECKING:
    from multiraft.client.router import Router
    from multiraft.ranges.store import Store

FIRST_PUSH_S = 0.02
PUSH_S_MAX = 0.1
"""Between two pushes of a waiter, once it waits for long."""
LOOK_S_MIN = 0.005
"""One timer serves those who are due within so long."""
DEADLINE_S = 3.0
CONCURRENT_MAX = 64
SWEEPERS = 16
"""So many push at a time what a client has left in a range."""
ENDED_KEPT_MAX = 1_024

_NEVER = Timestamp(0)
_PENDING, _STAGING = TransactionStatus.PENDING, TransactionStatus.STAGING


class PushesStatus(msgspec.Struct, frozen=True):
    """Who waits on this store, and what was done for them since the start."""

    waiting: int
    pushes: int
    recoveries: int
    deadlocks: DeadlocksStatus


class _Push:
    """What is done for one waiter."""

    __slots__ = ("delay_s", "has_ended", "holder_id", "table", "waiter")

    def __init__(self, table: LockTable, waiter: Waiter) -> None:
        self.table = table
        self.waiter = waiter
        self.delay_s = FIRST_PUSH_S
        self.holder_id = b"" if waiter.holder is None else waiter.holder.id
        """For whom it waited when it was last looked at."""
        self.has_ended = False

    def waits_for(self, holder: TransactionMeta) -> bool:
        """Return whether it still waits, and for that one."""
        now = self.waiter.holder
        return not self.has_ended and now is not None and now.id == holder.id


class Pushes:
    """See the module. One per store; the observer of its lock tables."""

    def __init__(self, store: "Store", router: "Router", resolver: Resolver) -> None:
        self._store = store
        self._router = router
        self._resolver = resolver
        self._monotonic = store.context.clock.monotonic
        self._deadlocks = Deadlocks(store, self._end_victim)
        self._waiting: dict[Waiter, _Push] = {}
        self._schedule: list[tuple[float, int, _Push]] = []
        self._scheduled = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = 0.0
        self._ended: OrderedDict[bytes, TransactionRecord] = OrderedDict()
        """Some that have ended lately: many may wait for their locks."""
        self._sweeping: dict[LockTable, None] = {}
        self._running = 0
        self._pushes = 0
        self._recoveries = 0

    # -- what lock tables tell ---------------------------------------------------------------------

    def waits(self, table: LockTable, waiter: Waiter) -> None:
        """See lock_table.Observer."""
        push = self._waiting[waiter] = _Push(table, waiter)
        self._deadlocks.waits(waiter)
        holder = waiter.holder
        is_urgent = holder is not None and (
            holder.id in self._ended or _outranks(waiter.txn, holder)
        )
        self._look_again(push, 0.0 if is_urgent else self._with_jitter(push.delay_s))

    def waits_no_more(self, waiter: Waiter) -> None:
        """See lock_table.Observer."""
        self._waiting.pop(waiter).has_ended = True
        self._deadlocks.waits_no_more(waiter)

    def taken(self, table: LockTable, lock: Lock) -> None:
        """See lock_table.Observer."""
        self._deadlocks.taken(lock)

    # -- what a leaseholder tells and asks, for the records in its range ---------------------------

    def tell(self, edges: tuple[WaitsFor, ...]) -> None:
        """Take in what a pusher knows of who waits."""
        self._deadlocks.tell(edges)

    def edges_to(self, transaction_id: bytes) -> tuple[WaitsFor, ...]:
        """Return who waits for that transaction, directly or not, as far as is known here."""
        return self._deadlocks.edges_to(transaction_id)

    def status(self) -> PushesStatus:
        """Return what is under way."""
        return PushesStatus(
            len(self._waiting), self._pushes, self._recoveries, self._deadlocks.status()
        )

    # -- when to push ------------------------------------------------------------------------------

    def _look_again(self, push: _Push, delay_s: float) -> None:
        due = self._monotonic() + delay_s
        self._scheduled += 1
        heappush(self._schedule, (due, self._scheduled, push))
        if self._timer is None or self._timer_due > due + LOOK_S_MIN:
            self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._schedule and self._schedule[0][2].has_ended:
            heappop(self._schedule)
        if self._schedule:
            delay_s = self._schedule[0][0] - self._monotonic()
            if delay_s > 0:
                delay_s = max(delay_s, LOOK_S_MIN)  # Others may be due as well by then.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(delay_s, self._store.or_fail, self._look)
            self._timer_due = self._monotonic() + delay_s

    def _look(self) -> None:
        """Look at all waiters whose time has come."""
        self._timer = None
        now = self._monotonic()
        due: list[_Push] = []
        while self._schedule and self._schedule[0][0] <= now:
            due.append(heappop(self._schedule)[2])
        for push in due:
            if not push.has_ended:
                self._consider(push)
        if self._timer is None:
            self._set_timer()

    def _consider(self, push: _Push) -> None:
        waiter = push.waiter
        holder = waiter.holder
        if holder is None:
            self._look_again(push, self._with_jitter(FIRST_PUSH_S))
        elif holder.id in self._ended:
            self._resolve(push.table, self._ended[holder.id])
            self._look_later(push)
        elif holder.id != push.holder_id and not _outranks(waiter.txn, holder):
            # Whoever has it now, has it since a moment.
            push.holder_id = holder.id
            push.delay_s = FIRST_PUSH_S
            self._look_again(push, self._with_jitter(FIRST_PUSH_S))
        elif self._running < CONCURRENT_MAX and (
            push.table.is_first(waiter)
            or self._deadlocks.probes(waiter)
            or _outranks(waiter.txn, holder)
        ):
            self._running += 1
            self._store.spawn(self._push(push), name="push a transaction")
        else:
            self._look_later(push)

    def _look_later(self, push: _Push) -> None:
        push.delay_s = min(push.delay_s * 1.5, PUSH_S_MAX)
        self._look_again(push, self._with_jitter(push.delay_s))

    def _with_jitter(self, delay_s: float) -> float:
        return delay_s * (750 + self._store.context.rng.below(501)) / 1_000

    # -- pushing -----------------------------------------------------------------------------------

    async def _push(self, push: _Push) -> None:
        try:
            await self._push_once(push)
        except errors.MultiraftError:
            pass  # The holder's range, or ours, cannot be asked: later perhaps.
        finally:
            self._running -= 1
            if not push.has_ended:
                self._look_later(push)

    async def _push_once(self, push: _Push) -> None:
        waiter = push.waiter
        place, txn = waiter.place, waiter.txn
        if place is None or place.lock is None:
            return
        lock = place.lock
        holder = lock.holder
        edges: tuple[WaitsFor, ...] = ()
        if txn is not None and self._deadlocks.probes(waiter):
            known = await self._who_waits_for(push, txn)
            if not push.waits_for(holder):
                return
            own = self._deadlocks.edge_of(waiter)
            victim = self._deadlocks.victim(own, known)
            if victim is not None:
                await self._abort(victim, deadlocks.reason(waiter), push.table)
                return
            edges = (own, *known)
        answer = await self._record(_push_of(lock, waiter, edges))
        record = await self._recovered(answer)
        if record is not None and record.status.is_final:
            self._has_ended(push.table, record)
            if self._is_old(lock):
                self._sweep_soon(push.table)
        elif record is not None and record.status is _PENDING and push.waits_for(holder):
            _pass_by(push, record)

    async def _recovered(self, answer: RecordResult) -> TransactionRecord | None:
        """Return the record of a transaction that was pushed, decided if it had been left."""
        record = answer.record
        if record is not None and answer.has_expired and record.status is _STAGING:
            self._recoveries += 1
            return await recovery.recover(self._ask, record)
        return record

    async def _who_waits_for(self, push: _Push, txn: TransactionMeta) -> tuple[WaitsFor, ...]:
        """Return what is known of that at the anchor of `txn`, which waits itself."""
        answer = await self._record(QueryTransaction(txn.anchor, txn.id, txn.began))
        if answer.record is not None and answer.record.status.is_final:
            reason = answer.record.reason or "it has ended already"
            push.table.abort(push.waiter, reason)
        return self._deadlocks.edges_to(txn.id, answer.edges)

    def _end_victim(self, txn: TransactionMeta, reason: str) -> None:
        """All members of a deadlock wait on this store: end the waits of the youngest, and it."""
        self._end_waits(txn, reason)
        self._store.spawn(self._abort_quietly(txn, reason), name="abort a victim")

    def _end_waits(self, txn: TransactionMeta, reason: str) -> None:
        """Nothing on this store waits for the sake of `txn` any more."""
        for waiter in self._deadlocks.waits_of(txn.id):
            self._waiting[waiter].table.abort(waiter, reason)

    async def _abort_quietly(self, txn: TransactionMeta, reason: str) -> None:
        # Its coordinator, which is told of the deadlock, ends it too.
        with contextlib.suppress(errors.MultiraftError):
            await self._abort(txn, reason)

    async def _abort(
        self, txn: TransactionMeta, reason: str, table: LockTable | None = None
    ) -> None:
        """Abort `txn`, unless it has committed; in `table` its locks are let go of."""
        now = self._store.context.hlc.now()
        answer = await self._record(
            PushTransaction(txn.anchor, txn, now, now, PushKind.ABORT, force=True, reason=reason)
        )
        record = answer.record
        if record is not None and record.status is _STAGING:
            # It stages in parallel with its last writes, and one of these waits: so it has not
            # committed, and never will once that is found missing.
            self._recoveries += 1
            record = await recovery.recover(self._ask, record)
        if record is None or not record.status.is_final:
            return
        if record.status is TransactionStatus.ABORTED:
            self._end_waits(txn, reason)
        if table is not None:
            self._has_ended(table, record)

    # -- abandoned transactions --------------------------------------------------------------------

    def _is_old(self, lock: Lock) -> bool:
        """Return whether the holder may have been abandoned, as far as the lock tells."""
        context = self._store.context
        expiry = hlc.from_ms(context.config.ranges.transaction_expiry_ms)
        return lock.laid_at + expiry < context.hlc.last

    def _sweep_soon(self, table: LockTable) -> None:
        """Push the holders of all old locks in a range, since one was abandoned.

        A client that dies leaves many transactions behind, and a scan over what they have locked
        would otherwise wait for one after the other.
        """
        if table not in self._sweeping:
            self._sweeping[table] = None
            self._store.spawn(self._sweep(table), name="push abandoned transactions")

    async def _sweep(self, table: LockTable) -> None:
        held = [queues.lock for queues in table]
        old = {lock.holder.id: lock for lock in held if lock is not None and self._is_old(lock)}
        locks = iter([lock for lock in old.values() if lock.holder.id not in self._ended])

        async def work() -> None:
            for lock in locks:
                with contextlib.suppress(errors.MultiraftError):
                    record = await self._recovered(await self._record(_push_of(lock)))
                    if record is not None and record.status.is_final:
                        self._has_ended(table, record)

        try:
            await asyncio.gather(*(work() for _ in range(SWEEPERS)))
        finally:
            del self._sweeping[table]

    # -- what has ended ----------------------------------------------------------------------------

    def _has_ended(self, table: LockTable, record: TransactionRecord) -> None:
        """Let everybody through that waits for a transaction which has ended."""
        transaction_id = record.txn.id
        self._ended[transaction_id] = msgspec.structs.replace(record, writes=())
        if len(self._ended) > ENDED_KEPT_MAX:
            self._ended.popitem(last=False)
        self._deadlocks.forget(transaction_id)
        self._resolve(table, record)

    def _resolve(self, table: LockTable, record: TransactionRecord) -> None:
        """Have the locks of `record` resolved: first those in `table`, for which somebody waits."""
        transaction_id, status, timestamp = record.txn.id, record.status, record.timestamp
        table.release_unreplicated(transaction_id)
        here = [lock.key for lock in table.locks_of(transaction_id)]
        self._resolver.add(transaction_id, status, timestamp, here, is_awaited=True)
        elsewhere = [write.key for write in record.writes]
        self._resolver.add(transaction_id, status, timestamp, elsewhere)

    async def _record(self, operation: Operation) -> RecordResult:
        self._pushes += type(operation) is PushTransaction
        (result,) = await self._ask((operation,))
        assert isinstance(result, RecordResult), "a record is asked for"
        return result

    async def _ask(self, operations: tuple[Operation, ...]) -> tuple[Result, ...]:
        return (await self._router.execute(operations, deadline_s=DEADLINE_S)).results


def _push_of(
    lock: Lock, waiter: Waiter | None = None, edges: tuple[WaitsFor, ...] = ()
) -> PushTransaction:
    """Return what asks for the end of a lock's holder, for `waiter` or for anybody."""
    holder = lock.holder
    txn = limit = None
    if waiter is not None:
        txn, limit = waiter.txn, waiter.limit
    return PushTransaction(
        holder.anchor,
        holder,
        lock.laid_at,
        # A lock is laid after its transaction was issued; when exactly is not known.
        lock.laid_at,
        PushKind.ABORT if limit is None else PushKind.TIMESTAMP,
        pusher=txn,
        push_to=limit if limit is not None and _outranks(txn, holder) else _NEVER,
        reason="" if txn is None else f"pushed by transaction {txn.id.hex()}",
        edges=edges,
    )


def _pass_by(push: _Push, record: TransactionRecord) -> None:
    """A read need not wait for what will commit above all that it reads."""
    place, limit = push.waiter.place, push.waiter.limit
    if place is None or place.lock is None or limit is None:
        return
    if place.lock.timestamp is not None and place.lock.timestamp <= limit < record.timestamp:
        push.table.move(place.key, record.txn.id, record.timestamp)


def _outranks(txn: TransactionMeta | None, holder: TransactionMeta) -> bool:
    """Return whether a push of `holder` succeeds at once."""
    return txn is not None and txn.priority > holder.priority
