"""Reading a whole span of the cluster's own records, page by page, as of one time.

For records of which there are few: all of them are returned together. Applications scan by scan.py,
which gives pages as they come, and tells newer versions from older ones where clocks differ.
"""

from multiraft.client import batch
from multiraft.client.router import NO_TIMESTAMP, Router
from multiraft.ids import Timestamp
from multiraft.model.requests import Scan, ScanResult


async def read(
    router: Router, start: bytes, end: bytes, *, deadline_s: float | None = None
) -> tuple[Timestamp, list[tuple[bytes, bytes]]]:
    """Return the logical keys and values of `[start, end)`, and the time at which they were read.

    Each page has the deadline. Raises what the router raises.
    """
    at = NO_TIMESTAMP
    rows: list[tuple[bytes, bytes]] = []
    while True:
        reply = await router.execute((Scan(start, end),), timestamp=at, deadline_s=deadline_s)
        at = at or reply.timestamp
        page = reply.results[0]
        if not isinstance(page, ScanResult):
            raise batch.unexpected(page)
        rows += zip(page.rows[0::2], page.rows[1::2], strict=True)
        if page.resume is None:
            return at, rows
        start = page.resume
