"""Commands on their way into the log and through it: index -> who waits.

Invariants
    - The fate of a proposal is exact: when the replica applies its index with the term
      it was proposed in, it was applied; with another term it never will be.
    - Whoever waits is told exactly once.
    - What is gathered comes behind everything that has an index: the log's order is that in which
      commands were proposed.
Source
    Safety rule S17: the waiter is bound to (term, index), never to "my last proposal".
"""

from typing import Protocol

from multiraft import errors
from multiraft.ids import Index, Term
from multiraft.ranges import joining
from multiraft.ranges.messages import Command


class Waiter(Protocol):
    """Who proposed a command."""

    def applied(self) -> None:
        """The command's effects are in the engine: release latches, answer."""
        ...

    def failed(self, error: errors.MultiraftError) -> None:
        """The command was not applied under its term here; its outcome is not known here."""
        ...


Parts = list[tuple[Command, Waiter]]
"""Commands that became one, in their order, and who waits for each."""


class Proposal:
    """One command in flight, with what its proposers need when it is applied."""

    __slots__ = ("command", "parts", "size_bytes", "term")

    def __init__(self, term: Term, command: Command, parts: Parts, size_bytes: int) -> None:
        self.term = term
        self.command = command
        self.parts = parts
        self.size_bytes = size_bytes

    def fail(self, error: errors.MultiraftError) -> None:
        """Tell everybody that it was not applied under its term."""
        for _, waiter in self.parts:
            waiter.failed(error)


class Proposals:
    """Those of one term at one replica, in log order, and behind them what was gathered."""

    __slots__ = ("_by_index", "_gathered", "_term", "gathered_bytes", "size_bytes")

    def __init__(self, term: Term) -> None:
        self._term = term
        self._by_index: dict[Index, Proposal] = {}
        self._gathered: Parts = []
        self.gathered_bytes = 0
        self.size_bytes = 0
        """Of all of them together."""

    def __len__(self) -> int:
        return len(self._by_index) + len(self._gathered)

    def gather(self, command: Command, size_bytes: int, waiter: Waiter) -> None:
        """Keep a plain command (see joining.py), to be proposed together with others."""
        self._gathered.append((command, waiter))
        self.gathered_bytes += size_bytes
        self.size_bytes += size_bytes

    def take_gathered(self) -> Proposal | None:
        """Remove what was gathered and return it as one proposal, to be added if it is accepted."""
        parts = self._gathered
        if not parts:
            return None
        command = parts[0][0] if len(parts) == 1 else joining.join([each for each, _ in parts])
        proposal = Proposal(self._term, command, parts, self.gathered_bytes)
        self.size_bytes -= self.gathered_bytes
        self._gathered = []
        self.gathered_bytes = 0
        return proposal

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
        gathered = self.take_gathered()
        if gathered is not None:
            drained.append(gathered)
        self.size_bytes = 0
        return drained
