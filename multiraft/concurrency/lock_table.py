"""The lock table: which keys of a range are locked by transactions, and who waits for them.

Purpose
    A request that meets a lock of another transaction gives up its latches and waits in line at
    that key, until the lock is gone; then it begins anew.
Who has to wait
    A read: for an intent of another at or below its limit. A write, or a read that locks: for any
    lock of another; and, of a key without lock, for a claim of another.
Invariants
    - Nobody waits who does not have to: whatever changes, those that it lets through are woken by
      the same call, all reads, and of the writers of a key the first. So no wake-up is lost.
    - The writer that is woken has a claim: whoever comes later queues behind it, until it has left
      or waits again. Nobody has a claim while it waits, so claims are in no deadlock.
    - Who goes on waiting keeps its place, and who comes back under the same `order` finds it again.
    - All locks of the range are here while `complete`. Otherwise some are in the lock keyspace
      only, where the owner has to look as well (rule A8): it is given back what was found there by
      `recall`, before anybody can wait for it. Locks that somebody waits for are always here.
    - Callbacks are made when everything is consistent, in order, never from within another one.
How
    The owner, a leaseholder, asks under the latches of a request, and calls `wait` before it
    releases them. It lays and releases locks as commands apply; locks that are not replicated come
    and go with evaluation, and are best effort: they save retries, nothing relies on them.
Source
    Design §11; rules S13 and A8. CockroachDB's lock table, for the queues with claims.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from sortedcontainers import SortedDict

from multiraft.concurrency.lock_waits import KeyQueues, Lock, Waiter, Wake
from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta


class Observer(Protocol):
    """Who works for the waiters: it is told, and must not change anything during that."""

    def waits(self, table: "LockTable", waiter: Waiter) -> None:
        """`waiter` has begun to wait."""
        ...

    def waits_no_more(self, waiter: Waiter) -> None:
        """`waiter` was woken, or has left."""
        ...

    def taken(self, table: "LockTable", lock: Lock) -> None:
        """`lock` has another holder than before, and somebody waits for its key."""
        ...


class LockTable:
    """See the module. Belongs to one event loop; times are its owner's."""

    __slots__ = (
        "_arrivals",
        "_by_holder",
        "_due",
        "_intents",
        "_is_waking",
        "_keys",
        "_locks_max",
        "_observer",
        "complete",
        "is_empty",
        "locks",
        "moved_to",
        "waiters",
    )

    def __init__(self, locks_max: int, observer: Observer | None = None) -> None:
        self._locks_max = locks_max
        self._observer = observer
        self._keys: SortedDict[bytes, KeyQueues] = SortedDict()
        self._by_holder: dict[bytes, dict[bytes, None]] = {}
        self._due: deque[Waiter] = deque()
        self._is_waking = False
        self._arrivals = 0
        self._intents = 0
        self.locks = 0
        """How many are here."""
        self.waiters = 0
        """How many wait."""
        self.moved_to = Timestamp(0)
        """The greatest time that an intent was moved up to, by a push or by its commit (S13)."""
        self.complete = True
        """Whether all locks of the range are here."""
        self.is_empty = True
        """Whether nothing can be in anybody's way: the one thing that most requests look at."""

    # -- questions, under latches ------------------------------------------------------------------

    def blocks_read(self, key: bytes, limit: Timestamp, transaction_id: bytes = b"") -> bool:
        """Return whether a read of `key` has to wait. `limit`: what is above it is not read.

        A refresh asks the same, with its new timestamp, but does not wait.
        """
        queues = self._keys.get(key)
        return queues is not None and queues.blocks_read(limit, transaction_id)

    def blocks_scan(
        self, start: bytes, end: bytes, limit: Timestamp, transaction_id: bytes = b""
    ) -> Lock | None:
        """Return the first intent in `[start, end)` that a scan must wait for."""
        for key in self._keys.irange(start, end, (True, False)):
            queues: KeyQueues = self._keys[key]
            if queues.blocks_read(limit, transaction_id):
                return queues.lock
        return None

    def blocks_write(
        self, key: bytes, transaction_id: bytes = b"", waiter: Waiter | None = None
    ) -> bool:
        """Return whether a write of `key`, or a read that locks it, has to wait.

        `waiter` is what the request waited with before, if it did: its claim lets it through.
        """
        queues = self._keys.get(key)
        return queues is not None and queues.blocks_write(transaction_id, waiter)

    def lock_on(self, key: bytes) -> Lock | None:
        """Return the lock on `key`, if it is here."""
        queues = self._keys.get(key)
        return None if queues is None else queues.lock

    def locks_of(self, transaction_id: bytes) -> tuple[Lock, ...]:
        """Return the locks of a transaction that are here."""
        found = [self.lock_on(key) for key in self._by_holder.get(transaction_id, ())]
        return tuple(lock for lock in found if lock is not None)

    # -- waiting -----------------------------------------------------------------------------------

    def wait(self, waiter: Waiter, key: bytes, now: float, limit: Timestamp | None = None) -> bool:
        """Put `waiter` in line at `key`; its `wake` is called later, once, unless it leaves before.

        With a `limit` it is a read, else it wants to write or lock. Returns False, and nothing has
        changed, if nothing is in its way any more. A claim that it has is given up: so nobody
        waits for a key and keeps another from others.
        """
        assert waiter.place is None, "a request waits for one key at a time"
        assert waiter.due is None, "who was woken is told so before it waits again"
        queues = self._keys.get(key)
        waiter.limit = limit
        if queues is None or not queues.blocks(waiter):
            return False
        given_up, waiter.claim = waiter.claim, None
        self._arrivals += 1
        waiter.number = self._arrivals
        waiter.since = now
        waiter.place = queues
        queues.add(waiter)
        self.waiters += 1
        if self._observer is not None:
            self._observer.waits(self, waiter)
        if given_up is not None:
            given_up.claimant = None
            self._settle(given_up)
            self._tell()
        return True

    def leave(self, waiter: Waiter) -> None:
        """The request was answered, or given up: it waits no more, and its claim goes on.

        Whatever it does, at any time; it will not be woken any more.
        """
        waiter.due = None
        self._stop_waiting(waiter)
        queues, waiter.claim = waiter.claim, None
        if queues is not None:
            queues.claimant = None
            self._settle(queues)
            self._tell()

    def abort(self, waiter: Waiter, reason: str) -> None:
        """Its transaction has to end: wake it, if it still waits, to tell it so."""
        if waiter.place is not None:
            waiter.reason = reason
            queues = waiter.place
            self._wake(waiter, Wake.ABORTED)
            if not queues.is_awaited:
                self._settle(queues)
            self._tell()

    def is_first(self, waiter: Waiter) -> bool:
        """Return whether nobody has waited longer for the key that it waits for."""
        return waiter.place is not None and waiter.place.head is waiter

    # -- locks -------------------------------------------------------------------------------------

    def lay(
        self, key: bytes, holder: TransactionMeta, timestamp: Timestamp, laid_at: Timestamp
    ) -> None:
        """An intent was laid, or laid anew: it is in the applied state.

        It takes the place of what else is on the key: a lock of the same transaction, or one that
        was not replicated.
        """
        queues = self._keys.get(key)
        if queues is None and self.locks >= self._locks_max:
            self.complete = self.is_empty = False
            return
        self._hold(key, holder, timestamp, laid_at)

    def recall(
        self, key: bytes, holder: TransactionMeta, timestamp: Timestamp, laid_at: Timestamp
    ) -> None:
        """An intent was found in the lock keyspace, by someone who will wait for it at once.

        Like `lay`, but what is known of an intent that is here stays as it is.
        """
        lock = self.lock_on(key)
        if lock is None or lock.timestamp is None:
            self._hold(key, holder, timestamp, laid_at)

    def take(self, key: bytes, holder: TransactionMeta, laid_at: Timestamp) -> bool:
        """Lock `key` for `holder`, for nobody but this table to know.

        Returns False if that cannot be: another holds it, or there is no room.
        """
        queues = self._keys.get(key)
        lock = self.lock_on(key)
        if lock is not None:
            return lock.holder.id == holder.id
        if queues is None and self.locks >= self._locks_max:
            return False
        self._hold(key, holder, None, laid_at)
        return True

    def move(self, key: bytes, transaction_id: bytes, timestamp: Timestamp) -> None:
        """The intent of that transaction on `key`, if it is here, has another timestamp now."""
        queues = self._keys.get(key)
        if queues is None or queues.lock is None or queues.lock.holder.id != transaction_id:
            return
        assert queues.lock.timestamp is not None, "only what is replicated has a timestamp"
        queues.lock.timestamp = timestamp
        self.note_moved(timestamp)
        self._settle(queues)
        self._tell()

    def note_moved(self, timestamp: Timestamp) -> None:
        """An intent was moved up to `timestamp`: it was laid before the clock showed that time."""
        self.moved_to = max(self.moved_to, timestamp)

    def release(self, key: bytes, transaction_id: bytes) -> None:
        """That transaction has no lock on `key` any more, of any kind."""
        queues = self._keys.get(key)
        if queues is None or queues.lock is None or queues.lock.holder.id != transaction_id:
            return
        self._let_go(queues)
        self._settle(queues)
        self._tell()

    def release_unreplicated(
        self, transaction_id: bytes, keys: Iterable[bytes] | None = None
    ) -> None:
        """That transaction lets go of its locks that are not replicated: of all, or on `keys`."""
        for lock in self.locks_of(transaction_id) if keys is None else map(self.lock_on, keys):
            if lock is not None and lock.timestamp is None and lock.holder.id == transaction_id:
                queues = self._keys[lock.key]
                self._let_go(queues)
                self._settle(queues)
        self._tell()

    def reconcile(self, total: int) -> None:
        """So many intents are in the range: if they are all here, look-ups need no help again."""
        if not self.complete and self._intents == total:
            self.complete = True
            self.is_empty = not self._keys

    # -- the range ---------------------------------------------------------------------------------

    def remove_from(self, key: bytes) -> None:
        """Everything at `key` and above belongs to another range now: its waiters are told."""
        for moved in list(self._keys.irange(key)):
            self._remove(self._keys[moved], Wake.MOVED)
        self.is_empty = self.complete and not self._keys
        self._tell()

    def end(self) -> None:
        """The term has ended: whoever waits is told, and nothing is locked here any more."""
        for queues in list(self._keys.values()):
            self._remove(queues, Wake.ENDED)
        self.complete = self.is_empty = True
        self._tell()

    def __iter__(self) -> Iterator[KeyQueues]:
        """Yield what is locked, claimed or waited for, in the order of keys: to be shown."""
        yield from self._keys.values()

    # -- inside ------------------------------------------------------------------------------------

    def _hold(
        self,
        key: bytes,
        holder: TransactionMeta,
        timestamp: Timestamp | None,
        laid_at: Timestamp,
    ) -> None:
        """Make `holder` the one that has `key`."""
        queues = self._keys.get(key)
        if queues is None:
            queues = self._keys[key] = KeyQueues(key)
            self.is_empty = False
        before = queues.lock
        if before is not None:
            self._let_go(queues)
        lock = queues.lock = Lock(key, holder, timestamp, laid_at)
        self._by_holder.setdefault(holder.id, {})[key] = None
        self.locks += 1
        self._intents += timestamp is not None
        if not queues.is_awaited:
            return
        self._settle(queues)
        is_new = before is None or before.holder.id != holder.id
        if is_new and self._observer is not None and (queues.writers or queues.readers):
            self._observer.taken(self, lock)
        self._tell()

    def _let_go(self, queues: KeyQueues) -> None:
        """Take the lock off a key that has one."""
        lock, queues.lock = queues.lock, None
        assert lock is not None, "there is a lock"
        keys = self._by_holder[lock.holder.id]
        del keys[lock.key]
        if not keys:
            del self._by_holder[lock.holder.id]
        self.locks -= 1
        self._intents -= lock.timestamp is not None

    def _settle(self, queues: KeyQueues) -> None:
        """Lock or claim have changed: wake whoever need not wait, and forget a key without any."""
        for reader in [each for each in queues.readers if not queues.blocks(each)]:
            self._wake(reader, Wake.FREE)
        if queues.lock is None and queues.claimant is None and queues.writers:
            first = queues.writers[0]
            self._wake(first, Wake.FREE)
            queues.claimant = first
            first.claim = queues
        if queues.writers and (owner := queues.owner_id):
            # Requests of a transaction do not wait for what it has itself.
            for writer in [each for each in queues.writers if each.is_of(owner)]:
                self._wake(writer, Wake.FREE)
        if not queues.is_awaited:
            lock = queues.lock
            if lock is not None and lock.timestamp is not None and self.locks > self._locks_max:
                # It was recalled, or kept, for somebody who does not wait any more.
                self._let_go(queues)
                self.complete = False
            if queues.lock is None:
                del self._keys[queues.key]
                self.is_empty = self.complete and not self._keys

    def _remove(self, queues: KeyQueues, why: Wake) -> None:
        """Forget a key, whoever waits or has a claim."""
        for waiter in (*queues.readers, *queues.writers):
            self._wake(waiter, why)
        if queues.claimant is not None:
            queues.claimant.claim = None
            queues.claimant = None
        if queues.lock is not None:
            self._let_go(queues)
        del self._keys[queues.key]

    def _stop_waiting(self, waiter: Waiter) -> None:
        queues, waiter.place = waiter.place, None
        if queues is None:
            return
        queues.remove(waiter)
        self.waiters -= 1
        if self._observer is not None:
            self._observer.waits_no_more(waiter)
        if not queues.is_awaited:
            self._settle(queues)

    def _wake(self, waiter: Waiter, why: Wake) -> None:
        queues, waiter.place = waiter.place, None
        assert queues is not None, "only who waits is woken"
        queues.remove(waiter)
        self.waiters -= 1
        if self._observer is not None:
            self._observer.waits_no_more(waiter)
        waiter.due = why
        self._due.append(waiter)

    def _tell(self) -> None:
        """Call back those that were woken, never from within another callback."""
        if self._is_waking or not self._due:
            return
        self._is_waking = True
        try:
            while self._due:
                waiter = self._due.popleft()
                why, waiter.due = waiter.due, None
                # It may have left since; then nobody is to be told.
                if why is not None:
                    waiter.wake(why)
        finally:
            self._is_waking = False
