"""Reads: get and scan, at one timestamp."""

from multiraft.config import LimitsConfig
from multiraft.ids import Timestamp
from multiraft.model.requests import Get, GetResult, Scan, ScanResult
from multiraft.mvcc import reads
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import VALUE

ABSENT = GetResult(None, Timestamp(0))


def get(reader: Reader, operation: Get, timestamp: Timestamp) -> GetResult:
    """Return what the key held at `timestamp`."""
    version = reads.get(reader, operation.key, timestamp)
    if version is None or version.kind != VALUE:
        return ABSENT
    return GetResult(version.value, version.timestamp)


def scan(reader: Reader, operation: Scan, timestamp: Timestamp, limits: LimitsConfig) -> ScanResult:
    """Return one page of the span as it was at `timestamp`; never more than the server's limits."""
    limit_keys = operation.limit_keys or limits.scan_keys_max
    limit_bytes = operation.limit_bytes or limits.scan_bytes_max
    page = reads.scan(
        reader,
        operation.start,
        operation.end,
        timestamp,
        reverse=operation.reverse,
        limit_keys=min(limit_keys, limits.scan_keys_max),
        limit_bytes=min(limit_bytes, limits.scan_bytes_max),
    )
    return ScanResult(page.rows, page.resume)
