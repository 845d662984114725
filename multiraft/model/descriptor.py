"""What a range is: its span, its replicas, its generation.

The descriptor is the only place where membership is kept: it is part of the applied state, and the
Raft configuration is derived from it (one truth, so the two cannot diverge).

Invariants
    - Every change of a descriptor raises `generation` by one.
    - A replica ID is never used twice in one range; `next_replica_id` is above all of them.
"""

import enum

import msgspec

from multiraft.ids import NodeId, RangeId, ReplicaId


class ReplicaKind(enum.IntEnum):
    """What a replica counts for. The last two exist only in a joint configuration (thesis 4.3)."""

    VOTER = 1
    LEARNER = 2
    INCOMING = 3
    """Votes in the new half only; becomes a VOTER when the joint configuration is left."""
    OUTGOING = 4
    """Votes in the old half only; becomes a LEARNER when the joint configuration is left."""


class ReplicaDescriptor(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One replica of a range: on which node, under which ID."""

    node_id: NodeId
    replica_id: ReplicaId
    kind: ReplicaKind = ReplicaKind.VOTER


class RangeDescriptor(msgspec.Struct, frozen=True, array_like=True):
    """One range: the keys `[start, end)` and who keeps them."""

    range_id: RangeId
    start: bytes
    end: bytes
    generation: int
    replicas: tuple[ReplicaDescriptor, ...]
    next_replica_id: ReplicaId

    def contains(self, key: bytes) -> bool:
        """Return whether `key` lies in the span."""
        return self.start <= key < self.end

    def covers(self, start: bytes, end: bytes) -> bool:
        """Return whether the whole of `[start, end)` lies in the span."""
        return self.start <= start and end <= self.end

    def overlaps(self, start: bytes, end: bytes) -> bool:
        """Return whether any key of `[start, end)` lies in the span."""
        return self.start < end and start < self.end

    def replica_on(self, node_id: NodeId) -> ReplicaDescriptor | None:
        """Return the replica on that node, or None."""
        for replica in self.replicas:
            if replica.node_id == node_id:
                return replica
        return None

    def replica(self, replica_id: ReplicaId) -> ReplicaDescriptor | None:
        """Return the replica with that ID, or None."""
        for replica in self.replicas:
            if replica.replica_id == replica_id:
                return replica
        return None

    @property
    def is_joint(self) -> bool:
        """Whether a membership change is under way (a joint configuration, thesis 4.3)."""
        return any(r.kind in (ReplicaKind.INCOMING, ReplicaKind.OUTGOING) for r in self.replicas)


def initial_descriptor(
    range_id: RangeId, start: bytes, end: bytes, nodes: tuple[NodeId, ...]
) -> RangeDescriptor:
    """Return the descriptor of a range that begins life with one voter on each of `nodes`."""
    replicas = tuple(
        ReplicaDescriptor(node_id, ReplicaId(number))
        for number, node_id in enumerate(nodes, start=1)
    )
    return RangeDescriptor(range_id, start, end, 1, replicas, ReplicaId(len(nodes) + 1))
