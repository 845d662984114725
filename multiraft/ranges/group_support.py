"""Support between stores, as a Raft core asks for it: by replica of its group.

Purpose
    Stores support each other, whatever the number of groups; a core knows replica IDs only. So the
    host keeps which node each replica is on, as descriptors and messages tell.
Invariants
    - A replica ID is never used twice, so what is known of one stays true: nothing is forgotten.
    - A replica whose node is not known gives no support and gets none.
"""

from multiraft.ids import NO_EPOCH, Epoch, NodeId, ReplicaId, Timestamp
from multiraft.liveness.heartbeats import Liveness


class GroupSupport:
    """The `SupportView` (raft/storage.py) of one group's core."""

    __slots__ = ("_liveness", "nodes")

    def __init__(self, liveness: Liveness) -> None:
        self._liveness = liveness
        self.nodes: dict[ReplicaId, NodeId] = {}

    def support_for(self, replica: ReplicaId) -> Epoch:
        """Return the epoch at which this store supports the replica's store; 0 if not."""
        node = self.nodes.get(replica)
        return NO_EPOCH if node is None else self._liveness.support_for(node)

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        """Return the epoch and end of the support this store has from the replica's store."""
        node = self.nodes.get(replica)
        if node is None:
            return NO_EPOCH, Timestamp(0)
        return self._liveness.support_from(node)
