"""A transaction as the application sees it.

    async with db.transaction() as txn:
        balance = int(await txn.get(b"ann") or b"0")
        await txn.put(b"ann", str(balance - 5).encode())

Purpose
    Read and write any keys; all of it happens at one time, or none of it. `db.run` makes one of
    these for each time that it runs the application's function.
Invariants
    - Reads show what was there at one time, with the transaction's own writes on top.
    - Nobody else sees a write before the commit.
    - When it has ended, however it did, nothing more can be done in it.
    - Several tasks may use it at the same time, as in `asyncio.gather(txn.get(a), txn.get(b))`, as
      long as all are done when it ends.
Errors that any method may raise
    TransactionRetryError: it must run again from its start: what it read has changed, or it was in
        somebody's way. `db.run` does so by itself.
    TransactionTooLargeError: the write or the lock is one too many, or it has lasted too long.
    TransactionEndedError: it was used after its end.
    DeadlineExceededError, StoppedError, RequestError: as told by database.py.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from types import TracebackType

from multiraft import errors
from multiraft.client import arguments
from multiraft.client.batch import ANY, Builder, Expected
from multiraft.client.scan import Row
from multiraft.client.transaction import commit, ending, reading, scanning
from multiraft.client.transaction.attempt import Attempt
from multiraft.ids import Timestamp
from multiraft.model import encoding, keys
from multiraft.model.requests import ConditionalPut


class Transaction:
    """See the module; made by `Database.transaction` and `Database.run`."""

    __slots__ = ("_attempt", "_builder")

    def __init__(self, attempt: Attempt, builder: Builder) -> None:
        self._attempt = attempt
        self._builder = builder

    async def __aenter__(self) -> "Transaction":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit; after an error, roll back. Nothing, if it has ended."""
        if error is not None:
            ending.roll_back(self._attempt, f"{type(error).__name__} ended it")
        elif not self.has_ended:
            await self.commit()

    def __repr__(self) -> str:
        return f"<transaction {self._attempt.id.hex()}: it {self._attempt.state.value}>"

    @property
    def id(self) -> bytes:
        """Its ID: 16 bytes, which locks, records and logs name.

        One that cannot run again gets another one when it is aborted.
        """
        return self._attempt.id

    @property
    def has_ended(self) -> bool:
        """Whether the application has committed it or rolled it back."""
        return self._attempt.has_ended

    # -- single keys -------------------------------------------------------------------------------

    async def get(self, key: bytes, *, for_update: bool = False) -> bytes | None:
        """Return the value of `key`, or None if it is absent.

        With `for_update`, nobody else writes it until the transaction has ended: worth it for what
        is about to be written and is wanted by many. It may wait for others to end.
        """
        attempt = self._attempt
        attempt.check()
        full = self._builder.key(key)
        values = attempt.buffer.values
        if full in values:
            return values[full]
        found = await reading.get(attempt, full, for_update=for_update)
        # Another task of this transaction may have written it meanwhile.
        return values.get(full, found)

    async def put(self, key: bytes, value: bytes, *, expected: Expected = ANY) -> None:
        """Set `key` to `value` when the transaction commits.

        With `expected`, only if the key holds exactly that (None: if it is absent); otherwise
        ConditionFailedError, and the transaction can go on without the write.
        """
        self._attempt.check()
        operation = self._builder.put(key, value, expected)
        if isinstance(operation, ConditionalPut):
            await self._expect(key, operation)
        await self._attempt.write(operation.key, value)

    async def delete(self, key: bytes, *, expected: Expected = ANY) -> bool:
        """Remove `key` when the transaction commits, and return whether it is there.

        With `expected`, only if the key holds exactly that; otherwise ConditionFailedError.
        """
        self._attempt.check()
        operation = self._builder.delete(key, expected)
        if isinstance(operation, ConditionalPut):
            await self._expect(key, operation)
            existed = operation.expected is not None
        else:
            existed = await self.get(key) is not None
        if existed:
            await self._attempt.write(operation.key, None)
        return existed

    async def increment(self, key: bytes, delta: int = 1) -> int:
        """Add `delta` to the counter at `key` (absent: 0) at the commit, and return the sum.

        NotAnIntegerError if the key holds something else, or if the sum does not fit.
        """
        self._attempt.check()
        operation = self._builder.increment(key, delta)
        number = encoding.add_to_counter(operation.key, await self.get(key), delta)
        await self._attempt.write(operation.key, encoding.pack_counter(number))
        return number

    # -- several keys ------------------------------------------------------------------------------

    async def get_many(
        self, wanted: Iterable[bytes], *, for_update: bool = False
    ) -> dict[bytes, bytes | None]:
        """Return the value of each key, None for those that are absent."""
        attempt = self._attempt
        attempt.check()
        values = attempt.buffer.values
        asked = {key: self._builder.key(key) for key in wanted}
        unknown = [full for full in asked.values() if full not in values]
        found: dict[bytes, bytes | None] = {}
        most = attempt.coordinator.settings.transaction_call_keys_max
        for first in range(0, len(unknown), most):
            some = unknown[first : first + most]
            found.update(await self._get_some(some, for_update=for_update))
        return {key: values[full] if full in values else found[full] for key, full in asked.items()}

    async def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        for_update: bool = False,
    ) -> AsyncGenerator[Row, None]:
        """Yield `(key, value)` of `[start, end)`, ascending, or descending when `reverse`.

        As `Database.scan`; with the transaction's own writes. Of a key that is written while the
        scan runs, it shows the value of when its page was read, or the new one.

        With `for_update`, nobody else writes the keys that it finds until the transaction has
        ended: those of every page that was read, also if not all rows of the last one are looked
        at. It may wait for others to end. A new key in the span is not kept out, but noticed.
        """
        pages = self.scan_pages(
            start, end, prefix=prefix, reverse=reverse, limit=limit, for_update=for_update
        )
        async with aclosing(pages):
            async for page in pages:
                for row in page:
                    yield row

    async def scan_pages(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        for_update: bool = False,
    ) -> AsyncGenerator[list[Row], None]:
        """Like `scan`, but yield lists of rows as they arrive."""
        first, last = self._builder.span(start, end, prefix)
        arguments.check_limit(limit)
        pages = scanning.pages(
            self._attempt, first, last, reverse=reverse, limit=limit, for_update=for_update
        )
        async with aclosing(pages):
            async for page in pages:
                yield [(key[1:], value) for key, value in page]

    async def delete_range(
        self, start: bytes = b"", end: bytes | None = None, *, prefix: bytes = b""
    ) -> int:
        """Remove every key of `[start, end)` at the commit, and return how many there are.

        Every key counts as one that is written: for many, use `Database.delete_range`, or several
        transactions.
        """
        count = 0
        attempt = self._attempt
        first, last = self._builder.span(start, end, prefix)
        pages = scanning.pages(attempt, first, last, reverse=False, limit=None)
        async with aclosing(pages):
            async for page in pages:
                for key, _ in page:
                    await attempt.write(key, None)
                count += len(page)
        return count

    # -- the end -----------------------------------------------------------------------------------

    async def commit(self) -> Timestamp:
        """Commit, and return the time at which all of it happened, usable as a revision.

        On return it is decided and durable, and whoever reads from now on sees it. Leaving `async
        with` does this. TransactionRetryError: nothing was or will be written. OutcomeUnknownError:
        the deadline passed, and nobody said what became of it. If cancelled, it may have committed
        or not, and leaves no lock behind.
        """
        return await commit.commit(self._attempt)

    async def rollback(self) -> None:
        """End the transaction without a trace. Nothing, if it has ended."""
        ending.roll_back(self._attempt, "the application rolled it back")

    async def _get_some(
        self, wanted: list[bytes], *, for_update: bool
    ) -> dict[bytes, bytes | None]:
        """Read keys, in halves if their values are too large for one reply."""
        try:
            return await reading.get_many(self._attempt, wanted, for_update=for_update)
        except errors.BatchTooLargeError:
            if len(wanted) == 1:
                raise
        middle = len(wanted) // 2
        first = await self._get_some(wanted[:middle], for_update=for_update)
        return first | await self._get_some(wanted[middle:], for_update=for_update)

    async def _expect(self, key: bytes, operation: ConditionalPut) -> None:
        """Raise ConditionFailedError unless the key holds what is expected."""
        actual = await self.get(key)
        if actual != operation.expected:
            raise errors.ConditionFailedError(key=keys.pretty(operation.key), actual=actual)
