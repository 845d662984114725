"""What a core reads from its host: the log on disk, and support between stores.

Both are pure look-ups: asking twice in a row gives the same answer.
"""

from typing import NamedTuple, Protocol

from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.messages import Configuration, Entry
from multiraft.raft.ready import HardState


class InitialState(NamedTuple):
    """What a replica finds on its disk when it starts."""

    hard_state: HardState
    configuration: Configuration
    applied_index: Index


class LogStorage(Protocol):
    """The part of one range's log that the host has written, synced or not.

    The log holds the indexes `first_index() .. last_index()`; `first_index() - 1` is the truncation
    point, whose term is known too. What a Ready told the host to write is visible here as soon as
    the host has written its batch, which it does before the core is called again.
    """

    def initial_state(self) -> InitialState:
        """Return what was durable at start."""
        ...

    def first_index(self) -> Index:
        """Return the index of the first entry kept; last_index() + 1 when there is none."""
        ...

    def last_index(self) -> Index:
        """Return the index of the last entry written."""
        ...

    def term(self, index: Index) -> Term | None:
        """Return the term at `index`, or None outside first_index() - 1 .. last_index()."""
        ...

    def entries(self, low: Index, high: Index, bytes_max: int) -> tuple[Entry, ...]:
        """Return entries [low, high), at most `bytes_max` payload bytes but at least one entry."""
        ...


class SupportView(Protocol):
    """Support between the stores of this group's replicas; see liveness/support.py.

    `replica` may be the asking replica itself (rule L3: a store supports itself after its own
    sync). Support that has ended, by time or by withdrawal, shows epoch 0 in either direction; the
    host calls `support_changed` of each core concerned when either answer changes its epoch.
    """

    def support_for(self, replica: ReplicaId) -> Epoch:
        """Return the epoch at which this store supports that replica's store now; 0 if not."""
        ...

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        """Return the epoch and end of the support that this store has from that replica's store."""
        ...
