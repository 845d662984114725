"""Finding the range that holds a key: the cache, then the addressing records in the first range.

Purpose
    Turn a key into a range to ask. The first range is known from any node's Welcome; it holds the
    addressing record of every other range.
Invariants
    - Records are derived and may be old: what a look-up returns is worth asking, and need not hold
      the key. The node that is asked knows better, and says so.
    - A look-up that many wait for is made a few times at most, whatever their number.
    - A range that is known can be reached while the first range is down.
Source
    Safety rule L6.
"""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from multiraft import errors
from multiraft.client.range_cache import CachedRange, RangeCache
from multiraft.model import encoding, keys
from multiraft.model.requests import BatchReply, Operation, Scan, ScanResult

_LOOKUPS_CONCURRENT_MAX = 8

_NEIGHBOURS = 16
"""A look-up brings that many following ranges along: who asks for one often wants the next."""

_PATIENCE_S = 1.0
"""How long to wait for fresh facts about a range: it may be back before its record can be read."""

Read = Callable[[tuple[Operation, ...], float], Awaitable[BatchReply]]
"""Reads addressing records in the first range before a deadline, in monotonic time."""


class Addressing:
    """See the module. `read` sends operations to the first range, `refresh` asks any node."""

    def __init__(
        self, cache: RangeCache, read: Read, refresh: Callable[[], Awaitable[None]]
    ) -> None:
        self.cache = cache
        self.lookups = 0
        self._read = read
        self._refresh = refresh
        self._slots = asyncio.Semaphore(_LOOKUPS_CONCURRENT_MAX)

    def cached(self, key: bytes, *, before: bool) -> CachedRange | None:
        """Return the range of `key` (or of the keys right before it) without the network."""
        return self.cache.lookup_before(key) if before else self.cache.lookup(key)

    def learn(self, packed: list[bytes]) -> None:
        """Take in descriptors that a node sent."""
        for descriptor in packed:
            try:
                self.cache.insert(encoding.unpack_descriptor(descriptor))
            except msgspec.MsgspecError as error:
                reason = f"a descriptor cannot be read: {error}"
                raise errors.ProtocolError(reason=reason) from error

    async def find(
        self, key: bytes, deadline: float, *, before: bool, stale: CachedRange | None
    ) -> CachedRange:
        """Return the range to ask for `key`; it may be another one that knows more.

        What is the same as `stale` is not taken from the cache but looked up; if the records say
        the same, or cannot be read now, it is returned all the same. Without `stale`, raises what
        the router raises for a read.
        """
        known = self._better_than(stale, key, before=before)
        if known is not None:
            return known
        if stale is None:
            return await self._find_anew(key, deadline, before=before, stale=None)
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._find_anew(key, deadline, before=before, stale=stale)
        except (TimeoutError, errors.RetryableError, errors.DeadlineExceededError):
            return stale

    async def _find_anew(
        self, key: bytes, deadline: float, *, before: bool, stale: CachedRange | None
    ) -> CachedRange:
        if key < keys.FIRST_RANGE_END or (before and key == keys.FIRST_RANGE_END):
            return await self._first_range()
        async with self._slots:
            known = self._better_than(stale, key, before=before)
            return known if known is not None else await self._look_up(key, deadline, before=before)

    def _better_than(
        self, stale: CachedRange | None, key: bytes, *, before: bool
    ) -> CachedRange | None:
        known = self.cached(key, before=before)
        if known is None or stale is None or known.descriptor != stale.descriptor:
            return known
        return None

    async def _first_range(self) -> CachedRange:
        await self._refresh()
        known = self.cache.lookup(keys.MIN)
        if known is None:
            raise errors.NodeUnavailableError(
                target="the first range", reason="no node knows it yet"
            )
        return known

    async def _look_up(self, key: bytes, deadline: float, *, before: bool) -> CachedRange:
        self.lookups += 1
        middle = keys.meta_key(key) if before else keys.next_key(keys.meta_key(key))
        reply = await self._read(
            (
                Scan(keys.META, middle, reverse=True, limit_keys=1),
                Scan(middle, keys.SYSTEM, limit_keys=_NEIGHBOURS),
            ),
            deadline,
        )
        here, after = reply.results
        assert isinstance(here, ScanResult), "a scan is answered by its result"
        assert isinstance(after, ScanResult), "a scan is answered by its result"
        self.learn(list(after.rows[1::2]))
        self.learn(list(here.rows[1::2]))
        known = self.cached(key, before=before)
        if known is not None:
            return known
        if here.rows:
            # An old record, of a range that has given this key away: it knows to whom.
            return CachedRange(encoding.unpack_descriptor(here.rows[1]))
        return await self._first_range()
