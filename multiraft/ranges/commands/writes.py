"""Writes: put, delete, conditional put, increment, and reads between them, as one atomic part.

Purpose
    Evaluate the operations of a part in order, each seeing what those before it wrote, and give the
    results and the effects. A part whose condition fails, or that has an impossible increment,
    writes nothing at all.
Write-once
    A part that was applied is recognised by its ID on any key it names (rule S8), outcomes
    included (rule S7). Its results are then found by evaluating it once more as of the timestamp
    of that version: what lay below it is kept as long as the request may come again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import encoding, keys
from multiraft.model.requests import (
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    Put,
    PutMeta,
    PutResult,
    Result,
)
from multiraft.mvcc import reads
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import VALUE
from multiraft.mvcc.writes import WriteSet
from multiraft.ranges.commands import validation

DONE = PutResult()


class Evaluation(NamedTuple):
    """What a part leads to. An empty `write_set` means that nothing is to be replicated."""

    results: tuple[Result, ...]
    write_set: WriteSet
    error: errors.MultiraftError | None = None
    """Instead of results: the part cannot be carried out, and this is its outcome."""


def evaluate(reader: Reader, request: BatchRequest, timestamp: Timestamp) -> Evaluation:
    """Evaluate a part that writes at `timestamp`, which is above every version of its keys.

    An attempt after the first that writes nothing leaves an outcome on every key it names, so that
    an earlier attempt arriving late finds it (rule S7).
    """
    write_set = WriteSet(reader, timestamp, request.id)
    error = None
    try:
        results = _run(write_set, request)
    except errors.RequestError as impossible:
        results, error = (), impossible
        write_set = WriteSet(reader, timestamp, request.id)
    if results is None:
        write_set = WriteSet(reader, timestamp, request.id)
        results = _failed(write_set, request)
    if write_set.is_empty and request.attempt > 1:
        for operation in validation.points(request):
            write_set.outcome(operation.key, b"")
    return Evaluation(results, write_set, error)


class Replay(NamedTuple):
    """The first outcome of a part that was applied before."""

    results: tuple[Result, ...]
    timestamp: Timestamp


def replay(reader: Reader, request: BatchRequest) -> Replay | None:
    """Return the first outcome of a part that left its ID, or None if it never did.

    Raises the RequestError that was the outcome, if it was one.
    """
    for operation in validation.points(request):
        version = reads.find_write(reader, operation.key, request.id, request.issued_at)
        if version is not None:
            write_set = WriteSet(reader, version.timestamp, request.id, replay=True)
            results = _run(write_set, request)
            if results is None:
                results = _failed(write_set, request)
            return Replay(results, version.timestamp)
    return None


def _run(write_set: WriteSet, request: BatchRequest) -> tuple[Result, ...] | None:
    """Return the results, or None if a condition does not hold."""
    results: list[Result] = []
    for operation in request.operations:
        result = _EVALUATE[type(operation)](write_set, operation)
        if result is None:
            return None
        results.append(result)
    return tuple(results)


def _failed(write_set: WriteSet, request: BatchRequest) -> tuple[Result, ...]:
    """Return the results of a part of which nothing is written: each condition's own verdict."""
    results: list[Result] = []
    for operation in request.operations:
        if type(operation) is ConditionalPut:
            actual = _value(write_set, operation.key)
            results.append(ConditionalPutResult(actual == operation.expected, actual))
        elif type(operation) is Get:
            results.append(_get(write_set, operation))
        else:
            results.append(DONE)
    return tuple(results)


def _value(write_set: WriteSet, key: bytes) -> bytes | None:
    version = write_set.newest(key)
    return version.value if version is not None and version.kind == VALUE else None


def _get(write_set: WriteSet, operation: Get) -> GetResult:
    version = write_set.newest(operation.key)
    if version is None or version.kind != VALUE:
        return GetResult(None, Timestamp(0))
    return GetResult(version.value, version.timestamp)


def _put(write_set: WriteSet, operation: Put) -> PutResult:
    write_set.put(operation.key, operation.value)
    return DONE


def _delete(write_set: WriteSet, operation: Delete) -> DeleteResult:
    if _value(write_set, operation.key) is None:
        return DeleteResult(False)
    write_set.delete(operation.key)
    return DeleteResult(True)


def _conditional_put(write_set: WriteSet, operation: ConditionalPut) -> ConditionalPutResult | None:
    actual = _value(write_set, operation.key)
    if actual != operation.expected:
        return None
    if operation.value is not None:
        write_set.put(operation.key, operation.value)
    elif actual is not None:
        write_set.delete(operation.key)
    return ConditionalPutResult(True)


def _increment(write_set: WriteSet, operation: Increment) -> IncrementResult:
    value = _value(write_set, operation.key)
    number = 0 if value is None else encoding.unpack_counter(value)
    if number is None:
        raise errors.NotAnIntegerError(
            key=keys.pretty(operation.key), reason="the value is not an eight-byte counter"
        )
    number += operation.delta
    if not encoding.COUNTER_MIN <= number <= encoding.COUNTER_MAX:
        raise errors.NotAnIntegerError(
            key=keys.pretty(operation.key), reason=f"{number} does not fit into 64 signed bits"
        )
    write_set.put(operation.key, encoding.pack_counter(number))
    return IncrementResult(number)


def _put_meta(write_set: WriteSet, operation: PutMeta) -> PutResult:
    current = _value(write_set, operation.key)
    if current is None or encoding.unpack_descriptor(current).generation < operation.generation:
        write_set.put(operation.key, operation.value)
    return DONE


_EVALUATE: dict[type, Callable[[WriteSet, Any], Result | None]] = {
    Get: _get,
    Put: _put,
    Delete: _delete,
    ConditionalPut: _conditional_put,
    Increment: _increment,
    PutMeta: _put_meta,
}
