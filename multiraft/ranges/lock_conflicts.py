"""Whether a request has to wait for another transaction's lock, and for which.

Asked under the request's latches, so that nobody lays a lock meanwhile. Usually the lock table
knows all locks of the range; when there are too many, the state is looked at as well (rule A8).
"""

from typing import TYPE_CHECKING

from multiraft.ids import Timestamp
from multiraft.mvcc import intents

if TYPE_CHECKING:
    from multiraft.ranges.leaseholder import Leaseholder
    from multiraft.ranges.pending import Pending


def blocks_read(pending: "Pending", timestamp: Timestamp) -> bool:
    """Return whether a part that reads at `timestamp`, outside transactions, has to wait.

    It is in the queue then. A single get that chose its time meets intents up to the greatest time
    that any clock may show: their transactions may have committed in real time (rule S13).
    """
    request, latch = pending.request, pending.latch
    limit = timestamp
    if not request.timestamp and len(request.operations) == 1 and latch.read_points:
        limit = Timestamp(timestamp + pending.holder.context.hlc.offset_max)
    return blocks_points(pending, latch.read_points, limit) or any(
        _blocks_span(pending, start, end, limit) for start, end in latch.read_spans
    )


def blocks_spans(pending: "Pending", limit: Timestamp) -> bool:
    """Return whether an intent up to `limit` is in the way of the spans that a part reads."""
    spans = pending.latch.read_spans
    return any(_blocks_span(pending, start, end, limit) for start, end in spans)


def blocks_points(pending: "Pending", points: tuple[bytes, ...], limit: Timestamp) -> bool:
    """Return whether an intent up to `limit` is in the way of a read of `points`."""
    holder, transaction_id = pending.holder, pending.transaction_id
    locks = holder.locks
    for key in points:
        if not locks.complete:
            _recall(holder, key, transaction_id, limit)
        if locks.blocks_read(key, limit, transaction_id):
            pending.queue(key, limit)
            return True
    return False


def _blocks_span(pending: "Pending", start: bytes, end: bytes, limit: Timestamp) -> bool:
    holder, transaction_id = pending.holder, pending.transaction_id
    locks = holder.locks
    if not locks.complete:
        for key, intent in intents.scan(holder.context.reader, start, end):
            if intent.timestamp <= limit and intent.txn.id != transaction_id:
                locks.recall(key, intent.txn, intent.timestamp, intent.laid_at)
                break
    lock = locks.blocks_scan(start, end, limit, transaction_id)
    if lock is None:
        return False
    pending.queue(lock.key, limit)
    return True


def blocks_write(pending: "Pending", keys: tuple[bytes, ...]) -> bool:
    """Return whether a part that writes, or locks, `keys` has to wait; it is in the queue then."""
    holder, transaction_id = pending.holder, pending.transaction_id
    locks = holder.locks
    for key in keys:
        if not locks.complete:
            _recall(holder, key, transaction_id)
        if locks.blocks_write(key, transaction_id, pending.waiter):
            pending.queue(key)
            return True
    return False


def _recall(
    holder: "Leaseholder", key: bytes, transaction_id: bytes, limit: Timestamp | None = None
) -> None:
    """Have the lock table know the intent on `key`, if one is in the way.

    No other: the table forgets again only what somebody has waited for. A lock that is known but
    not replicated does not tell: its holder may have laid an intent before there was room for it.
    """
    lock = holder.locks.lock_on(key)
    if lock is not None and lock.timestamp is not None:
        return
    intent = intents.get(holder.context.reader, key)
    if intent is None or intent.txn.id == transaction_id:
        return
    if limit is None or intent.timestamp <= limit:
        holder.locks.recall(key, intent.txn, intent.timestamp, intent.laid_at)
