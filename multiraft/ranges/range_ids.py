"""New range IDs, from the replicated counter.

Invariants
    - An ID is given once, whatever becomes of who asked: an unused one is lost.
    - Of several that ask at once, one takes a block for all of them.
"""

import asyncio

from multiraft.client.router import Router
from multiraft.ids import RangeId
from multiraft.model import keys
from multiraft.model.requests import Increment, IncrementResult

IDS_PER_BLOCK = 16


class RangeIds:
    """Those of one store, taken in blocks; a stop loses what is left of one."""

    __slots__ = ("_left", "_lock", "_next", "_router")

    def __init__(self, router: Router) -> None:
        self._router = router
        self._lock = asyncio.Lock()
        self._next = 0
        self._left = 0

    async def take(self) -> RangeId:
        """Return an ID that no range has, had, or will be given by anybody else."""
        async with self._lock:
            if not self._left:
                operation = Increment(keys.RANGE_ID_COUNTER, IDS_PER_BLOCK)
                reply = await self._router.execute((operation,))
                result = reply.results[0]
                assert isinstance(result, IncrementResult), "an increment gives a number"
                self._next = result.value - IDS_PER_BLOCK + 1
                self._left = IDS_PER_BLOCK
            taken = RangeId(self._next)
            self._next += 1
            self._left -= 1
            return taken
