"""Parts of transactions at a leaseholder: latched, held up by locks, evaluated, and carried out.

Purpose
    What commands/ decides about intents, records and reads of transactions happens here: under
    latches, behind the locks of others, within the lease, through the log; and the lock table
    follows what is applied.
Invariants
    - No time that a part carries is used before the clock has passed it (rule S12): every version,
      intent and entry of the timestamp cache is at or below the clock, which is how the next
      leader's low-water mark comes to be above them (rule S3).
    - Intents enter and leave the lock table when they are applied, under the latches of their part;
      locks that are not replicated, when the part that takes them is evaluated.
"""

from collections.abc import Callable, Collection
from typing import cast

import msgspec

from multiraft import errors
from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch, Span
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.requests import BatchReply, BatchRequest, Delete, Get, Operation, Put, Scan
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushTransaction,
    QueryIntent,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
    Refresh,
    ResolveIntent,
)
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.versions import Version
from multiraft.ranges import lock_conflicts
from multiraft.ranges.commands import (
    intents,
    one_phase,
    records,
    transaction_reads,
    validation,
)
from multiraft.ranges.commands.setting import Outcome, Setting
from multiraft.ranges.context import overloaded
from multiraft.ranges.messages import Command
from multiraft.ranges.pending import Pending

_WRITES = (Put, Delete)


def _end(setting: Setting, request: BatchRequest) -> Outcome:
    operation = cast("EndTransaction", request.operations[-1])
    return (one_phase.commit if operation.one_phase else records.end)(setting, request)


EVALUATE: dict[type[Operation], Callable[[Setting, BatchRequest], Outcome]] = {
    Get: transaction_reads.read,
    Scan: transaction_reads.read,
    Put: intents.write,
    Delete: intents.write,
    EndTransaction: _end,
    HeartbeatTransaction: records.heartbeat,
    PushTransaction: records.push,
    QueryTransaction: records.query,
    RecoverTransaction: records.recover,
    QueryIntent: intents.query,
    ResolveIntent: intents.resolve,
    Refresh: intents.refresh,
}
"""By the last operation of a part. Tests check that no row is missing."""

_WITH_TIMESTAMP = (EndTransaction, QueryIntent, ResolveIntent, RecoverTransaction)
_LATCHED_TO_WRITE = frozenset({Put, Delete, QueryIntent, ResolveIntent})
_READS = frozenset({Get, Scan, Refresh, QueryIntent, QueryTransaction})


class PendingPart(Pending):
    """A part of a transaction, or one that is about transactions; the waiter of its proposal."""

    __slots__ = ("_first_now", "_intents", "answer", "outcome")

    answer: BatchReply
    outcome: Outcome
    """Both are there once the part is evaluated."""
    _first_now: Timestamp
    _intents: int
    """How many more of them there are once the part is applied."""

    @property
    def transaction_id(self) -> bytes:
        """Whose locks are not in the way."""
        return self.request.id if self.request.txn is not None else b""

    def _transaction(self) -> TransactionMeta | None:
        return None if self.request.txn is None else self.request.txn.meta

    def _order(self) -> tuple[int, bytes]:
        txn = self.request.txn
        if txn is None:
            return super()._order()
        return txn.meta.began or self.request.issued_at, txn.meta.id

    def queue(self, key: bytes, limit: Timestamp | None = None) -> None:
        """See Pending. Whom a read pushes commits above all that may ever be uncertain to it.

        An intent that is moved up lengthens the intervals of reads, this one's too, up to there.
        """
        txn = self.request.txn
        if limit is not None and txn is not None:
            limit = max(limit, txn.uncertainty_limit)
        super().queue(key, limit)

    @property
    def newest(self) -> Collection[Version]:
        """See Pending: what a commit in one phase leaves lies above all that its keys had."""
        changes = self.outcome.changes
        return changes.written if changes is not None and self.outcome.id else ()

    # -- latches ---------------------------------------------------------------------------------

    def _latches(self) -> Latch:
        return latches_of(self.request, self.holder.contains)

    def _objection(self) -> errors.MultiraftError | None:
        """Return why the range cannot serve the part, or None."""
        if self.holder.ended:
            return self.holder.lost()
        for operation in self.request.operations:
            if isinstance(operation, Scan):
                error = self.holder.mismatch(operation.start, operation.end)
            elif isinstance(operation, Refresh) and operation.end:
                error = self.holder.mismatch(operation.key, operation.end)
            else:
                error = self.holder.mismatch(validation.key_of(operation), None)
            if error is not None:
                return error
        return None

    # -- evaluation ------------------------------------------------------------------------------

    def _granted(self) -> None:
        settled = self._evaluate()
        if settled is not None:
            self.finish(settled)

    def _evaluate(self) -> BatchReply | None:
        """Return the reply if the part is settled, None if it was proposed or waits."""
        holder, request = self.holder, self.request
        context = holder.context
        error = self._objection() or self._cannot_be_proposed()
        if error is not None:
            return context.refusal(error)
        now = context.hlc.now()
        reached = latest_time(request)
        if reached >= now or not holder.may_serve(now):
            ahead = holder.too_far_ahead(reached)
            if ahead is not None:
                return context.refusal(ahead)
            self.step_back(reached)
            return None
        setting = holder.setting(self._chosen_time(now), self.asked_at)
        if not holder.locks.is_empty and self._is_blocked(setting):
            return None
        outcome = EVALUATE[type(request.operations[-1])](setting, request)
        outcome = self._with_waits(outcome)
        holder.requests_served += 1
        if outcome.error is not None:
            return context.refusal(outcome.error)
        if outcome.to_lock and lock_conflicts.blocks_write(self, outcome.to_lock):
            return None  # Which keys a scan is to lock is known only now.
        self.outcome = outcome
        self.answer = BatchReply(
            outcome.results,
            outcome.timestamp,
            context.hlc.last,
            uncertainty_limit=outcome.uncertainty_limit,
        )
        if outcome.changes is None:
            self._lock(now)
            self._follow_up()
            return self.answer
        # The time that a floor of the timestamp cache gave may be one above the clock.
        context.hlc.forward(outcome.written_at)
        effects = outcome.changes.effects()
        self._intents = effects.stats.locks
        command = Command(
            outcome.id,
            outcome.written_at,
            effects.puts,
            effects.stats,
            deletes=effects.deletes,
            also=effects.also,
        )
        return None if holder.propose(command, self) else context.refusal(holder.not_proposed())

    def _chosen_time(self, now: Timestamp) -> Timestamp:
        """Return the time at which a part without a timestamp is evaluated: usually now.

        One that has others pushed out of its way stays with the time for which it had them pushed:
        otherwise they would be in its way again.
        """
        txn = self.request.txn
        if self._waiter is None or txn is None or not txn.meta.priority:
            self._first_now = now
        return self._first_now if type(self.request.operations[0]) in (Get, Scan) else now

    def _with_waits(self, outcome: Outcome) -> Outcome:
        """Exchange what is known of who waits for whom; it is kept where records are."""
        operation = self.request.operations[0]
        pushes = self.holder.context.pushes
        if isinstance(operation, PushTransaction):
            pushes.tell(operation.edges)
        elif isinstance(operation, QueryTransaction) and outcome.results:
            result = cast("RecordResult", outcome.results[0])
            edges = pushes.edges_to(operation.id)
            told = RecordResult(result.record, result.has_expired, edges)
            outcome = msgspec.structs.replace(outcome, results=(told,))
        return outcome

    def _cannot_be_proposed(self) -> errors.MultiraftError | None:
        operations = self.request.operations
        if type(operations[0]) in _READS:
            return None
        error = self.holder.backpressure()
        if error is None and type(operations[0]) in _WRITES:
            # Whatever ends transactions frees more than it takes.
            context = self.holder.context
            error = context.write_refusal
            if error is None and not context.resolver.has_room:
                error = overloaded(f"n{context.node_id}, with intents to resolve,")
        return error

    def _is_blocked(self, setting: Setting) -> bool:
        """Return whether the part has to wait for another transaction; it is in the queue then."""
        txn = self.request.txn
        if txn is None or not self._meets_locks:
            return False
        first = type(self.request.operations[0])
        if first is Scan or (first is Get and not txn.is_locking):
            _, limit = transaction_reads.chosen(setting, self.request)
            if first is Scan:
                return lock_conflicts.blocks_spans(self, limit)
            return lock_conflicts.blocks_points(self, self.latch.read_points, limit)
        keys = tuple(
            validation.key_of(operation)
            for operation in self.request.operations
            if type(operation) in _WRITES or type(operation) is Get
        )
        return lock_conflicts.blocks_write(self, keys)

    @property
    def _meets_locks(self) -> bool:
        return type(self.request.operations[0]) in (Get, Scan, Put, Delete)

    def _lock(self, now: Timestamp) -> None:
        """Lock what a locking read has read: best effort, nothing relies on it."""
        txn = self.request.txn
        if txn is not None:
            for key in self.outcome.to_lock:
                self.holder.locks.take(key, txn.meta, now)

    # -- what follows ----------------------------------------------------------------------------

    def applied(self) -> None:
        """The changes are in the engine."""
        changes = self.outcome.changes
        assert changes is not None, "only changes are proposed"
        for observe in self.holder.observers:
            observe(changes)
        self._follow(changes)
        self._follow_up()
        if self.outcome.is_partial:
            self._granted()  # Still under the same latches: what is done is not done again.
        else:
            self.finish(self.answer)

    def _follow(self, changes: ChangeSet) -> None:
        """Have the lock table know the intents that are there now."""
        holder = self.holder
        locks = holder.locks
        holder.intents += self._intents
        for key, intent in changes.laid:
            locks.lay(key, intent.txn, intent.timestamp, intent.laid_at)
        for key, transaction_id in changes.removed:
            locks.release(key, transaction_id)
        locks.note_moved(changes.moved_to)
        if not locks.complete:
            locks.reconcile(holder.intents)

    def _follow_up(self) -> None:
        """Let go of locks that are not replicated; have the rest of a transaction resolved."""
        outcome = self.outcome
        locks = self.holder.locks
        if not locks.is_empty:
            for key, transaction_id in outcome.unlocked:
                locks.release_unreplicated(transaction_id, (key,))
        ended = outcome.ended
        if ended is not None:
            # All of them: which ones a scan has locked, its client does not know if the answer
            # was lost.
            locks.release_unreplicated(ended.txn.id)
            resolver = self.holder.context.resolver
            resolver.add(ended.txn.id, ended.status, ended.timestamp, outcome.unresolved)

    def failed(self, error: errors.MultiraftError) -> None:
        """The term was lost first; what became of the part is for the next attempt to find."""
        self.finish(self.holder.context.refusal(error))


def latches_of(request: BatchRequest, contains: Callable[[bytes], bool]) -> Latch:
    """Return what a part reads and writes. `contains`: whether the range has a key."""
    read_points: list[bytes] = []
    write_points: list[bytes] = []
    read_spans: list[Span] = []
    locks = request.txn is not None and request.txn.is_locking
    for operation in request.operations:
        kind = type(operation)
        if kind in _LATCHED_TO_WRITE or (kind is Get and locks):
            write_points.append(validation.key_of(operation))
        elif isinstance(operation, Get):
            read_points.append(operation.key)
        elif isinstance(operation, Scan):
            read_spans.append((operation.start, operation.end))
        elif isinstance(operation, Refresh):
            _add_read(operation.key, operation.end, read_points, read_spans)
        else:
            # Of what is about a record: the anchor too, or a split would not wait (rule S2).
            anchor = validation.key_of(operation)
            read_points.append(anchor)
            write_points.append(latches.record_point(anchor, _transaction_of(request, operation)))
            if isinstance(operation, EndTransaction):
                write_points += [w.key for w in operation.writes if contains(w.key)]
                for start, end in operation.read_spans:
                    _add_read(start, end, read_points, read_spans)
    return Latch(tuple(read_points), tuple(write_points), tuple(read_spans))


def _add_read(start: bytes, end: bytes, points: list[bytes], spans: list[Span]) -> None:
    if end:
        spans.append((start, end))
    else:
        points.append(start)


def latest_time(request: BatchRequest) -> Timestamp:
    """Return the latest of the times that a part carries and that count in the range."""
    latest = max(request.timestamp, request.issued_at)
    for operation in request.operations:
        if isinstance(operation, _WITH_TIMESTAMP):
            latest = max(latest, operation.timestamp)
        elif isinstance(operation, PushTransaction):
            latest = max(latest, operation.push_to)
    return min(latest, hlc.MAX)


def _transaction_of(request: BatchRequest, operation: Operation) -> bytes:
    if isinstance(operation, PushTransaction):
        return operation.txn.id
    if isinstance(operation, QueryTransaction | RecoverTransaction):
        return operation.id
    return request.id
