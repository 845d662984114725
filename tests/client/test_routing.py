from multiraft.client.routing import anchor_of, cut_to, with_bounds
from multiraft.ids import NodeId, Timestamp
from multiraft.model import keys
from multiraft.model.requests import (
    AdminTransfer,
    BatchReply,
    Get,
    GetResult,
    Put,
    Scan,
    ScanResult,
)


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


def test_a_scan_that_was_cut_goes_on_where_it_was_cut_unless_its_page_was_full() -> None:
    cut, full, whole = ScanResult((), None), ScanResult((), b"f"), ScanResult((), None)
    reply = BatchReply((cut, full, whole), Timestamp(5), Timestamp(6))
    resumed = with_bounds(reply, (b"m", b"m", None))
    assert resumed == BatchReply((ScanResult((), b"m"), full, whole), Timestamp(5), Timestamp(6))
    got = BatchReply((GetResult(None, Timestamp(0)),))
    assert with_bounds(got, (b"m",)) == got
