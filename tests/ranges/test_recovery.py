"""Deciding what was left STAGING (rule A9)."""

import asyncio

import pytest

from multiraft.ids import Timestamp
from multiraft.model.requests import Operation, Result
from multiraft.model.transaction import (
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    QueryIntent,
    QueryIntentResult,
    RecordResult,
    RecoverTransaction,
)
from multiraft.ranges import recovery

TXN = TransactionMeta(b"t" * 16, b"\x10a")
AT = Timestamp(50)
SINCE = Timestamp(30)
"""When the transaction was issued."""


def staging(*writes: tuple[bytes, int]) -> TransactionRecord:
    return TransactionRecord(
        TXN,
        TransactionStatus.STAGING,
        AT,
        Timestamp(40),
        SINCE,
        tuple(IntentRef(key, sequence) for key, sequence in writes),
    )


class Ranges:
    """Has some intents, and takes the decision."""

    def __init__(self, *laid: tuple[bytes, int]) -> None:
        self.laid = laid
        self.asked: list[tuple[Operation, ...]] = []

    async def ask(self, operations: tuple[Operation, ...]) -> tuple[Result, ...]:
        self.asked.append(operations)
        return tuple(map(self._answer, operations))

    def _answer(self, operation: Operation) -> Result:
        if isinstance(operation, QueryIntent):
            return QueryIntentResult((operation.key, operation.sequence) in self.laid)
        assert isinstance(operation, RecoverTransaction)
        status = TransactionStatus.ABORTED
        if operation.committed:
            status = TransactionStatus.COMMITTED
        return RecordResult(TransactionRecord(TXN, status, AT, AT, AT))


def recover(ranges: Ranges, record: TransactionRecord) -> TransactionRecord:
    decided = asyncio.run(recovery.recover(ranges.ask, record))
    assert decided is not None
    return decided


def test_transaction_whose_writes_all_lie_there_has_committed() -> None:
    ranges = Ranges((b"\x10a", 1), (b"\x10b", 2))
    decided = recover(ranges, staging((b"\x10a", 1), (b"\x10b", 2)))
    assert decided.status is TransactionStatus.COMMITTED
    assert ranges.asked == [
        (
            QueryIntent(b"\x10a", TXN.id, 1, AT, SINCE),
            QueryIntent(b"\x10b", TXN.id, 2, AT, SINCE),
        ),
        (RecoverTransaction(TXN.anchor, TXN.id, AT, True, SINCE),),
    ]


def test_transaction_without_one_of_its_writes_is_aborted() -> None:
    ranges = Ranges((b"\x10a", 1), (b"\x10b", 1))
    decided = recover(ranges, staging((b"\x10a", 1), (b"\x10b", 2)))
    assert decided.status is TransactionStatus.ABORTED
    assert ranges.asked[-1] == (RecoverTransaction(TXN.anchor, TXN.id, AT, False, SINCE),)


def test_many_writes_are_asked_for_in_pieces_until_one_is_missing() -> None:
    writes = [(b"\x10" + number.to_bytes(4, "big"), 1) for number in range(1_200)]
    missing = writes[700]
    ranges = Ranges(*(write for write in writes if write != missing))
    assert recover(ranges, staging(*writes)).status is TransactionStatus.ABORTED
    assert [len(operations) for operations in ranges.asked] == [500, 500, 1]


def test_only_what_is_staging_is_recovered() -> None:
    record = TransactionRecord(TXN, TransactionStatus.PENDING, AT, AT, AT)
    with pytest.raises(AssertionError, match="nothing else"):
        recover(Ranges(), record)
