"""Leaders collect the garbage of the ranges that they lead.

Purpose
    Now and then, look which of the ranges led here may have something to remove that is older than
    the time to live; read the protections; have each such range gone through (ranges/garbage.py).
Invariants
    - One timer per store, not per range. A look at a range that has nothing costs a comparison of
      its statistics, and no message; the protections are read only if some range may have garbage.
    - No threshold is raised above what the protections and the time to live allow, as of the time
      at which the protections were read: see model/protection.py for why that needs no haste.
    - No threshold is raised to this node's present or beyond, whatever other clocks say.
    - One pass of a range is under way at a time, and a few of a store. Each look begins a pass of
      every range that is due, so those that are due ever again keep no other from its pass.
When a range is due
    It has versions that are not live, locks, or records of transactions, and the threshold may go
    an eighth of the time to live beyond where, by the last look, it would find something. So a
    range is gone through eight times at most while its versions grow old, and never once they are
    gone.
"""

import asyncio

import msgspec

from multiraft import errors
from multiraft.client.router import Router
from multiraft.ids import Index, RangeId, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import NO_RANGE, Operation, Result
from multiraft.ranges import protections, slices
from multiraft.ranges.garbage import GarbagePass, Pace
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.storage import layout

INTERVAL_S_MAX = 60.0
STEPS = 8
"""A range is gone through when a threshold may rise by this part of the time to live."""
PASSES_CONCURRENT_MAX = 8
DEADLINE_S = 10.0


class GarbageQueueStatus(msgspec.Struct, frozen=True):
    """What was collected here since the start, and what is in the way now."""

    ttl_s: float
    """How long old versions are kept; 0: for ever."""
    passes: int = 0
    versions_removed: int = 0
    records_removed: int = 0
    under_way: int = 0
    problem: str = ""
    """Why something could not be collected when it was last tried; empty if nothing failed."""


class GarbageQueue:
    """Runs for the life of a store; see the module."""

    def __init__(self, store: Store, router: Router) -> None:
        self._store = store
        self._router = router
        self._ttl_s = store.context.config.ranges.gc_ttl_s
        self._ttl = hlc.from_us(int(self._ttl_s * 1e6))
        self._step = self._ttl // STEPS
        self._pace = Pace()
        self._slots = asyncio.Semaphore(PASSES_CONCURRENT_MAX)
        self._next_at: dict[RangeId, Timestamp] = {}
        """By range: no threshold below would find anything."""
        self._has_records: dict[RangeId, tuple[Index, bool]] = {}
        """By range: at which applied index it was found out whether it has records."""
        self._under_way: set[RangeId] = set()
        self._passes = 0
        self._versions = 0
        self._records = 0
        self._problems: dict[RangeId, str] = {}
        """Of those whose last pass failed; at `NO_RANGE`, about the protections."""

    def status(self) -> GarbageQueueStatus:
        """Return what was collected."""
        return GarbageQueueStatus(
            self._ttl_s,
            self._passes,
            self._versions,
            self._records,
            len(self._under_way),
            next(iter(self._problems.values()), ""),
        )

    async def run(self) -> None:
        """Look at all ranges led here, again and again; never, if everything is kept."""
        while self._ttl:
            await asyncio.sleep(min(INTERVAL_S_MAX, self._ttl_s / STEPS))
            try:
                await self._look()
                self._problems.pop(NO_RANGE, None)
            except errors.StoreFailedError:
                raise
            except errors.MultiraftError as error:
                self._problems[NO_RANGE] = f"the protections cannot be read: {error.message}"

    async def _look(self) -> None:
        clock = self._store.context.hlc
        if not await self._due(Timestamp(clock.now() - self._ttl)):
            return
        at, found = await protections.read(self._router)
        threshold = protections.ceiling(Timestamp(min(at, clock.now())), found, self._ttl)
        for replica, holder in await self._due(threshold):
            await self._slots.acquire()
            if replica.leaseholder is not holder:
                self._slots.release()
                continue  # While it waited for its turn.
            self._under_way.add(replica.range_id)
            self._store.spawn(
                self._pass(replica, holder, threshold), name=f"garbage r{replica.range_id}"
            )
        self._forget_what_is_gone()
        await protections.forget_expired(self._router, at, found)

    async def _due(self, threshold: Timestamp) -> list[tuple[Replica, Leaseholder]]:
        """Return the ranges worth going through if their threshold may be raised so far."""
        due = []
        async for replica in slices.unhurried(self._store.replicas.values()):
            holder = replica.leaseholder
            if holder is None or not holder.serving or not self._may_have_garbage(replica):
                continue
            next_at = self._next_at.get(replica.range_id, 0)
            if threshold >= next_at + self._step and replica.range_id not in self._under_way:
                due.append((replica, holder))
        return due

    def _may_have_garbage(self, replica: Replica) -> bool:
        stats, descriptor = replica.applied.stats, replica.descriptor
        if stats.versions > stats.live_keys or stats.locks:
            return True
        assert descriptor is not None, "a leader is initialised"
        index, has_records = self._has_records.get(replica.range_id, (0, False))
        if index != replica.applied.index:
            engine = self._store.context.engine
            span = layout.span(layout.RECORD, descriptor.start, descriptor.end)
            has_records = engine.first(*span, engine.data) is not None
            self._has_records[replica.range_id] = replica.applied.index, has_records
        return has_records

    async def _ask(self, operations: tuple[Operation, ...]) -> tuple[Result, ...]:
        return (await self._router.execute(operations, deadline_s=DEADLINE_S)).results

    async def _pass(self, replica: Replica, holder: Leaseholder, threshold: Timestamp) -> None:
        range_id = replica.range_id
        work = GarbagePass(self._store, replica, holder, threshold, self._pace, self._ask)
        try:
            self._next_at[range_id] = await work.run()
            self._passes += 1
            self._problems.pop(range_id, None)
        except errors.StoreFailedError:
            raise
        except errors.NotLeaseholderError:
            self._problems.pop(range_id, None)  # Somebody else's business, or a split.
        except errors.MultiraftError as error:
            self._problems[range_id] = f"r{range_id}: {error.message}"
        finally:
            self._versions += work.versions_removed
            self._records += work.records_removed
            self._under_way.discard(range_id)
            self._slots.release()

    def _forget_what_is_gone(self) -> None:
        replicas = self._store.replicas
        for known in (self._next_at, self._has_records, self._problems):
            for gone in [range_id for range_id in known if range_id not in replicas]:
                del known[gone]
