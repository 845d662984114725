"""What is wrong with a part, before anything is evaluated.

The client library checks the same limits before it sends; a store checks again, since it trusts
nobody with what goes into its log.
"""

from typing import cast

from multiraft import errors
from multiraft.config import LimitsConfig
from multiraft.model import keys
from multiraft.model.requests import (
    ADMIN,
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
    if not isinstance(operations[0], (Scan, *ADMIN)) and not only_reads(operations):
        _check_write(request)


def _check_write(request: BatchRequest) -> None:
    if len(request.id) != ID_BYTES:
        raise errors.RequestError(f"a write needs an ID of {ID_BYTES} bytes")
    if request.attempt < 1:
        raise errors.RequestError("attempts are counted from 1")
    if request.timestamp:
        raise errors.RequestError("a write cannot choose its timestamp")


def _check_operation(operation: Operation, limits: LimitsConfig, *, alone: bool) -> int:
    """Check one operation and return how many bytes it has."""
    if isinstance(operation, Scan):
        if operation.start > operation.end:
            raise errors.InvalidSpanError(
                start=keys.pretty(operation.start), end=keys.pretty(operation.end)
            )
        if operation.limit_keys < 0 or operation.limit_bytes < 0:
            raise errors.RequestError("a scan's limits cannot be negative")
        return len(operation.start) + len(operation.end)
    if isinstance(operation, ADMIN):
        if not alone:
            raise errors.RequestError(f"{type(operation).__name__} cannot share a batch")
        return 0
    # One byte more: the limit speaks of the key as the application gave it, without keyspace.
    size = len(operation.key)
    if size > limits.key_bytes_max + 1:
        raise errors.KeyTooLargeError(size_bytes=size - 1, limit_bytes=limits.key_bytes_max)
    if not keys.MIN < operation.key < keys.END:
        raise errors.RequestError("a key must begin with the byte of a keyspace")
    if isinstance(operation, (Put, PutMeta, ConditionalPut)):
        value = operation.value
        if value is not None:
            if len(value) > limits.value_bytes_max:
                raise errors.ValueTooLargeError(
                    size_bytes=len(value), limit_bytes=limits.value_bytes_max
                )
            size += len(value)
    return size
