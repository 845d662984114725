"""Evaluation of parts that only read."""

import pytest

from multiraft import errors
from multiraft.config import LimitsConfig
from multiraft.ids import Timestamp
from multiraft.model.requests import Delete, Get, GetResult, Increment, Put, Scan, ScanResult
from multiraft.ranges.commands import reads
from tests.support.parts import Table, part

LIMITS = LimitsConfig(scan_keys_max=3, scan_bytes_max=100, batch_bytes_max=300)
ABSENT = GetResult(None, Timestamp(0))


def filled() -> Table:
    """Return a table with k0 to k9 at 10 to 100; at 110 k3 is removed, at 120 k4 is replaced."""
    table = Table()
    for number in range(10):
        table.apply(part(Put(b"k%d" % number, b"v%d" % number), number=number + 1))
    table.apply(part(Delete(b"k3"), number=20))
    table.apply(part(Put(b"k4", b"new"), number=21))
    return table


def test_a_get_finds_what_the_key_held_at_the_time() -> None:
    table = filled()

    def get(key: bytes, at: int) -> GetResult:
        return reads.get(table.reader, Get(key), Timestamp(at))

    assert get(b"k4", 49) == ABSENT
    assert get(b"k4", 50) == GetResult(b"v4", Timestamp(50))
    assert get(b"k4", 119) == GetResult(b"v4", Timestamp(50))
    assert get(b"k4", 120) == GetResult(b"new", Timestamp(120))
    assert get(b"k3", 109) == GetResult(b"v3", Timestamp(40))
    assert get(b"k3", 110) == ABSENT
    assert get(b"k", 999) == ABSENT


def test_an_outcome_is_not_read() -> None:
    table = filled()
    table.apply(part(Delete(b"k3"), number=30, attempt=2))
    with pytest.raises(errors.NotAnIntegerError):
        table.send(part(Increment(b"k4", 1), number=31, attempt=2))
    assert reads.get(table.reader, Get(b"k3"), Timestamp(999)) == ABSENT
    assert reads.get(table.reader, Get(b"k4"), Timestamp(999)).value == b"new"


def test_a_scan_stops_at_the_limits_of_server_and_request() -> None:
    table = filled()

    def scan(operation: Scan) -> ScanResult:
        return reads.scan(table.reader, operation, Timestamp(999), LIMITS)

    assert scan(Scan(b"k0", b"k2")).resume is None
    page = scan(Scan(b"k0", b"kz"))
    assert page.rows == (b"k0", b"v0", b"k1", b"v1", b"k2", b"v2")
    assert page.resume == b"k2\x00"
    assert scan(Scan(page.resume, b"kz")).rows[0::2] == (b"k4", b"k5", b"k6")
    assert scan(Scan(b"k0", b"kz", limit_keys=2)).rows[0::2] == (b"k0", b"k1")
    assert len(scan(Scan(b"k0", b"kz", limit_keys=1_000)).rows) == 6
    assert scan(Scan(b"k0", b"kz", limit_bytes=5)).rows[0::2] == (b"k0", b"k1")
    assert scan(Scan(b"k0", b"kz", limit_bytes=1)).rows[0::2] == (b"k0",)
    assert scan(Scan(b"k0", b"kz", reverse=True)).rows[0::2] == (b"k9", b"k8", b"k7")
    assert scan(Scan(b"k0", b"k0")) == ScanResult((), None)


def test_all_operations_are_read_at_one_time() -> None:
    table = filled()
    gets = reads.get_all(table.reader, (Get(b"k3"), Get(b"k4")), Timestamp(105), LIMITS)
    assert gets == (GetResult(b"v3", Timestamp(40)), GetResult(b"v4", Timestamp(50)))
    scans = (Scan(b"k3", b"k5"), Scan(b"k8", b"kz", reverse=True))
    first, second = reads.scan_all(table.reader, scans, Timestamp(105), LIMITS)
    assert first == ScanResult((b"k3", b"v3", b"k4", b"v4"), None)
    assert second == ScanResult((b"k9", b"v9", b"k8", b"v8"), None)


def test_a_part_that_reads_more_than_a_reply_holds_is_refused() -> None:
    table = Table(a=bytes(80), b=bytes(80))
    now = Timestamp(999)
    fits = (Get(b"a"), Get(b"b"), Get(b"a"))
    assert len(reads.get_all(table.reader, fits, now, LIMITS)) == 3
    with pytest.raises(errors.BatchTooLargeError):
        reads.get_all(table.reader, (*fits, Get(b"b")), now, LIMITS)
    scan = Scan(b"a", b"z")
    assert len(reads.scan_all(table.reader, (scan,), now, LIMITS)) == 1
    with pytest.raises(errors.BatchTooLargeError):
        reads.scan_all(table.reader, (scan, scan), now, LIMITS)
