"""What is wrong with a part, before anything is evaluated.

The client library checks the same limits before it sends; a store checks again, since it trusts
nobody with what goes into its log. After these checks evaluation fails only in documented ways, so
no request can leave a latch behind or stop a store.
"""

from collections.abc import Callable
from typing import Any, cast

from multiraft import errors
from multiraft.config import LimitsConfig
from multiraft.model import encoding, hlc, keys
from multiraft.model.requests import (
    ADMIN,
    PROFILE_MS_MAX,
    AdminChangeReplicas,
    AdminProtect,
    AdminSplit,
    AdminTransfer,
    BatchRequest,
    ConditionalPut,
    Delete,
    Get,
    Increment,
    NodeProfile,
    NodeStatus,
    Operation,
    PointOperation,
    Put,
    PutMeta,
    RangeLocks,
    RangeStatus,
    Scan,
)
from multiraft.model.transaction import TransactionMeta, TransactionStatus
from multiraft.model.transaction_requests import (
    OBSERVED_MAX,
    EndTransaction,
    HeartbeatTransaction,
    PushTransaction,
    QueryIntent,
    QueryTransaction,
    RecoverTransaction,
    Refresh,
    ResolveIntent,
    TransactionContext,
)

ID_BYTES = 16
RECORD_BYTES = 4_096
"""The most that an addressing record has besides two keys: some hundred replicas."""
PROTECTION_MS_MAX = 86_400_000
OWNER_MAX = 200
INTENTS_BYTES = 16 << 20
"""So much what one part lays may come to in any case: half a frame, unless those are made smaller.
Twice as much as a batch may hold, it may if that is more."""
EDGES_MAX = 10_000
"""Of the wait-for graph, in one push."""


def only_gets(operations: tuple[Operation, ...]) -> bool:
    """Return whether every operation is a get."""
    for operation in operations:  # noqa: SIM110 - all() takes three times as long
        if type(operation) is not Get:
            return False
    return True


def points(request: BatchRequest) -> tuple[PointOperation, ...]:
    """Return the operations of a part that holds no scan and no administrative request."""
    return cast("tuple[PointOperation, ...]", request.operations)


def key_of(operation: Operation) -> bytes:
    """Return the key of an operation that names one, be it the anchor of a transaction."""
    return cast("PointOperation", operation).key


def check(request: BatchRequest, limits: LimitsConfig) -> None:
    """Raise a RequestError if the part can never be evaluated as it is."""
    operations = request.operations
    count = len(operations)
    if not count:
        raise errors.RequestError("a batch needs at least one operation")
    if count > limits.batch_operations_max:
        raise errors.BatchTooLargeError(
            what="operations", size=count, limit=limits.batch_operations_max
        )
    if count == 1:
        kind = type(operations[0])
        total = _CHECKS[kind](operations[0], limits)
        writes = kind in _WRITES
    else:
        total, writes = _check_together(operations, limits)
    if total > limits.batch_bytes_max:
        raise errors.BatchTooLargeError(what="bytes", size=total, limit=limits.batch_bytes_max)
    if request.range_id < 0:
        raise errors.RequestError("a range ID has no sign")
    if not 0 <= request.timestamp <= hlc.MAX:
        raise errors.RequestError("a timestamp has 64 bits and no sign")
    if request.txn is not None:
        _check_transaction(request, request.txn, limits, total)
    elif not _OF_A_TRANSACTION.isdisjoint(map(type, operations)):
        raise errors.RequestError("only a transaction ends or refreshes itself")
    elif writes:
        _check_write(request)


def _check_together(operations: tuple[Operation, ...], limits: LimitsConfig) -> tuple[int, bool]:
    """Check operations that share a batch; return their bytes, and whether one of them writes."""
    total = scans = 0
    writes = False
    for operation in operations:
        kind = type(operation)
        total += _CHECKS[kind](operation, limits)
        if kind is Scan:
            scans += 1
        elif kind in _ALONE:
            raise errors.RequestError(f"{kind.__name__} cannot share a batch")
        elif kind in _ALIKE:
            if any(type(other) is not kind for other in operations):
                raise errors.RequestError(f"{kind.__name__} shares a batch only with its like")
        elif kind in _WRITES:
            writes = True
    if scans not in (0, len(operations)):
        raise errors.RequestError("scans cannot share a batch with other operations")
    return total, writes


def check_results(size_bytes: int, limit_bytes: int) -> None:
    """Raise BatchTooLargeError if the values read by one part are more than one reply may hold."""
    if size_bytes > limit_bytes:
        raise errors.BatchTooLargeError(what="bytes of results", size=size_bytes, limit=limit_bytes)


def _check_write(request: BatchRequest) -> None:
    if len(request.id) != ID_BYTES:
        raise errors.RequestError(f"a write needs an ID of {ID_BYTES} bytes")
    if request.attempt < 1:
        raise errors.RequestError("attempts are counted from 1")
    if request.timestamp:
        raise errors.RequestError("a write cannot choose its timestamp")
    if not 0 <= request.issued_at <= hlc.MAX:
        raise errors.RequestError("issued_at has 64 bits and no sign")


# -- transactions --------------------------------------------------------------------------------


def _check_transaction(
    request: BatchRequest, txn: TransactionContext, limits: LimitsConfig, total: int
) -> None:
    """Check a part of a transaction: it reads, or writes, or asks one thing about itself."""
    meta = txn.meta
    _check_meta(meta, limits)
    if request.id != meta.id:
        raise errors.RequestError("a part of a transaction has its ID")
    if not 0 <= request.issued_at <= hlc.MAX or not 0 <= txn.uncertainty_limit <= hlc.MAX:
        raise errors.RequestError("a timestamp has 64 bits and no sign")
    if len(txn.observed) > OBSERVED_MAX:
        raise errors.RequestError(f"a transaction tells the clocks of {OBSERVED_MAX} nodes at most")
    kinds = {type(operation) for operation in request.operations}
    if kinds <= _TRANSACTION_READS:
        if txn.is_locking and not meta.anchor:
            raise errors.RequestError("only a transaction with an anchor locks")
        for operation in request.operations:
            first = operation.start if isinstance(operation, Scan) else key_of(operation)
            if first < keys.SYSTEM:
                raise errors.RequestError("addressing records have no part in transactions")
        return
    if not kinds <= _TRANSACTION_WRITES | {Refresh, HeartbeatTransaction}:
        raise errors.RequestError("a transaction gets, scans, puts and deletes only")
    if Refresh in kinds:
        _check_refreshes(request)
        return
    if not meta.anchor:
        raise errors.RequestError("a transaction that writes has an anchor")
    if HeartbeatTransaction not in kinds:
        _check_transaction_writes(request, txn)
        _check_intents(request, meta, limits, total)
    for operation in request.operations:
        if type(operation) in _AT_THE_ANCHOR and key_of(operation) != meta.anchor:
            raise errors.RequestError("the record of a transaction is at its anchor")


def _check_transaction_writes(request: BatchRequest, txn: TransactionContext) -> None:
    operations = request.operations
    if any(type(operation) is EndTransaction for operation in operations[:-1]):
        raise errors.RequestError("the end of a transaction is the last operation of its part")
    last = operations[-1]
    end = last if type(last) is EndTransaction else None
    writes = operations if end is None else operations[:-1]
    if len(set(map(key_of, writes))) < len(writes):
        raise errors.RequestError("a transaction writes a key once in a part")
    if end is None or not end.one_phase:
        if writes and txn.sequence < 1:
            raise errors.RequestError("sequences are counted from 1")
        if writes and end is not None and end.status is not TransactionStatus.STAGING:
            raise errors.RequestError("what commits or rolls back comes without new writes")
    elif end.status is not TransactionStatus.COMMITTED or not writes:
        raise errors.RequestError("a commit in one phase commits, and writes")


def _check_intents(
    request: BatchRequest, meta: TransactionMeta, limits: LimitsConfig, total: int
) -> None:
    """Refuse writes whose intents, each of which names the anchor, are too large for one entry."""
    last = request.operations[-1]
    if type(last) is EndTransaction and last.one_phase:
        return
    most = max(INTENTS_BYTES, 2 * limits.batch_bytes_max)
    size = total + len(request.operations) * len(meta.anchor)
    if size > most:
        raise errors.BatchTooLargeError(what="bytes of intents", size=size, limit=most)


def _check_refreshes(request: BatchRequest) -> None:
    for operation in cast("tuple[Refresh, ...]", request.operations):
        if not operation.since <= request.timestamp:
            raise errors.RequestError("a refresh goes forward in time")


def _check_meta(meta: TransactionMeta, limits: LimitsConfig) -> None:
    _check_transaction_id(meta.id)
    _check_time(meta.began)
    if meta.anchor:
        _check_lockable(meta.anchor, limits)


def _check_transaction_id(transaction_id: bytes) -> None:
    if len(transaction_id) != ID_BYTES:
        raise errors.RequestError(f"a transaction's ID has {ID_BYTES} bytes")


# -- one operation: each returns how many bytes it has ------------------------------------------


def _check_key(key: bytes, limits: LimitsConfig) -> int:
    # One byte more: the limit speaks of the key as the application gave it, without keyspace. An
    # addressing record adds another, before the start of a range.
    size = len(key)
    most = limits.key_bytes_max + 1
    if size > most and (size > most + 1 or key[:1] != keys.META):
        raise errors.KeyTooLargeError(size_bytes=size - 1, limit_bytes=limits.key_bytes_max)
    if not keys.MIN < key < keys.END:
        raise errors.RequestError("a key must begin with the byte of a keyspace")
    return size


def _check_value(value: bytes, limits: LimitsConfig) -> int:
    size = len(value)
    if size > limits.value_bytes_max:
        raise errors.ValueTooLargeError(size_bytes=size, limit_bytes=limits.value_bytes_max)
    return size


def _check_get(operation: Get, limits: LimitsConfig) -> int:
    return _check_key(operation.key, limits)


def _check_changed_key(
    operation: Put | Delete | ConditionalPut | Increment, limits: LimitsConfig
) -> int:
    key = operation.key
    if key[:1] == keys.META:
        raise errors.RequestError("addressing records are written by PutMeta only")
    return _check_key(key, limits)


def _check_put(operation: Put, limits: LimitsConfig) -> int:
    return _check_changed_key(operation, limits) + _check_value(operation.value, limits)


def _check_conditional_put(operation: ConditionalPut, limits: LimitsConfig) -> int:
    size = _check_changed_key(operation, limits)
    if operation.value is not None:
        size += _check_value(operation.value, limits)
    return size if operation.expected is None else size + len(operation.expected)


def _check_put_meta(operation: PutMeta, limits: LimitsConfig) -> int:
    """A record that nobody can read would stop whoever compares generations with it.

    It is as long as the keys in it make it, and no value of an application: a range whose record
    is refused would never be found.
    """
    try:
        descriptor = encoding.unpack_descriptor(operation.value)
    except encoding.UNREADABLE as error:
        raise errors.RequestError(f"an addressing record is no descriptor: {error}") from error
    if (
        operation.key != keys.meta_key(descriptor.start)
        or operation.generation != descriptor.generation
    ):
        raise errors.RequestError("an addressing record names another descriptor than it holds")
    size, most = len(operation.value), 2 * (limits.key_bytes_max + 1) + RECORD_BYTES
    if size > most:
        raise errors.ValueTooLargeError(size_bytes=size, limit_bytes=most)
    return _check_key(operation.key, limits)


def _check_scan(operation: Scan, limits: LimitsConfig) -> int:
    start, end = operation.start, operation.end
    if start > end:
        raise errors.InvalidSpanError(start=keys.pretty(start), end=keys.pretty(end))
    if operation.limit_keys < 0 or operation.limit_bytes < 0:
        raise errors.RequestError("a scan's limits cannot be negative")
    return len(start) + len(end)


def _check_split(operation: AdminSplit, limits: LimitsConfig) -> int:
    return _check_key(operation.key, limits)


def _check_voters(operation: AdminChangeReplicas, limits: LimitsConfig) -> int:
    # Who is not known yet is looked for in the registry, where a node has its number for a key.
    if min(operation.voters, default=0) < 0:
        raise errors.RequestError("a node ID has no sign")
    return 0


def _check_anchor(operation: HeartbeatTransaction, limits: LimitsConfig) -> int:
    return _check_lockable(operation.key, limits)


def _check_lockable(key: bytes, limits: LimitsConfig) -> int:
    if key[:1] == keys.META:
        raise errors.RequestError("addressing records have no part in transactions")
    return _check_key(key, limits)


def _check_end(operation: EndTransaction, limits: LimitsConfig) -> int:
    if operation.status is TransactionStatus.PENDING:
        raise errors.RequestError("PENDING is no end of a transaction")
    _check_time(operation.timestamp)
    for named in (operation.writes, operation.locked, operation.read_spans):
        if len(named) > limits.transaction_keys_max:
            raise errors.TransactionTooLargeError(
                what="keys", size=len(named), limit=limits.transaction_keys_max
            )
    size = _check_lockable(operation.key, limits) + len(operation.reason)
    for write in operation.writes:
        size += _check_lockable(write.key, limits)
    for key in operation.locked:
        size += _check_lockable(key, limits)
    for start, end in operation.read_spans:
        if end and start > end:
            raise errors.InvalidSpanError(start=keys.pretty(start), end=keys.pretty(end))
        size += len(start) + len(end)
    if (
        operation.status is not TransactionStatus.ABORTED
        and not operation.one_phase
        and not operation.timestamp
    ):
        raise errors.RequestError("a transaction commits at a timestamp")
    return size


def _check_push(operation: PushTransaction, limits: LimitsConfig) -> int:
    _check_meta(operation.txn, limits)
    if operation.txn.anchor != operation.key:
        raise errors.RequestError("the record of a transaction is at its anchor")
    if operation.pusher is not None:
        _check_meta(operation.pusher, limits)
    for time in (operation.laid_at, operation.issued_at, operation.push_to):
        _check_time(time)
    if len(operation.edges) > EDGES_MAX:
        raise errors.BatchTooLargeError(what="edges", size=len(operation.edges), limit=EDGES_MAX)
    return _check_lockable(operation.key, limits) + len(operation.reason)


def _check_record(operation: QueryTransaction | RecoverTransaction, limits: LimitsConfig) -> int:
    _check_transaction_id(operation.id)
    _check_time(operation.since)
    return _check_lockable(operation.key, limits)


def _check_query_intent(operation: QueryIntent, limits: LimitsConfig) -> int:
    _check_transaction_id(operation.id)
    _check_time(operation.timestamp)
    _check_time(operation.since)
    return _check_lockable(operation.key, limits)


def _check_resolve(operation: ResolveIntent, limits: LimitsConfig) -> int:
    _check_transaction_id(operation.id)
    _check_time(operation.timestamp)
    if not operation.status.is_final:
        raise errors.RequestError("a lock stays until its transaction has ended")
    if (operation.status is TransactionStatus.COMMITTED) is not bool(operation.timestamp):
        raise errors.RequestError("what committed has a timestamp, and nothing else has")
    return _check_lockable(operation.key, limits)


def _check_refresh(operation: Refresh, limits: LimitsConfig) -> int:
    start, end = operation.key, operation.end
    _check_time(operation.since)
    if not end:
        return _check_key(start, limits)
    if start > end:
        raise errors.InvalidSpanError(start=keys.pretty(start), end=keys.pretty(end))
    return len(start) + len(end)


def _check_time(timestamp: int) -> None:
    if not 0 <= timestamp <= hlc.MAX:
        raise errors.RequestError("a timestamp has 64 bits and no sign")


def _check_protect(operation: AdminProtect, limits: LimitsConfig) -> int:
    if len(operation.id) != ID_BYTES:
        raise errors.RequestError(f"the ID of a protection has {ID_BYTES} bytes")
    _check_time(operation.timestamp)
    if not 0 <= operation.duration_ms <= PROTECTION_MS_MAX:
        raise errors.RequestError(
            f"a time is protected for {operation.duration_ms} ms; the limit is "
            f"{PROTECTION_MS_MAX} ms, after which it can be renewed"
        )
    if len(operation.owner) > OWNER_MAX:
        raise errors.RequestError(f"the owner of a protection has over {OWNER_MAX} characters")
    return 0


def _check_profile(operation: NodeProfile, limits: LimitsConfig) -> int:
    if not 1 <= operation.duration_ms <= PROFILE_MS_MAX:
        raise errors.RequestError(
            f"a profile takes between 1 and {PROFILE_MS_MAX} ms, not {operation.duration_ms}"
        )
    return 0


def _check_nothing(operation: Operation, limits: LimitsConfig) -> int:
    return 0


_ALONE = frozenset(ADMIN) | {
    HeartbeatTransaction,
    PushTransaction,
    QueryTransaction,
    RecoverTransaction,
}
_ALIKE = frozenset({QueryIntent, ResolveIntent, Refresh})
_OF_A_TRANSACTION = frozenset({EndTransaction, HeartbeatTransaction, Refresh})
_AT_THE_ANCHOR = frozenset({EndTransaction, HeartbeatTransaction})
_TRANSACTION_READS = frozenset({Get, Scan})
_TRANSACTION_WRITES = frozenset({Put, Delete, EndTransaction})
_CHECKS: dict[type, Callable[[Any, LimitsConfig], int]] = {
    Get: _check_get,
    Put: _check_put,
    Delete: _check_changed_key,
    ConditionalPut: _check_conditional_put,
    Increment: _check_changed_key,
    PutMeta: _check_put_meta,
    Scan: _check_scan,
    AdminSplit: _check_split,
    AdminTransfer: _check_nothing,
    AdminChangeReplicas: _check_voters,
    RangeStatus: _check_nothing,
    NodeStatus: _check_nothing,
    NodeProfile: _check_profile,
    RangeLocks: _check_nothing,
    EndTransaction: _check_end,
    HeartbeatTransaction: _check_anchor,
    PushTransaction: _check_push,
    QueryTransaction: _check_record,
    RecoverTransaction: _check_record,
    QueryIntent: _check_query_intent,
    ResolveIntent: _check_resolve,
    Refresh: _check_refresh,
    AdminProtect: _check_protect,
}
"""One row per operation; tests check that none is missing."""
_WRITES = frozenset(_CHECKS) - _ALONE - _ALIKE - {Get, Scan}
