"""What is wrong with a part, before anything is evaluated.

The client library checks the same limits before it sends; a store checks again, since it trusts
nobody with what goes into its log. After these checks evaluation fails only in documented ways, so
no request can leave a latch behind or stop a store.
"""

from collections.abc import Callable
from typing import Any, cast

import msgspec

from multiraft import errors
from multiraft.config import LimitsConfig
from multiraft.model import encoding, hlc, keys
from multiraft.model.requests import (
    ADMIN,
    AdminChangeReplicas,
    AdminSplit,
    AdminTransfer,
    BatchRequest,
    ConditionalPut,
    Delete,
    Get,
    Increment,
    NodeStatus,
    Operation,
    PointOperation,
    Put,
    PutMeta,
    RangeStatus,
    Scan,
)

ID_BYTES = 16


def only_reads(operations: tuple[Operation, ...]) -> bool:
    """Return whether no operation writes."""
    for operation in operations:  # noqa: SIM110 - all() takes three times as long
        if type(operation) is not Get:
            return False
    return True


def points(request: BatchRequest) -> tuple[PointOperation, ...]:
    """Return the operations of a part that holds no scan and no administrative request."""
    return cast("tuple[PointOperation, ...]", request.operations)


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
    total = scans = 0
    writes = False
    for operation in operations:
        kind = type(operation)
        total += _CHECKS[kind](operation, limits)
        if kind is Scan:
            scans += 1
        elif kind in _ADMIN:
            if count > 1:
                raise errors.RequestError(f"{kind.__name__} cannot share a batch")
        elif kind is not Get:
            writes = True
    if scans not in (0, count):
        raise errors.RequestError("scans cannot share a batch with other operations")
    if total > limits.batch_bytes_max:
        raise errors.BatchTooLargeError(what="bytes", size=total, limit=limits.batch_bytes_max)
    if not 0 <= request.timestamp <= hlc.MAX:
        raise errors.RequestError("a timestamp has 64 bits and no sign")
    if writes:
        _check_write(request)


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
    """A record that nobody can read would stop whoever compares generations with it."""
    try:
        descriptor = encoding.unpack_descriptor(operation.value)
    except msgspec.MsgspecError as error:
        raise errors.RequestError(f"an addressing record is no descriptor: {error}") from error
    if (
        operation.key != keys.meta_key(descriptor.start)
        or operation.generation != descriptor.generation
    ):
        raise errors.RequestError("an addressing record names another descriptor than it holds")
    return _check_key(operation.key, limits) + _check_value(operation.value, limits)


def _check_scan(operation: Scan, limits: LimitsConfig) -> int:
    start, end = operation.start, operation.end
    if start > end:
        raise errors.InvalidSpanError(start=keys.pretty(start), end=keys.pretty(end))
    if operation.limit_keys < 0 or operation.limit_bytes < 0:
        raise errors.RequestError("a scan's limits cannot be negative")
    return len(start) + len(end)


def _check_split(operation: AdminSplit, limits: LimitsConfig) -> int:
    return _check_key(operation.key, limits)


def _check_nothing(operation: Operation, limits: LimitsConfig) -> int:
    return 0


_ADMIN = frozenset(ADMIN)
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
    AdminChangeReplicas: _check_nothing,
    RangeStatus: _check_nothing,
    NodeStatus: _check_nothing,
}
"""One row per operation; tests check that none is missing."""
