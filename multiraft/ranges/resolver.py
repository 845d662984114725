"""Resolving the intents that ended transactions have left, in the background.

Purpose
    A transaction is decided at its anchor, and answered at once; its intents in other ranges become
    versions, or go, afterwards. They are collected here and sent range by range, those of many
    transactions together.
Invariants
    - One batch per range is under way: what comes meanwhile forms the next one.
    - What could not be resolved is tried again until it is, or the store stops. Nothing is lost by
      that: whoever meets such an intent asks for its transaction, and has it resolved.
    - Memory is bounded. With `has_room` False, new writes of transactions are to be refused; what
      is added all the same is left to whoever meets it, unless somebody waits for it.
Source
    Design §11; CockroachDB's intent resolver.
"""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from multiraft import errors
from multiraft.ids import RangeId, Timestamp
from multiraft.model.requests import NO_RANGE
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import ResolveIntent

if TYPE_CHECKING:
    from multiraft.client.router import Router
    from multiraft.ranges.store import Store

PENDING_MAX = 65_536
BATCH_MAX = 500
"""Keys of the greatest length fit into a batch so."""
RANGES_CONCURRENT_MAX = 16
DEADLINE_S = 5.0
RETRY_S_MIN = 0.1
RETRY_S_MAX = 2.0

_Intents = dict[tuple[bytes, bytes], ResolveIntent]
"""By key and transaction."""


class ResolverStatus(msgspec.Struct, frozen=True):
    """How many intents are to be resolved, and what became of those that were."""

    pending: int
    ranges: int
    resolved: int
    left: int
    """Not taken for want of room, or refused: they are resolved when somebody meets them."""


class Resolver:
    """See the module. One per store."""

    __slots__ = (
        "_known",
        "_left",
        "_resolved",
        "_router",
        "_slots",
        "_store",
        "_waiting",
        "_workers",
        "pending_max",
    )

    def __init__(self, store: "Store", router: "Router", pending_max: int = PENDING_MAX) -> None:
        self._store = store
        self._router = router
        self.pending_max = pending_max
        self._slots = asyncio.Semaphore(RANGES_CONCURRENT_MAX)
        self._known: dict[tuple[bytes, bytes], None] = {}
        """All that waits or is under way."""
        self._waiting: dict[RangeId, _Intents] = {}
        self._workers: dict[RangeId, None] = {}
        self._resolved = 0
        self._left = 0

    @property
    def has_room(self) -> bool:
        """Whether more can be taken."""
        return len(self._known) < self.pending_max

    def add(
        self,
        transaction_id: bytes,
        status: TransactionStatus,
        timestamp: Timestamp,
        keys: Iterable[bytes],
        *,
        is_awaited: bool = False,
    ) -> None:
        """The transaction has ended so: resolve its intents on `keys`, if it has any there.

        `timestamp` is when it committed. `is_awaited`: somebody waits, so take them in any case.
        """
        assert status.is_final, "an intent is resolved when its transaction has ended"
        at = timestamp if status is TransactionStatus.COMMITTED else Timestamp(0)
        for key in keys:
            name = key, transaction_id
            if name in self._known:
                continue
            if not is_awaited and not self.has_room:
                self._left += 1
                continue
            self._known[name] = None
            self._put(name, ResolveIntent(key, transaction_id, status, at))

    def status(self) -> ResolverStatus:
        """Return what is under way."""
        return ResolverStatus(len(self._known), len(self._workers), self._resolved, self._left)

    def _put(self, name: tuple[bytes, bytes], operation: ResolveIntent) -> None:
        target = self._router.addressing.cached(operation.key, before=False)
        range_id = NO_RANGE if target is None else target.range_id
        self._waiting.setdefault(range_id, {})[name] = operation
        if range_id not in self._workers:
            self._workers[range_id] = None
            self._store.spawn(self._work(range_id), name=f"resolve intents in r{range_id}")

    async def _work(self, range_id: RangeId) -> None:
        """Resolve what waits for one range, as far as it is known to be in that."""
        pause_s = 0.0
        try:
            while waiting := self._waiting.get(range_id):
                async with self._slots:
                    batch = dict(islice(waiting.items(), BATCH_MAX))
                    for name in batch:
                        del waiting[name]
                    has_succeeded = await self._resolve(batch)
                if has_succeeded:
                    pause_s = 0.0
                else:
                    pause_s = min(max(RETRY_S_MIN, pause_s * 2), RETRY_S_MAX)
                    await asyncio.sleep(pause_s)
        finally:
            self._waiting.pop(range_id, None)
            self._workers.pop(range_id, None)

    async def _resolve(self, batch: _Intents) -> bool:
        try:
            await self._router.execute(tuple(batch.values()), deadline_s=DEADLINE_S)
            self._resolved += len(batch)
        except errors.RequestError:
            self._left += len(batch)
        except errors.MultiraftError:
            # The range may have been split meanwhile: look anew where each belongs.
            for name, operation in batch.items():
                self._put(name, operation)
            return False
        for name in batch:
            del self._known[name]
        return True
