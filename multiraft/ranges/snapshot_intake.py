"""Which snapshots a store takes in, and when.

Invariants
    - A snapshot is taken only by the replica it is for, and only if it brings something new and
      has this replica among its members: the sender may have waited long for its turn, and a store
      does not start with a replica that its own descriptor leaves out.
    - No other replica here, nor another snapshot on its way in, covers any of its span (rule A4);
      asked when it begins and again when it is complete.
    - At most one snapshot per range is received, and one waits to be installed. One of a later term
      takes the place of an earlier one: a sender that is stopped keeps its connection, and may
      never go on.
"""

from functools import partial
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.ranges.messages import SnapshotHeader
from multiraft.ranges.snapshot import StagedSnapshot, install_message

if TYPE_CHECKING:
    from multiraft.ranges.store import Store


class SnapshotIntake:
    """See the module. One per store."""

    __slots__ = ("_store", "receiving")

    def __init__(self, store: "Store") -> None:
        self._store = store
        self.receiving: dict[RangeId, SnapshotHeader] = {}
        """Of snapshots on their way in."""

    def admit(self, header: SnapshotHeader) -> str:
        """Return why a snapshot cannot be taken now, or "" and expect its data."""
        descriptor = header.state.descriptor
        try:
            self._store.context.hlc.forward_from_peer(header.clock)
        except errors.ClockOffsetError as error:
            return error.message
        replica = self._store.replicas.get(descriptor.range_id)
        if replica is None or header.target > replica.replica_id:
            return "no replica waits for it here yet"
        if header.target < replica.replica_id:
            return f"it is for replica {header.target}, but {replica.replica_id} is here"
        if descriptor.replica(header.target) is None:
            return f"replica {header.target} is no member any more as of it"
        if replica.applied.index >= header.state.applied.index:
            return f"it is at {header.state.applied.index}, but we applied {replica.applied.index}"
        coming = self.receiving.get(descriptor.range_id)
        if coming is not None and coming.term >= header.term:
            return "another one is being received"
        conflict = self._conflict(descriptor)
        if conflict is None:
            self.receiving[descriptor.range_id] = header
            return ""
        return conflict

    def over(self, header: SnapshotHeader) -> None:
        """A snapshot is complete here, or will never be."""
        range_id = header.state.descriptor.range_id
        if self.receiving.get(range_id) is header:
            del self.receiving[range_id]

    def install(self, header: SnapshotHeader, staged: StagedSnapshot, source: NodeId) -> str:
        """Hand a complete snapshot to its core; return why not, or ""."""
        descriptor = header.state.descriptor
        replica = self._store.replicas.get(descriptor.range_id)
        if replica is None or replica.replica_id != header.target:
            return "the replica is gone"
        if replica.staged is not None:
            return "another one is being installed"
        conflict = self._conflict(descriptor)
        if conflict is not None:
            return conflict
        replica.staged = staged
        self._store.context.mark_dirty(replica)
        self._store.or_fail(partial(replica.step, source, install_message(header)))
        return ""

    def _conflict(self, descriptor: RangeDescriptor) -> str | None:
        """Return which other replica here, or snapshot on its way, covers the span (rule A4)."""
        for other in self._store.map.overlapping(descriptor.start, descriptor.end):
            if other.range_id != descriptor.range_id:
                return f"r{other.range_id} covers part of its span here"
        received = [header.state.descriptor for header in self.receiving.values()]
        for coming in (*received, *self._store.turns.staged_descriptors()):
            if coming.range_id != descriptor.range_id and coming.overlaps(
                descriptor.start, descriptor.end
            ):
                return f"a snapshot of r{coming.range_id} is being received for part of its span"
        return None
