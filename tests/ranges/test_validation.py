"""Every bad input that reaches a store: a documented error, and nothing has changed."""

from collections.abc import Iterator
from typing import get_args

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import LimitsConfig
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import (
    PROFILE_MS_MAX,
    AdminChangeReplicas,
    AdminProtect,
    AdminSplit,
    AdminTransfer,
    BatchReply,
    BatchRequest,
    ConditionalPut,
    Delete,
    Get,
    Increment,
    NodeProfile,
    Operation,
    Put,
    PutMeta,
    RangeLocks,
    RangeStatus,
    Scan,
)
from multiraft.model.transaction import IntentRef, TransactionMeta, TransactionStatus
from multiraft.model.transaction_requests import (
    OBSERVED_MAX,
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    QueryIntent,
    QueryTransaction,
    RecoverTransaction,
    Refresh,
    ResolveIntent,
    TransactionContext,
    WaitsFor,
)
from multiraft.ranges.commands import validation
from multiraft.ranges.commands.validation import OWNER_MAX, PROTECTION_MS_MAX
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

LIMITS = LimitsConfig(
    key_bytes_max=16,
    value_bytes_max=64,
    batch_operations_max=4,
    batch_bytes_max=150,
    transaction_keys_max=20_000,
)
ID = bytes(range(16))
K = keys.PLAIN + b"k"
MAX_KEY = keys.PLAIN + b"k" * LIMITS.key_bytes_max
MAX_VALUE = b"v" * LIMITS.value_bytes_max
BIG = 1 << 63
HUGE = (1 << 64) - 1

DESCRIPTOR = initial_descriptor(RangeId(5), K, keys.END, (NodeId(1),))
RECORD = encoding.pack(DESCRIPTOR)
RECORD_KEY = keys.meta_key(K)


def request(
    *operations: Operation,
    id: bytes = ID,
    attempt: int = 1,
    issued_at: int = 0,
    timestamp: int = 0,
) -> BatchRequest:
    return BatchRequest(
        RangeId(2), operations, id, attempt, Timestamp(issued_at), Timestamp(timestamp)
    )


def with_each_write(key: bytes) -> list[Operation]:
    return [
        Put(key, b"v"),
        Delete(key),
        ConditionalPut(key, b"v", None),
        Increment(key, 1),
    ]


def bad_requests() -> Iterator[tuple[str, BatchRequest, type[errors.RequestError]]]:
    """Yield a name, the request, and its error."""
    bad = errors.RequestError
    yield "no operations", request(), bad
    # Keys.
    for name, key in (
        ("the empty key", b""),
        ("the end of all keys", keys.END),
        ("a key above the end", keys.END + b"x"),
    ):
        for operation in (Get(key), *with_each_write(key)):
            yield f"{type(operation).__name__} of {name}", request(operation), bad
        yield f"split at {name}", request(AdminSplit(key)), bad
    for operation in (Get(MAX_KEY + b"k"), *with_each_write(MAX_KEY + b"k")):
        name = f"{type(operation).__name__} of a key one byte too long"
        yield name, request(operation), errors.KeyTooLargeError
    huge_key = keys.PLAIN + bytes(1 << 20)
    yield "a key of a megabyte", request(Get(huge_key)), errors.KeyTooLargeError
    yield "split at too long a key", request(AdminSplit(huge_key)), errors.KeyTooLargeError
    # Values.
    too_long = MAX_VALUE + b"v"
    yield "Put one byte too many", request(Put(K, too_long)), errors.ValueTooLargeError
    cput = ConditionalPut(K, too_long, None)
    yield "ConditionalPut one byte too many", request(cput), errors.ValueTooLargeError
    yield "a bad one behind good ones", request(Get(K), Put(K, b""), Put(b"", b"")), bad
    # Protections.
    for name, protect in (
        ("a short ID", AdminProtect(b"id", Timestamp(1), 1)),
        ("a negative duration", AdminProtect(ID, Timestamp(1), -1)),
        ("a duration over the limit", AdminProtect(ID, Timestamp(1), PROTECTION_MS_MAX + 1)),
        ("a time of 65 bits", AdminProtect(ID, Timestamp(HUGE + 1), 1)),
        ("a long owner", AdminProtect(ID, Timestamp(1), 1, "x" * (OWNER_MAX + 1))),
    ):
        yield f"a protection with {name}", request(protect), bad
    unheard_of = AdminChangeReplicas((NodeId(1), NodeId(-1)), 1)
    yield "voters on a node below 0", request(unheard_of), bad
    for duration_ms in (0, PROFILE_MS_MAX + 1):
        yield f"a profile of {duration_ms} ms", request(NodeProfile(duration_ms)), bad
    negative = msgspec.structs.replace(request(RangeStatus()), range_id=RangeId(-1))
    yield "a range with a negative ID", negative, bad
    # Size of the batch.
    five = [Get(K)] * 5
    yield "five gets", request(*five), errors.BatchTooLargeError
    yield "five puts", request(*[Put(K, b"")] * 5), errors.BatchTooLargeError
    yield "five scans", request(*[Scan(K, K)] * 5), errors.BatchTooLargeError
    yield "bytes of values", request(*[Put(K, MAX_VALUE)] * 3), errors.BatchTooLargeError
    keys_only = request(*[Scan(MAX_KEY * 2, MAX_KEY * 3)] * 2)
    yield "bytes of keys", keys_only, errors.BatchTooLargeError
    expected = request(ConditionalPut(K, b"", MAX_VALUE * 3))
    yield "bytes of an expected value", expected, errors.BatchTooLargeError
    # Scans.
    for name, low, high in (
        ("by one byte", K + b"\x00", K),
        ("over everything", keys.END, keys.MIN),
        ("between keyspaces", keys.PLAIN, keys.META),
    ):
        for reverse in (False, True):
            scan = Scan(low, high, reverse=reverse)
            yield f"scan the wrong way round {name}", request(scan), errors.InvalidSpanError
    yield "scan of -1 keys", request(Scan(K, keys.END, limit_keys=-1)), bad
    yield "scan of -1 bytes", request(Scan(K, keys.END, limit_bytes=-1)), bad
    yield "scan of -2^63 keys", request(Scan(K, keys.END, limit_keys=-BIG)), bad
    yield "scan and get", request(Scan(K, keys.END), Get(K)), bad
    yield "get and scan", request(Get(K), Scan(K, keys.END)), bad
    yield "scan and put", request(Scan(K, keys.END), Put(K, b"")), bad
    # Administrative requests.
    for admin in (
        AdminSplit(K),
        AdminTransfer(NodeId(1)),
        AdminChangeReplicas((NodeId(1),), 1),
        RangeStatus(),
    ):
        name = type(admin).__name__
        yield f"{name} and get", request(admin, Get(K)), bad
        yield f"put and {name}", request(Put(K, b""), admin), bad
        yield f"{name} twice", request(admin, admin), bad
        yield f"{name} and scan", request(admin, Scan(K, K)), bad
    # What comes with the operations.
    for name, id_ in (("no ID", b""), ("a short ID", bytes(15)), ("a long ID", bytes(17))):
        for operation in with_each_write(K):
            yield f"{type(operation).__name__} with {name}", request(operation, id=id_), bad
        yield f"a mixed batch with {name}", request(Get(K), Delete(K), id=id_), bad
    for attempt in (0, -1, -BIG):
        yield f"attempt {attempt}", request(Put(K, b""), attempt=attempt), bad
    for timestamp in (1, BIG, HUGE, -1):
        yield f"write at {timestamp}", request(Put(K, b""), timestamp=timestamp), bad
    for timestamp in (-1, -BIG, HUGE + 1):
        yield f"get at {timestamp}", request(Get(K), timestamp=timestamp), bad
        yield f"scan at {timestamp}", request(Scan(K, keys.END), timestamp=timestamp), bad
    for issued_at in (-1, -BIG, HUGE + 1):
        yield f"issued at {issued_at}", request(Increment(K, 1), issued_at=issued_at), bad
    # Addressing records.
    for operation in with_each_write(RECORD_KEY):
        yield f"{type(operation).__name__} of an addressing record", request(operation), bad
    for name, record in (
        ("nothing", b""),
        ("text", b"record"),
        ("half of one", RECORD[: len(RECORD) // 2]),
        ("another struct", encoding.pack(Get(K))),
        ("more than one", RECORD + RECORD),
        ("too many levels", bytes([RECORD[0] + 1]) + RECORD[1:] + b"\x91" * 100_000 + b"\xc0"),
    ):
        yield f"record of {name}", request(PutMeta(RECORD_KEY, record, 1)), bad
    yield "record of another generation", request(PutMeta(RECORD_KEY, RECORD, 2)), bad
    yield "record at another key", request(PutMeta(keys.meta_key(b"x"), RECORD, 1)), bad
    yield "record among the users' keys", request(PutMeta(K, RECORD, 1)), bad
    crowd = initial_descriptor(RangeId(5), K, keys.END, tuple(map(NodeId, range(1, 2_000))))
    of_many = PutMeta(RECORD_KEY, encoding.pack(crowd), 1)
    yield "record of too many replicas", request(of_many), errors.ValueTooLargeError


META = TransactionMeta(ID, K)
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED
STAGING, PENDING = TransactionStatus.STAGING, TransactionStatus.PENDING
END = EndTransaction(K, COMMITTED, Timestamp(5))
ONE_PHASE = EndTransaction(K, COMMITTED, one_phase=True)
PUSH = PushTransaction(K, META, Timestamp(1), Timestamp(1), PushKind.ABORT)


def of_transaction(
    *operations: Operation,
    meta: TransactionMeta = META,
    sequence: int = 1,
    is_locking: bool = False,
    timestamp: int = 0,
    id: bytes = ID,
    observed: int = 0,
) -> BatchRequest:
    clocks = tuple((NodeId(n), Timestamp(n)) for n in range(observed))
    context = TransactionContext(meta, sequence, is_locking=is_locking, observed=clocks)
    return BatchRequest(RangeId(2), operations, id, timestamp=Timestamp(timestamp), txn=context)


def bad_parts_of_transactions() -> Iterator[tuple[str, BatchRequest, type[errors.RequestError]]]:
    """As bad_requests, of what only transactions ask."""
    bad = errors.RequestError
    operation: Operation
    stranger = TransactionMeta(b"short", K)
    yield "a short ID", of_transaction(Get(K), meta=stranger, id=b"short"), bad
    yield "another ID", of_transaction(Get(K), id=bytes(16)), bad
    yield "too many clocks", of_transaction(Get(K), observed=OBSERVED_MAX + 1), bad
    for operation in (
        ConditionalPut(K, b"v", None),
        Increment(K, 1),
        PutMeta(RECORD_KEY, RECORD, 1),
        AdminSplit(K),
        PUSH,
        QueryIntent(K, ID, 1, Timestamp(1)),
        Put(RECORD_KEY, b"v"),
        Get(RECORD_KEY),
        Scan(keys.MIN, keys.END),
    ):
        yield f"{type(operation).__name__} in it", of_transaction(operation), bad
    yield "reads and writes", of_transaction(Get(K), Put(K, b"")), bad
    yield "a write without an anchor", of_transaction(Put(K, b""), meta=TransactionMeta(ID)), bad
    yield (
        "a lock without an anchor",
        (of_transaction(Get(K), meta=TransactionMeta(ID), is_locking=True)),
        bad,
    )
    yield (
        "a scan that locks without an anchor",
        (of_transaction(Scan(K, keys.END), meta=TransactionMeta(ID), is_locking=True)),
        bad,
    )
    yield "an anchor in meta", of_transaction(Get(K), meta=TransactionMeta(ID, RECORD_KEY)), bad
    yield (
        "an endless anchor",
        (of_transaction(Put(K, b""), meta=TransactionMeta(ID, MAX_KEY + bytes(9999)))),
        errors.KeyTooLargeError,
    )
    yield "one key twice", of_transaction(Put(K, b""), Delete(K)), bad
    yield "sequence 0", of_transaction(Put(K, b""), sequence=0), bad
    yield (
        "sequence 0 when staging",
        (of_transaction(Put(K, b""), EndTransaction(K, STAGING, Timestamp(1)), sequence=0)),
        bad,
    )
    yield "an end before a write", of_transaction(END, Put(K, b"")), bad
    yield "two ends", of_transaction(END, END), bad
    yield "a write and COMMITTED", of_transaction(Put(K, b""), END), bad
    yield "a write and ABORTED", of_transaction(Put(K, b""), EndTransaction(K, ABORTED)), bad
    yield "a pending end", of_transaction(EndTransaction(K, PENDING, Timestamp(1))), bad
    yield "staging at 0", of_transaction(EndTransaction(K, STAGING)), bad
    yield (
        "staging in one phase",
        (of_transaction(Put(K, b""), EndTransaction(K, STAGING, Timestamp(1), one_phase=True))),
        bad,
    )
    yield "one phase without a write", of_transaction(ONE_PHASE), bad
    elsewhere = TransactionMeta(ID, MAX_KEY)
    for operation in (END, HeartbeatTransaction(K)):
        name = type(operation).__name__
        yield f"{name} not at the anchor", of_transaction(operation, meta=elsewhere), bad
        yield f"{name} of no transaction", request(operation), bad
        yield f"{name} of no transaction, and a put", request(operation, Put(K, b"")), bad
        yield f"{name} of no transaction, and a get", request(operation, Get(K)), bad
    yield "an end between puts", request(Put(K, b""), END, Put(K, b"")), bad
    yield "Refresh of no transaction", request(Refresh(K, b"", Timestamp(1)), timestamp=2), bad
    yield "a refresh backward", of_transaction(Refresh(K, b"", Timestamp(9)), timestamp=8), bad
    yield (
        "a refresh and a get",
        (of_transaction(Refresh(K, b"", Timestamp(1)), Get(K), timestamp=2)),
        bad,
    )
    yield (
        "a refresh the wrong way round",
        (of_transaction(Refresh(K + b"b", K, Timestamp(1)), timestamp=2)),
        errors.InvalidSpanError,
    )
    yield (
        "read spans the wrong way round",
        (of_transaction(EndTransaction(K, ABORTED, read_spans=((K + b"b", K),)))),
        errors.InvalidSpanError,
    )
    many = (IntentRef(b"", 1),) * (LIMITS.transaction_keys_max + 1)
    yield (
        "too many writes",
        (of_transaction(EndTransaction(K, STAGING, Timestamp(1), many))),
        errors.TransactionTooLargeError,
    )
    yield (
        "a write in meta",
        (of_transaction(EndTransaction(K, STAGING, Timestamp(1), (IntentRef(RECORD_KEY, 1),)))),
        bad,
    )
    yield "a time below 0", of_transaction(EndTransaction(K, COMMITTED, Timestamp(-1))), bad
    # From outside.
    for operation in (PUSH, QueryTransaction(K, ID), RecoverTransaction(K, ID, Timestamp(1), True)):
        name = type(operation).__name__
        yield f"{name} and get", request(operation, Get(K)), bad
        yield f"{name} twice", request(operation, operation), bad
    resolve = ResolveIntent(K, ID, COMMITTED, Timestamp(1))
    yield "QueryIntent and get", request(Get(K), QueryIntent(K, ID, 1, Timestamp(1))), bad
    yield "ResolveIntent and put", request(Put(K, b""), resolve), bad
    for name, id_ in (("no ID", b""), ("a short ID", bytes(15)), ("a long ID", bytes(17))):
        for operation in (
            QueryTransaction(K, id_),
            RecoverTransaction(K, id_, Timestamp(1), True),
            QueryIntent(K, id_, 1, Timestamp(1)),
            msgspec.structs.replace(resolve, id=id_),
            msgspec.structs.replace(PUSH, txn=TransactionMeta(id_, K)),
            msgspec.structs.replace(PUSH, pusher=TransactionMeta(id_, K)),
        ):
            yield f"{type(operation).__name__} with {name}", request(operation), bad
    for resolution in (
        ResolveIntent(K, ID, PENDING),
        ResolveIntent(K, ID, STAGING, Timestamp(1)),
        ResolveIntent(K, ID, COMMITTED),
        ResolveIntent(K, ID, ABORTED, Timestamp(1)),
    ):
        yield f"resolved as {resolution.status.name}", request(resolution), bad
    before = Timestamp(-1)
    ancient = TransactionMeta(ID, K, began=before)
    for operation in (
        QueryTransaction(K, ID, before),
        RecoverTransaction(K, ID, Timestamp(1), True, before),
        QueryIntent(K, ID, 1, Timestamp(1), before),
        msgspec.structs.replace(PUSH, txn=ancient),
    ):
        yield f"{type(operation).__name__} since a time below 0", request(operation), bad
    yield "a transaction that began below 0", of_transaction(Put(K, b""), meta=ancient), bad
    yield "push at another key", request(msgspec.structs.replace(PUSH, key=MAX_KEY)), bad
    edges = (WaitsFor(META, META),) * (validation.EDGES_MAX + 1)
    yield (
        "too many edges",
        (request(msgspec.structs.replace(PUSH, edges=edges))),
        errors.BatchTooLargeError,
    )


BAD = [*bad_requests(), *bad_parts_of_transactions()]


def test_every_operation_is_checked() -> None:
    assert set(validation._CHECKS) == set(get_args(Operation))


def test_at_least_eighty_bad_requests_are_listed() -> None:
    assert len(BAD) >= 80


@pytest.mark.parametrize(
    ("bad", "error"), [pytest.param(r, e, id=f"{n}, {i}") for i, (n, r, e) in enumerate(BAD)]
)
def test_a_bad_request_is_refused(bad: BatchRequest, error: type[errors.RequestError]) -> None:
    with pytest.raises(error) as raised:
        validation.check(bad, LIMITS)
    assert type(raised.value) is error
    assert raised.value.message
    detail = errors.to_wire(raised.value)
    assert type(errors.from_wire(detail)) is error, "the client gets the same error"
    assert len(encoding.pack(detail)) < 1_000, "whatever the size of the request"


@pytest.mark.parametrize(
    "good",
    [
        request(Get(keys.PLAIN)),
        request(Get(b"\x00")),
        request(Get(b"\xfe" * 8)),
        request(Put(keys.PLAIN + bytes(16), b"")),
        request(Put(MAX_KEY, MAX_VALUE)),
        request(ConditionalPut(MAX_KEY, None, MAX_VALUE)),
        request(Increment(K, BIG - 1), attempt=HUGE, issued_at=HUGE),
        request(Increment(K, -BIG)),
        request(Increment(K, HUGE)),
        request(*[Put(K, b"")] * 4),
        request(Scan(keys.MIN, keys.END, limit_keys=HUGE, limit_bytes=HUGE)),
        request(Scan(K, K)),
        request(Get(K), id=b"", attempt=0, timestamp=HUGE),
        request(PutMeta(RECORD_KEY, RECORD, 1)),
        request(Get(RECORD_KEY)),
        request(AdminSplit(MAX_KEY)),
        request(AdminTransfer(NodeId(-1))),
        request(AdminChangeReplicas((NodeId(0), NodeId(HUGE)), 1), id=b""),
        request(RangeStatus(), id=b""),
        request(RangeLocks(), id=b""),
        request(AdminProtect(ID, Timestamp(HUGE), PROTECTION_MS_MAX, "x" * OWNER_MAX), id=b""),
        request(AdminProtect(ID, Timestamp(0), 0), id=b""),
        request(NodeProfile(1), id=b""),
        request(NodeProfile(PROFILE_MS_MAX), id=b""),
        of_transaction(Get(K), meta=TransactionMeta(ID)),
        of_transaction(Get(K), is_locking=True, timestamp=HUGE),
        of_transaction(Scan(keys.SYSTEM, keys.END)),
        of_transaction(Scan(K, keys.END), is_locking=True),
        of_transaction(Put(K, b""), Delete(MAX_KEY), timestamp=HUGE),
        of_transaction(Put(K, b""), EndTransaction(K, STAGING, Timestamp(1), (IntentRef(K, 1),))),
        of_transaction(Put(K, b""), ONE_PHASE, sequence=0),
        of_transaction(END),
        of_transaction(EndTransaction(K, ABORTED)),
        of_transaction(HeartbeatTransaction(K)),
        of_transaction(
            Refresh(K, keys.END, Timestamp(1)), Refresh(K, b"", Timestamp(2)), timestamp=2
        ),
        request(PUSH, id=b""),
        request(msgspec.structs.replace(PUSH, pusher=TransactionMeta(ID)), id=b""),
        request(QueryTransaction(K, ID), id=b""),
        request(QueryTransaction(K, ID, Timestamp(HUGE)), id=b""),
        request(RecoverTransaction(K, ID, Timestamp(1), False), id=b""),
        request(*[QueryIntent(K, ID, 1, Timestamp(1))] * 4, id=b""),
        request(
            ResolveIntent(K, ID, COMMITTED, Timestamp(1)), ResolveIntent(K, ID, ABORTED), id=b""
        ),
    ],
)
def test_an_input_at_the_edge_is_good(good: BatchRequest) -> None:
    validation.check(good, msgspec.structs.replace(LIMITS, value_bytes_max=100))


def test_the_anchor_counts_for_each_intent() -> None:
    """An entry of the log that no frame holds would stop every leader that sends it."""
    limits = LimitsConfig()
    anchor = keys.PLAIN + bytes(limits.key_bytes_max)
    meta = TransactionMeta(ID, anchor)
    operations = [Put(keys.PLAIN + b"%d" % n, b"") for n in range(2_500)]
    end = EndTransaction(anchor, COMMITTED, one_phase=True)
    validation.check(of_transaction(*operations[:1_500], meta=meta), limits)
    validation.check(of_transaction(*operations, end, meta=meta), limits)
    with pytest.raises(errors.BatchTooLargeError):
        validation.check(of_transaction(*operations, meta=meta), limits)
    staged = EndTransaction(anchor, STAGING, Timestamp(1))
    with pytest.raises(errors.BatchTooLargeError):
        validation.check(of_transaction(*operations, staged, meta=meta), limits)


def test_requests_that_are_none_at_all_are_not_decoded() -> None:
    good = encoding.pack(request(Get(K)))
    frame = msgspec.msgpack.decode(good)
    for position, wrong in (
        (0, "two"),
        (0, 1.5),
        (1, None),
        (1, [[99, K]]),
        (1, [[2, K]]),
        (1, [[1, "text"]]),
        (1, [[5, K, 1.0]]),
        (1, [[5, K, float("nan")]]),
        (1, [[[[[[[]]]]]]]),
        (2, 16),
        (3, "1"),
        (4, -0.5),
    ):
        changed = list(frame)
        changed[position] = wrong
        with pytest.raises(msgspec.MsgspecError):
            msgspec.msgpack.decode(msgspec.msgpack.encode(changed), type=BatchRequest)


@cluster_test()
async def test_no_bad_request_changes_anything_or_stops_anybody(
    cluster: Cluster, db: Database
) -> None:
    """The whole list against a real store, whose limits are other ones: each is answered."""
    await db.put(b"k", b"v")
    await db.increment(b"n", 7)
    await cluster.until_applied()
    leader = cluster.leader()
    assert leader is not None
    before = cluster.contents(leader.number)
    replica = leader.replica()
    index = replica.applied.index
    replies: list[BatchReply] = []
    for name, bad, error in BAD:
        if error is errors.BatchTooLargeError or "one byte too" in name or "too many" in name:
            continue  # The real limits are larger; those have their own tests above.
        leader.up.store.submit(bad, replies.append)
        assert len(replies) == 1, f"{name} is answered at once"
        detail = replies.pop().error
        assert detail is not None, name
        assert detail.code == error.code, name
    await cluster.until_applied()
    assert cluster.contents(leader.number) == before
    assert replica.applied.index == index, "nothing was proposed"
    assert replica.leaseholder is not None
    assert replica.leaseholder.latches.status().held == 0, "no latch was left behind"
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_impossible_requests_at_the_edge_of_64_bits_are_refused_by_name(
    cluster: Cluster, db: Database
) -> None:
    leader = cluster.leader()
    assert leader is not None
    n = keys.PLAIN + b"n"
    await db.increment(b"n", BIG - 1)
    for operation, code in (
        (Increment(n, 1), "not_an_integer"),
        (Increment(n, HUGE), "not_an_integer"),
        (Increment(n, BIG), "not_an_integer"),
    ):
        replies = cluster.submit(leader.number, (operation,))
        await cluster.until(lambda: bool(replies))  # noqa: B023 - awaited here
        assert replies[0].error is not None
        assert replies[0].error.code == code
    ahead = hlc.MAX
    for far in (
        request(Get(n), timestamp=ahead),
        request(Scan(keys.PLAIN, keys.END), timestamp=ahead),
        request(Increment(n, 0), issued_at=ahead),
    ):
        answers: list[BatchReply] = []
        leader.up.store.submit(far, answers.append)
        assert answers[0].error is not None
        assert answers[0].error.code == "clock_offset"
    value = await db.get(b"n")
    assert value == encoding.pack_counter(BIG - 1)
