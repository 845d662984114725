"""What is named as left behind in a span, on both engines and in slices of any size."""

import pytest

from multiraft.ids import Timestamp
from multiraft.model.transaction import (
    Intent,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.leftovers import LeftoverScan, OldIntent, OldRecord
from multiraft.mvcc.reader import EngineReader
from multiraft.storage import layout
from multiraft.storage.engine import Engine
from tests.mvcc.test_intents import carry_out

ID = bytes(range(16))
RECENT = Timestamp(90)
"""When each of them was last heard of, or lies: what counts is something else."""


def record(anchor: bytes, issued_at: int) -> TransactionRecord:
    txn = TransactionMeta(ID, anchor)
    return TransactionRecord(txn, TransactionStatus.PENDING, RECENT, RECENT, Timestamp(issued_at))


def intent(laid_at: int) -> Intent:
    return Intent(TransactionMeta(ID, b"b"), RECENT, 1, b"v", Timestamp(laid_at))


def store(engine: Engine, records: dict[bytes, int], intents: dict[bytes, int]) -> None:
    """Leave records that were issued, and intents that were laid, at those times."""
    changes = ChangeSet(EngineReader(engine))
    for anchor, issued_at in records.items():
        changes.record(record(anchor, issued_at))
    for key, laid_at in intents.items():
        changes.lay(key, intent(laid_at), None)
    carry_out(engine, changes.effects())


def found(scan: LeftoverScan, slice_: int) -> tuple[list[OldRecord], list[OldIntent]]:
    records, intents = [], []
    is_done = False
    while not is_done:
        is_done = scan.advance(slice_)
        some_records, some_intents = scan.take()
        records += some_records
        intents += some_intents
    return records, intents


def old_record(anchor: bytes, issued_at: int) -> OldRecord:
    return layout.record_key(anchor, ID), record(anchor, issued_at)


@pytest.mark.parametrize("slice_", [1, 2, 4, 5, 100])
def test_what_is_at_or_below_the_threshold_is_old_and_the_next_is_told(
    engine: Engine, slice_: int
) -> None:
    store(engine, {b"b": 4, b"c": 8}, {b"b\x00": 6, b"d": 5})
    for threshold, records, intents, next_at in (
        (3, [], [], 4),
        (4, [old_record(b"b", 4)], [], 5),
        (5, [old_record(b"b", 4)], [(b"d", intent(5))], 6),
        (7, [old_record(b"b", 4)], [(b"b\x00", intent(6)), (b"d", intent(5))], 8),
    ):
        scan = LeftoverScan(EngineReader(engine), b"a", b"z", Timestamp(threshold))
        assert found(scan, slice_) == (records, intents)
        assert scan.next_at() == next_at
    scan = LeftoverScan(EngineReader(engine), b"a", b"z", Timestamp(8))
    assert [len(each) for each in found(scan, slice_)] == [2, 2]
    assert scan.next_at() is None


def test_only_the_span_is_looked_at(engine: Engine) -> None:
    store(engine, {b"a": 1, b"b": 1, b"c": 2}, {b"a\xff": 1, b"b": 1, b"c": 2})
    scan = LeftoverScan(EngineReader(engine), b"b", b"c", Timestamp(1))
    assert found(scan, 100) == ([old_record(b"b", 1)], [(b"b", intent(1))])
    assert scan.next_at() is None
