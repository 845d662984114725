"""What is wrong with a part, before anything is evaluated.

The client library checks the same limits before it sends; a store checks again, since it trusts
nobody with what goes into its log. After these checks evaluation fails only in documented ways, so
no request can leave a latch behind or stop a store.
"""

from typing import cast

import msgspec

from multiraft import errors
from multiraft.config import LimitsConfig
from multiraft.model import encoding, hlc, keys
from multiraft.model.requests import (
    ADMIN,
    AdminSplit,
    BatchRequest,
    ConditionalPut,
    Get,
    Operation,
    PointOperation,
    Put,
    PutMeta,
    Scan,
)

ID_BYTES = 16


def only_reads(operations: tuple[Operation, ...]) -> bool:
    """Return whether no operation writes."""
    return all(type(operation) is Get for operation in operations)


def points(request: BatchRequest) -> tuple[PointOperation, ...]:
    """Return the operations of a part that holds no scan and no administrative request."""
    return cast("tuple[PointOperation, ...]", request.operations)


def check(request: BatchRequest, limits: LimitsConfig) -> None:
    """Raise a RequestError if the part can never be evaluated as it is."""
    operations = request.operations
    if not operations:
        raise errors.RequestError("a batch needs at least one operation")
    if len(operations) > limits.batch_operations_max:
        raise errors.BatchTooLargeError(
            what="operations", size=len(operations), limit=limits.batch_operations_max
        )
    scans = sum(isinstance(operation, Scan) for operation in operations)
    if scans not in (0, len(operations)):
        raise errors.RequestError("scans cannot share a batch with other operations")
    total = 0
    for operation in operations:
        total += _check_operation(operation, limits, alone=len(operations) == 1)
    if total > limits.batch_bytes_max:
        raise errors.BatchTooLargeError(what="bytes", size=total, limit=limits.batch_bytes_max)
    if not 0 <= request.timestamp <= hlc.MAX:
        raise errors.RequestError("a timestamp has 64 bits and no sign")
    if not isinstance(operations[0], (Scan, *ADMIN)) and not only_reads(operations):
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


def _check_operation(operation: Operation, limits: LimitsConfig, *, alone: bool) -> int:
    """Check one operation and return how many bytes it has."""
    if isinstance(operation, Scan):
        return _check_scan(operation)
    if isinstance(operation, ADMIN):
        if not alone:
            raise errors.RequestError(f"{type(operation).__name__} cannot share a batch")
        return _check_key(operation.key, limits) if isinstance(operation, AdminSplit) else 0
    size = _check_key(operation.key, limits)
    if isinstance(operation, PutMeta):
        _check_record(operation)
    elif operation.key.startswith(keys.META) and not isinstance(operation, Get):
        raise errors.RequestError("addressing records are written by PutMeta only")
    if isinstance(operation, ConditionalPut) and operation.expected is not None:
        size += len(operation.expected)
    if isinstance(operation, (Put, PutMeta, ConditionalPut)) and operation.value is not None:
        if len(operation.value) > limits.value_bytes_max:
            raise errors.ValueTooLargeError(
                size_bytes=len(operation.value), limit_bytes=limits.value_bytes_max
            )
        size += len(operation.value)
    return size


def _check_scan(scan: Scan) -> int:
    if scan.start > scan.end:
        raise errors.InvalidSpanError(start=keys.pretty(scan.start), end=keys.pretty(scan.end))
    if scan.limit_keys < 0 or scan.limit_bytes < 0:
        raise errors.RequestError("a scan's limits cannot be negative")
    return len(scan.start) + len(scan.end)


def _check_key(key: bytes, limits: LimitsConfig) -> int:
    # One byte more: the limit speaks of the key as the application gave it, without keyspace. An
    # addressing record adds another, before the start of a range.
    size = len(key)
    most = limits.key_bytes_max + (2 if key.startswith(keys.META) else 1)
    if size > most:
        raise errors.KeyTooLargeError(size_bytes=size - 1, limit_bytes=limits.key_bytes_max)
    if not keys.MIN < key < keys.END:
        raise errors.RequestError("a key must begin with the byte of a keyspace")
    return size


def _check_record(operation: PutMeta) -> None:
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
