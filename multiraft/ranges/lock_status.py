"""Telling who holds locks in a range, and who waits for them (model/lock_status.py)."""

from itertools import islice
from typing import TYPE_CHECKING

from multiraft.concurrency.lock_waits import KeyQueues, Waiter
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.lock_status import LockStatus, RangeLocksStatus, WaiterStatus

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica

KEYS_MAX = 500
WAITERS_MAX = 100
"""At one key."""


def status_of(replica: "Replica") -> RangeLocksStatus:
    """Return what a replica knows; a look at every lock, so not for a hot path."""
    context = replica.context
    holder = replica.leaseholder
    if holder is None or not holder.serving:
        return RangeLocksStatus(replica.range_id, context.node_id, False)
    table = holder.locks
    awaited = (queues for queues in table if queues.is_awaited)
    others = (queues for queues in table if not queues.is_awaited)
    shown = list(islice(awaited, KEYS_MAX))
    shown += islice(others, KEYS_MAX - len(shown))
    clocks = _Clocks(context.hlc.now(), context.clock.monotonic())
    return RangeLocksStatus(
        replica.range_id,
        context.node_id,
        True,
        table.complete,
        table.locks,
        table.waiters,
        tuple(_key(queues, clocks) for queues in shown),
    )


class _Clocks:
    """Now, on both clocks."""

    def __init__(self, now: Timestamp, monotonic_s: float) -> None:
        self._now = now
        self.monotonic_s = monotonic_s

    def since(self, timestamp: int) -> float:
        """Return how many seconds ago that was; 0 if it is not known."""
        return hlc.to_us(Timestamp(max(0, self._now - timestamp))) / 1e6 if timestamp else 0.0


def _key(queues: KeyQueues, clocks: _Clocks) -> LockStatus:
    lock, claimant = queues.lock, queues.claimant
    holder = None if claimant is None else claimant.txn
    kind, held_s = "claim", 0.0
    if lock is not None:
        kind = "lock" if lock.timestamp is None else "intent"
        holder, held_s = lock.holder, clocks.since(lock.laid_at)
    line = sorted((*queues.readers, *queues.writers), key=lambda each: (each.order, each.number))
    return LockStatus(
        queues.key,
        kind,
        "" if holder is None else holder.id.hex(),
        b"" if holder is None else holder.anchor,
        0 if holder is None else holder.priority,
        0.0 if holder is None else clocks.since(holder.began),
        Timestamp(0) if holder is None else holder.began,
        held_s,
        tuple(_waiter(each, queues, clocks) for each in line[:WAITERS_MAX]),
    )


def _waiter(waiter: Waiter, queues: KeyQueues, clocks: _Clocks) -> WaiterStatus:
    txn = waiter.txn
    why = "reads" if waiter.limit is not None else "writes" if queues.lock else "follows"
    return WaiterStatus(
        "" if txn is None else txn.id.hex(),
        b"" if txn is None else txn.anchor,
        0 if txn is None else txn.priority,
        clocks.since(waiter.order[0]),
        clocks.monotonic_s - waiter.since,
        Timestamp(0) if txn is None else txn.began,
        why,
    )
