"""Garbage collection of one range, by its leader: old versions, and what transactions have left.

Purpose
    One `GarbagePass` looks through the range in a view. Only if there is something to remove does
    it raise the range's threshold, by a command; when that is applied, it removes what it finds in
    bounded commands, one after the other. Locks of transactions that are gone are resolved, and
    records removed whose transactions are over.
Invariants
    - The threshold is replicated before anything is removed, so whoever leads later refuses the
      reads that would miss it. It is only ever raised.
    - A record is removed only when it is final, its transaction was issued at or below the
      threshold, and all writes that it names are resolved. Otherwise *absent* would be taken for
      "nobody has written one" (rule S18), and a committed write that was left for later would be
      aborted by whoever meets it.
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
from typing import TYPE_CHECKING, Protocol

from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch
from multiraft.ids import Timestamp
from multiraft.mvcc.garbage import Found, GarbageScan
from multiraft.mvcc.leftovers import LeftoverScan, OldRecord
from multiraft.mvcc.reader import ViewReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.ranges import leftovers
from multiraft.ranges.change import LatchedChange
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command, GcTrigger
from multiraft.ranges.recovery import Ask
from multiraft.storage import layout

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

KEYS_PER_SLICE = 500
PAUSE_S = 0.005
"""Between slices: with half a millisecond for a slice, a tenth of the loop at most."""
REMOVED_PER_COMMAND = 256


class Sliced(Protocol):
    """What looks through a range, as a pass goes about it."""

    def advance(self, keys_max: int) -> bool:
        """Look at up to so many more keys; return whether the whole span was looked at."""
        ...


class Pace:
    """Lets one pass of a store at a time look at a slice."""

    __slots__ = ("_turn",)

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def slice(self, scan: Sliced) -> bool:
        """Look at the next slice when it is this scan's turn; return whether that was the last."""
        async with self._turn:
            await asyncio.sleep(PAUSE_S)
            return scan.advance(KEYS_PER_SLICE)


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

    __slots__ = (
        "_ask",
        "_descriptor",
        "_holder",
        "_pace",
        "_replica",
        "_store",
        "_threshold",
        "records_removed",
        "versions_removed",
    )

    def __init__(
        self,
        store: "Store",
        replica: "Replica",
        holder: Leaseholder,
        threshold: Timestamp,
        pace: Pace,
        ask: Ask,
    ) -> None:
        descriptor = replica.descriptor
        assert descriptor is not None, "a leader is initialised"
        self._store = store
        self._replica = replica
        self._holder = holder
        self._descriptor = descriptor
        self._threshold = threshold
        self._pace = pace
        self._ask = ask
        self.versions_removed = 0
        self.records_removed = 0

    async def run(self) -> Timestamp:
        """Remove everything that nobody may ask for above the threshold.

        Returns a threshold below which a further pass would find nothing. Raises
        NotLeaseholderError if the term ends, or the range is split, before.
        """
        context, descriptor = self._store.context, self._descriptor
        engine = context.engine
        view = engine.view()
        stats = self._replica.applied.stats
        began = context.hlc.now()
        try:
            reader = ViewReader(view, engine.data)
            span = descriptor.start, descriptor.end
            more_at = None
            if stats.versions > stats.live_keys:
                more_at = await self._versions(GarbageScan(reader, *span, self._threshold))
            old_at = await self._leftovers(LeftoverScan(reader, *span, self._threshold))
            return min(more_at or began, old_at or began)
        finally:
            view.close()

    async def _versions(self, scan: GarbageScan) -> Timestamp | None:
        is_done = False
        found: list[Found] = []
        while not is_done:
            is_done = await self._pace.slice(scan)
            found += scan.take()
            while len(found) >= REMOVED_PER_COMMAND or (is_done and found):
                await self._remove(found[:REMOVED_PER_COMMAND])
                del found[:REMOVED_PER_COMMAND]
        return scan.next_at()

    async def _leftovers(self, scan: LeftoverScan) -> Timestamp | None:
        is_done, are_gone = False, True
        while not is_done:
            is_done = await self._pace.slice(scan)
            records, laid = scan.take()
            are_gone &= await leftovers.resolve_intents(self._ask, laid)
            ended: list[OldRecord] = []
            for physical, record in records:
                if record.status.is_final:
                    ended.append((physical, record))
                else:
                    # It is final only when that is applied here: removed by the next pass.
                    issued_at = record.issued_at
                    await leftovers.end_transaction(self._ask, record.txn, issued_at, issued_at)
                    are_gone = False
            for start in range(0, len(ended), REMOVED_PER_COMMAND):
                await self._remove_records(ended[start : start + REMOVED_PER_COMMAND])
        return scan.next_at() if are_gone else self._threshold

    async def _remove_records(self, ended: list[OldRecord]) -> None:
        await leftovers.resolve_writes(self._ask, [record for _, record in ended])
        await self._raise_threshold()
        await self._carry_out(
            LatchedChange(self._holder, Latch(read_points=(latches.DESCRIPTOR,))),
            Command(deletes=tuple([physical for physical, _ in ended])),
        )
        self.records_removed += len(ended)

    async def _raise_threshold(self) -> None:
        if self._replica.applied.gc_threshold < self._threshold:
            await self._carry_out(
                LatchedChange(self._holder, Latch()), Command(trigger=GcTrigger(self._threshold))
            )

    async def _remove(self, found: list[Found]) -> None:
        await self._raise_threshold()
        removed = Removed(found)
        stats = removed.stats_from(self._descriptor.start)
        deletes = tuple([physical for physical, _ in found])
        await self._carry_out(Removal(self._holder, removed), Command(deletes=deletes, stats=stats))
        self.versions_removed += len(found)

    async def _carry_out(self, change: LatchedChange, command: Command) -> None:
        await change.acquire()
        replica = self._replica
        if replica.leaseholder is not self._holder or replica.descriptor != self._descriptor:
            change.give_back()
            raise self._holder.lost()
        await change.carry_out(command)
