"""A commit in one phase: all writes of a transaction end in one range, and become versions at once.

Rules
    S9     the search for the transaction's ID comes before everything else, so a commit whose reply
           was lost is answered with itself; and an ABORTED record forbids it.
    S10    it commits at its read timestamp. The leaseholder moves it only if nothing was read, or
           if all that was read lies in this range and would be seen the same: then it counts as
           read at the new time.
    S11    a version lies above every read of its key by others, and above every version there.
    S18    of a transaction at or below the garbage collection threshold nobody can tell any more
           whether it has committed, unless it left a trace.
"""

from typing import cast

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchRequest, Result
from multiraft.model.transaction import TransactionRecord, TransactionStatus
from multiraft.model.transaction_requests import EndTransaction, RecordResult
from multiraft.mvcc import intents as stored
from multiraft.mvcc import reads
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.versions import Version
from multiraft.ranges.commands import intents, records
from multiraft.ranges.commands.intents import Write
from multiraft.ranges.commands.setting import Outcome, Setting, refused
from multiraft.ranges.commands.writes import DONE

Placed = list[tuple[Write, Version | None]]
"""Each write, with the version that it replaces."""


def commit(setting: Setting, request: BatchRequest) -> Outcome:
    """Evaluate a part of writes and an EndTransaction with `one_phase`."""
    txn, end = request.txn, request.operations[-1]
    assert txn is not None, "a commit in one phase is of a transaction"
    assert isinstance(end, EndTransaction), "a commit in one phase has its end"
    writes = cast("tuple[Write, ...]", request.operations[:-1])
    for operation in writes:
        version = setting.own_version(operation.key, request.id, request.issued_at)
        if version is not None:
            return _committed(request, writes, version.timestamp, setting.now)
    record = stored.get_record(setting.reader, end.key, request.id)
    if record is not None:
        if record.status is TransactionStatus.COMMITTED:
            return _committed(request, writes, record.timestamp, setting.now)
        if record.status is TransactionStatus.STAGING:
            return refused(errors.RequestError("the transaction is being committed in two phases"))
    if request.issued_at <= setting.gc_threshold:
        return refused(intents.unknown())
    if record is not None and record.status is TransactionStatus.ABORTED:
        return refused(errors.TransactionAbortedError(reason=record.reason))
    if any(setting.own_intent(operation.key, request.id) is not None for operation in writes):
        return refused(errors.RequestError("a commit in one phase has laid no intents before"))
    placed, needed = _placed(setting, request, writes)
    if record is not None:
        needed = max(needed, record.timestamp)
    timestamp = max(end.timestamp, request.timestamp)
    if not timestamp:
        timestamp = max(needed, setting.now)
    elif needed > timestamp:
        if not _move(setting, request, end, timestamp, needed):
            return refused(errors.TransactionPushedError(timestamp=needed))
        timestamp = needed
    changes = ChangeSet(setting.reader)
    for operation, newest in placed:
        changes.write(operation.key, intents.value_of(operation), timestamp, request.id, newest)
    outcome = _committed(request, writes, timestamp, setting.now)
    result = outcome.results[-1]
    assert isinstance(result, RecordResult), "the end of a transaction gives its record"
    assert result.record is not None, "it has committed"
    if record is not None or not any(operation.key == end.key for operation in writes):
        # Without a version at the anchor nobody who asks there could tell that it has committed.
        changes.record(result.record)
    return Outcome(
        outcome.results,
        timestamp,
        changes=changes,
        id=request.id,
        written_at=timestamp,
        ended=result.record,
        unresolved=records.locked_elsewhere(setting, end),
    )


def _placed(
    setting: Setting, request: BatchRequest, writes: tuple[Write, ...]
) -> tuple[Placed, Timestamp]:
    """Return the writes, and the least timestamp that all of them may take."""
    placed: Placed = []
    needed = Timestamp(request.issued_at + 1)
    for operation in writes:
        newest, last = reads.newest_and_last(setting.reader, operation.key)
        placed.append((operation, newest))
        floor = setting.cache.write_floor(operation.key, request.id)
        needed = max(needed, floor, Timestamp(last + 1))
    return placed, needed


def _move(
    setting: Setting,
    request: BatchRequest,
    end: EndTransaction,
    since: Timestamp,
    needed: Timestamp,
) -> bool:
    """Count everything read as read at `needed`, if it is known and unchanged."""
    if not end.is_movable or since <= setting.gc_threshold:
        return False
    for start, stop in end.read_spans:
        if not (setting.contains(start) and stop <= setting.end):
            return False
        seen = intents.unchanged(setting, (start, stop), since, needed, request.id)
        if not seen.succeeded or seen.resume:
            return False
    for span in end.read_spans:
        intents.add_read(setting, span, needed, request.id)
    return True


def _committed(
    request: BatchRequest, writes: tuple[Write, ...], timestamp: Timestamp, now: Timestamp
) -> Outcome:
    """Return the answer of a transaction that has committed at `timestamp`."""
    assert request.txn is not None, "a commit in one phase is of a transaction"
    record = TransactionRecord(
        request.txn.meta, TransactionStatus.COMMITTED, timestamp, now, request.issued_at
    )
    results: tuple[Result, ...] = (DONE,) * len(writes)
    return Outcome((*results, RecordResult(record)), timestamp)
