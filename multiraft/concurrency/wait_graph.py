"""The wait-for graph of a store: who waits on it for whom, and who ends when that goes in a circle.

Purpose
    Transactions that wait for each other's locks would wait for ever. Those that all wait on this
    store are found as the circle closes; for those over several stores see told_waits.py.
How
    A wait is an object of somebody else that knows whom it waits for at the moment, so a lock that
    changes hands costs nothing here.
Invariants
    - No circle is left when everybody that `victim` named has ended its waits, in whatever order
      waits are added and locks change hands.
"""

from collections import deque
from typing import Protocol

import msgspec

from multiraft.model.transaction import TransactionMeta


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
    """How many transactions wait on this store, and with how many requests."""

    transactions: int
    waits: int


class WaitGraph:
    """See the module. Belongs to one event loop."""

    __slots__ = ("_waits",)

    def __init__(self) -> None:
        self._waits: dict[bytes, list[Wait]] = {}
        """By the ID of who waits."""

    def __contains__(self, transaction_id: bytes) -> bool:
        """Return whether that transaction waits on this store."""
        return transaction_id in self._waits

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
        """Return what that transaction waits for on this store, in the order in which it began."""
        return tuple(self._waits.get(transaction_id, ()))

    def victim(self, transaction_id: bytes) -> TransactionMeta | None:
        """Return who has to end so that one circle of waits through that transaction is broken.

        All its members wait on this store; the one with the least precedence ends. None: there is
        no such circle. To be asked when a wait was added, and when a transaction that waits has got
        a lock that others wait for.
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

    def status(self) -> WaitGraphStatus:
        """Return how much is known."""
        return WaitGraphStatus(len(self._waits), sum(map(len, self._waits.values())))


def _youngest_on_the_way(came_from: dict[bytes, Wait], end: bytes) -> TransactionMeta:
    members: list[TransactionMeta] = []
    current = end
    while not members or current != end:
        waiter = came_from[current].txn
        assert waiter is not None, "who is no transaction holds nothing"
        members.append(waiter)
        current = waiter.id
    return min(members, key=lambda meta: meta.precedence)
