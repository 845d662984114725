"""How a transaction ends when it is not by its commit, and what is done behind the caller's back.

Purpose
    Bring an ID to a definite end: nothing of it is left that could still take effect, or that
    stands in anybody's way. And tell the ranges how a transaction has ended, after the application
    was told.
Invariants
    - `end` returns only what is true for good: committed, or aborted (rule S9).
    - What happens in the background is best effort: whoever meets what is left finds the record,
      or a transaction that shows no sign of life.
"""

from collections.abc import Sequence

from multiraft import errors
from multiraft.client.range_cache import CachedRange
from multiraft.client.router import NO_TIMESTAMP
from multiraft.client.transaction.attempt import Attempt, State
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchReply, Operation
from multiraft.model.transaction import IntentRef, TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import (
    EndTransaction,
    QueryIntent,
    QueryIntentResult,
    RecordResult,
    RecoverTransaction,
    ResolveIntent,
)


async def end(attempt: Attempt, reason: str, *, deadline: float) -> TransactionRecord:
    """Roll the transaction back, unless it has committed; return how it has ended.

    Raises what the router raises when nobody answers by the deadline.
    """
    router = attempt.coordinator.router
    while True:
        operation = EndTransaction(
            attempt.meta.anchor,
            TransactionStatus.ABORTED,
            # A STAGING record of that time has failed: one of its writes is known to be missing.
            NO_TIMESTAMP if attempt.is_open else attempt.staged_at,
            attempt.buffer.references(),
            tuple(attempt.locked),
            reason=reason,
        )
        call = router.start_in_transaction(
            (operation,),
            attempt.context(),
            issued_at=attempt.issued_at,
            timestamp=NO_TIMESTAMP,
            deadline=deadline,
        )
        try:
            record = _record(await call.future)
        finally:
            call.abandon()
        if record.status is TransactionStatus.STAGING:
            record = await _recover(attempt, record, deadline)
        if record.status.is_final:
            if record.status is TransactionStatus.COMMITTED:
                spread(attempt, record.timestamp)
            return record


async def _recover(
    attempt: Attempt, record: TransactionRecord, deadline: float
) -> TransactionRecord:
    """Decide a transaction that was left STAGING: committed if every write is there in time."""
    router = attempt.coordinator.router
    anchor, staged_at = attempt.meta.anchor, record.timestamp

    async def ask(operations: Sequence[Operation]) -> BatchReply:
        return await router.execute(tuple(operations), deadline_s=deadline - router.now())

    is_complete = True
    most = attempt.coordinator.settings.transaction_call_keys_max
    waiting: Sequence[IntentRef] = record.writes
    while waiting and is_complete:
        now, waiting = waiting[:most], waiting[most:]
        queries = [QueryIntent(w.key, attempt.id, w.sequence, staged_at) for w in now]
        results = (await ask(queries)).results
        is_complete = all(isinstance(each, QueryIntentResult) and each.found for each in results)
    return _record(await ask([RecoverTransaction(anchor, attempt.id, staged_at, is_complete)]))


def roll_back(attempt: Attempt, reason: str) -> None:
    """Give the attempt up; what it holds anywhere is released in the background.

    Nothing happens if it has ended before.
    """
    if attempt.is_released:
        return
    attempt.is_released = True
    coordinator = attempt.coordinator
    coordinator.heartbeats.discard(attempt)
    attempt.give_up_flushes()
    if attempt.state in (State.ACTIVE, State.FAILED):
        attempt.state = State.ROLLED_BACK
    if attempt.is_open or attempt.holds_something:
        coordinator.spawn(_end_quietly(attempt, reason))


async def _end_quietly(attempt: Attempt, reason: str) -> None:
    try:
        await end(attempt, reason, deadline=attempt.coordinator.background_deadline())
    except errors.MultiraftError:
        return  # Whoever it blocks will find that it does not live any more.


def let_go(attempt: Attempt) -> None:
    """Release the locks of a transaction that has written nothing."""
    attempt.coordinator.heartbeats.discard(attempt)
    if attempt.holds_something:
        attempt.coordinator.spawn(_end_quietly(attempt, "it has written nothing"))


def let_go_elsewhere(attempt: Attempt, target: CachedRange | None, timestamp: Timestamp) -> None:
    """After a commit in one phase, in which `target` let go its own locks, release the others."""
    coordinator = attempt.coordinator
    coordinator.heartbeats.discard(attempt)
    others = [
        ResolveIntent(key, attempt.id, TransactionStatus.COMMITTED, timestamp)
        for key in attempt.locked
        if target is None or not target.descriptor.contains(key)
    ]
    if others:
        coordinator.keep(
            coordinator.router.start(tuple(others), deadline_s=coordinator.settings.deadline_s)
        )


def spread(attempt: Attempt, timestamp: Timestamp) -> None:
    """Let the record, and then the intents, know that the transaction has committed."""
    coordinator = attempt.coordinator
    coordinator.heartbeats.discard(attempt)
    writes = attempt.buffer.references()
    if not writes:
        return  # It was in one phase.
    operation = EndTransaction(
        attempt.meta.anchor,
        TransactionStatus.COMMITTED,
        timestamp,
        writes,
        tuple(attempt.locked),
    )
    coordinator.keep(
        coordinator.router.start_in_transaction(
            (operation,),
            attempt.context(),
            issued_at=attempt.issued_at,
            timestamp=timestamp,
            deadline=coordinator.background_deadline(),
        )
    )


def _record(reply: BatchReply) -> TransactionRecord:
    result = reply.results[-1]
    assert isinstance(result, RecordResult), "it is answered by the record"
    assert result.record is not None, "who ended it has written one"
    return result.record
