import pytest

from multiraft.client.calls import MUTATIONS, WRITES, anchor_of, cut_to, wrote
from multiraft.ids import NodeId, Timestamp
from multiraft.model import keys, requests
from multiraft.model.requests import (
    AdminTransfer,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    Operation,
    Put,
    PutResult,
    RangeStatus,
    Result,
    Scan,
)

K = b"\x10k"


@pytest.mark.parametrize(
    ("operations", "results", "expected"),
    [
        ((Put(K, b"v"),), (PutResult(),), True),
        ((Increment(K, 1),), (IncrementResult(1),), True),
        ((Delete(K),), (DeleteResult(True),), True),
        ((Delete(K),), (DeleteResult(False),), False),
        ((Get(K),), (GetResult(b"v", Timestamp(1)),), False),
        ((ConditionalPut(K, b"v", None),), (ConditionalPutResult(True),), True),
        ((ConditionalPut(K, b"v", None),), (ConditionalPutResult(False, b"x"),), False),
        # Removing what is absent succeeds and leaves no trace.
        ((ConditionalPut(K, None, None),), (ConditionalPutResult(True),), False),
        ((ConditionalPut(K, None, b"v"),), (ConditionalPutResult(True),), True),
        ((Delete(K), Put(K, b"v")), (DeleteResult(False), PutResult()), True),
        # One failed condition, and the whole part writes nothing, whatever else is in it.
        (
            (Put(K, b"v"), ConditionalPut(K, b"v", None)),
            (PutResult(), ConditionalPutResult(False, b"x")),
            False,
        ),
    ],
)
def test_what_counts_as_written(
    operations: tuple[Operation, ...], results: tuple[Result, ...], expected: bool
) -> None:
    assert wrote(operations, results) is expected


def test_everything_but_reads_and_status_leaves_its_outcome_open() -> None:
    assert set(requests.WRITES) == WRITES
    assert not MUTATIONS & {Get, Scan, RangeStatus}
    assert AdminTransfer in MUTATIONS


def test_operations_are_routed_by_the_key_where_they_begin() -> None:
    operations = (
        Get(b"a"),
        Scan(b"c", b"d"),
        Scan(b"c", b"d", reverse=True),
        AdminTransfer(NodeId(1)),
    )
    assert [anchor_of(operation) for operation in operations] == [
        (b"a", False),
        (b"c", False),
        (b"d", True),
        (keys.MIN, False),
    ]


def test_a_scan_is_cut_where_its_first_range_ends() -> None:
    scans = (Scan(b"c", b"x"), Scan(b"c", b"e"))
    cut, bounds = cut_to(scans, b"b", b"m")
    assert cut == (Scan(b"c", b"m"), Scan(b"c", b"e"))
    assert bounds == (b"m", None)


def test_a_reverse_scan_is_cut_where_its_first_range_starts() -> None:
    scans = (Scan(b"c", b"x", reverse=True), Scan(b"n", b"x", reverse=True))
    cut, bounds = cut_to(scans, b"m", b"z")
    assert cut == (Scan(b"m", b"x", reverse=True), Scan(b"n", b"x", reverse=True))
    assert bounds == (b"m", None)


def test_a_scan_that_begins_elsewhere_is_not_cut_so_that_it_is_refused() -> None:
    scans = (Scan(b"p", b"x"), Scan(b"a", b"b", reverse=True))
    assert cut_to(scans, b"d", b"m") == (scans, (None, None))


def test_other_operations_are_never_cut() -> None:
    operations = (Get(b"a"), Put(b"z", b""))
    assert cut_to(operations, b"m", b"n") == (operations, None)
