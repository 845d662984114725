"""The replicas of one store: by range ID, and by key.

Invariants
    - There is no other map of replicas. Two maps of groups would have to be kept in step.
    - By key only initialised replicas are found; their spans never overlap.
"""

from typing import TYPE_CHECKING

from sortedcontainers import SortedDict

from multiraft.ids import RangeId
from multiraft.model.descriptor import RangeDescriptor

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica

DESCRIPTORS_TOLD_MAX = 16


class ReplicaMap:
    """See the module. Only the store adds and removes."""

    __slots__ = ("_by_start", "by_id")

    def __init__(self) -> None:
        self.by_id: dict[RangeId, Replica] = {}
        self._by_start: SortedDict[bytes, Replica] = SortedDict()

    def add(self, replica: "Replica") -> None:
        """Take in a replica of a range that had none here."""
        assert replica.range_id not in self.by_id, f"r{replica.range_id} is here already"
        self.by_id[replica.range_id] = replica
        if replica.descriptor is not None:
            self._by_start[replica.descriptor.start] = replica

    def remove(self, replica: "Replica") -> None:
        """Forget a replica that was destroyed."""
        del self.by_id[replica.range_id]
        if replica.descriptor is not None:
            del self._by_start[replica.descriptor.start]

    def span_changed(self, replica: "Replica", old: RangeDescriptor | None) -> None:
        """A replica got its first descriptor, or one with another start."""
        assert replica.descriptor is not None, "a span is never taken away"
        if old is not None and old.start != replica.descriptor.start:
            del self._by_start[old.start]
        self._by_start[replica.descriptor.start] = replica

    def at(self, key: bytes) -> "Replica | None":
        """Return the initialised replica whose span holds `key`, or None."""
        position = self._by_start.bisect_right(key) - 1
        if position < 0:
            return None
        replica: Replica = self._by_start.peekitem(position)[1]
        assert replica.descriptor is not None, "only initialised replicas are kept by start"
        return replica if key < replica.descriptor.end else None

    def before(self, key: bytes) -> "Replica | None":
        """Return the initialised replica that starts last before `key`, or None."""
        position = self._by_start.bisect_left(key) - 1
        return None if position < 0 else self._by_start.peekitem(position)[1]

    def overlapping(self, start: bytes, end: bytes) -> "list[Replica]":
        """Return the initialised replicas that have a key of `[start, end)`, in key order."""
        first = self.at(start)
        found = [] if first is None else [first]
        for key in self._by_start.irange(start, end, inclusive=(False, False)):
            found.append(self._by_start[key])
        return found

    def descriptors_between(self, start: bytes, end: bytes | None) -> list[RangeDescriptor]:
        """Return the descriptors known here for a key (`end` None) or a span; not too many."""
        if end is None:
            replica = self.at(start)
            replicas = [] if replica is None else [replica]
        else:
            replicas = self.overlapping(start, end)[:DESCRIPTORS_TOLD_MAX]
        return [r.descriptor for r in replicas if r.descriptor is not None]
