"""Who waits for whom: the locks of all ranges, and the transactions that they belong to.

Purpose
    What `Admin.locks` and `Admin.transactions` put together from the answers of leaseholders. It is
    looked at, not agreed on: each range tells of itself at a moment of its own.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec

from multiraft import errors
from multiraft.client import batch
from multiraft.client.router import Router
from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.lock_status import LockStatus, RangeLocksStatus, WaiterStatus
from multiraft.model.requests import RangeLocks, StatusResult
from multiraft.model.transaction_requests import QueryTransaction, RecordResult

TIMEOUT_S = 2.0
CONCURRENT_MAX = 64
KEYS_SHOWN_MAX = 100
"""Of one transaction."""


class RangeLocksInfo(msgspec.Struct, frozen=True):
    """A range, and what its leaseholder tells of its locks; None if none answers."""

    descriptor: RangeDescriptor
    status: RangeLocksStatus | None


class Wait(msgspec.Struct, frozen=True):
    """What a transaction waits for."""

    key: bytes
    holder: str
    """The transaction that has the key, or is about to; empty for a request outside of any."""
    waits_s: float
    """Since its request was last sent: see lock_status.WaiterStatus."""
    why: str
    """See lock_status.WaiterStatus."""


class TransactionInfo(msgspec.Struct, frozen=True):
    """A transaction that holds locks, or waits for some."""

    id: str
    anchor: bytes
    priority: int
    age_s: float
    status: str
    """That of its record: `pending`, also while there is none, `staging`, `committed`, `aborted`;
    `unknown` if it cannot be asked for."""
    reason: str
    """Why it was aborted."""
    silent_s: float | None
    """Since its coordinator's last sign of life at the record; None if there is none."""
    locks: int
    keys: tuple[bytes, ...]
    """Of its locks, not all if there are very many."""
    waits: tuple[Wait, ...]
    waited_for_by: tuple[str, ...]
    """The transactions that wait for it."""
    requests_waiting: int
    """How many requests wait for it, with those outside transactions."""


async def locks(
    router: Router, descriptors: Sequence[RangeDescriptor]
) -> tuple[RangeLocksInfo, ...]:
    """Ask the leaseholder of each range."""
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def look_at(descriptor: RangeDescriptor) -> RangeLocksInfo:
        async with slots:
            return RangeLocksInfo(descriptor, await _ask_range(router, descriptor))

    return tuple(await asyncio.gather(*map(look_at, descriptors)))


async def transactions(
    router: Router, ranges: Iterable[RangeLocksInfo]
) -> tuple[TransactionInfo, ...]:
    """Put together who holds and waits for these locks, oldest first, and ask how each stands."""
    found: dict[str, _Seen] = {}
    for info in ranges:
        for lock in () if info.status is None else info.status.keys:
            _take(found, lock)
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def look_at(name: str, seen: _Seen) -> TransactionInfo:
        async with slots:
            return await _ask_record(router, name, seen)

    infos = await asyncio.gather(*(look_at(name, seen) for name, seen in found.items()))
    return tuple(sorted(infos, key=lambda info: (-info.age_s, info.id)))


class _Seen:
    """What locks and queues tell of one transaction."""

    def __init__(self, who: LockStatus | WaiterStatus) -> None:
        self.anchor = who.anchor
        self.priority = who.priority
        self.age_s = who.age_s
        self.began = who.began
        self.keys: list[bytes] = []
        self.waits: list[Wait] = []
        self.waited_for_by: dict[str, None] = {}
        self.requests_waiting = 0


def _take(found: dict[str, _Seen], lock: LockStatus) -> None:
    holder = None
    if lock.transaction:
        holder = found.setdefault(lock.transaction, _Seen(lock))
        holder.anchor = holder.anchor or lock.anchor
        if lock.kind != "claim":
            holder.keys.append(lock.key)
    for waiter in lock.waiters:
        if holder is not None:
            holder.requests_waiting += 1
        if not waiter.transaction:
            continue
        if holder is not None:
            holder.waited_for_by[waiter.transaction] = None
        seen = found.setdefault(waiter.transaction, _Seen(waiter))
        seen.anchor = seen.anchor or waiter.anchor
        seen.waits.append(Wait(lock.key, lock.transaction, waiter.waits_s, waiter.why))


async def _ask_range(router: Router, descriptor: RangeDescriptor) -> RangeLocksStatus | None:
    for node_id in router.addressing.cache.likeliest_first(descriptor):
        status = await _ask_replica(router, descriptor, node_id)
        if status is not None and status.is_leaseholder:
            return status
    return None


async def _ask_replica(
    router: Router, descriptor: RangeDescriptor, node_id: NodeId
) -> RangeLocksStatus | None:
    try:
        reply = await router.send_to_node(node_id, descriptor.range_id, (RangeLocks(),), TIMEOUT_S)
    except errors.MultiraftError:
        return None
    (result,) = reply.results
    if not isinstance(result, StatusResult):
        raise batch.unexpected(result)
    return msgspec.json.decode(result.status, type=RangeLocksStatus)


async def _ask_record(router: Router, name: str, seen: _Seen) -> TransactionInfo:
    status, reason, silent_s = "pending", "", None
    if seen.anchor:
        try:
            query = QueryTransaction(seen.anchor, bytes.fromhex(name), seen.began)
            reply = await router.execute((query,), deadline_s=TIMEOUT_S)
        except errors.MultiraftError:
            status = "unknown"
        else:
            (result,) = reply.results
            if not isinstance(result, RecordResult):
                raise batch.unexpected(result)
            if result.record is not None:
                status, reason = result.record.status.name.lower(), result.record.reason
                silent_us = hlc.to_us(reply.clock) - hlc.to_us(result.record.heartbeat)
                silent_s = max(0, silent_us) / 1e6
    return TransactionInfo(
        name,
        seen.anchor,
        seen.priority,
        seen.age_s,
        status,
        reason,
        silent_s,
        len(seen.keys),
        tuple(seen.keys[:KEYS_SHOWN_MAX]),
        tuple(seen.waits),
        tuple(seen.waited_for_by),
        seen.requests_waiting,
    )
