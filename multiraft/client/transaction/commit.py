"""The commit: in one phase where all writes go to one range, else in parallel.

Purpose
    Decide, with as few rounds as possible, whether everything that a transaction has written
    happens at one time, at which everything it has read is still true.
    - Nothing written: it has happened, at its read timestamp.
    - One phase: all writes and the end in one part, which the range carries out or refuses.
    - In parallel: the writes as intents and, at the same time, a record that says STAGING and
      names them all. When every part has been answered, and no intent lies above the time that the
      record names, the transaction has committed; the caller is told, and the record says so later.
Invariants
    - It commits at its read timestamp, or has read nothing that another time could change; what
      pushes it above makes it refresh first (rule S10).
    - A part that commits in one phase includes the anchor, and is never cut (rule S9).
    - When an attempt to commit has failed and may yet take effect, the transaction is brought to a
      definite end at its anchor before anybody hears of the failure (rule S9).
Source
    Design §11; CockroachDB's parallel commits.
"""

import asyncio

from multiraft import errors
from multiraft.client.calls import Call
from multiraft.client.range_cache import CachedRange
from multiraft.client.router import NO_TIMESTAMP
from multiraft.client.transaction import ending, reading
from multiraft.client.transaction.attempt import Attempt, State
from multiraft.client.transaction.read_spans import Span
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchReply
from multiraft.model.transaction import TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import EndTransaction, RecordResult

MOVABLE_SPANS_MAX = 256
"""With at most so many spans read, the range itself may move a commit in one phase."""

ENDING_SHARE = 0.2
ENDING_S_MAX = 0.5
"""How much of the time that is left, but at most that long, is kept for a definite end."""

PUSHES_MAX = 2
"""What was pushed so often when it tried to commit lays its intents first."""


async def commit(attempt: Attempt) -> Timestamp:
    """Commit, and return the time at which all writes happened.

    TransactionRetryError: it has not committed, nor will it. DeadlineExceededError: nor has it;
    OutcomeUnknownError: nobody answered in time. If cancelled, a definite end is sought in the
    background, which is to roll back where that is still possible.
    """
    try:
        attempt.check()
        if attempt.operations_open:
            raise errors.RequestError(
                f"{attempt.operations_open} operations of the transaction are still under way: "
                "await them before it ends"
            )
    except errors.MultiraftError as error:
        if attempt.state is not State.COMMITTING:  # Else another task does, undisturbed.
            ending.roll_back(attempt, f"it could not commit: {error}")
        raise
    attempt.state = State.COMMITTING
    left_s = attempt.deadline - attempt.coordinator.router.now()
    deadline = attempt.deadline - min(ENDING_S_MAX, ENDING_SHARE * left_s)
    timestamp: Timestamp | None = None
    while timestamp is None:
        try:
            timestamp = await _decide(attempt, deadline)
        except asyncio.CancelledError:
            attempt.state = State.FAILED
            ending.roll_back(attempt, "the commit was cancelled")
            raise
        except errors.MultiraftError as error:
            was_aborted = isinstance(error, errors.TransactionAbortedError)
            if was_aborted and attempt.is_renewable and not attempt.is_open:
                attempt.renew(attempt.id)
            else:
                timestamp = await _settle(attempt, error, deadline)
    attempt.state = State.COMMITTED
    attempt.failure = None
    attempt.is_released = True
    if attempt.hot:
        attempt.remember_hot_keys()
    return timestamp


async def _decide(attempt: Attempt, deadline: float) -> Timestamp:
    buffer = attempt.buffer
    if not buffer.values:
        ending.let_go(attempt)
        return attempt.read_timestamp
    may_be_whole = not buffer.sent
    pushes = 0
    while True:
        try:
            if may_be_whole:
                is_whole, target = _only_range(attempt)
                if is_whole:
                    return await _in_one_phase(attempt, target, deadline)
            return await _in_parallel(attempt, deadline)
        except errors.RangeMismatchError as error:
            if attempt.is_open:
                raise errors.OutcomeUnknownError(reason=str(error)) from error
            may_be_whole = False  # The range was split just now.
        except errors.TransactionPushedError as error:
            pushes += 1
            if pushes >= PUSHES_MAX and buffer.unsent_count:
                # Two that refresh what the other writes would push each other for ever. An intent
                # stays where it lies, and in the way of a refresh: one of the two ends.
                if attempt.is_open:
                    raise errors.OutcomeUnknownError(reason=str(error)) from error
                may_be_whole = False
                attempt.lay()
            await reading.move_to(attempt, Timestamp(error.timestamp))


async def _settle(attempt: Attempt, error: errors.MultiraftError, deadline: float) -> Timestamp:
    """Raise what the application is told of a commit that failed, once that is true.

    Return the time of the commit if it turns out that there was one. `deadline` is until when it
    was to be tried.
    """
    router = attempt.coordinator.router
    if attempt.is_open and router.now() < attempt.deadline:
        try:
            reason = f"its commit failed: {error}"
            record = await ending.end(attempt, reason, deadline=attempt.deadline)
        except asyncio.CancelledError:
            attempt.state = State.FAILED
            ending.roll_back(attempt, "the commit was cancelled")
            raise
        except errors.MultiraftError as second:
            error = second
        else:
            attempt.is_open = False
            if record.status is TransactionStatus.COMMITTED:
                return record.timestamp
            if isinstance(error, errors.OutcomeUnknownError) and router.now() < deadline:
                error = errors.TransactionRetryError(reason=error.facts["reason"])
    told = attempt.fail(error)
    if attempt.is_open and not isinstance(told, errors.StoppedError):
        last = attempt.last_seen(error)
        reason = f"no answer to the commit within {attempt.deadline_s:g} s; last: {last}"
        told = attempt.failure = errors.OutcomeUnknownError(reason=reason)
    ending.roll_back(attempt, f"its commit failed: {error}")
    raise told from error


# -- in one phase ----------------------------------------------------------------------------------


def _only_range(attempt: Attempt) -> tuple[bool, CachedRange | None]:
    """Return whether one range may hold all writes and the anchor, and which that is, if known.

    Of what is not known, the answer will tell.
    """
    limits = attempt.coordinator.limits
    buffer = attempt.buffer
    if (
        buffer.unsent_count >= limits.batch_operations_max
        or 2 * buffer.size_bytes > limits.batch_bytes_max
    ):
        return False, None
    cache = attempt.coordinator.router.addressing.cache
    anchor = attempt.meta.anchor or next(iter(buffer.values))
    target = cache.lookup(anchor)
    if target is None:
        return True, None
    start, end = target.descriptor.start, cache.end_of(target)
    for key in buffer.values:
        if not start <= key < end:
            return False, None
    return True, target


async def _in_one_phase(attempt: Attempt, target: CachedRange | None, deadline: float) -> Timestamp:
    buffer, reads = attempt.buffer, attempt.reads
    operations = buffer.operations()
    attempt.set_anchor(operations[0].key)
    is_movable, read_spans = not len(reads), tuple[Span, ...]()
    if not is_movable and target is not None and len(reads) <= MOVABLE_SPANS_MAX:
        end_of_range = attempt.coordinator.router.addressing.cache.end_of(target)
        most_bytes = attempt.coordinator.limits.batch_bytes_max // 8
        if reads.within(target.descriptor.start, end_of_range) and reads.size_bytes <= most_bytes:
            is_movable, read_spans = True, tuple(reads.all())
    end = EndTransaction(
        attempt.meta.anchor,
        TransactionStatus.COMMITTED,
        locked=tuple(attempt.locked),
        one_phase=True,
        is_movable=is_movable,
        read_spans=read_spans,
    )
    call = attempt.start(
        (*operations, end),
        attempt.context(),
        attempt.read_timestamp,
        is_whole=True,
        deadline=deadline,
    )
    reply = await _send(attempt, call)
    record = _record(reply)
    timestamp = reply.timestamp if record is None else record.timestamp
    ending.let_go_elsewhere(attempt, target, timestamp)
    return timestamp


# -- in parallel -----------------------------------------------------------------------------------


async def _in_parallel(attempt: Attempt, deadline: float) -> Timestamp:
    buffer = attempt.buffer
    if attempt.keeps_too_much:  # It goes on under another ID.
        attempt.lay()
    while attempt.flushes:
        await asyncio.wait([call.future for call in attempt.flushes])
    if attempt.failure is not None:
        raise attempt.failure
    if attempt.is_released:
        raise errors.StoppedError(what="the client")  # Who knows what was laid.
    staged_at = attempt.commit_timestamp
    if staged_at > attempt.read_timestamp and len(attempt.reads):
        await reading.move_to(attempt, staged_at)
    sequence, operations, keys_sent = attempt.next_write()
    end = EndTransaction(
        attempt.meta.anchor,
        TransactionStatus.STAGING,
        staged_at,
        buffer.references(),
        tuple(attempt.locked),
    )
    attempt.coordinator.heartbeats.add(attempt)
    attempt.staged_at = staged_at
    context = attempt.context(sequence)
    call = attempt.start((*operations, end), context, staged_at, deadline=deadline)
    try:
        reply = await _send(attempt, call)
    except errors.MultiraftError as error:
        _keep_what_was_laid(attempt, call, keys_sent, sequence)
        if isinstance(error, errors.TransactionPushedError):
            raise errors.TransactionPushedError(timestamp=attempt.write_timestamp) from error
        raise
    record = _record(reply)
    if record is None or record.status is not TransactionStatus.COMMITTED:
        attempt.write_timestamp = max(attempt.write_timestamp, reply.timestamp)
        if reply.timestamp > staged_at:
            attempt.is_open = False  # A write lies above the record's time, and stays there.
            raise errors.TransactionPushedError(timestamp=reply.timestamp)
        ending.spread(attempt, staged_at)
        return staged_at
    ending.spread(attempt, record.timestamp)  # A recovery was faster.
    return record.timestamp


def _keep_what_was_laid(
    attempt: Attempt, call: Call, keys_sent: tuple[bytes, ...], sequence: int
) -> None:
    """Note which writes have to be sent again, and the time that all can be laid at."""
    results = call.results
    laid = () if results is None else results[: len(keys_sent)]
    missing = [
        key for index, key in enumerate(keys_sent) if index >= len(laid) or laid[index] is None
    ]
    attempt.buffer.take_back(missing, sequence)
    pushed = [
        error.timestamp
        for _, error in call.failures or ()
        if isinstance(error, errors.TransactionPushedError)
    ]
    attempt.write_timestamp = max(
        attempt.write_timestamp, call.latest, *map(Timestamp, pushed), NO_TIMESTAMP
    )


# -- both ------------------------------------------------------------------------------------------


async def _send(attempt: Attempt, call: Call) -> BatchReply:
    """Await an attempt to commit, and note whether it may have succeeded when it seems not to."""
    was_open, attempt.is_open = attempt.is_open, True
    try:
        reply = await call.future
    except asyncio.CancelledError:
        call.abandon()
        raise
    except errors.MultiraftError:
        attempt.is_open = was_open or call.is_open
        attempt.last_refusal = call.last_error
        raise
    return reply


def _record(reply: BatchReply) -> TransactionRecord | None:
    result = reply.results[-1]
    assert isinstance(result, RecordResult), "the end of a transaction is answered by its record"
    return result.record
