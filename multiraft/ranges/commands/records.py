"""Records: where a transaction is decided, by its coordinator or by whoever it holds up.

Rules
    S9     a version with the transaction's ID at its anchor says COMMITTED, as a record does. Who
           asks for the end of a transaction of unknown fate gets that, or ABORTED, for good.
    S18    no record is made at or below the garbage collection threshold, where one may have been
           collected; elsewhere *absent* means that nobody has written one. What its coordinator is
           told down there is COMMITTED, or that the outcome is unknown, never that it was aborted.
    A9     recovery decides what it has looked at only: a record that is STAGING at that timestamp.
    -      STAGING is nobody's to change but by recovery, or by a coordinator that knows that one of
           its writes lies above (its commit may have happened: crdb#61992, crdb#62810).
"""

from typing import cast

import msgspec

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.requests import BatchRequest, Result
from multiraft.model.transaction import (
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    PushKind,
    PushTransaction,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
)
from multiraft.mvcc import intents as stored
from multiraft.mvcc.intents import ChangeSet
from multiraft.ranges.commands import intents
from multiraft.ranges.commands.intents import Write
from multiraft.ranges.commands.setting import Outcome, Setting, refused
from multiraft.ranges.commands.writes import DONE

PENDING, STAGING = TransactionStatus.PENDING, TransactionStatus.STAGING
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED


def find(setting: Setting, meta: TransactionMeta, issued_at: Timestamp) -> TransactionRecord | None:
    """Return how a transaction stands: its record, or what a commit in one phase has left."""
    record = stored.get_record(setting.reader, meta.anchor, meta.id)
    if record is not None and record.status.is_final:
        return record
    version = setting.own_version(meta.anchor, meta.id, issued_at)
    if version is None:
        return record
    return TransactionRecord(meta, COMMITTED, version.timestamp, setting.now, issued_at)


def _answer(record: TransactionRecord | None, *, has_expired: bool = False) -> Outcome:
    return Outcome((RecordResult(record, has_expired),))


def _write(setting: Setting, record: TransactionRecord) -> Outcome:
    changes = ChangeSet(setting.reader)
    changes.record(record)
    return Outcome((RecordResult(record),), changes=changes)


# -- the coordinator -------------------------------------------------------------------------------


def end(setting: Setting, request: BatchRequest) -> Outcome:
    """Evaluate a part whose last operation is an EndTransaction without `one_phase`."""
    assert request.txn is not None, "only a transaction ends itself"
    operation = request.operations[-1]
    assert isinstance(operation, EndTransaction), "the end of a transaction is the last operation"
    record = find(setting, request.txn.meta, request.issued_at)
    if _is_past(setting, request, record):
        return refused(intents.unknown())
    if operation.status is ABORTED:
        return _roll_back(setting, request, operation, record)
    if record is not None and record.status is ABORTED:
        return refused(errors.TransactionAbortedError(reason=record.reason))
    if record is not None and record.status is COMMITTED:
        results: tuple[Result, ...] = (DONE,) * (len(request.operations) - 1)
        return Outcome((*results, RecordResult(record)), record.timestamp)
    if record is not None and record.status is PENDING and record.timestamp > operation.timestamp:
        return refused(errors.TransactionPushedError(timestamp=record.timestamp))
    if operation.status is STAGING:
        return _stage(setting, request, operation, record)
    if record is not None and record.status is STAGING and record.timestamp != operation.timestamp:
        return refused(errors.RequestError("the transaction is staged at another timestamp"))
    return _decide(setting, request, operation, record)


def _is_past(setting: Setting, request: BatchRequest, record: TransactionRecord | None) -> bool:
    """Return whether the transaction may have committed, and all that said so be gone.

    Even if there is ABORTED: it may have been written after that.
    """
    is_open = record is None or record.status is ABORTED
    return is_open and request.issued_at <= setting.gc_threshold


def _stage(
    setting: Setting,
    request: BatchRequest,
    operation: EndTransaction,
    record: TransactionRecord | None,
) -> Outcome:
    assert request.txn is not None, "only a transaction ends itself"
    if record is not None and record.status is STAGING and record.timestamp > operation.timestamp:
        return refused(errors.TransactionPushedError(timestamp=record.timestamp))
    changes = ChangeSet(setting.reader)
    writes = cast("tuple[Write, ...]", request.operations[:-1])
    laid_at = intents.lay(setting, request, writes, changes, operation.timestamp)
    if isinstance(laid_at, errors.MultiraftError):
        return refused(laid_at)
    staged = TransactionRecord(
        request.txn.meta,
        STAGING,
        operation.timestamp,
        setting.now,
        request.issued_at,
        operation.writes,
    )
    changes.record(staged)
    results: tuple[Result, ...] = (DONE,) * len(writes)
    return Outcome(
        (*results, RecordResult(staged)), laid_at, changes=changes, written_at=operation.timestamp
    )


def _decide(
    setting: Setting,
    request: BatchRequest,
    operation: EndTransaction,
    record: TransactionRecord | None,
) -> Outcome:
    """Write the final record; what is here is resolved with it."""
    assert request.txn is not None, "only a transaction ends itself"
    writes = operation.writes or (record.writes if record is not None else ())
    status = operation.status
    decided = TransactionRecord(
        request.txn.meta,
        status,
        operation.timestamp,
        setting.now,
        request.issued_at,
        writes,
        operation.reason if status is ABORTED else "",
    )
    changes = ChangeSet(setting.reader)
    unresolved = _resolve_here(setting, request.id, operation, decided, changes)
    changes.record(decided)
    return Outcome(
        (RecordResult(decided),),
        operation.timestamp,
        changes=changes,
        written_at=operation.timestamp,
        ended=decided,
        unresolved=unresolved,
    )


def _roll_back(
    setting: Setting,
    request: BatchRequest,
    operation: EndTransaction,
    record: TransactionRecord | None,
) -> Outcome:
    if record is None or record.status is PENDING:
        return _decide(setting, request, operation, record)
    if record.status is STAGING and record.timestamp == operation.timestamp:
        return _decide(setting, request, operation, record)
    if record.status is not ABORTED:
        return _answer(record)
    changes = ChangeSet(setting.reader)
    unresolved = _resolve_here(setting, request.id, operation, record, changes)
    return Outcome(
        (RecordResult(record),),
        changes=None if changes.is_empty else changes,
        ended=record,
        unresolved=unresolved,
    )


def _resolve_here(
    setting: Setting,
    transaction_id: bytes,
    operation: EndTransaction,
    record: TransactionRecord,
    changes: ChangeSet,
) -> tuple[bytes, ...]:
    """Resolve some intents that the part has named, and so latched; return the keys that are left.

    It has latched what lies in this range: the range may have become smaller since, never larger.
    """
    here: dict[bytes, None] = {}
    for write in operation.writes:
        if len(here) == intents.RESOLVED_MAX or changes.size_bytes > intents.RESOLVED_BYTES_MAX:
            break
        if setting.contains(write.key) and write.key not in here:
            here[write.key] = None
            intent = setting.own_intent(write.key, transaction_id)
            if intent is not None:
                intents.end(changes, write.key, intent, record.status, record.timestamp)
    written = [write.key for write in (operation.writes or record.writes) if write.key not in here]
    return (*written, *locked_elsewhere(setting, operation))


def locked_elsewhere(setting: Setting, operation: EndTransaction) -> tuple[bytes, ...]:
    """Return the keys that the transaction may have locked in other ranges."""
    return tuple(key for key in operation.locked if not setting.contains(key))


def heartbeat(setting: Setting, request: BatchRequest) -> Outcome:
    """Take a sign of life; makes the record if there is none.

    One that was overtaken while it waited for its latches says nothing new, and writes nothing.
    Otherwise the line would only grow while heartbeats, and those sent again for want of an answer,
    come faster than the log takes entries; and what ends the transaction waits in that line.
    """
    assert request.txn is not None, "only a transaction says that it lives"
    record = find(setting, request.txn.meta, request.issued_at)
    if _is_past(setting, request, record):
        return refused(intents.unknown())
    if record is None:
        record = TransactionRecord(
            request.txn.meta, PENDING, Timestamp(0), setting.now, request.issued_at
        )
    elif record.status.is_final or record.heartbeat > setting.asked_at:
        return _answer(record)
    return _write(setting, msgspec.structs.replace(record, heartbeat=setting.now))


# -- others ----------------------------------------------------------------------------------------


def push(setting: Setting, request: BatchRequest) -> Outcome:
    """Say how a transaction stands; first abort it, or push it up, if it must give way."""
    operation = cast("PushTransaction", request.operations[0])
    # All that it may have written lies above the time when it began.
    record = find(setting, operation.txn, operation.txn.began)
    if record is not None and record.status.is_final:
        return _answer(record)
    heard = operation.laid_at if record is None else max(operation.laid_at, record.heartbeat)
    has_expired = setting.now > heard + setting.expiry
    if record is not None and record.status is STAGING:
        return _answer(record, has_expired=has_expired)
    pusher = operation.pusher
    prevails = pusher is not None and pusher.priority > operation.txn.priority
    if has_expired or operation.force or (prevails and operation.kind is PushKind.ABORT):
        reason = operation.reason
        if has_expired:
            silent_ms = hlc.to_us(Timestamp(setting.now - heard)) // 1_000
            reason = f"it showed no sign of life for {silent_ms} ms"
        elif not reason:
            reason = "one of a higher priority needed what it had locked"
        return _abort(setting, operation, record, heard, reason)
    if not prevails or operation.kind is not PushKind.TIMESTAMP:
        return _answer(record)
    if record is None:
        if operation.issued_at <= setting.gc_threshold:
            return _answer(None)
        record = TransactionRecord(operation.txn, PENDING, Timestamp(0), heard, operation.issued_at)
    elif record.timestamp > operation.push_to:
        return _answer(record)
    # Above it: the pusher reads at `push_to`, and two may have the same time (rule S11).
    above = Timestamp(operation.push_to + 1)
    return _write(setting, msgspec.structs.replace(record, timestamp=above))


def _abort(
    setting: Setting,
    operation: PushTransaction,
    record: TransactionRecord | None,
    heard: Timestamp,
    reason: str,
) -> Outcome:
    issued_at = operation.issued_at if record is None else record.issued_at
    aborted = TransactionRecord(
        operation.txn, ABORTED, Timestamp(0), heard, issued_at, reason=reason
    )
    if record is None and issued_at <= setting.gc_threshold:
        # Its record, if it had one, was removed when all that it wrote was resolved.
        return _answer(aborted)
    return _write(setting, aborted)


def query(setting: Setting, request: BatchRequest) -> Outcome:
    """Say how a transaction stands."""
    operation = cast("QueryTransaction", request.operations[0])
    meta = TransactionMeta(operation.id, operation.key)
    return _answer(find(setting, meta, operation.since))


def recover(setting: Setting, request: BatchRequest) -> Outcome:
    """Decide a transaction that stands STAGING as it was looked at; else say how it stands."""
    operation = cast("RecoverTransaction", request.operations[0])
    meta = TransactionMeta(operation.id, operation.key)
    record = find(setting, meta, operation.since)
    if record is None or record.status is not STAGING or record.timestamp != operation.timestamp:
        return _answer(record)
    decided = msgspec.structs.replace(
        record,
        status=COMMITTED if operation.committed else ABORTED,
        reason="" if operation.committed else "its coordinator left it, and not all was written",
    )
    outcome = _write(setting, decided)
    keys = tuple(write.key for write in decided.writes)
    return msgspec.structs.replace(outcome, ended=decided, unresolved=keys)
