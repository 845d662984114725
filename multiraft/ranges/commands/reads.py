"""Reads: gets, or scans, at one timestamp.

A reply holds a bounded number of bytes, so a part that would read more is refused.
"""

from typing import cast

from multiraft.config import LimitsConfig
from multiraft.ids import Timestamp
from multiraft.model.requests import Get, GetResult, Operation, Result, Scan, ScanResult
from multiraft.mvcc import reads
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import VALUE
from multiraft.ranges.commands import validation

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
        limit_passed=limits.scan_passed_max,
    )
    return ScanResult(page.rows, page.resume)


def get_all(
    reader: Reader, operations: tuple[Operation, ...], timestamp: Timestamp, limits: LimitsConfig
) -> tuple[Result, ...]:
    """Return what each get finds. Raises BatchTooLargeError."""
    results: list[Result] = []
    size = 0
    for operation in cast("tuple[Get, ...]", operations):
        result = get(reader, operation, timestamp)
        results.append(result)
        if result.value is not None:
            size += len(result.value)
            validation.check_results(size, limits.batch_bytes_max)
    return tuple(results)


def scan_all(
    reader: Reader, operations: tuple[Operation, ...], timestamp: Timestamp, limits: LimitsConfig
) -> tuple[Result, ...]:
    """Return a page for each scan. Raises BatchTooLargeError."""
    results: list[Result] = []
    size = 0
    for operation in cast("tuple[Scan, ...]", operations):
        result = scan(reader, operation, timestamp, limits)
        results.append(result)
        if len(operations) > 1:  # A single page is bounded as it is.
            size += sum(map(len, result.rows))
            validation.check_results(size, limits.batch_bytes_max)
    return tuple(results)
