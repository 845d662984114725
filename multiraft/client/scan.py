"""Reading a span of keys, over any number of ranges, as of one time.

Purpose
    Ask for page after page: each goes to one range and says where the next one begins. The first
    page's leaseholder chooses the time, all later pages are read at it (rule S19); scan_time.py
    tells when it moves on. So the scan is one consistent view, and a split under it only changes
    who is asked for the next page.
Invariants
    - Every key that was there at the scan's time is given once, in order.
    - While the application works on one page, the next is on its way; at most one is.
    - Closing early leaves nothing pending.
    - What the scan still has to read is kept from garbage collection while it lasts.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from multiraft import config, errors
from multiraft.client import arguments, batch
from multiraft.client.batch import Builder
from multiraft.client.calls import Call
from multiraft.client.protection import Keeper
from multiraft.client.router import NO_TIMESTAMP, Router
from multiraft.client.scan_time import ScanTime
from multiraft.ids import Timestamp
from multiraft.model.requests import Scan, ScanResult

Row = tuple[bytes, bytes]
NOTHING = b"", b""


class Cursor:
    """Where a scan stands: what of the span is still to be read, and how many keys at most."""

    __slots__ = ("_end", "_is_reverse", "_left", "_limits", "_span", "_start")

    def __init__(
        self,
        start: bytes,
        end: bytes,
        *,
        reverse: bool,
        limit: int | None,
        limits: config.LimitsConfig,
    ) -> None:
        self._span = start, end
        self._start = start
        self._end = end
        self._is_reverse = reverse
        self._left = limit
        self._limits = limits

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing more to ask for."""
        return self._start >= self._end or self._left == 0

    @property
    def covered(self) -> tuple[bytes, bytes]:
        """The span that the pages so far have decided."""
        start, end = self._span
        return (self._end, end) if self._is_reverse else (start, self._start)

    def begin_anew(self) -> None:
        """Nothing was read yet that counts: no page had a row."""
        self._start, self._end = self._span

    def operation(self) -> Scan:
        """Return what to ask for next."""
        page_keys_max = self._limits.scan_keys_max
        return Scan(
            self._start,
            self._end,
            self._is_reverse,
            page_keys_max if self._left is None else min(self._left, page_keys_max),
            self._limits.scan_bytes_max,
        )

    def advance(self, page: ScanResult) -> None:
        """Go on after `page`."""
        if self._left is not None:
            self._left = max(0, self._left - len(page.rows) // 2)
        if self._is_reverse:
            self._end = self._start if page.resume is None else page.resume
        else:
            self._start = self._end if page.resume is None else page.resume


def span_cursor(
    builder: Builder,
    limits: config.LimitsConfig,
    start: bytes,
    end: bytes | None,
    prefix: bytes,
    *,
    reverse: bool,
    limit: int | None,
) -> Cursor:
    """Return where a scan begins that an application asks for.

    Raises InvalidSpanError, and RequestError for a limit that is none.
    """
    first, last = builder.span(start, end, prefix)
    arguments.check_limit(limit)
    return Cursor(first, last, reverse=reverse, limit=limit, limits=limits)


async def pages(
    router: Router,
    cursor: Cursor,
    *,
    prefetch: bool,
    deadline_s: float | None,
    timestamp: Timestamp = NO_TIMESTAMP,
) -> AsyncGenerator[Sequence[bytes], None]:
    """Yield the rows page by page: logical key, value, key, value. Each page has the deadline.

    With `timestamp`, as of that, which the caller keeps from garbage collection.
    """
    time = ScanTime(router, deadline_s, timestamp)
    keeper: Keeper | None = None
    upcoming: Call | None = None
    has_yielded = False
    try:
        while upcoming is not None or not cursor.has_ended:
            call = upcoming = upcoming or time.ask(cursor.operation())
            try:
                reply = await call.future
            except errors.ReadUncertainError as uncertain:
                upcoming = None
                span = cursor.covered if has_yielded else NOTHING
                if await time.move_to(Timestamp(uncertain.timestamp), *span) and not has_yielded:
                    cursor.begin_anew()
                continue
            upcoming = None
            page = reply.results[0]
            if not isinstance(page, ScanResult):
                raise batch.unexpected(page)
            cursor.advance(page)
            if not time.timestamp and not cursor.has_ended:
                time.chosen(reply.timestamp, reply.uncertainty_limit)
                keeper = Keeper(router, reply.timestamp, "a scan")
                keeper.begin_later()
            if prefetch and not cursor.has_ended:
                upcoming = time.ask(cursor.operation())
                upcoming.may_go_unheard()
            if page.rows:
                has_yielded = True
                yield page.rows
    finally:
        if upcoming is not None:
            upcoming.abandon()
        if keeper is not None:
            keeper.end()


async def row_by_row(source: AsyncGenerator[Sequence[bytes], None]) -> AsyncGenerator[Row, None]:
    """Yield the rows of pages one by one, keys as the application knows them."""
    async with aclosing(source):
        async for page in source:
            flat = iter(page)
            for key, value in zip(flat, flat, strict=True):
                yield key[1:], value


async def page_by_page(
    source: AsyncGenerator[Sequence[bytes], None],
) -> AsyncGenerator[list[Row], None]:
    """Yield the rows of each page as a list, keys as the application knows them."""
    async with aclosing(source):
        async for page in source:
            yield [(key[1:], value) for key, value in zip(page[0::2], page[1::2], strict=True)]
