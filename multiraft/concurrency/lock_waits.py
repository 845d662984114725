"""Who waits for a lock: one object per request, and the queues of one key.

Purpose
    The nouns of the lock table (lock_table.py), which alone changes them.
"""

import enum
from bisect import insort
from collections.abc import Callable

import msgspec

from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta


class Lock(msgspec.Struct, eq=False):
    """What keeps others from a key until the transaction `holder` has ended."""

    key: bytes
    holder: TransactionMeta
    timestamp: Timestamp | None
    """Of an intent: reads below it do not mind. None: it is not replicated, and no read minds."""
    laid_at: Timestamp
    """The clock of the leaseholder that gave it: a sign of life of the holder."""


class Wake(enum.Enum):
    """Why a waiter need not wait any longer."""

    FREE = "free"
    """Nothing was in its way any more: look again. A writer has a claim on the key now."""
    MOVED = "moved"
    """The key has left the range."""
    ENDED = "ended"
    """The term has ended, and the lock table with it."""
    ABORTED = "aborted"
    """Its transaction has to end: `Waiter.reason` says why."""


class Waiter(msgspec.Struct, eq=False):
    """One request's place in the queues; made when it first has to wait, and kept until it leaves.

    `order` decides who is first at a key: when its transaction began, else when the request was
    issued, else when it arrived; then the ID. `wake` must not raise; it may call any method of the
    table. The fields below it belong to the table.
    """

    txn: TransactionMeta | None
    order: tuple[int, bytes]
    wake: Callable[[Wake], None]

    reason: str = ""
    place: "KeyQueues | None" = None
    """Where it waits."""
    claim: "KeyQueues | None" = None
    """The key that nobody else may lock or write before it has left or waits again."""
    limit: Timestamp | None = None
    """Of a read: intents above it are not in its way. None: it wants to write or lock."""
    since: float = 0.0
    """When it began to wait, on the monotonic clock of the range's owner."""
    number: int = 0
    """Order of arrival among those with the same `order`."""
    due: Wake | None = None
    """What it is about to be told."""

    @property
    def holder(self) -> TransactionMeta | None:
        """Who has the lock that it waits for; None if it does not wait, or for a claim only."""
        if self.place is None or self.place.lock is None:
            return None
        return self.place.lock.holder

    @property
    def key(self) -> bytes:
        """The key that it waits for."""
        assert self.place is not None, "it does not wait"
        return self.place.key

    def is_of(self, transaction_id: bytes) -> bool:
        """Return whether it is a request of that transaction."""
        return self.txn is not None and self.txn.id == transaction_id


class KeyQueues:
    """One key: its lock, the claim on it, and who waits."""

    __slots__ = ("claimant", "key", "lock", "readers", "writers")

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.lock: Lock | None = None
        self.claimant: Waiter | None = None
        self.readers: list[Waiter] = []
        self.writers: list[Waiter] = []

    def add(self, waiter: Waiter) -> None:
        """Put it in line."""
        insort(self.writers if waiter.limit is None else self.readers, waiter, key=_precedence)

    def remove(self, waiter: Waiter) -> None:
        """Take it out."""
        (self.writers if waiter.limit is None else self.readers).remove(waiter)

    def blocks_read(self, limit: Timestamp, transaction_id: bytes) -> bool:
        """Return whether a read up to `limit` has to wait."""
        lock = self.lock
        return (
            lock is not None
            and lock.timestamp is not None
            and lock.timestamp <= limit
            and lock.holder.id != transaction_id
        )

    def blocks_write(self, transaction_id: bytes, waiter: Waiter | None) -> bool:
        """Return whether a write, or a read that locks, has to wait."""
        if self.lock is not None:
            return self.lock.holder.id != transaction_id
        claimant = self.claimant
        return (
            claimant is not None
            and claimant is not waiter
            and not (transaction_id and claimant.is_of(transaction_id))
        )

    def blocks(self, waiter: Waiter) -> bool:
        """Return whether `waiter`, as its `limit` says, has to wait."""
        transaction_id = b"" if waiter.txn is None else waiter.txn.id
        if waiter.limit is not None:
            return self.blocks_read(waiter.limit, transaction_id)
        return self.blocks_write(transaction_id, waiter)

    @property
    def owner_id(self) -> bytes:
        """The transaction that has the lock or the claim; empty if none has."""
        if self.lock is not None:
            return self.lock.holder.id
        claimant = self.claimant
        return b"" if claimant is None or claimant.txn is None else claimant.txn.id

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for the key, or has a claim on it."""
        return bool(self.writers or self.readers or self.claimant is not None)

    @property
    def head(self) -> Waiter | None:
        """The first of all that wait here."""
        heads = [queue[0] for queue in (self.writers, self.readers) if queue]
        return min(heads, key=_precedence, default=None)


def _precedence(waiter: Waiter) -> tuple[tuple[int, bytes], int]:
    return waiter.order, waiter.number
