"""Deadlocks that the waiters of a store are part of: on this store alone, or over several.

How
    - Waits on this store are a graph: a circle is found as it closes, and its youngest member ends
      in the same turn of the loop.
    - Over several stores, what is known of who waits for a transaction is kept at its anchor for a
      while. Who waits and may hold locks fetches that, and hands it on, with its own wait, to the
      anchor of the one it waits for. So on a circle everybody gets to know all of it; and its
      youngest member is aborted, by itself or by the one that waits for it (told_waits.py).
    - Who holds nothing is waited for by nobody. That is not known, but likely for a transaction
      that waits for the very key that was to be its first: unless somebody is known to wait for it,
      that one asks seldom.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from multiraft.concurrency import told_waits
from multiraft.concurrency.lock_waits import Lock, Waiter
from multiraft.concurrency.told_waits import ToldWaits
from multiraft.concurrency.wait_graph import WaitGraph
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import WaitsFor

if TYPE_CHECKING:
    from multiraft.ranges.store import Store

OWN_ANCHOR_S = 0.5
"""How often one asks that waits for its own anchor, and for which nobody is known to wait."""
TOLD_MS = 5_000
"""What others tell of waits counts for so long. It goes on by one member of a circle with each
push, so a circle of some forty can be found."""
EDGES_MAX = 256
TOLD_MAX = 10_000


class DeadlocksStatus(msgspec.Struct, frozen=True):
    """Who waits on this store and may be part of one, and what was found since the start."""

    transactions: int
    waits: int
    told: int
    """Waits, most of them on other stores, that are known of."""
    found: int


class Deadlocks:
    """See the module. `end` is called with a victim on this store and the reason, by the loop."""

    __slots__ = ("_circles", "_end", "_found", "_graph", "_now", "_since", "_store", "_told")

    def __init__(self, store: "Store", end: Callable[[TransactionMeta, str], None]) -> None:
        self._store = store
        self._end = end
        self._now = store.context.hlc.now
        self._graph = WaitGraph()
        self._told = ToldWaits(TOLD_MAX)
        self._since: dict[Waiter, Timestamp] = {}
        """Since when each has waited that may be part of a deadlock."""
        self._circles: dict[bytes, None] = {}
        """Transactions through which a circle was found that is not broken yet."""
        self._found = 0

    # -- who waits on this store -------------------------------------------------------------------

    def waits(self, waiter: Waiter) -> None:
        """A request has begun to wait."""
        txn = waiter.txn
        if txn is not None and txn.anchor:
            self._since[waiter] = self._now()
            self._graph.add(waiter)
            self._look(txn.id)

    def waits_no_more(self, waiter: Waiter) -> None:
        """It was woken, or has left."""
        if self._since.pop(waiter, None) is not None:
            self._graph.remove(waiter)

    def taken(self, lock: Lock) -> None:
        """A lock that is waited for has another holder."""
        if lock.holder.id in self._graph:
            self._look(lock.holder.id)

    def waits_of(self, transaction_id: bytes) -> tuple[Waiter, ...]:
        """Return the requests of a transaction that wait on this store."""
        waits = self._graph.waits_of(transaction_id)
        return tuple(wait for wait in waits if isinstance(wait, Waiter))

    def _look(self, transaction_id: bytes) -> None:
        if self._graph.victim(transaction_id) is None:
            return
        if not self._circles:
            # Not at once: the lock table is in the middle of something.
            loop = asyncio.get_running_loop()
            loop.call_soon(self._store.or_fail, self._break_circles)
        self._circles[transaction_id] = None

    def _break_circles(self) -> None:
        circles, self._circles = self._circles, {}
        for transaction_id in circles:
            while (victim := self._graph.victim(transaction_id)) is not None:
                self._found += 1
                self._end(victim, reason(self.waits_of(victim.id)[0]))
                assert victim.id not in self._graph, "who has ended does not wait"

    # -- over several stores -----------------------------------------------------------------------

    def tell(self, edges: tuple[WaitsFor, ...]) -> None:
        """Take in what a pusher knows of who waits for a transaction whose record is here."""
        if edges:
            now = self._now()
            self._told.expire(Timestamp(max(0, now - hlc.from_ms(TOLD_MS))))
            self._told.tell(edges, now)

    def edges_to(
        self, transaction_id: bytes, more: tuple[WaitsFor, ...] = ()
    ) -> tuple[WaitsFor, ...]:
        """Return who waits for that transaction, directly or not: as known here, and by `more`."""
        now = self._now()
        here = [
            self.edge_of(waiter, now)
            for waiter in self._since
            if waiter.holder is not None and self._may_hold_locks(waiter)
        ]
        return self._told.edges_to(transaction_id, EDGES_MAX, (*here, *more))

    def edge_of(self, waiter: Waiter, now: Timestamp | None = None) -> WaitsFor:
        """Return the wait for a lock of a transaction that has an anchor, as others are told of it.

        Whether they need to know is not asked here: who probes has decided so when it began, and
        those that wait for it may be forgotten by the time that it is answered.
        """
        assert waiter.txn is not None, "only transactions hold locks"
        assert waiter.place is not None, "it waits"
        assert waiter.place.lock is not None, "for a lock, not for a claim"
        lock = waiter.place.lock
        since = max(self._since[waiter], lock.laid_at)
        return WaitsFor(waiter.txn, lock.holder, self._now() if now is None else now, since)

    def probes(self, waiter: Waiter) -> bool:
        """Return whether a request has to ask because of deadlocks."""
        if not self._may_hold_locks(waiter):
            return False
        # Several requests of one transaction that wait for the same one: the first of them asks.
        holder = waiter.holder
        assert waiter.txn is not None, "only transactions hold locks"
        for other in self.waits_of(waiter.txn.id):
            if other is waiter or holder is None:
                break
            if other.holder is not None and other.holder.id == holder.id:
                return False
        return True

    def victim(self, own: WaitsFor, edges: tuple[WaitsFor, ...]) -> TransactionMeta | None:
        """Return who has to end because of a circle through `own`, if that is for us to do."""
        found = told_waits.victim_among(edges, own)
        if found is None or found.id not in (own.waiter.id, own.holder.id):
            return None
        self._found += 1
        return found

    def forget(self, transaction_id: bytes) -> None:
        """That transaction has ended."""
        self._told.forget(transaction_id)

    def status(self) -> DeadlocksStatus:
        """Return what is known."""
        graph = self._graph.status()
        return DeadlocksStatus(graph.transactions, graph.waits, self._told.count, self._found)

    def _may_hold_locks(self, waiter: Waiter) -> bool:
        txn = waiter.txn
        if txn is None or waiter not in self._since:
            return False
        if txn.anchor != waiter.key or txn.id in self._told:
            return True
        return self._store.context.clock.monotonic() - waiter.since > OWN_ANCHOR_S


def reason(waiter: Waiter) -> str:
    """Return why the transaction of a request that waits is aborted."""
    holder = waiter.holder
    who = "another transaction" if holder is None else f"transaction {holder.id.hex()}"
    return f"deadlock: waiting for {keys.pretty(waiter.key)}, locked by {who}, closes a circle"
