"""Snapshots that are sent: whether each was needed, and whether it can be of use.

Invariants
    - While a snapshot travels to a member that needs it, the leader's log reaches back to it:
      otherwise whoever installs it needs another one.
    A snapshot that entries could have replaced is no violation: it is kept in `needless`.
"""

from collections.abc import Callable

from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term
from multiraft.ranges import state
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.sim.inspection import Member

Report = Callable[[RangeId, str | None], None]
_Job = tuple[NodeId, RangeId, ReplicaId]
"""Who sends a snapshot of which range to which replica."""


class SnapshotWatch:
    """One per cluster. `now` is the true time in seconds."""

    def __init__(
        self, running: Callable[[], list[Member]], now: Callable[[], float], report: Report
    ) -> None:
        self._running = running
        self._now = now
        self._report = report
        self._under_way: dict[_Job, tuple[Term, Index]] = {}
        """With the term that each was begun in, which it does not survive, and the applied index at
        that time."""
        self.needless: list[str] = []

    def watch(self, store: Store) -> None:
        """See the snapshots that a store begins to send from now on."""
        inner, node_id = store.send_snapshot, store.context.node_id
        for job in [job for job in self._under_way if job[0] == node_id]:
            del self._under_way[job]

        def send_snapshot(replica: Replica, target: ReplicaId) -> None:
            self._begins(store, replica, target)
            inner(replica, target)

        store.send_snapshot = send_snapshot  # type: ignore[method-assign]

    def look(self, store: Store, leader: Replica) -> None:
        """Look at a leader after a turn."""
        if not self._under_way:
            return
        node_id, range_id = store.context.node_id, leader.range_id
        for job, (term, index) in list(self._under_way.items()):
            if job[:2] != (node_id, range_id):
                continue
            if leader.core.term != term or not store.snapshots.is_sending(range_id):
                del self._under_way[job]
            elif leader.core.first_index - 1 > index and _needs_entries(leader, job[2]):
                del self._under_way[job]
                self._report(
                    range_id,
                    f"n{node_id} cuts its log at {leader.core.first_index - 1}, though a snapshot "
                    f"of {index} is on its way to replica {job[2]}",
                )

    def _begins(self, store: Store, replica: Replica, target: ReplicaId) -> None:
        node, node_id = replica.node_of(target), store.context.node_id
        begun = replica.core.term, replica.applied.index
        self._under_way.setdefault((node_id, replica.range_id, target), begun)
        for member in self._running():
            if member.number == node and self.could_follow(replica, member.up.store, target):
                self.needless.append(
                    f"{self._now():.3f}s r{replica.range_id}: n{node_id} sends a snapshot to "
                    f"n{node}, which could take entries"
                )

    def could_follow(self, leader: Replica, store: Store, target: ReplicaId) -> bool:
        """Whether entries of the leader's log would do for the replica `target` on `store`."""
        follower = store.replicas.get(leader.range_id)
        if follower is not None and follower.descriptor is not None:
            return (
                follower.replica_id == target
                and follower.core.commit_index >= leader.core.first_index - 1
            )
        # A split that the store has yet to apply may bring it, if entries do for the left range.
        assert leader.descriptor is not None, "a leader is initialised"
        left = store.map.at(leader.descriptor.start)
        tombstone = state.read_tombstone(store.context.engine, leader.range_id)
        if left is None or tombstone is not None:
            return False
        stores = [member.up.store for member in self._running()]
        found = [s.replicas.get(left.range_id) for s in stores]
        return any(
            r is not None
            and r.leaseholder is not None
            and self.could_follow(r, store, left.replica_id)
            for r in found
        )


def _needs_entries(leader: Replica, target: ReplicaId) -> bool:
    """Whether a member lacks entries that the log does not have any more, as the leader knows."""
    leadership = leader.core.leadership
    progress = None if leadership is None else leadership.progress.get(target)
    return progress is not None and progress.match_index < leader.core.first_index - 1
