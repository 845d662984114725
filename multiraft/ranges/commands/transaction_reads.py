"""Reads of a transaction: at its read timestamp, with what it may not miss, and with locks.

Rules
    S11   the timestamp cache remembers which transaction has read: it may write at that very time.
    S13   a version above the read timestamp, up to the uncertainty limit, may be older than the
          transaction in real time: the coordinator has to move its reads past it.
"""

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Get, Scan, ScanResult
from multiraft.mvcc import reads as versions
from multiraft.ranges.commands import reads
from multiraft.ranges.commands.setting import Outcome, Setting, refused


def chosen(setting: Setting, request: BatchRequest) -> tuple[Timestamp, Timestamp]:
    """Return at which timestamp a part reads, and up to where it is uncertain."""
    assert request.txn is not None, "the part of a transaction"
    if request.timestamp:
        return request.timestamp, max(request.timestamp, request.txn.uncertainty_limit)
    return setting.now, Timestamp(setting.now + setting.offset)


def read(setting: Setting, request: BatchRequest) -> Outcome:
    """Evaluate a part of gets, or of scans; no lock is in its way."""
    txn = request.txn
    assert txn is not None, "the part of a transaction"
    timestamp, limit = chosen(setting, request)
    if timestamp <= setting.gc_threshold:
        return refused(errors.ReadTooOldError(timestamp=timestamp, threshold=setting.gc_threshold))
    is_scan = isinstance(request.operations[0], Scan)
    if not is_scan:
        # A lock is for a write at or above what was read: nothing newer may be there.
        until = setting.clock_floor if txn.is_locking else limit
        uncertain = _newer_points(setting, request, timestamp, until)
        if uncertain is not None:
            return refused(uncertain)
    evaluate = reads.scan_all if is_scan else reads.get_all
    try:
        results = evaluate(setting.reader, request.operations, timestamp, setting.limits)
    except errors.RequestError as impossible:
        return refused(impossible)
    if is_scan:
        spans = [
            _seen(scan, result)
            for scan, result in zip(request.operations, results, strict=True)
            if isinstance(scan, Scan) and isinstance(result, ScanResult)
        ]
        for start, end in spans:
            uncertain = _newer_in(setting, start, end, timestamp, limit)
            if uncertain is not None:
                return refused(uncertain)
        for start, end in spans:
            setting.cache.add_span(start, end, timestamp, request.id)
    else:
        for operation in request.operations:
            assert isinstance(operation, Get), "gets, or scans"
            setting.cache.add_point(operation.key, timestamp, request.id)
    told = Timestamp(0) if request.timestamp else limit
    return Outcome(results, timestamp, uncertainty_limit=told)


def _seen(scan: Scan, result: ScanResult) -> tuple[bytes, bytes]:
    """Return the part of a scan's span that its page has decided."""
    if result.resume is None:
        return scan.start, scan.end
    return (result.resume, scan.end) if scan.reverse else (scan.start, result.resume)


def _newer_points(
    setting: Setting, request: BatchRequest, timestamp: Timestamp, limit: Timestamp
) -> errors.ReadUncertainError | None:
    if min(limit, setting.clock_floor) <= timestamp:
        return None
    for operation in request.operations:
        assert isinstance(operation, Get), "gets, or scans"
        found = versions.change_of(setting.reader, operation.key, timestamp, limit)
        if found is not None:
            return _uncertain(found)
    return None


def _newer_in(
    setting: Setting, start: bytes, end: bytes, timestamp: Timestamp, limit: Timestamp
) -> errors.ReadUncertainError | None:
    if min(limit, setting.clock_floor) <= timestamp:
        return None
    found = versions.first_change(setting.reader, start, end, timestamp, limit)
    return None if found is None else _uncertain(found)


def _uncertain(found: versions.Change) -> errors.ReadUncertainError:
    return errors.ReadUncertainError(key=keys.pretty(found.key), timestamp=found.timestamp)
