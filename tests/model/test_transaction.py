"""Golden bytes of locks and records, which are on disk, and the order of transactions."""

from multiraft.ids import Timestamp
from multiraft.model import transaction
from multiraft.model.transaction import (
    Intent,
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)

META = TransactionMeta(b"id", b"k", 2, Timestamp(3))
META_BYTES = "94 c4 02 69 64 c4 01 6b 02 03"


def test_the_bytes_of_an_intent() -> None:
    intent = Intent(META, Timestamp(4), 7, b"v", Timestamp(5))
    removal = Intent(META, Timestamp(4), 7, None)
    assert transaction.pack_intent(intent).hex(" ") == f"95 {META_BYTES} 04 07 c4 01 76 05"
    assert transaction.pack_intent(removal).hex(" ") == f"95 {META_BYTES} 04 07 c0 00"
    for each in (intent, removal):
        assert transaction.unpack_intent(transaction.pack_intent(each)) == each


def test_the_bytes_of_a_record() -> None:
    record = TransactionRecord(
        META,
        TransactionStatus.ABORTED,
        Timestamp(4),
        Timestamp(5),
        Timestamp(6),
        (IntentRef(b"k", 7),),
        "r",
    )
    packed = transaction.pack_record(record)
    assert packed.hex(" ") == f"97 {META_BYTES} 04 04 05 06 91 92 c4 01 6b 07 a1 72"
    assert transaction.unpack_record(packed) == record


def test_only_committed_and_aborted_are_final() -> None:
    final = {status for status in TransactionStatus if status.is_final}
    assert final == {TransactionStatus.COMMITTED, TransactionStatus.ABORTED}


def test_of_a_deadlock_the_youngest_of_the_least_priority_ends() -> None:
    old = TransactionMeta(b"a", began=Timestamp(1))
    young = TransactionMeta(b"b", began=Timestamp(2))
    urgent = TransactionMeta(b"c", priority=1, began=Timestamp(3))
    assert min(old, young, urgent, key=lambda meta: meta.precedence) == young
