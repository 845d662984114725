"""The time at which a scan outside transactions reads, and what it may not miss at that time.

Purpose
    The first page's leaseholder chooses the time. Clocks differ, so in another range there may be
    a version above it that was there, in real time, before the scan began. Where a page meets one
    that may be so, the scan moves on to its time, if what was read is the same there; else it goes
    on where it is, and is a consistent view as of the time at which its first page was read.
Invariants
    - All rows that were given are as of the present time of the scan.
    - The time only grows, and never beyond the first one plus the greatest offset of clocks: what
      lies above that was written after the scan began.
Source
    Safety rules S13 and S19.
"""

import asyncio

from multiraft.client import batch
from multiraft.client.calls import Call
from multiraft.client.router import NO_TIMESTAMP, Router
from multiraft.ids import Timestamp
from multiraft.model.requests import Operation, Scan
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import Refresh, RefreshResult, TransactionContext

MOVES_MAX = 3
"""Where much is written, what is met may be uncertain again and again."""


class ScanTime:
    """See the module. With a `timestamp` given, it is that one, for good."""

    __slots__ = ("_deadline_s", "_meta", "_moves_left", "_router", "_uncertain_until", "timestamp")

    def __init__(self, router: Router, deadline_s: float | None, timestamp: Timestamp) -> None:
        self._router = router
        self._deadline_s = deadline_s
        self._meta: TransactionMeta | None = None
        """Reads that tell what is uncertain are those of a transaction; it locks nothing."""
        self._moves_left = MOVES_MAX
        self._uncertain_until = NO_TIMESTAMP
        self.timestamp = timestamp

    def ask(self, page: Scan) -> Call:
        """Begin to read a page. What its call raises may be ReadUncertainError: see `move_to`."""
        if self._uncertain_until > self.timestamp:
            return self._ask((page,), self.timestamp)
        return self._router.start((page,), deadline_s=self._deadline_s, timestamp=self.timestamp)

    def chosen(self, timestamp: Timestamp, uncertain_until: Timestamp) -> None:
        """The first page was read at `timestamp`."""
        self.timestamp = timestamp
        self._uncertain_until = uncertain_until
        self._meta = TransactionMeta(self._router.rng.unique_id())

    async def move_to(self, timestamp: Timestamp, start: bytes, end: bytes) -> bool:
        """Move on to `timestamp`, if `[start, end)` is the same there; return whether it is.

        If not, nothing that is asked for from now on is uncertain.
        """
        self._moves_left -= 1
        if self._moves_left >= 0 and await self._is_the_same(timestamp, start, end):
            self.timestamp = timestamp
            return True
        self._uncertain_until = NO_TIMESTAMP
        return False

    async def _is_the_same(self, timestamp: Timestamp, start: bytes, end: bytes) -> bool:
        while start < end:
            call = self._ask((Refresh(start, end, self.timestamp),), timestamp)
            try:
                reply = await call.future
            except asyncio.CancelledError:
                call.abandon()
                raise
            result = reply.results[0]
            if not isinstance(result, RefreshResult):
                raise batch.unexpected(result)
            if not result.succeeded:
                return False
            start = result.resume or end
        return True

    def _ask(self, operations: tuple[Operation, ...], timestamp: Timestamp) -> Call:
        assert self._meta is not None, "the first page has been read"
        router = self._router
        seconds = router.settings.deadline_s if self._deadline_s is None else self._deadline_s
        return router.start_in_transaction(
            operations,
            TransactionContext(self._meta, 0, max(timestamp, self._uncertain_until)),
            issued_at=router.issued_at(),
            timestamp=timestamp,
            deadline=router.now() + seconds,
        )
