"""What clients asked, what they were told, and when: the record that checkers judge.

Purpose
    A `History` collects operations while clients run, on any clock: seconds of the real one, or
    the time of a simulation.
Invariants
    - Every operation has one outcome. `ok`: it happened, between its two moments. `failed`: it did
      not happen, nor will. `unknown`: it may happen at any moment after its invocation, or never.
      An operation that has not ended is `unknown`.
    - No two moments of one recorder are equal: they keep the order in which they were noted even
      where the clock stands still. So "a had ended before b began" is `a.completed < b.invoked`.
    - Keys, arguments and results are frozen when noted: lists become tuples.
    - Any thread may note, as clients of a `BlockingCluster` do.
Source
    Herlihy and Wing, "Linearizability" (1990), section 2; Jepsen's ok, fail and info.
"""

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Literal, TypeVar

import msgspec

from multiraft import errors

T = TypeVar("T")

Outcome = Literal["ok", "failed", "unknown"]
Process = int | str

CONDITIONAL = "cas"
"""The function whose answer may be that its condition does not hold: `ok` with result False."""

_NOTHING_WAS_WRITTEN: tuple[type[errors.MultiraftError], ...] = (
    errors.RequestError,
    errors.DeadlineExceededError,
    errors.DiskFullError,
    errors.NotLeaseholderError,
    errors.RangeMismatchError,
    errors.RangeNotFoundError,
    errors.OverloadedError,
    errors.ConflictingChangeError,
    errors.TransactionRetryError,
)
"""Errors that promise it. To take a definite one for unknown is safe, the reverse is not."""


class Operation(msgspec.Struct, frozen=True):
    """One call of one client. docs/history-format.md says what each model expects in it."""

    id: int
    """In the order of invocation."""
    process: Process
    function: str
    invoked: float
    key: Any = None
    argument: Any = None
    result: Any = None
    completed: float | None = None
    """When the client was told, or gave up; None if it never was."""
    outcome: Outcome = "unknown"
    error: str | None = None

    @property
    def deadline(self) -> float:
        """The moment after which it cannot take effect any more: infinite if that is unknown."""
        if self.outcome == "unknown" or self.completed is None:
            return math.inf
        return self.completed


class History:
    """A recorder of operations. Iterating over it gives them in the order of invocation."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._last = -math.inf
        self._operations: list[Operation] = []
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Operation]:
        return iter(tuple(self._operations))

    def open(self) -> Iterator[Operation]:
        """Yield the operations that have not ended."""
        return (each for each in self if each.completed is None)

    def __len__(self) -> int:
        return len(self._operations)

    def invoke(
        self, process: Process, function: str, *, key: object = None, argument: object = None
    ) -> Operation:
        """Note that a client is about to make a call; end it with `ok`, `failed` or `unknown`.

        Raises TypeError for a key or argument that no history file can hold.
        """
        key, argument = frozen(key), frozen(argument)
        with self._lock:
            operation = Operation(
                id=len(self._operations),
                process=process,
                function=function,
                invoked=self._moment(),
                key=key,
                argument=argument,
            )
            self._operations.append(operation)
        return operation

    def ok(self, operation: Operation, result: object = None) -> None:
        """Note that the call was answered."""
        self._end(operation, "ok", result=frozen(result))

    def failed(self, operation: Operation, error: object = None) -> None:
        """Note that the call failed, and that nothing of it was done nor will be."""
        self._end(operation, "failed", error=error)

    def unknown(self, operation: Operation, error: object = None) -> None:
        """Note that the client does not know: it may have been done, or may still be."""
        self._end(operation, "unknown", error=error)

    async def record(
        self,
        process: Process,
        function: str,
        key: object,
        argument: object,
        call: Awaitable[T],
        *,
        result_of: Callable[[T], object] | None = None,
    ) -> T:
        """Await `call` between two notes and return what it returned, or raise what it raised.

        `result_of` turns what was returned into what is noted. Errors are noted by what they
        promise (`outcome_of`). A condition of a `cas` that did not hold is an answer: False.
        """
        operation = self.invoke(process, function, key=key, argument=argument)
        try:
            returned = await call
        except errors.ConditionFailedError as error:
            if function == CONDITIONAL:
                self.ok(operation, False)
            else:
                self.failed(operation, error)
            raise
        except (Exception, asyncio.CancelledError) as error:
            self._end(operation, outcome_of(error), error=error)
            raise
        self.ok(operation, returned if result_of is None else result_of(returned))
        return returned

    def _end(
        self, operation: Operation, outcome: Outcome, *, result: object = None, error: object = None
    ) -> None:
        described = None if error is None else _describe(error)
        with self._lock:
            noted = self._operations[operation.id]
            assert noted is operation, (
                f"operation {operation.id} is not this history's, or has ended"
            )
            self._operations[operation.id] = msgspec.structs.replace(
                operation,
                completed=self._moment(),
                outcome=outcome,
                result=result,
                error=described,
            )

    def _moment(self) -> float:
        self._last = max(float(self._now()), math.nextafter(self._last, math.inf))
        return self._last


def outcome_of(error: BaseException) -> Outcome:
    """Return what an error tells of the write that raised it.

    `failed` only for errors that promise that nothing was written; a plain TimeoutError, a
    cancellation and errors of others promise nothing.
    """
    return "failed" if isinstance(error, _NOTHING_WAS_WRITTEN) else "unknown"


_UNCHANGING = frozenset((bool, int, str, bytes))


def frozen(value: object) -> Any:  # noqa: ANN401
    """Return a value that cannot change: lists as tuples, buffers as bytes.

    Raises TypeError for what no history file can hold.
    """
    if value is None or type(value) in _UNCHANGING:
        return value
    if isinstance(value, list | tuple):
        return tuple([frozen(item) for item in value])
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"a history cannot hold {value!r}: its numbers are finite")
    if isinstance(value, int | float | str | bytes):
        return value
    raise TypeError(
        f"a history cannot hold {type(value).__name__}: only None, booleans, numbers, str, bytes "
        "and lists of them"
    )


def _describe(error: object) -> str:
    if isinstance(error, BaseException):
        return f"{type(error).__name__}: {error}"
    return str(error)
