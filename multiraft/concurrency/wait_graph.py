"""The wait-for graph of a store: who waits for whom, and who ends when that goes in a circle.

Purpose
    Transactions that wait for each other's locks would wait for ever. Those that all wait on this
    store are found when the circle closes; those over several stores by what stores tell each
    other, which is a little old.
How
    A wait is an object of somebody else that knows whom it waits for at the moment, so a lock that
    changes hands costs nothing here. What is told by others are edges that say when they were seen,
    and that age: who still waits tells it again. A circle of edges of different age need never have
    been one; but if each of them was seen again after a moment when all had been, then it was.
Invariants
    - Of the waits on this store no circle is left when everybody that `victim` named has ended its
      waits, in any order in which waits are added and locks change hands.
    - Everybody who knows a circle names the same victim: the one with the least precedence.
Source
    Chandy, Misra, Haas, Distributed Deadlock Detection (1983), for the idea that those who wait
    carry what they know along the edges; CockroachDB's txnwait, for probing at the anchors.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

import msgspec

from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import WaitsFor


class Wait(Protocol):
    """A request of a transaction that waits on this store."""

    @property
    def txn(self) -> TransactionMeta | None:
        """Who waits."""
        ...

    @property
    def holder(self) -> TransactionMeta | None:
        """Whom it waits for just now; None: for nobody who could be waiting."""
        ...


class WaitGraphStatus(msgspec.Struct, frozen=True):
    """How many transactions wait on this store, and how many edges others have told."""

    transactions: int
    waits: int
    told: int


class WaitGraph:
    """See the module. Belongs to one event loop."""

    __slots__ = ("_told", "_told_max", "_waits")

    def __init__(self, told_max: int) -> None:
        self._waits: dict[bytes, list[Wait]] = {}
        """By the ID of who waits."""
        self._told: dict[tuple[bytes, bytes], WaitsFor] = {}
        """By the IDs of waiter and holder, in the order in which they were told."""
        self._told_max = told_max

    def __contains__(self, transaction_id: bytes) -> bool:
        """Return whether that transaction waits on this store."""
        return transaction_id in self._waits

    # -- waits on this store -----------------------------------------------------------------------

    def add(self, wait: Wait) -> None:
        """Take a wait in. Ask for its `victim` then."""
        assert wait.txn is not None, "who is no transaction holds nothing"
        self._waits.setdefault(wait.txn.id, []).append(wait)

    def remove(self, wait: Wait) -> None:
        """Forget a wait, if it is known."""
        assert wait.txn is not None, "who is no transaction holds nothing"
        waits = self._waits.get(wait.txn.id)
        if waits is not None and wait in waits:
            waits.remove(wait)
            if not waits:
                del self._waits[wait.txn.id]

    def waits_of(self, transaction_id: bytes) -> tuple[Wait, ...]:
        """Return what that transaction waits for on this store."""
        return tuple(self._waits.get(transaction_id, ()))

    def victim(self, transaction_id: bytes) -> TransactionMeta | None:
        """Return who has to end so that one circle of waits through that transaction is broken.

        All its members wait on this store. None: there is no such circle. To be asked when a wait
        was added, and when a transaction that waits has got a lock that others wait for.
        """
        # Breadth first, with the way back: the shortest circle.
        came_from: dict[bytes, Wait] = {}
        pending = deque((transaction_id,))
        while pending:
            for wait in self._waits.get(pending.popleft(), ()):
                holder = wait.holder
                if holder is None or holder.id in came_from:
                    continue
                came_from[holder.id] = wait
                if holder.id == transaction_id:
                    return _youngest_on_the_way(came_from, transaction_id)
                pending.append(holder.id)
        return None

    # -- with what others know ---------------------------------------------------------------------

    def tell(self, edges: Iterable[WaitsFor], now: Timestamp) -> None:
        """Take in what is known elsewhere; nothing counts as seen later than now."""
        told = self._told
        for edge in edges:
            ends = edge.waiter.id, edge.holder.id
            known = told.pop(ends, None)
            if edge.seen_at > now:
                edge = WaitsFor(edge.waiter, edge.holder, now)  # noqa: PLW2901
            told[ends] = edge if known is None or known.seen_at < edge.seen_at else known
        while len(told) > self._told_max:
            del told[next(iter(told))]

    def expire(self, before: Timestamp) -> None:
        """Forget what was told and was not seen since."""
        over = [ends for ends, edge in self._told.items() if edge.seen_at < before]
        for ends in over:
            del self._told[ends]

    def forget(self, transaction_id: bytes) -> None:
        """That transaction has ended: it neither waits nor is waited for any more."""
        gone = [ends for ends in self._told if transaction_id in ends]
        for ends in gone:
            del self._told[ends]

    def edges_to(
        self,
        transaction_id: bytes,
        now: Timestamp,
        edges_max: int,
        more: Iterable[WaitsFor] = (),
    ) -> tuple[WaitsFor, ...]:
        """Return who waits for that transaction, directly or not: nearest first, at most so many.

        From the waits here, from what was told, and from `more`; each edge once, as seen last.
        """
        into: dict[bytes, dict[bytes, WaitsFor]] = {}
        for edge in (*self._told.values(), *more, *self._seen(now)):
            waiters = into.setdefault(edge.holder.id, {})
            known = waiters.get(edge.waiter.id)
            if known is None or known.seen_at < edge.seen_at:
                waiters[edge.waiter.id] = edge
        found: list[WaitsFor] = []
        seen = {transaction_id}
        pending = deque((transaction_id,))
        while pending and len(found) < edges_max:
            for waiter, edge in into.get(pending.popleft(), {}).items():
                found.append(edge)
                if waiter not in seen:
                    seen.add(waiter)
                    pending.append(waiter)
        return tuple(found[:edges_max])

    def status(self) -> WaitGraphStatus:
        """Return how much is known."""
        waits = sum(len(waits) for waits in self._waits.values())
        return WaitGraphStatus(len(self._waits), waits, len(self._told))

    def _seen(self, now: Timestamp) -> Iterable[WaitsFor]:
        for waits in self._waits.values():
            for wait in waits:
                if wait.txn is not None and wait.holder is not None:
                    yield WaitsFor(wait.txn, wait.holder, now)


def victim_among(edges: Iterable[WaitsFor], edge: WaitsFor) -> TransactionMeta | None:
    """Return who has to end because of the circles that `edge` closes; None if it closes none.

    Of all that are on a circle with it: so who knows the same edges names the same one, whichever
    edge of the circle it looks at.
    """
    onward: dict[bytes, list[TransactionMeta]] = {}
    back: dict[bytes, list[TransactionMeta]] = {}
    for each in (*edges, edge):
        onward.setdefault(each.waiter.id, []).append(each.holder)
        back.setdefault(each.holder.id, []).append(each.waiter)
    after = _reachable(edge.waiter, onward)
    if edge.waiter.id not in after:
        return None
    before = _reachable(edge.waiter, back)
    members = [meta for transaction_id, meta in after.items() if transaction_id in before]
    if edge.holder.id not in before:
        return None
    return min(members, key=lambda meta: meta.precedence)


def _reachable(
    start: TransactionMeta, ways: dict[bytes, list[TransactionMeta]]
) -> dict[bytes, TransactionMeta]:
    """Return everybody that one or more steps lead to."""
    found: dict[bytes, TransactionMeta] = {}
    pending = deque((start.id,))
    while pending:
        for meta in ways.get(pending.popleft(), ()):
            if meta.id not in found:
                found[meta.id] = meta
                pending.append(meta.id)
    return found


def _youngest_on_the_way(came_from: dict[bytes, Wait], end: bytes) -> TransactionMeta:
    members: list[TransactionMeta] = []
    current = end
    while not members or current != end:
        waiter = came_from[current].txn
        assert waiter is not None, "who is no transaction holds nothing"
        members.append(waiter)
        current = waiter.id
    return min(members, key=lambda meta: meta.precedence)
