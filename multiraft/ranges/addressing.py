"""Keeping the addressing records in meta up with the descriptors, which are the truth.

Purpose
    After a range's descriptor changed, its leader writes the record, and then has the range itself
    remember that meta knows this generation. A leader that finds a lower number owes the write, so
    it is forgotten by nobody and repeated by no one without need (rule L6).
Invariants
    - Records are ordered by generation: PutMeta never replaces a later one.
    - One write per range is under way at a time; at most `CONCURRENT_MAX` in all.
"""

import asyncio
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.client.router import Router
from multiraft.ids import RangeId
from multiraft.model import encoding, keys
from multiraft.model.requests import PutMeta
from multiraft.ranges.messages import Command, MetaKnownTrigger

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

CONCURRENT_MAX = 16
RETRY_S = 0.5


class AddressingWriter:
    """Writes what the ranges led by this store owe to meta."""

    __slots__ = ("_router", "_slots", "_store", "_under_way")

    def __init__(self, store: "Store", router: Router) -> None:
        self._store = store
        self._router = router
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._under_way: set[RangeId] = set()

    def look_at(self, replica: "Replica") -> None:
        """Start writing if the range is led here and owes its record."""
        if replica.range_id not in self._under_way and _owes(replica):
            self._under_way.add(replica.range_id)
            self._store.spawn(self._write(replica), name=f"addressing r{replica.range_id}")

    async def _write(self, replica: "Replica") -> None:
        try:
            while _owes(replica):
                try:
                    async with self._slots:
                        await self._write_once(replica)
                except errors.MultiraftError:
                    await asyncio.sleep(RETRY_S)
        finally:
            self._under_way.discard(replica.range_id)

    async def _write_once(self, replica: "Replica") -> None:
        descriptor = replica.descriptor
        assert descriptor is not None, "a leader is initialised"
        operation = PutMeta(
            keys.meta_key(descriptor.start), encoding.pack(descriptor), descriptor.generation
        )
        await self._router.execute((operation,))
        leaseholder = replica.leaseholder
        if leaseholder is None or not _owes(replica):
            return
        waiter = _Remembered()
        command = Command(trigger=MetaKnownTrigger(descriptor.generation))
        if not leaseholder.propose(command, waiter):
            raise leaseholder.lost()  # During a transfer, say: try again, without haste.
        await waiter.done


class _Remembered:
    """Waits until the range remembers; a lost term is the next leader's business."""

    __slots__ = ("done",)

    def __init__(self) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def applied(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def failed(self, error: errors.MultiraftError) -> None:
        self.applied()


def _owes(replica: "Replica") -> bool:
    leaseholder, descriptor = replica.leaseholder, replica.descriptor
    return (
        leaseholder is not None
        and leaseholder.serving
        and descriptor is not None
        and descriptor.generation > replica.applied.meta_generation
    )
