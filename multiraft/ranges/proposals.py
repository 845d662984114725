"""Commands on their way through the log: index -> who waits.

Invariants
    - The fate of a proposal is exact: when the replica applies its index with the term
      it was proposed in, it was applied; with another term it never will be.
    - Whoever waits is told exactly once.
Source
    Safety rule S17: the waiter is bound to (term, index), never to "my last proposal".
"""

from typing import Protocol

from multiraft import errors
from multiraft.ids import Index, Term
from multiraft.ranges.messages import Command


class Waiter(Protocol):
    """Who proposed a command."""

    def applied(self) -> None:
        """The command's effects are in the engine: release latches, answer."""
        ...

    def failed(self, error: errors.MultiraftError) -> None:
        """The command was not applied under its term here; its outcome is not known here."""
        ...


class Proposal:
    """One command in flight, with what its proposer needs when it is applied."""

    __slots__ = ("command", "size_bytes", "term", "waiter")

    def __init__(self, term: Term, command: Command, size_bytes: int, waiter: Waiter) -> None:
        self.term = term
        self.command = command
        self.size_bytes = size_bytes
        self.waiter = waiter


class Proposals:
    """Those of one replica, in log order."""

    __slots__ = ("_by_index", "size_bytes")

    def __init__(self) -> None:
        self._by_index: dict[Index, Proposal] = {}
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._by_index)

    def add(self, index: Index, proposal: Proposal) -> None:
        """Register what was just accepted by the core at `index`."""
        assert index not in self._by_index, f"two proposals at index {index}"
        self._by_index[index] = proposal
        self.size_bytes += proposal.size_bytes

    def take(self, index: Index) -> Proposal | None:
        """Remove and return the proposal at `index`, of whatever term, when it is applied."""
        proposal = self._by_index.pop(index, None)
        if proposal is not None:
            self.size_bytes -= proposal.size_bytes
        return proposal

    def drain(self) -> list[Proposal]:
        """Remove and return all: the term is lost, or a snapshot went over them."""
        drained = list(self._by_index.values())
        self._by_index.clear()
        self.size_bytes = 0
        return drained
