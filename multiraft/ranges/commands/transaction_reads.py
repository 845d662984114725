"""Reads of a transaction: at its read timestamp, with what it may not miss, and with locks.

Rules
    S11   the timestamp cache remembers which transaction has read: it may write at that very time.
    S13   a version above the read timestamp, up to the uncertainty limit, may be older than the
          transaction in real time: the coordinator has to move its reads past it.

A scan locks what it finds: a key that is not there yet is guarded by the refresh alone.
"""

from typing import cast

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Get, Result, Scan, ScanResult
from multiraft.mvcc import reads as versions
from multiraft.ranges.commands import reads
from multiraft.ranges.commands.setting import Outcome, Setting, refused

Results = tuple[Result, ...]
Keys = tuple[bytes, ...]


def chosen(setting: Setting, request: BatchRequest) -> tuple[Timestamp, Timestamp]:
    """Return at which timestamp a part reads, and up to where it is uncertain."""
    txn = request.txn
    assert txn is not None, "the part of a transaction"
    if not request.timestamp:
        return setting.now, Timestamp(setting.now + setting.offset)
    limit = txn.uncertainty_limit
    for node_id, clock in txn.observed:
        if node_id == setting.node_id:
            limit = min(limit, max(clock, setting.serving_since, setting.locks.moved_to))
    return request.timestamp, max(request.timestamp, limit)


def read(setting: Setting, request: BatchRequest) -> Outcome:
    """Evaluate a part of gets, or of scans; no lock is in its way."""
    txn = request.txn
    assert txn is not None, "the part of a transaction"
    timestamp, limit = chosen(setting, request)
    if timestamp <= setting.gc_threshold:
        return refused(errors.ReadTooOldError(timestamp=timestamp, threshold=setting.gc_threshold))
    evaluate = _scan if isinstance(request.operations[0], Scan) else _get
    try:
        results, to_lock = evaluate(setting, request, timestamp, limit)
    except (errors.ReadUncertainError, errors.RequestError) as error:
        return refused(error)
    told = Timestamp(0) if request.timestamp else limit
    return Outcome(results, timestamp, uncertainty_limit=told, to_lock=to_lock)


def _get(
    setting: Setting, request: BatchRequest, timestamp: Timestamp, limit: Timestamp
) -> tuple[Results, Keys]:
    """Return what the keys hold, and which of them are to be locked."""
    operations = cast("tuple[Get, ...]", request.operations)
    points = tuple([operation.key for operation in operations])
    is_locking = _locks(request)
    _check_points(setting, points, timestamp, setting.clock_floor if is_locking else limit)
    results = reads.get_all(setting.reader, operations, timestamp, setting.limits)
    for key in points:
        setting.cache.add_point(key, timestamp, request.id)
    return results, points if is_locking else ()


def _scan(
    setting: Setting, request: BatchRequest, timestamp: Timestamp, limit: Timestamp
) -> tuple[Results, Keys]:
    """Return a page for each scan, and the keys that are to be locked: those that were found."""
    operations = cast("tuple[Scan, ...]", request.operations)
    results = reads.scan_all(setting.reader, operations, timestamp, setting.limits)
    pages = cast("tuple[ScanResult, ...]", results)
    spans = list(map(_seen, operations, pages))
    for start, end in spans:
        _check_span(setting, start, end, timestamp, limit)
    found: Keys = ()
    if _locks(request):
        found = tuple([key for page in pages for key in page.rows[::2]])
        _check_points(setting, found, timestamp, setting.clock_floor)
    for start, end in spans:
        setting.cache.add_span(start, end, timestamp, request.id)
    return results, found


def _locks(request: BatchRequest) -> bool:
    return request.txn is not None and request.txn.is_locking


def _seen(scan: Scan, result: ScanResult) -> tuple[bytes, bytes]:
    """Return the part of a scan's span that its page has decided."""
    if result.resume is None:
        return scan.start, scan.end
    return (result.resume, scan.end) if scan.reverse else (scan.start, result.resume)


def _check_points(setting: Setting, points: Keys, timestamp: Timestamp, limit: Timestamp) -> None:
    """Raise ReadUncertainError if a key has a version above what is read, up to `limit`.

    With locks that is everything: a lock is for a write at or above what was read.
    """
    if min(limit, setting.clock_floor) <= timestamp:
        return
    for key in points:
        _check(versions.change_of(setting.reader, key, timestamp, limit))


def _check_span(
    setting: Setting, start: bytes, end: bytes, timestamp: Timestamp, limit: Timestamp
) -> None:
    """As _check_points, of all keys of `[start, end)`."""
    if min(limit, setting.clock_floor) > timestamp:
        _check(versions.first_change(setting.reader, start, end, timestamp, limit))


def _check(found: versions.Change | None) -> None:
    if found is not None:
        raise errors.ReadUncertainError(key=keys.pretty(found.key), timestamp=found.timestamp)
