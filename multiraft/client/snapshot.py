"""The database as it was, or is, at one time: reads over all ranges that fit together.

Purpose
    What `Database.snapshot` gives. All its reads are at one timestamp, so nothing that is written
    meanwhile, or was written later, is seen.
Invariants
    - Without a given time the first read's leaseholder chooses it, and nothing else is read before
      (rule S19). It lies above everything that this client has been told of.
    - A time in the past is never moved. What may be gone by now is refused.
    - A snapshot that lasts has its time protected; see protection.py.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType

from multiraft import config, errors
from multiraft.client import arguments, batch, many, moment, scan
from multiraft.client.batch import Answer, Builder
from multiraft.client.moment import Moment
from multiraft.client.protection import Keeper
from multiraft.client.router import NO_TIMESTAMP, Router
from multiraft.client.scan import Cursor, Row
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import Operation, Scan, ScanResult


class Snapshot:
    """See the module; made by `Database.snapshot`, to be used with `async with`.

    Reads may run at the same time. Errors are those of the database's own reads, and:
    ReadTooOldError: what was there at that time may be garbage by now.
    TransactionEndedError: the `async with` block has been left.
    """

    def __init__(
        self,
        router: Router,
        builder: Builder,
        settings: config.Config,
        at: Moment | None,
        owner: str,
    ) -> None:
        arguments.check_text("owner", owner)
        self._router = router
        self._builder = builder
        self._settings = settings
        self._moment = at
        self._owner = owner
        self._timestamp = NO_TIMESTAMP
        self._fixing = asyncio.Lock()
        self._keeper: Keeper | None = None
        self._is_over = False

    async def __aenter__(self) -> "Snapshot":
        """Find out which time is meant, if one was given. Raises RequestError if it is no past."""
        if self._moment is not None:
            self._fix(await moment.resolve(self._router, self._moment))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let the time go."""
        self._is_over = True
        if self._keeper is not None:
            self._keeper.end()

    @property
    def timestamp(self) -> Timestamp | None:
        """The time of all reads, which another snapshot can be given; None before the first one."""
        return self._timestamp or None

    async def get(self, key: bytes, *, deadline_s: float | None = None) -> bytes | None:
        """Return what `key` held at the snapshot's time, None if it was absent."""
        operation = self._builder.get(key)
        self._check_open()
        if not self._timestamp:
            async with self._fixing:
                if not self._timestamp:
                    return await self._read_first(operation.key, deadline_s)
        (answer,) = await self._execute((operation,), deadline_s)
        assert answer is None or isinstance(answer, bytes), "a Get gives bytes or None"
        return answer

    async def get_many(
        self, wanted: Iterable[bytes], *, deadline_s: float | None = None
    ) -> dict[bytes, bytes | None]:
        """Return what each key held at the snapshot's time: all of one moment."""
        operations = [self._builder.get(key) for key in wanted]
        self._check_open()
        if operations:
            await self._fix_at(operations[0].key, deadline_s)
        return await many.get_many(lambda part: self._execute(part, deadline_s), operations)

    def scan(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[Row, None]:
        """Yield `(key, value)` as `Database.scan` does, of the snapshot's time."""
        cursor = scan.span_cursor(
            self._builder, self._settings.limits, start, end, prefix, reverse=reverse, limit=limit
        )
        return scan.row_by_row(self._pages(cursor, deadline_s))

    def scan_pages(
        self,
        start: bytes = b"",
        end: bytes | None = None,
        *,
        prefix: bytes = b"",
        reverse: bool = False,
        limit: int | None = None,
        deadline_s: float | None = None,
    ) -> AsyncGenerator[list[Row], None]:
        """Like `scan`, but yield lists of rows as they arrive: faster when there are many."""
        cursor = scan.span_cursor(
            self._builder, self._settings.limits, start, end, prefix, reverse=reverse, limit=limit
        )
        return scan.page_by_page(self._pages(cursor, deadline_s))

    # -- inside ------------------------------------------------------------------------------------

    async def _pages(
        self, cursor: Cursor, deadline_s: float | None
    ) -> AsyncGenerator[Sequence[bytes], None]:
        self._check_open()
        await self._fix_at(cursor.operation().start, deadline_s)
        source = scan.pages(
            self._router,
            cursor,
            prefetch=self._settings.client.scan_prefetch,
            deadline_s=deadline_s,
            timestamp=self._timestamp,
        )
        async with aclosing(source):
            async for page in source:
                self._check_open()
                yield page

    def _check_open(self) -> None:
        if self._is_over:
            raise errors.TransactionEndedError(state="is a snapshot that was left")

    async def _execute(
        self, operations: tuple[Operation, ...], deadline_s: float | None
    ) -> list[Answer]:
        self._check_open()
        reply = await self._router.execute(
            operations, deadline_s=deadline_s, timestamp=self._timestamp
        )
        return batch.answers(operations, reply)

    async def _fix_at(self, key: bytes, deadline_s: float | None) -> None:
        """Make sure that the time is chosen; if not, where `key` is."""
        if not self._timestamp:
            async with self._fixing:
                if not self._timestamp:
                    await self._read_first(key, deadline_s)

    async def _read_first(self, key: bytes, deadline_s: float | None) -> bytes | None:
        """Let the leaseholder of `key` choose the time, and return what the key holds.

        By a scan: its time lies above all that this client has been told of, and a get's need not.
        """
        page = Scan(key, keys.next_key(key))
        reply = await self._router.execute((page,), deadline_s=deadline_s)
        result = reply.results[0]
        if not isinstance(result, ScanResult):
            raise batch.unexpected(result)
        self._fix(reply.timestamp)
        return result.rows[1] if result.rows else None

    def _fix(self, timestamp: Timestamp) -> None:
        self._timestamp = timestamp
        if not self._is_over:
            self._keeper = Keeper(self._router, timestamp, self._owner)
            self._keeper.begin_later()
