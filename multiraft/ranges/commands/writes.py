"""Writes: put, delete, conditional put, increment, and reads between them, as one atomic part.

Purpose
    Evaluate the operations of a part in order, each seeing what those before it wrote, and give the
    results and the effects. A part whose condition fails, or that has an impossible increment,
    writes nothing at all.
Write-once
    A part that was applied is recognised by its ID on any key it names (rule S8). So it leaves a
    trace on all of them, wherever a split may cut it: a version where it wrote, and an outcome
    where there was nothing to change. Its results are found again by evaluating it once more as of
    the timestamp of that trace: what lay below is kept as long as the request may come again.
    An attempt after the first that writes nothing leaves outcomes too (rule S7).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import encoding
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
from multiraft.mvcc.versions import OUTCOME, VALUE, Version
from multiraft.mvcc.writes import PutSet, WriteSet, Written
from multiraft.ranges.commands import validation

DONE = PutResult()


class Evaluation(msgspec.Struct, frozen=True, gc=False):
    """What a part leads to. An empty `write_set` means that nothing is to be replicated."""

    results: tuple[Result, ...]
    write_set: Written
    error: errors.MultiraftError | None = None
    """Instead of results: the part cannot be carried out, and this is its outcome."""


def evaluate(
    reader: Reader, request: BatchRequest, timestamp: Timestamp, result_bytes_max: int
) -> Evaluation:
    """Evaluate a part that writes at `timestamp`, which is above every version of its keys."""
    puts = _of_puts_alone(reader, request, timestamp)
    if puts is not None:
        return Evaluation((DONE,) * len(request.operations), puts)
    return evaluate_any(reader, request, timestamp, result_bytes_max)


def _of_puts_alone(reader: Reader, request: BatchRequest, timestamp: Timestamp) -> PutSet | None:
    """Return what is written by a part that puts each of its keys once; None for other parts."""
    puts = PutSet(reader)
    for operation in request.operations:
        if type(operation) is not Put or operation.key in puts.keys:
            return None
        puts.put(timestamp, request.id, operation.key, operation.value)
    return puts


def evaluate_any(
    reader: Reader, request: BatchRequest, timestamp: Timestamp, result_bytes_max: int
) -> Evaluation:
    """Do what `evaluate` does, without the fast path."""
    write_set = WriteSet(reader, timestamp, request.id)
    error = None
    try:
        results, holds = _run(write_set, request, result_bytes_max)
        if not holds:
            write_set = WriteSet(reader, timestamp, request.id)
            results = _undone(write_set, request, results, result_bytes_max)
    except errors.RequestError as impossible:
        results, error = [], impossible
        write_set = WriteSet(reader, timestamp, request.id)
    if request.attempt > 1 if write_set.is_empty else len(request.operations) > 1:
        _leave_outcomes(write_set, request)
    return Evaluation(tuple(results), write_set, error)


class Replay(NamedTuple):
    """The first outcome of a part that was applied before."""

    results: tuple[Result, ...]
    timestamp: Timestamp


def replay(
    reader: Reader,
    request: BatchRequest,
    result_bytes_max: int,
    applied_at: Timestamp | None = None,
) -> Replay | None:
    """Return the first outcome of a part that left its ID, or None if it is to be evaluated.

    `applied_at` is when it left it, if that is known: then no versions are searched, of which a hot
    key has many (rule L7). Raises the RequestError that was the outcome, if it was one.
    """
    trace = _find_trace(reader, request, applied_at)
    if trace is None:
        return None
    timestamp = trace.timestamp
    write_set = WriteSet(reader, timestamp, request.id, replay=True)
    results, holds = _run(write_set, request, result_bytes_max)
    if not holds:
        before = WriteSet(reader, timestamp, request.id, replay=True)
        results = _undone(before, request, results, result_bytes_max)
    elif trace.kind == OUTCOME and not write_set.is_empty:
        # A larger part wrote nothing, because of a condition that a split has cut off from this
        # one. Nobody was told, or there would be no further attempt: this part is a new one.
        return None
    return Replay(tuple(results), timestamp)


def _find_trace(
    reader: Reader, request: BatchRequest, applied_at: Timestamp | None
) -> Version | None:
    """Return something that an earlier attempt wrote, or else an outcome that it left."""
    trace = None
    for operation in validation.points(request):
        if applied_at is None:
            found = reads.find_write(reader, operation.key, request.id, request.issued_at)
        else:
            found = reads.get_write(reader, operation.key, request.id, applied_at)
        if found is not None:
            trace = found
            if found.kind != OUTCOME:
                break
    return trace


def _leave_outcomes(write_set: WriteSet, request: BatchRequest) -> None:
    """Leave a trace at every key that the part could have changed, but did not."""
    for operation in validation.points(request):
        if type(operation) is not Get and not write_set.writes(operation.key):
            write_set.outcome(operation.key)


def _run(
    write_set: WriteSet, request: BatchRequest, result_bytes_max: int
) -> tuple[list[Result], bool]:
    """Return the results, up to the first condition that does not hold, and whether all hold."""
    results: list[Result] = []
    result_bytes = 0
    for operation in request.operations:
        result = _EVALUATE[type(operation)](write_set, operation)
        results.append(result)
        if type(result) is ConditionalPutResult and not result.succeeded:
            return results, False
        if type(result) is GetResult and result.value is not None:
            result_bytes += len(result.value)
            validation.check_results(result_bytes, result_bytes_max)
    return results, True


def _undone(
    before: WriteSet, request: BatchRequest, results: list[Result], result_bytes_max: int
) -> list[Result]:
    """Return the results of a part that writes nothing, since the last of `results` says so.

    Conditions behind that one, and reads, are judged by what is there: nothing was written.
    """
    undone: list[Result] = []
    result_bytes = 0
    for position, operation in enumerate(request.operations):
        result: Result = DONE
        if type(operation) is ConditionalPut:
            if position < len(results):
                result = results[position]
            else:
                actual = _value(before, operation.key)
                result = ConditionalPutResult(actual == operation.expected, actual)
                result_bytes += len(actual or b"")
        elif type(operation) is Get:
            result = _get(before, operation)
            result_bytes += len(result.value or b"")
        validation.check_results(result_bytes, result_bytes_max)
        undone.append(result)
    return undone


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


def _conditional_put(write_set: WriteSet, operation: ConditionalPut) -> ConditionalPutResult:
    actual = _value(write_set, operation.key)
    if actual != operation.expected:
        return ConditionalPutResult(False, actual)
    if operation.value is not None:
        write_set.put(operation.key, operation.value)
    elif actual is not None:
        write_set.delete(operation.key)
    return ConditionalPutResult(True)


def _increment(write_set: WriteSet, operation: Increment) -> IncrementResult:
    value = _value(write_set, operation.key)
    number = encoding.add_to_counter(operation.key, value, operation.delta)
    write_set.put(operation.key, encoding.pack_counter(number))
    return IncrementResult(number)


def _put_meta(write_set: WriteSet, operation: PutMeta) -> PutResult:
    current = _value(write_set, operation.key)
    if current is None or encoding.unpack_descriptor(current).generation < operation.generation:
        write_set.put(operation.key, operation.value)
    return DONE


_EVALUATE: dict[type, Callable[[WriteSet, Any], Result]] = {
    Get: _get,
    Put: _put,
    Delete: _delete,
    ConditionalPut: _conditional_put,
    Increment: _increment,
    PutMeta: _put_meta,
}
