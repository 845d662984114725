"""What a store gathers from all dirty replicas for one batch: what is to be logged, or applied.

Invariants
    - Everything gathered goes into one engine batch, written once; where that has to be durable,
      what is committed is gathered into a second one, written behind the first.
    - What happened in memory because of applied commands becomes visible only after that write:
      it is queued in `after_write`, in order. Only answers to plain writes, whose latches hold till
      then, leave before, from `before_write`.
    - A sync releases exactly the Readys taken in the turns it covers (rule A1).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from multiraft.raft.core import RaftCore
from multiraft.raft.ready import Ready
from multiraft.storage.engine import Batch

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica


class Turn:
    """One batch of a turn, and what depends on it."""

    __slots__ = ("after_write", "batch", "before_write", "committed", "synced", "to_sync", "writes")

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.writes = False
        """Whether anything was put into `batch`."""
        self.to_sync: list[tuple[Replica, RaftCore, Ready]] = []
        """Readys to confirm to their cores once the batch is durable."""
        self.committed: list[Replica] = []
        """Those with entries to be applied in the batch behind this one, or later."""
        self.before_write: list[Callable[[], None]] = []
        """To be called once it is certain that this is going to be written."""
        self.after_write: list[Callable[[], None]] = []
        self.synced: list[Callable[[], None]] = []
        """To be called once the batch is durable, after the cores were told."""

    @property
    def is_to_be_synced(self) -> bool:
        """Whether anybody waits for the batch to be durable."""
        return bool(self.to_sync or self.synced)
