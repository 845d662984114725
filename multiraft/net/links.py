"""The network inside one process: who listens where, and which links are slow, cut or broken.

Purpose
    Let tests and the simulator hurt an in-process network: delay, cut or break each direction of
    each pair of nodes, stop a node, kill it.
Invariants
    - A cut link holds frames until it heals; nothing that a connection accepted is lost unless the
      connection breaks. That is TCP's promise, and what the code above may rely on.
    - Cuts and isolations count: what was hurt twice is well when both are undone.
    - No outcome depends on the iteration order of a set, on a clock, or on randomness. A `Link` may
      bring its own.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol, TypeVar

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import addresses
from multiraft.net.sides import AcceptingSide

_FIRST_FREE_PORT = 10_000


class Link(Protocol):
    """One direction between two nodes: the seam for simulated delay and loss."""

    def delay_s(self, size_bytes: int) -> float | None:
        """Return how long a batch of this size travels, or None to break its connection instead.

        A batch never overtakes an earlier one of its connection.
        """
        ...


class PerfectLink:
    """Delivers at once, always."""

    __slots__ = ()

    def delay_s(self, size_bytes: int) -> float | None:
        """Return 0."""
        return 0.0


class End(Protocol):
    """What the network needs to know of one end of a connection."""

    source: str
    destination: str

    def pump_soon(self) -> None:
        """Try again to deliver what travels: a link has healed."""
        ...

    def break_off(self) -> None:
        """Break the connection at both ends, now, losing what travels."""
        ...

    def crash(self) -> None:
        """End without a word to the own handler; the other end will see a reset."""
        ...


class InprocNetwork:
    """Joins the transports of one process. Nodes have names; a node may have many addresses."""

    def __init__(
        self,
        config: NetConfig | None = None,
        make_link: Callable[[str, str], Link] = lambda source, destination: PerfectLink(),
    ) -> None:
        self.config = config or NetConfig()
        self._make_link = make_link
        self._links: dict[tuple[str, str], Link] = {}
        self._listeners: dict[str, tuple[str, AcceptingSide]] = {}
        self._ends: dict[End, None] = {}
        self._stalled: dict[End, None] = {}
        self._cut: Counter[tuple[str, str]] = Counter()
        self._isolated: Counter[str] = Counter()
        self._next_port = _FIRST_FREE_PORT

    def cut(self, source: str, destination: str) -> None:
        """Hold whatever `source` sends to `destination` from now on; the other way still works."""
        self._cut[source, destination] += 1

    def heal(self, source: str, destination: str) -> None:
        """Undo `cut`: what was held arrives, in order."""
        _count_down(self._cut, (source, destination))
        self._wake_stalled()

    def isolate(self, name: str) -> None:
        """Hold everything from and to one node, as if its cable were pulled."""
        self._isolated[name] += 1

    def rejoin(self, name: str) -> None:
        """Undo `isolate`; cuts of single links stay."""
        _count_down(self._isolated, name)
        self._wake_stalled()

    def break_connections(self, one: str, other: str) -> None:
        """Break every connection between two nodes, at both ends, losing what travels."""
        for end in tuple(self._ends):
            if (end.source, end.destination) in ((one, other), (other, one)):
                end.break_off()

    def break_all_connections(self, name: str) -> None:
        """Break every connection of a node, those of clients too."""
        for end in tuple(self._ends):
            if name in (end.source, end.destination):
                end.break_off()

    def crash(self, name: str) -> None:
        """End a node as kill -9 does: its own handlers hear nothing, its peers see resets."""
        for address, (listening, side) in tuple(self._listeners.items()):
            if listening == name:
                side.stop()
                del self._listeners[address]
        for end in tuple(self._ends):
            if end.source == name:
                end.crash()

    def callers_of(self, name: str) -> list[str]:
        """Return who has a connection to `name`, in the order in which they made their first."""
        return list(dict.fromkeys(end.source for end in self._ends if end.destination == name))

    def is_cut(self, source: str, destination: str) -> bool:
        """Return whether frames of that direction are held."""
        if not self._cut and not self._isolated:
            return False
        return (
            (source, destination) in self._cut
            or source in self._isolated
            or destination in self._isolated
        )

    @property
    def connections(self) -> int:
        """How many ends of connections there are."""
        return len(self._ends)

    def link(self, source: str, destination: str) -> Link:
        """Return the link of that direction; all connections between the two share it."""
        pair = (source, destination)
        if pair not in self._links:
            self._links[pair] = self._make_link(source, destination)
        return self._links[pair]

    def forget(self, name: str) -> None:
        """Nobody of that name comes again: its links are gone with it."""
        for pair in [pair for pair in self._links if name in pair]:
            del self._links[pair]

    def listener_at(self, address: str) -> tuple[str, AcceptingSide] | None:
        """Return the name of the node that listens at `address`, and its side."""
        return self._listeners.get(address)

    def listen(self, name: str, address: str, side: AcceptingSide) -> str:
        """Listen, and return where; port 0 takes a free one.

        Raises AddressInUseError, ConfigError.
        """
        host, port = addresses.split(address)
        if port == 0:
            port = self._next_port
            self._next_port += 1
        where = addresses.join(host, port)
        if where in self._listeners:
            raise errors.AddressInUseError(
                f"{where} is in use by {self._listeners[where][0]}; choose another port"
            )
        self._listeners[where] = (name, side)
        return where

    def stop_listening(self, address: str, side: AcceptingSide) -> None:
        """Undo `listen`, unless somebody else listens there by now."""
        listening = self._listeners.get(address)
        if listening is not None and listening[1] is side:
            del self._listeners[address]

    def add(self, end: End) -> None:
        """Let faults find a connection."""
        self._ends[end] = None

    def remove(self, end: End) -> None:
        """The connection is gone."""
        self._ends.pop(end, None)

    def stall(self, end: End) -> None:
        """Have `end` pumped when a link heals."""
        self._stalled[end] = None

    def _wake_stalled(self) -> None:
        stalled, self._stalled = self._stalled, {}
        for end in stalled:
            end.pump_soon()


_Hurt = TypeVar("_Hurt")


def _count_down(counts: "Counter[_Hurt]", hurt: _Hurt) -> None:
    if counts[hurt] > 1:
        counts[hurt] -= 1
    else:
        del counts[hurt]
