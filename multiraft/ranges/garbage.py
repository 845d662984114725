"""Garbage collection of one range, by its leader: raise the threshold, then remove.

Purpose
    One `GarbagePass` looks through the range in a view. Only if there is something to remove does
    it raise the range's threshold, by a command; when that is applied, it removes what it finds in
    bounded commands, one after the other.
Invariants
    - The threshold is replicated before anything is removed, so whoever leads later refuses the
      reads that would miss it. It is only ever raised.
    - Statistics stay exact: a removal holds the descriptor's latch from before it is proposed until
      it is applied, so no split comes in between; and each version is named once, because nobody
      else removes any, and the next pass begins when this one's last command is applied.
    - A pass belongs to a term. It ends with it, and where it got to does not matter: whatever
      prefix of a removal was applied, reads above the threshold see the same (mvcc/garbage.py).
Pace
    A store's passes share a `Pace`: they look at a slice of versions at a time, with pauses, and
    have one command each under way. So they take a bounded share of the loop, however much there
    is to remove.
"""

import asyncio
from typing import TYPE_CHECKING

from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch
from multiraft.ids import Timestamp
from multiraft.mvcc.garbage import Found, GarbageScan
from multiraft.mvcc.reader import ViewReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges.change import LatchedChange
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command, GcTrigger
from multiraft.storage import layout

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

VERSIONS_PER_SLICE = 500
PAUSE_S = 0.005
"""Between slices: with half a millisecond for a slice, a tenth of the loop at most."""
REMOVED_PER_COMMAND = 256


class Pace:
    """Lets one pass of a store at a time look at a slice."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def slice(self, scan: GarbageScan) -> bool:
        """Look at the next slice when it is this scan's turn; return whether that was the last."""
        async with self._turn:
            await asyncio.sleep(PAUSE_S)
            return scan.advance(VERSIONS_PER_SLICE)


class Removed:
    """Versions that a command has removed, as whoever counts a range sees it (writes.Counted)."""

    __slots__ = ("_found",)

    def __init__(self, found: list[Found]) -> None:
        self._found = found

    def stats_from(self, start: bytes) -> RangeStats:
        """Return the difference that the removals at `start` and above make."""
        low = layout.span(layout.VERSION, start, start)[0]
        sizes = [size for physical, size in self._found if physical >= low]
        return RangeStats(versions=-len(sizes), version_bytes=-sum(sizes))


class Removal(LatchedChange):
    """One command that removes versions; it leaves the descriptor alone while it is under way."""

    __slots__ = ("_removed",)

    def __init__(self, holder: Leaseholder, removed: Removed) -> None:
        super().__init__(holder, Latch(read_points=(latches.DESCRIPTOR,)))
        self._removed = removed

    def applied(self) -> None:
        """The versions are gone; told before a split that waits for the latch can go on."""
        for observe in self._holder.observers:
            observe(self._removed)
        super().applied()


class GarbagePass:
    """See the module. Used for one `run`."""

    __slots__ = ("_descriptor", "_holder", "_pace", "_replica", "_store", "_threshold", "removed")

    def __init__(
        self,
        store: "Store",
        replica: "Replica",
        holder: Leaseholder,
        threshold: Timestamp,
        pace: Pace,
    ) -> None:
        descriptor = replica.descriptor
        assert descriptor is not None, "a leader is initialised"
        self._store = store
        self._replica = replica
        self._holder = holder
        self._descriptor = descriptor
        self._threshold = threshold
        self._pace = pace
        self.removed = 0
        """How many versions are gone by now."""

    async def run(self) -> Timestamp:
        """Remove everything that no read above the threshold sees.

        Returns a threshold below which a further pass would find nothing. Raises
        NotLeaseholderError if the term ends, or the range is split, before.
        """
        context, descriptor = self._store.context, self._descriptor
        engine = context.engine
        view = engine.view()
        began = context.hlc.now()
        try:
            reader = ViewReader(view, engine.data)
            scan = GarbageScan(reader, descriptor.start, descriptor.end, self._threshold)
            is_done = False
            found: list[Found] = []
            while not is_done:
                is_done = await self._pace.slice(scan)
                found += scan.take()
                while len(found) >= REMOVED_PER_COMMAND or (is_done and found):
                    await self._remove(found[:REMOVED_PER_COMMAND])
                    del found[:REMOVED_PER_COMMAND]
            return scan.next_at() or began
        finally:
            view.close()

    async def _remove(self, found: list[Found]) -> None:
        if self._replica.applied.gc_threshold < self._threshold:
            await self._carry_out(
                LatchedChange(self._holder, Latch()), Command(trigger=GcTrigger(self._threshold))
            )
        removed = Removed(found)
        stats = removed.stats_from(self._descriptor.start)
        deletes = tuple([physical for physical, _ in found])
        await self._carry_out(Removal(self._holder, removed), Command(deletes=deletes, stats=stats))
        self.removed += len(found)

    async def _carry_out(self, change: LatchedChange, command: Command) -> None:
        await change.acquire()
        replica = self._replica
        if replica.leaseholder is not self._holder or replica.descriptor != self._descriptor:
            change.give_back()
            raise self._holder.lost()
        await change.carry_out(command)
