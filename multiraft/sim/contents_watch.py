"""Replicas that have applied the same must hold the same, byte for byte.

Invariants
    - Compared are the rows of the range and its descriptor, as the engines hold them, at equal
      applied index; the applied state itself is compared with every batch, see disk_watch.
    - Only between turns, when memory and engine agree.
"""

from collections.abc import Callable

import msgspec
import xxhash

from multiraft import errors
from multiraft.ids import Index, RangeId
from multiraft.ranges import snapshot
from multiraft.ranges.replica import Replica
from multiraft.sim.inspection import Member

Report = Callable[[RangeId, str | None], None]

SAMPLE_ROWS_MAX = 2_000
"""A range with more versions is compared at the end only."""


class ContentsWatch:
    """One per cluster."""

    def __init__(self, running: Callable[[], list[Member]], report: Report) -> None:
        self._running = running
        self._report = report
        self._last = RangeId(0)
        self.compared = 0
        """How many pairs of replicas were compared."""

    def sample(self) -> None:
        """Compare the replicas of one range, the next one in turn."""
        ids = sorted({r for m in self._running() for r in m.up.store.replicas})
        if not ids:
            return
        self._last = next((r for r in ids if r > self._last), ids[0])
        self.compare(self._last, SAMPLE_ROWS_MAX)

    def compare_all(self) -> None:
        """Compare all replicas of all ranges."""
        for range_id in sorted({r for m in self._running() for r in m.up.store.replicas}):
            self.compare(range_id)

    def compare(self, range_id: RangeId, rows_max: int | None = None) -> None:
        """Compare the replicas of a range that have applied the same."""
        groups: dict[Index, list[tuple[Member, Replica]]] = {}
        for member in self._running():
            replica = member.up.store.replicas.get(range_id)
            if replica is None or replica.descriptor is None:
                continue
            if rows_max is None or replica.applied.stats.versions <= rows_max:
                groups.setdefault(replica.applied.index, []).append((member, replica))
        for index, group in groups.items():
            if len(group) > 1:
                self._compare(range_id, index, group)

    def _compare(
        self, range_id: RangeId, index: Index, group: list[tuple[Member, Replica]]
    ) -> None:
        digests: dict[int, str] = {}
        for member, replica in group:
            try:
                digests[digest(member, replica)] = member.name
            except errors.MultiraftError:
                continue  # Its disk has failed; it is about to die.
        self.compared += len(group) - 1
        if len(digests) > 1:
            names = ", ".join(digests.values())
            self._report(range_id, f"other rows on each of {names} at applied index {index}")


def digest(member: Member, replica: Replica) -> int:
    """Return a hash of descriptor and rows."""
    descriptor = replica.descriptor
    assert descriptor is not None, "an initialised replica"
    view = member.engine.view()
    try:
        rows = list(snapshot.rows_of(view, member.engine.data, descriptor))
    finally:
        view.close()
    return xxhash.xxh3_64_intdigest(msgspec.msgpack.encode((descriptor, rows)))
