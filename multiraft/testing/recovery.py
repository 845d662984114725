"""Whether a simulated cluster that is hurt no more becomes well: served, complete and equal.

Purpose
    Safety alone is easy for a cluster that stands still. This waits for progress, and fails when
    there is none.
Invariants
    - A range is well when it has a leaseholder and all its replicas have applied the same log.
    - Members have `bound_s` for that, and have it again whenever they have come nearer: who was
      away may have a long way to go, an entry for each round trip if settings are small. While a
      snapshot travels nobody comes nearer, so the time that it takes is added.
    - A replica that was removed while nobody could tell it so is no member. It has to go, too, but
      finds out only when its store asks, which it does every `replica_gc.INTERVAL_S`.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence

import msgspec

from multiraft.cluster import replica_gc
from multiraft.ids import RangeId
from multiraft.raft import quorum
from multiraft.ranges.replica import Replica
from multiraft.sim.cluster import Cluster

_STEP_S = 0.02

ReplicasOf = Callable[[RangeId], list[Replica]]


class Recovery:
    """See the module. `bound_s` is how long members may stand still."""

    def __init__(self, cluster: Cluster, bound_s: float) -> None:
        self._cluster = cluster
        self._bound_s = bound_s

    async def wait(self) -> None:
        """Return when all is well. AssertionError if it does not become so in time."""
        least = self.entries_behind()
        within_s = self._bound_s if self.is_well(self.members) else self._bound_s + self._snapshot_s
        while not self.is_well(self.members):
            await self._cluster.until(
                lambda: self.is_well(self.members) or self.entries_behind() < least,  # noqa: B023
                within_s=within_s,
                step_s=_STEP_S,
            )
            least = min(least, self.entries_behind())
        await self._cluster.until(
            lambda: self.is_well(self._cluster.replicas),
            within_s=replica_gc.INTERVAL_S + self._bound_s,
            step_s=_STEP_S,
        )

    @property
    def _snapshot_s(self) -> float:
        """How long a snapshot of the largest range travels at the pace that is set."""
        sizes = [
            len(msgspec.msgpack.encode(self._cluster.contents(leader.number, range_id)))
            for range_id in self._cluster.range_ids()
            if (leader := self._cluster.leader(range_id)) is not None
        ]
        return max(sizes, default=0) / self._cluster.config.ranges.snapshot_bytes_per_s

    async def wait_until_able(self, calls: Sequence[asyncio.Task[None]]) -> None:
        """Return when every range can commit, when the calls have ended, or after `bound_s`.

        Calls may reach their deadlines long before a voter has caught up.
        """
        with contextlib.suppress(AssertionError):
            await self._cluster.until(
                lambda: self.can_commit() or all(call.done() for call in calls),
                within_s=self._bound_s,
                step_s=_STEP_S,
            )

    def can_commit(self) -> bool:
        """Whether every range is served, and living voters enough have what it has committed.

        Without those who are lost it may take a voter that is far behind, and has a snapshot to
        receive, or an entry for each round trip: until then nothing new can be committed.
        """
        return all(self._can_commit(range_id) for range_id in self._cluster.range_ids())

    def _can_commit(self, range_id: RangeId) -> bool:
        leader = self._cluster.leader(range_id)
        if leader is None:
            return False
        replica = leader.replica(range_id)
        core, leadership = replica.core, replica.core.leadership
        if leadership is None:
            return False
        living = {member.number for member in self._cluster.running()}
        matches = {
            voter: progress.match_index
            for voter, progress in leadership.progress.items()
            if replica.node_of(voter) in living
        }
        return quorum.reached(core.configuration, matches) >= core.commit_index

    def is_well(self, replicas_of: ReplicasOf) -> bool:
        """Whether every range is served and these replicas of it are equal."""
        return all(
            self._cluster.leader(range_id) is not None and _are_equal(replicas_of(range_id))
            for range_id in self._cluster.range_ids()
        )

    def entries_behind(self) -> int:
        """Return how many entries all members together have yet to apply."""
        behind = 0
        for range_id in self._cluster.range_ids():
            replicas = self.members(range_id)
            last = max(replica.core.last_index for replica in replicas)
            behind += sum(last - replica.applied.index for replica in replicas)
        return behind

    def members(self, range_id: RangeId) -> list[Replica]:
        """Return the replicas that their leaseholder knows; all, as long as there is none."""
        replicas = self._cluster.replicas(range_id)
        leader = self._cluster.leader(range_id)
        if leader is None:
            return replicas
        descriptor = leader.replica(range_id).descriptor
        assert descriptor is not None, "a leaseholder is initialised"
        return [r for r in replicas if descriptor.replica(r.replica_id) is not None]


def _are_equal(replicas: list[Replica]) -> bool:
    if any(replica.descriptor is None for replica in replicas):
        return False
    applied = {replica.applied.index for replica in replicas}
    last = {replica.core.last_index for replica in replicas}
    return len(applied) == 1 and applied == last
