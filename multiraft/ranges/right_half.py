"""Counting what the right half of a split will hold, exactly, without holding up any write.

A view is counted in slices; writes applied meanwhile report what they change on the right. The
split latches its keys only when the view is counted, so nobody waits for that.
"""

import asyncio
from typing import TYPE_CHECKING

from multiraft.mvcc.reader import ViewReader
from multiraft.mvcc.statistics import RangeStats, StatsScan
from multiraft.mvcc.writes import Counted
from multiraft.ranges.leaseholder import Leaseholder

if TYPE_CHECKING:
    from multiraft.ranges.store import Store

KEYS_PER_SLICE = 500
PAUSE_S = 0.001


class RightHalfCount:
    """See the module. Used for one `run`, and one `stop` whatever became of that."""

    __slots__ = ("_holder", "_key", "_since")

    def __init__(self, holder: Leaseholder, key: bytes) -> None:
        self._holder = holder
        self._key = key
        self._since = RangeStats()

    async def run(self, store: "Store", end: bytes) -> RangeStats:
        """Count `[key, end)`; then keep following writes until `stop`."""
        engine = store.context.engine
        self._holder.observers.append(self._observe)
        view = engine.view()
        try:
            scan = StatsScan(ViewReader(view, engine.data), self._key, end)
            while not scan.advance(KEYS_PER_SLICE):  # noqa: ASYNC110 - gives way
                await asyncio.sleep(PAUSE_S)
            return scan.stats
        finally:
            view.close()

    @property
    def since(self) -> RangeStats:
        """What applied writes have changed on the right since the view was taken."""
        return self._since

    def stop(self) -> None:
        """Follow no more."""
        self._holder.observers.remove(self._observe)

    def _observe(self, changes: Counted) -> None:
        self._since = self._since.plus(changes.stats_from(self._key))
