"""Reading a span inside a transaction: what the servers have, with its own writes on top."""

from collections.abc import AsyncGenerator

from multiraft.client.transaction import reading
from multiraft.client.transaction.attempt import Attempt
from multiraft.model.requests import Scan

Rows = list[tuple[bytes, bytes]]


async def pages(
    attempt: Attempt,
    start: bytes,
    end: bytes,
    *,
    reverse: bool,
    limit: int | None,
    for_update: bool = False,
) -> AsyncGenerator[Rows, None]:
    """Yield the rows of `[start, end)` page by page, with logical keys.

    Each page comes from one range. What a page covers has been read then, and nothing beyond. With
    `for_update` the keys of a page are locked; that may be a few more than are given, namely as
    many as the transaction itself has removed in the span.
    """
    limits, buffer = attempt.coordinator.limits, attempt.buffer
    attempt.check()
    while start < end and limit != 0:
        wanted = limits.scan_keys_max
        if limit is not None:
            wanted = min(wanted, limit + buffer.removals(start, end))
        asked = Scan(start, end, reverse, wanted, limits.scan_bytes_max)
        page = await reading.scan(attempt, asked, for_update=for_update)
        low, high = start, end
        if page.resume is None:
            start = end
        elif reverse:
            low = end = page.resume
        else:
            high = start = page.resume
        rows = buffer.over(page.rows, low, high, reverse=reverse)
        if limit is not None:
            rows = rows[:limit]
            limit -= len(rows)
        if rows:
            yield rows
