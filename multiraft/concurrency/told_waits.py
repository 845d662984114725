"""What stores tell each other of who waits for whom, and the circles that this shows.

Purpose
    A circle of waits over several stores is on none of them as a whole. What is known of who waits
    for a transaction is kept where its record is; whoever waits carries it along.
How
    All of it is a little old. But each wait says since when it has lasted, and when it was last
    seen to last. If there is a moment that lies in all the waits of a circle, then it has existed,
    and cannot have ended but by the end of one of its members: one look is enough.
Invariants
    - Without clocks that differ, whoever is named as a victim has been part of a deadlock.
    - Whoever knows a circle that shares nobody with others names the same victim: the member with
      the least precedence.
    - What nobody tells again is forgotten.
Source
    Chandy, Misra, Haas, Distributed Deadlock Detection (1983), for the idea that those who wait
    carry what they know along the edges; CockroachDB's txnwait, for probing at the anchors.
"""

from collections import deque
from collections.abc import Iterable

from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import WaitsFor


class ToldWaits:
    """See the module. Belongs to one event loop."""

    __slots__ = ("_by_holder", "_by_waiter", "_maximum", "count")

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._by_holder: dict[bytes, dict[bytes, WaitsFor]] = {}
        """By the ID of who is waited for, then by that of who waits."""
        self._by_waiter: dict[bytes, dict[bytes, WaitsFor]] = {}
        """The other way round; whoever was told of last is at the end."""
        self.count = 0
        """How many are known."""

    def tell(self, edges: Iterable[WaitsFor], now: Timestamp) -> None:
        """Take in what is known elsewhere; nothing counts as seen later than now."""
        for edge in edges:
            waits = self._by_waiter.pop(edge.waiter.id, {})
            self._by_waiter[edge.waiter.id] = waits
            known = waits.get(edge.holder.id)
            if known is not None and known.seen_at >= edge.seen_at:
                continue
            # A transaction waits for one after the other, as a rule: what was not seen any more
            # when this began is over. If it is not, it will be told of again.
            for other in [each for each in waits.values() if each.seen_at < edge.since]:
                self._remove(other)
            self._add(edge if edge.seen_at <= now else seen(edge, now))
        while self.count > self._maximum:
            for oldest in list(next(iter(self._by_waiter.values())).values()):
                self._remove(oldest)

    def expire(self, before: Timestamp) -> None:
        """Forget what was not seen since."""
        for waits in list(self._by_waiter.values()):
            for edge in [each for each in waits.values() if each.seen_at < before]:
                self._remove(edge)

    def forget(self, transaction_id: bytes) -> None:
        """That transaction has ended: it neither waits nor is waited for any more."""
        for edges in (self._by_holder, self._by_waiter):
            for edge in list(edges.get(transaction_id, {}).values()):
                self._remove(edge)

    def __contains__(self, transaction_id: bytes) -> bool:
        """Return whether anybody is known to wait for that transaction."""
        return transaction_id in self._by_holder

    def edges_to(
        self, transaction_id: bytes, edges_max: int, more: Iterable[WaitsFor] = ()
    ) -> tuple[WaitsFor, ...]:
        """Return who waits for that transaction, directly or not: nearest first.

        From what was told, and from `more`; each edge once, as seen last. If there are more than
        `edges_max`, those are left out first for which nobody waits.
        """
        added: dict[bytes, list[WaitsFor]] = {}
        for edge in more:
            added.setdefault(edge.holder.id, []).append(edge)
        found: list[WaitsFor] = []
        seen_before = {transaction_id}
        pending = deque((transaction_id,))
        awaited: set[bytes] = set()
        while pending:
            holder = pending.popleft()
            waiters = dict(self._by_holder.get(holder, ()))
            for edge in added.get(holder, ()):
                known = waiters.get(edge.waiter.id)
                if known is None or known.seen_at < edge.seen_at:
                    waiters[edge.waiter.id] = edge
            if waiters:
                awaited.add(holder)
            for waiter, edge in waiters.items():
                found.append(edge)
                if waiter not in seen_before:
                    seen_before.add(waiter)
                    pending.append(waiter)
        if len(found) > edges_max:
            found.sort(key=lambda edge: edge.waiter.id not in awaited)
        return tuple(found[:edges_max])

    def _add(self, edge: WaitsFor) -> None:
        waiter, holder = edge.waiter.id, edge.holder.id
        waits = self._by_waiter.setdefault(waiter, {})
        self.count += holder not in waits
        waits[holder] = edge
        self._by_holder.setdefault(holder, {})[waiter] = edge

    def _remove(self, edge: WaitsFor) -> None:
        waiter, holder = edge.waiter.id, edge.holder.id
        for edges, one, other in (
            (self._by_waiter, waiter, holder),
            (self._by_holder, holder, waiter),
        ):
            del edges[one][other]
            if not edges[one]:
                del edges[one]
        self.count -= 1


def seen(edge: WaitsFor, at: Timestamp) -> WaitsFor:
    """Return the edge as if it had been seen then."""
    return WaitsFor(edge.waiter, edge.holder, at, edge.since)


def victim_among(edges: Iterable[WaitsFor], own: WaitsFor) -> TransactionMeta | None:
    """Return who has to end because of circles through `own`, at the latest moment that had some.

    Of all that are on a circle with it then. None if no circle is certain.
    """
    known = [*edges, own]
    if _youngest_around(own, known) is None:
        return None  # As nearly always: a circle of no moment is none of any.
    # Circles change only when a wait begins, or ends.
    begun = {edge.since for edge in known if own.since <= edge.since <= own.seen_at}
    for moment in sorted(begun, reverse=True):
        lasting = [edge for edge in known if edge.since <= moment <= edge.seen_at]
        victim = _youngest_around(own, lasting)
        if victim is not None:
            return victim
    return None


def _youngest_around(own: WaitsFor, edges: Iterable[WaitsFor]) -> TransactionMeta | None:
    """Return the youngest of those on a circle with `own`, which is among the edges or on none."""
    onward: dict[bytes, list[TransactionMeta]] = {}
    back: dict[bytes, list[TransactionMeta]] = {}
    for edge in edges:
        onward.setdefault(edge.waiter.id, []).append(edge.holder)
        back.setdefault(edge.holder.id, []).append(edge.waiter)
    before = _reachable(own.waiter, back)
    if own.holder.id not in before:
        return None
    after = _reachable(own.waiter, onward)
    members = [meta for name, meta in after.items() if name in before]
    return min(members, key=lambda meta: meta.precedence, default=None)


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
