"""What a replica keeps only while it leads: made when it wins, dropped when it steps down.

Invariants
    - `noop_index` is the first entry of the leader's own term; what is at or above it is of that
      term, which is all that the commit rule of Figure 8 needs to know.
    - `lease_promised` never goes down (rule S4).
"""

from multiraft.ids import NO_REPLICA, Index, ReplicaId, Timestamp
from multiraft.raft.progress import Progress


class PendingRead:
    """One ReadIndex attempt: who has confirmed so far."""

    __slots__ = ("confirmed", "index")

    def __init__(self, index: Index) -> None:
        self.index = index
        self.confirmed: dict[ReplicaId, bool] = {}


class Leadership:
    """See the module."""

    __slots__ = (
        "lease_promised",
        "noop_index",
        "pending_configuration_index",
        "progress",
        "quorum_lost_ticks",
        "read_context_last",
        "reads",
        "snapshot_targets",
        "transfer_clock",
        "transfer_target",
        "transfer_ticks",
        "uncommitted_bytes",
    )

    def __init__(self, noop_index: Index) -> None:
        self.noop_index = noop_index
        self.pending_configuration_index = noop_index
        """No change of configuration before this is applied: there may be one in the log (S5)."""
        self.progress: dict[ReplicaId, Progress] = {}
        self.lease_promised = Timestamp(0)
        """The largest lease end ever computed in this term."""
        self.uncommitted_bytes = 0
        self.quorum_lost_ticks = 0
        self.transfer_target = NO_REPLICA
        self.transfer_clock = Timestamp(0)
        self.transfer_ticks = 0
        self.reads: dict[int, PendingRead] = {}
        self.read_context_last = -1
        self.snapshot_targets: list[ReplicaId] = []

    def take_snapshot_targets(self) -> tuple[ReplicaId, ...]:
        """Return whom the host is to send a snapshot, each once."""
        targets, self.snapshot_targets = self.snapshot_targets, []
        return tuple(targets)
