"""A transaction without asyncio: what `blocking.Database.transaction` and `run` give.

What the methods do, promise and raise is told in transaction.py. The work is done on the database's
loop; each method waits for it.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterable
from types import TracebackType
from typing import Any, Protocol, TypeVar

from multiraft import errors
from multiraft.client.batch import ANY, Expected
from multiraft.client.scan import Row
from multiraft.client.transaction import transaction
from multiraft.ids import Timestamp

T = TypeVar("T")


class Wait(Protocol):
    """Runs a coroutine on the loop and returns what it returns."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T:
        """Wait for it."""
        ...


class Transaction:
    """See transaction.Transaction. Any thread may call any method."""

    __slots__ = ("_inner", "_wait")

    def __init__(self, inner: transaction.Transaction, wait: Wait) -> None:
        self._inner = inner
        self._wait = wait

    def __enter__(self) -> "Transaction":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._wait(self._inner.__aexit__(kind, error, traceback))
        else:
            self.rollback()

    @property
    def id(self) -> bytes:
        """Its ID."""
        return self._inner.id

    @property
    def has_ended(self) -> bool:
        """Whether the application has committed it or rolled it back."""
        return self._inner.has_ended

    def get(self, key: bytes, *, for_update: bool = False) -> bytes | None:
        """Return the value of `key`; with `for_update`, locked."""
        return self._wait(self._inner.get(key, for_update=for_update))

    def put(self, key: bytes, value: bytes, *, expected: Expected = ANY) -> None:
        """Set `key` to `value`, if it holds `expected`."""
        self._wait(self._inner.put(key, value, expected=expected))

    def delete(self, key: bytes, *, expected: Expected = ANY) -> bool:
        """Remove `key`, if it holds `expected`, and return whether it was there."""
        return self._wait(self._inner.delete(key, expected=expected))

    def increment(self, key: bytes, delta: int = 1) -> int:
        """Add `delta` to the counter at `key`, and return the sum."""
        return self._wait(self._inner.increment(key, delta))

    def get_many(
        self, wanted: Iterable[bytes], *, for_update: bool = False
    ) -> dict[bytes, bytes | None]:
        """Return the value of each key; with `for_update`, locked."""
        return self._wait(self._inner.get_many(wanted, for_update=for_update))

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        for_update: bool = False,
    ) -> Generator[Row, None, None]:
        """Yield `(key, value)` of `[start, end)`, own writes on top; with `for_update`, locked."""
        return rows(
            self._wait,
            lambda: self._inner.scan_pages(
                start, end, prefix=prefix, reverse=reverse, limit=limit, for_update=for_update
            ),
        )

    def delete_range(
        self, start: bytes = b"", end: bytes | None = None, *, prefix: bytes = b""
    ) -> int:
        """Remove every key of `[start, end)`, and return how many there are."""
        return self._wait(self._inner.delete_range(start, end, prefix=prefix))

    def commit(self) -> Timestamp:
        """Commit, and return the time at which all of it happened."""
        return self._wait(self._inner.commit())

    def rollback(self) -> None:
        """End the transaction without a trace."""
        with contextlib.suppress(errors.StoppedError):  # Closing has rolled it back.
            self._wait(self._inner.rollback())


def rows(
    wait: Wait, begin: Callable[[], AsyncGenerator[list[Row], None]]
) -> Generator[Row, None, None]:
    """Yield the rows of pages that come from the loop; `begin` is called there.

    That the pages are closed is not waited for: the garbage collector may be the one who closes a
    generator, from within anything, in any thread, the loop's included.
    """

    async def make() -> tuple[AsyncGenerator[list[Row], None], asyncio.AbstractEventLoop]:
        return begin(), asyncio.get_running_loop()

    pages, loop = wait(make())

    async def next_page() -> list[Row] | None:
        return await anext(pages, None)

    try:
        while (page := wait(next_page())) is not None:
            yield from page
    finally:
        with contextlib.suppress(RuntimeError):  # The loop has ended, and closed them.
            asyncio.run_coroutine_threadsafe(pages.aclose(), loop)
