"""Golden bytes: tags and the order of fields are the format, so they never change."""

from typing import get_args

import msgspec
import pytest

from multiraft.errors import ErrorDetail
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, requests
from multiraft.model.requests import (
    AdminChangeReplicas,
    AdminProtect,
    AdminResult,
    AdminSplit,
    AdminTransfer,
    BatchReply,
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    NodeProfile,
    NodeStatus,
    Operation,
    ProtectResult,
    Put,
    PutMeta,
    PutResult,
    RangeLocks,
    RangeStatus,
    ReplyFrame,
    RequestFrame,
    Result,
    Scan,
    ScanResult,
    StatusResult,
)
from multiraft.model.transaction import (
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    QueryIntent,
    QueryIntentResult,
    QueryTransaction,
    RecordResult,
    RecoverTransaction,
    Refresh,
    RefreshResult,
    ResolveIntent,
    TransactionContext,
    WaitsFor,
)

K, V = b"k", b"v"
META = TransactionMeta(b"id", K, 2, Timestamp(3))
OTHER = TransactionMeta(b"x")
RECORD = TransactionRecord(
    META, TransactionStatus.STAGING, Timestamp(4), Timestamp(5), Timestamp(6), (IntentRef(K, 7),)
)
EDGES = (WaitsFor(META, OTHER, Timestamp(6), Timestamp(5)),)
META_BYTES = "94 c4 02 69 64 c4 01 6b 02 03"
OTHER_BYTES = "94 c4 01 78 c4 00 00 00"
EDGE_BYTES = f"94 {META_BYTES} {OTHER_BYTES} 06 05"
WRITES_BYTES = "91 92 c4 01 6b 07"
OPERATIONS: list[tuple[Operation, str]] = [
    (Get(K), "92 01 c4 01 6b"),
    (Put(K, V), "93 02 c4 01 6b c4 01 76"),
    (Delete(K), "92 03 c4 01 6b"),
    (ConditionalPut(K, V, None), "94 04 c4 01 6b c4 01 76 c0"),
    (ConditionalPut(K, None, V), "94 04 c4 01 6b c0 c4 01 76"),
    (Increment(K, -2), "93 05 c4 01 6b fe"),
    (Scan(b"a", b"b", True, 3, 4), "96 06 c4 01 61 c4 01 62 c3 03 04"),
    (PutMeta(K, V, 5), "94 07 c4 01 6b c4 01 76 05"),
    (AdminSplit(K), "92 14 c4 01 6b"),
    (AdminTransfer(NodeId(2)), "92 15 02"),
    (AdminChangeReplicas((NodeId(1), NodeId(2)), 6), "93 16 92 01 02 06"),
    (RangeStatus(), "91 17"),
    (NodeStatus(), "91 18"),
    (RangeLocks(), "91 19"),
    (AdminProtect(b"id", Timestamp(5), 6, "me"), "95 1a c4 02 69 64 05 06 a2 6d 65"),
    (NodeProfile(5), "92 1b 05"),
    (
        EndTransaction(
            K,
            TransactionStatus.COMMITTED,
            Timestamp(4),
            (IntentRef(K, 7),),
            (V,),
            True,
            True,
            ((b"a", b"b"),),
            "r",
        ),
        f"9a 1e c4 01 6b 03 04 {WRITES_BYTES} 91 c4 01 76 c3 c3 91 92 c4 01 61 c4 01 62 a1 72",
    ),
    (HeartbeatTransaction(K), "92 1f c4 01 6b"),
    (
        PushTransaction(
            K,
            OTHER,
            Timestamp(4),
            Timestamp(5),
            PushKind.TIMESTAMP,
            META,
            Timestamp(6),
            True,
            "r",
            EDGES,
        ),
        f"9b 20 c4 01 6b {OTHER_BYTES} 04 05 02 {META_BYTES} 06 c3 a1 72 91 {EDGE_BYTES}",
    ),
    (QueryTransaction(K, b"id", Timestamp(5)), "94 21 c4 01 6b c4 02 69 64 05"),
    (
        RecoverTransaction(K, b"id", Timestamp(4), True, Timestamp(5)),
        "96 22 c4 01 6b c4 02 69 64 04 c3 05",
    ),
    (
        QueryIntent(K, b"id", 7, Timestamp(4), Timestamp(5)),
        "96 23 c4 01 6b c4 02 69 64 07 04 05",
    ),
    (
        ResolveIntent(K, b"id", TransactionStatus.ABORTED, Timestamp(4)),
        "95 24 c4 01 6b c4 02 69 64 04 04",
    ),
    (Refresh(K, V, Timestamp(4)), "94 25 c4 01 6b c4 01 76 04"),
]
RESULTS: list[tuple[Result, str]] = [
    (GetResult(V, Timestamp(7)), "93 01 c4 01 76 07"),
    (GetResult(None, Timestamp(0)), "93 01 c0 00"),
    (PutResult(), "91 02"),
    (DeleteResult(True), "92 03 c3"),
    (ConditionalPutResult(False, V), "93 04 c2 c4 01 76"),
    (IncrementResult(-1), "92 05 ff"),
    (ScanResult((K, V), K), "93 06 92 c4 01 6b c4 01 76 c4 01 6b"),
    (
        RecordResult(RECORD, True, EDGES),
        f"94 07 97 {META_BYTES} 02 04 05 06 {WRITES_BYTES} a0 c3 91 {EDGE_BYTES}",
    ),
    (RecordResult(None), "94 07 c0 c2 90"),
    (QueryIntentResult(True), "92 08 c3"),
    (RefreshResult(False, K), "94 09 c2 c4 01 6b c4 00"),
    (AdminResult((V,)), "92 14 91 c4 01 76"),
    (StatusResult(b"{}"), "92 17 c4 02 7b 7d"),
    (ProtectResult(Timestamp(5)), "92 15 05"),
]


@pytest.mark.parametrize(("operation", "packed"), OPERATIONS)
def test_the_bytes_of_an_operation(operation: Operation, packed: str) -> None:
    assert encoding.pack(operation).hex(" ") == packed
    assert msgspec.msgpack.decode(bytes.fromhex(packed), type=Operation) == operation


@pytest.mark.parametrize(("result", "packed"), RESULTS)
def test_the_bytes_of_a_result(result: Result, packed: str) -> None:
    assert encoding.pack(result).hex(" ") == packed
    assert msgspec.msgpack.decode(bytes.fromhex(packed), type=Result) == result


def test_every_operation_and_every_result_is_pinned() -> None:
    assert {type(operation) for operation, _ in OPERATIONS} == set(get_args(Operation))
    assert {type(result) for result, _ in RESULTS} == set(get_args(Result))


def test_the_bytes_of_a_request() -> None:
    request = BatchRequest(RangeId(2), (Get(K),), b"id", 3, Timestamp(4), Timestamp(5))
    frame = RequestFrame(((9, request),))
    expected = "91 91 92 09 98 02 91 92 01 c4 01 6b c4 02 69 64 03 04 05 c0 00"
    assert encoding.pack(frame).hex(" ") == expected
    assert encoding.unpack_request_frame(bytes.fromhex(expected)) == frame
    for older in (
        "91 91 92 09 97 02 91 92 01 c4 01 6b c4 02 69 64 03 04 05 c0",
        "91 91 92 09 96 02 91 92 01 c4 01 6b c4 02 69 64 03 04 05",
    ):
        assert encoding.unpack_request_frame(bytes.fromhex(older)) == frame


def test_call_ids_are_read_without_their_requests() -> None:
    one, other = BatchRequest(RangeId(2), (Get(K),)), BatchRequest(RangeId(3), (Put(K, V),), b"id")
    assert encoding.unpack_call_ids(encoding.pack(RequestFrame(((9, one), (4, other))))) == [9, 4]
    assert encoding.unpack_call_ids(encoding.pack(RequestFrame(()))) == []
    for nonsense in (b"", b"\xc1", encoding.pack(RequestFrame(((9, one),)))[:-1], b"\x91\x91\x09"):
        with pytest.raises(encoding.UNREADABLE):
            encoding.unpack_call_ids(nonsense)


def test_the_bytes_of_a_request_of_a_transaction() -> None:
    context = TransactionContext(META, 7, Timestamp(8), True)
    request = BatchRequest(RangeId(2), (Get(K),), b"id", txn=context)
    frame = RequestFrame(((9, request),))
    head = "91 91 92 09 98 02 91 92 01 c4 01 6b c4 02 69 64 01 00 00"
    expected = f"{head} 95 {META_BYTES} 07 08 c3 90 00"
    assert encoding.pack(frame).hex(" ") == expected
    assert encoding.unpack_request_frame(bytes.fromhex(expected)) == frame
    older = bytes.fromhex(f"{head} 94 {META_BYTES} 07 08 c3 00")
    assert encoding.unpack_request_frame(older) == frame
    context = TransactionContext(META, 7, Timestamp(8), True, ((NodeId(3), Timestamp(9)),))
    frame = RequestFrame(((9, BatchRequest(RangeId(2), (Get(K),), b"id", txn=context)),))
    expected = f"{head} 95 {META_BYTES} 07 08 c3 91 92 03 09 00"
    assert encoding.pack(frame).hex(" ") == expected
    assert encoding.unpack_request_frame(bytes.fromhex(expected)) == frame


def test_the_bytes_of_a_reply() -> None:
    good = BatchReply((PutResult(),), Timestamp(4), Timestamp(5))
    bad = BatchReply((), clock=Timestamp(6), error=ErrorDetail("code", "m", {"a": 1}))
    frame = ReplyFrame(((9, good), (8, bad)))
    expected = (
        "91 92 92 09 95 91 91 02 04 05 c0 00 "
        "92 08 95 90 00 06 93 a4 63 6f 64 65 a1 6d 81 a1 61 01 00"
    )
    assert encoding.pack(frame).hex(" ") == expected
    assert encoding.unpack_reply_frame(bytes.fromhex(expected)) == frame


def test_every_operation_is_a_read_a_write_administrative_or_of_transactions() -> None:
    families = ((Get, Scan), requests.WRITES, requests.ADMIN, requests.TRANSACTIONAL)
    kinds = [kind for family in families for kind in family]
    assert set(kinds) == set(get_args(Operation))
    assert len(kinds) == len(set(kinds)), "and only one of them"
    assert set(requests.OF_NODES) < set(requests.STATUSES) < set(requests.ADMIN)


def test_a_tag_that_is_not_known_is_refused() -> None:
    packed = bytes.fromhex("91 91 92 09 96 02 91 91 63 c4 02 69 64 03 04 05")
    with pytest.raises(msgspec.ValidationError):
        encoding.unpack_request_frame(packed)
