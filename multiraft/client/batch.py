"""Several operations in one request, built up and then sent with `Database.batch`."""

from collections.abc import Iterator, Sequence
from typing import Final, Literal

from multiraft import config, errors
from multiraft.client import arguments
from multiraft.model import keys
from multiraft.model.requests import (
    BatchReply,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    Operation,
    Put,
    PutResult,
    Result,
)


class _Any:
    """The type of ANY."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "ANY"


ANY: Final = _Any()
"""For `expected`: whatever the key holds. None means that the key is absent."""

Expected = bytes | None | _Any

_Method = Literal["get", "put", "delete", "increment"]

Answer = bytes | bool | int | None
"""What one operation of a batch gives: see Batch."""


class Builder:
    """Makes operations out of what applications say, and refuses what is over a limit.

    Sizes are those of the application's own keys and values.
    """

    __slots__ = ("_key_bytes_max", "_value_bytes_max")

    def __init__(self, limits: config.LimitsConfig) -> None:
        self._key_bytes_max = limits.key_bytes_max
        self._value_bytes_max = limits.value_bytes_max

    def key(self, key: bytes) -> bytes:
        """Return the logical key. Raises RequestError, KeyTooLargeError."""
        if type(key) is not bytes:
            raise _not_bytes("a key", key)
        if len(key) > self._key_bytes_max:
            raise errors.KeyTooLargeError(size_bytes=len(key), limit_bytes=self._key_bytes_max)
        return keys.PLAIN + key

    def value(self, value: bytes) -> bytes:
        """Return the value. Raises RequestError, ValueTooLargeError."""
        if type(value) is not bytes:
            raise _not_bytes("a value", value)
        if len(value) > self._value_bytes_max:
            raise errors.ValueTooLargeError(
                size_bytes=len(value), limit_bytes=self._value_bytes_max
            )
        return value

    def span(self, start: bytes, end: bytes | None, prefix: bytes) -> tuple[bytes, bytes]:
        """Return the logical span of `[start, end)` within the keys that begin with `prefix`.

        It may be empty. Raises InvalidSpanError, and what `key` raises.
        """
        first, prefixed = self.key(start), self.key(prefix)
        last = keys.prefix_end(prefixed)
        if end is not None:
            given = self.key(end)
            if given < first:
                raise errors.InvalidSpanError(start=keys.pretty(first), end=keys.pretty(given))
            last = min(last, given)
        return max(first, prefixed), last

    def get(self, key: bytes) -> Get:
        """Return the operation that reads `key`."""
        return Get(self.key(key))

    def put(self, key: bytes, value: bytes, expected: Expected) -> Put | ConditionalPut:
        """Return the operation that sets `key`, if it holds `expected`."""
        if expected is ANY:
            return Put(self.key(key), self.value(value))
        return ConditionalPut(self.key(key), self.value(value), self._expected(expected))

    def delete(self, key: bytes, expected: Expected) -> Delete | ConditionalPut:
        """Return the operation that removes `key`, if it holds `expected`."""
        if expected is ANY:
            return Delete(self.key(key))
        return ConditionalPut(self.key(key), None, self._expected(expected))

    def increment(self, key: bytes, delta: int) -> Increment:
        """Return the operation that adds `delta` to the counter at `key`."""
        arguments.check_int64("delta", delta)
        return Increment(self.key(key), delta)

    def _expected(self, expected: Expected) -> bytes | None:
        if expected is None:
            return None
        if not isinstance(expected, bytes):
            raise _not_bytes("the expected value", expected)
        return self.value(expected)


class Batch:
    """Operations to send together: `Batch().put(b"a", b"1").get(b"b")`.

    Each method adds one operation and returns the batch. `Database.batch` answers with a list, one
    entry for each: get gives bytes or None, put None, delete whether the key was there, increment
    the new value. Sizes are checked when the batch is sent.
    """

    __slots__ = ("_steps",)

    def __init__(self) -> None:
        self._steps: list[tuple[_Method, tuple[object, ...]]] = []

    def __len__(self) -> int:
        return len(self._steps)

    def get(self, key: bytes) -> "Batch":
        """Read a key."""
        self._steps.append(("get", (key,)))
        return self

    def put(self, key: bytes, value: bytes, *, expected: Expected = ANY) -> "Batch":
        """Set a key. With `expected`, only if the key holds that; None: if it is absent."""
        self._steps.append(("put", (key, value, expected)))
        return self

    def delete(self, key: bytes, *, expected: Expected = ANY) -> "Batch":
        """Remove a key. With `expected`, only if the key holds that."""
        self._steps.append(("delete", (key, expected)))
        return self

    def increment(self, key: bytes, delta: int = 1) -> "Batch":
        """Add to a counter; an absent key counts as 0."""
        self._steps.append(("increment", (key, delta)))
        return self

    def operations(self, builder: Builder, limits: config.LimitsConfig) -> tuple[Operation, ...]:
        """Return the operations. Raises RequestError and what is below it for what is too large."""
        check_count(len(self._steps), limits)
        made: list[Operation] = [getattr(builder, name)(*given) for name, given in self._steps]
        check_bytes(sum(size_bytes(operation) for operation in made), limits)
        return tuple(made)


def answer(operation: Operation, result: Result) -> Answer:
    """Return what the application gets for one operation.

    Raises ConditionFailedError; ProtocolError if the result does not belong to the operation.
    """
    if isinstance(result, GetResult):
        return result.value
    if isinstance(result, DeleteResult):
        return result.existed
    if isinstance(result, IncrementResult):
        return result.value
    if isinstance(result, ConditionalPutResult) and isinstance(operation, ConditionalPut):
        if not result.succeeded:
            raise errors.ConditionFailedError(key=keys.pretty(operation.key), actual=result.actual)
        return operation.expected is not None if operation.value is None else None
    if isinstance(result, PutResult):
        return None
    raise unexpected(result)


def answers(operations: Sequence[Operation], reply: BatchReply) -> list[Answer]:
    """Return what the application gets for each operation, in order. Raises what `answer` does.

    There is a result for each: a part that is answered otherwise fails (calls.py).
    """
    return list(map(answer, operations, reply.results))


def unexpected(result: object) -> errors.ProtocolError:
    """Return the error for a result of the wrong kind."""
    return errors.ProtocolError(reason=f"a node answered with {type(result).__name__}")


def size_bytes(operation: Operation) -> int:
    """Return how many bytes of keys and values an operation carries."""
    return sum(
        len(part)
        for part in (
            getattr(operation, "key", None),
            getattr(operation, "end", None),
            getattr(operation, "value", None),
            getattr(operation, "expected", None),
        )
        if part is not None
    )


def cut(
    operations: Sequence[Operation], count_max: int, bytes_max: int
) -> Iterator[tuple[Operation, ...]]:
    """Yield the operations in pieces of at most that size, but at least one operation each."""
    piece: list[Operation] = []
    piece_bytes = 0
    for operation in operations:
        size = size_bytes(operation)
        if piece and (len(piece) >= count_max or piece_bytes + size > bytes_max):
            yield tuple(piece)
            piece, piece_bytes = [], 0
        piece.append(operation)
        piece_bytes += size
    if piece:
        yield tuple(piece)


def check_count(count: int, limits: config.LimitsConfig) -> None:
    """Raise BatchTooLargeError if a batch has too many operations."""
    if count > limits.batch_operations_max:
        raise errors.BatchTooLargeError(
            what="operations", size=count, limit=limits.batch_operations_max
        )


def check_bytes(size: int, limits: config.LimitsConfig) -> None:
    """Raise BatchTooLargeError if a batch has too many bytes."""
    if size > limits.batch_bytes_max:
        raise errors.BatchTooLargeError(what="bytes", size=size, limit=limits.batch_bytes_max)


def _not_bytes(what: str, given: object) -> errors.RequestError:
    return errors.RequestError(
        f"{what} must be bytes, not {type(given).__name__}; encode text first: text.encode()"
    )
