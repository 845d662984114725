"""What the parts of transactions are evaluated in: the range as its leaseholder sees it, latched.

Evaluation gives an `Outcome`: what to answer, and what is to be replicated before that. It changes
nothing but the timestamp cache, where what was read, or ruled out, is remembered for good.
"""

from typing import NamedTuple

import msgspec

from multiraft import errors
from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.recent_writes import RecentWrites
from multiraft.concurrency.timestamp_cache import TimestampCache
from multiraft.config import LimitsConfig
from multiraft.ids import NodeId, Timestamp
from multiraft.model.requests import Result
from multiraft.model.transaction import Intent, TransactionRecord
from multiraft.mvcc import intents, reads
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import Version


class Setting(NamedTuple):
    """A range at the moment of an evaluation. `now` is above every time that it has shown."""

    reader: Reader
    cache: TimestampCache
    recent: RecentWrites
    locks: LockTable
    limits: LimitsConfig
    now: Timestamp
    offset: Timestamp
    """How far any clock of the cluster may be ahead of `now`."""
    gc_threshold: Timestamp
    clock_floor: Timestamp
    """No version of the range is above it."""
    expiry: Timestamp
    """For how long a transaction counts as alive after a sign of life."""
    start: bytes
    end: bytes
    node_id: NodeId
    serving_since: Timestamp
    """Nothing above it was there when the term began to serve."""
    asked_at: Timestamp
    """What the clock had shown when the part asked for its latches: whatever is later than that has
    happened while it waited for them."""

    def contains(self, key: bytes) -> bool:
        """Return whether the range has `key`."""
        return self.start <= key < self.end

    def own_intent(self, key: bytes, transaction_id: bytes) -> Intent | None:
        """Return the intent of that transaction on `key`, or None."""
        if self.locks.is_empty:
            return None
        if self.locks.complete:
            lock = self.locks.lock_on(key)
            if lock is None or lock.timestamp is None or lock.holder.id != transaction_id:
                return None
        found = intents.get(self.reader, key)
        return found if found is not None and found.txn.id == transaction_id else None

    def own_version(
        self, key: bytes, transaction_id: bytes, issued_at: Timestamp
    ) -> Version | None:
        """Return the version that shows that the transaction has committed, if `key` has it."""
        if self.recent.knows_absence(transaction_id, issued_at):
            return None
        applied_at = self.recent.timestamp_of(transaction_id)
        if applied_at is not None:
            return reads.get_write(self.reader, key, transaction_id, applied_at)
        return reads.find_write(self.reader, key, transaction_id, issued_at)

    def foreign_intent(
        self, start: bytes, end: bytes, until: Timestamp, transaction_id: bytes
    ) -> bytes | None:
        """Return the first key of `[start, end)` with another's intent at or below `until`."""
        if self.locks.is_empty:
            return None
        if self.locks.complete:
            lock = self.locks.blocks_scan(start, end, until, transaction_id)
            return None if lock is None else lock.key
        for key, intent in intents.scan(self.reader, start, end):
            if intent.txn.id != transaction_id and intent.timestamp <= until:
                return key
        return None


class Outcome(msgspec.Struct, frozen=True):
    """What the evaluation of a part leads to: an error, or results once the rest is applied."""

    results: tuple[Result, ...] = ()
    timestamp: Timestamp = Timestamp(0)
    """That the reply tells."""
    error: errors.MultiraftError | None = None
    changes: ChangeSet | None = None
    """To be replicated; None for nothing."""
    id: bytes = b""
    """That of the versions in `changes`, if they are the part's own."""
    written_at: Timestamp = Timestamp(0)
    """The greatest time of a version or intent in `changes`."""
    is_partial: bool = False
    """There is more: once this is applied the part is to be evaluated again."""
    uncertainty_limit: Timestamp = Timestamp(0)
    to_lock: tuple[bytes, ...] = ()
    """Keys that a read was to lock, and that no other may hold when it does."""
    unlocked: tuple[tuple[bytes, bytes], ...] = ()
    """Keys, and whose locks that are not replicated are to go from each."""
    ended: TransactionRecord | None = None
    """A transaction that this part has ended: its locks that are not replicated go, and something
    may be left to be resolved."""
    unresolved: tuple[bytes, ...] = ()
    """The keys that it may have intents or locks on."""


def refused(error: errors.MultiraftError) -> Outcome:
    """Return the outcome of a part that does nothing."""
    return Outcome(error=error)
