"""Intents: what a transaction writes before it commits, and what others do about it.

Rules
    S9, S18   a part that comes again is answered from what it left: an intent of its sequence or a
              later one, or a version with the transaction's ID.
    S11       an intent lies above every read of its key by others, and above what is there.
    S18       what commits is at or below the commit timestamp; anything above it is removed.
    A9        of a write that is not there it is remembered that it must not come any more, before
              anybody is told that it is missing.
"""

from typing import cast

from multiraft import errors
from multiraft.concurrency.timestamp_cache import SHARED
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Delete, Put
from multiraft.model.transaction import Intent, TransactionStatus
from multiraft.model.transaction_requests import (
    QueryIntent,
    QueryIntentResult,
    Refresh,
    RefreshResult,
    ResolveIntent,
)
from multiraft.mvcc import reads
from multiraft.mvcc.intents import ChangeSet
from multiraft.ranges.commands.setting import Outcome, Setting, refused
from multiraft.ranges.commands.writes import DONE

RESOLVED_BYTES_MAX = 1 << 20
"""About so much one command holds of what intents become; the part goes on with another one."""
RESOLVED_MAX = 200
"""So many intents are resolved with the commit of their transaction, at most; the rest behind."""

Write = Put | Delete


def unknown() -> errors.OutcomeUnknownError:
    """Return what to say of a transaction that has left no trace, perhaps not any more."""
    return errors.OutcomeUnknownError(
        reason="the transaction is older than what garbage collection keeps"
    )


def value_of(write: Write) -> bytes | None:
    """Return what the key will hold."""
    return write.value if isinstance(write, Put) else None


def write(setting: Setting, request: BatchRequest) -> Outcome:
    """Lay the intents of a part that holds nothing else."""
    writes = cast("tuple[Write, ...]", request.operations)
    changes = ChangeSet(setting.reader)
    laid_at = lay(setting, request, writes, changes)
    if isinstance(laid_at, errors.MultiraftError):
        return refused(laid_at)
    return Outcome(
        (DONE,) * len(writes),
        laid_at,
        changes=None if changes.is_empty else changes,
        written_at=laid_at,
    )


def lay(
    setting: Setting,
    request: BatchRequest,
    writes: tuple[Write, ...],
    changes: ChangeSet,
    at_most: Timestamp | None = None,
) -> Timestamp | errors.MultiraftError:
    """Lay intents, or find them laid; return the greatest timestamp of any.

    Nothing is laid, and TransactionPushedError returned, if one would lie above `at_most`.
    """
    txn = request.txn
    assert txn is not None, "only transactions lay intents"
    meta, transaction_id = txn.meta, txn.meta.id
    committed_at = setting.recent.timestamp_of(transaction_id)
    if committed_at is not None:
        return committed_at  # Whatever else it has written: it lays nothing any more.
    timestamp = max(request.timestamp, Timestamp(request.issued_at + 1))
    there: Timestamp = Timestamp(0)
    to_lay: list[tuple[Write, Intent | None]] = []
    for operation in writes:
        key = operation.key
        before = setting.own_intent(key, transaction_id)
        if before is not None and before.sequence >= txn.sequence:
            there = max(there, before.timestamp)
            continue
        if before is None:
            version = setting.own_version(key, transaction_id, request.issued_at)
            if version is not None:
                return version.timestamp
        else:
            timestamp = max(timestamp, before.timestamp)
        to_lay.append((operation, before))
        _, last = reads.newest_and_last(setting.reader, key)
        floor = setting.cache.write_floor(key, transaction_id)
        timestamp = max(timestamp, floor, Timestamp(last + 1))
    if not to_lay:
        return there
    if request.issued_at <= setting.gc_threshold:
        return unknown()
    if at_most is not None and max(timestamp, there) > at_most:
        return errors.TransactionPushedError(timestamp=max(timestamp, there))
    for operation, before in to_lay:
        intent = Intent(meta, timestamp, txn.sequence, value_of(operation), setting.now)
        changes.lay(operation.key, intent, before)
    return max(timestamp, there)


def query(setting: Setting, request: BatchRequest) -> Outcome:
    """Tell of each write whether it lies at or below its timestamp; if not, it never will."""
    results = []
    for operation in cast("tuple[QueryIntent, ...]", request.operations):
        intent = setting.own_intent(operation.key, operation.id)
        found = (
            intent is not None
            and intent.sequence == operation.sequence
            and intent.timestamp <= operation.timestamp
        )
        if not found:
            version = setting.own_version(operation.key, operation.id, operation.since)
            found = version is not None
        if not found:
            setting.cache.add_point(operation.key, operation.timestamp, SHARED)
        results.append(QueryIntentResult(found))
    return Outcome(tuple(results), setting.now)


def resolve(setting: Setting, request: BatchRequest) -> Outcome:
    """Make intents versions, or remove them, as their transactions ended."""
    changes = ChangeSet(setting.reader)
    operations = cast("tuple[ResolveIntent, ...]", request.operations)
    seen = set()
    for operation in operations:
        if changes.size_bytes > RESOLVED_BYTES_MAX:
            break
        # Of several for a key, which has one lock, the first that fits it counts.
        if operation.key not in seen:
            intent = setting.own_intent(operation.key, operation.id)
            if intent is not None:
                seen.add(operation.key)
                end(changes, operation.key, intent, operation.status, operation.timestamp)
    return Outcome(
        (DONE,) * len(operations),
        setting.now,
        changes=None if changes.is_empty else changes,
        written_at=max(operation.timestamp for operation in operations),
        unlocked=tuple((operation.key, operation.id) for operation in operations),
        is_partial=changes.size_bytes > RESOLVED_BYTES_MAX,
    )


def end(
    changes: ChangeSet,
    key: bytes,
    intent: Intent,
    status: TransactionStatus,
    timestamp: Timestamp,
) -> None:
    """Do with an intent what the end of its transaction means."""
    if status is TransactionStatus.COMMITTED and intent.timestamp <= timestamp:
        changes.commit(key, intent, timestamp)
    else:
        changes.remove(key, intent)


def refresh(setting: Setting, request: BatchRequest) -> Outcome:
    """Tell of each read whether it would see the same at the request's timestamp.

    What it would see counts as read then; but only if all of the part is so.
    """
    operations = cast("tuple[Refresh, ...]", request.operations)
    until = request.timestamp
    results = []
    for operation in operations:
        if operation.since <= setting.gc_threshold:
            return refused(
                errors.ReadTooOldError(timestamp=operation.since, threshold=setting.gc_threshold)
            )
        span = operation.key, operation.end
        results.append(unchanged(setting, span, operation.since, until, request.id))
    if all(result.succeeded for result in results):
        for operation, result in zip(operations, results, strict=True):
            span = operation.key, result.resume or operation.end
            add_read(setting, span, until, request.id)
    return Outcome(tuple(results), until)


def add_read(
    setting: Setting, span: tuple[bytes, bytes], timestamp: Timestamp, transaction_id: bytes
) -> None:
    """Remember a read of `span`, or of one key if that has no end, for its writers."""
    start, end = span
    if end:
        setting.cache.add_span(start, end, timestamp, transaction_id)
    else:
        setting.cache.add_point(start, timestamp, transaction_id)


def unchanged(
    setting: Setting,
    span: tuple[bytes, bytes],
    since: Timestamp,
    until: Timestamp,
    transaction_id: bytes,
) -> RefreshResult:
    """Return whether what was read of `span` at `since` is the same at `until`.

    An intent of another at or below `until` may become a version there.
    """
    start, end = span
    is_point = not end
    if is_point:
        end = keys.next_key(start)
    intent = setting.foreign_intent(start, end, until, transaction_id)
    if intent is not None:
        return RefreshResult(False, intent)
    if setting.clock_floor <= since:
        return RefreshResult(True)
    if is_point:
        found = reads.change_of(setting.reader, start, since, until, transaction_id)
    else:
        found = reads.first_change(
            setting.reader,
            start,
            end,
            since,
            until,
            transaction_id,
            limit_passed=setting.limits.scan_passed_max,
        )
    if found is None:
        return RefreshResult(True)
    if not found.timestamp:
        return RefreshResult(True, resume=found.key)
    return RefreshResult(False, found.key)
