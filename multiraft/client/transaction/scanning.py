"""Reading a span inside a transaction: what the servers have, with its own writes on top.

Invariants
    - What the pages that were given cover has been read, and nothing beyond.
    - While the application works on one page, the next is on its way, unless it is to be locked or
      the transaction holds something already: whoever waits then keeps others waiting.
    - Closing early leaves nothing pending.
"""

from collections.abc import AsyncGenerator

from multiraft.client.transaction import ahead, reading
from multiraft.client.transaction.ahead import PageAhead
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

    Each page comes from one range. With `for_update` its keys are locked; that may be a few more
    than are given, namely as many as the transaction itself has removed in the span.
    """
    limits, buffer = attempt.coordinator.limits, attempt.buffer

    def upcoming() -> Scan:
        wanted = limits.scan_keys_max
        if limit is not None:
            wanted = min(wanted, limit + buffer.removals(start, end))
        return Scan(start, end, reverse, wanted, limits.scan_bytes_max)

    attempt.check()
    early: PageAhead | None = None
    try:
        while start < end and limit != 0:
            page = None if early is None else await early.take()
            early = None
            if page is None:
                page = await reading.scan(attempt, upcoming(), for_update=for_update)
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
            if start < end and limit != 0 and not for_update:
                early = ahead.ask(attempt, upcoming())
            if rows:
                yield rows
    finally:
        if early is not None:
            early.abandon()
