"""A leader brings the ranges it leads to the wanted number of voters.

Purpose
    After nodes joined, ranges with fewer voters than the replication factor get more, a few at a
    time. Learners that a broken-off change left behind are removed.
Invariants
    - One timer per store, not per range; a look at a range that lacks nothing costs a comparison.
    - Changes go through AdminChangeReplicas, which refuses what does not fit.
    - A range with learners is left alone until nothing about it has changed for a while: they
      belong to a change whose caller is about to ask the new leader to go on with it.
"""

import asyncio

import msgspec

from multiraft import errors
from multiraft.cluster import allocator
from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import RangeDescriptor, ReplicaKind
from multiraft.model.requests import AdminChangeReplicas, BatchReply
from multiraft.ranges import state
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store

INTERVAL_S = 1.0
CONCURRENT_MAX = 4
LEARNERS_PATIENCE_S = 10.0


class ReplicateQueueStatus(msgspec.Struct, frozen=True):
    """How many membership changes were made since the start, and why the last to fail did."""

    changes: int
    last_problem: str


class ReplicateQueue:
    """Runs for the life of a store; see the module."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._changes = 0
        self._last_problem = ""
        self._learners_seen: dict[RangeId, tuple[int, float]] = {}
        """Ranges with learners: the generation seen, and since when."""

    def status(self) -> ReplicateQueueStatus:
        """Return what was changed."""
        return ReplicateQueueStatus(self._changes, self._last_problem)

    async def run(self) -> None:
        """Look at all ranges led here, again and again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            jobs = [self._change(*job) for job in self._due()]
            await asyncio.gather(*jobs)

    def _due(self) -> list[tuple[Replica, tuple[NodeId, ...]]]:
        live = self._live_nodes()
        due = []
        for replica in self._store.replicas.values():
            if not replica.lacks_members:
                continue
            holder, descriptor = replica.leaseholder, replica.descriptor
            if holder is None or not holder.serving or descriptor is None or descriptor.is_joint:
                continue
            wanted = self._wanted(descriptor, live)
            if wanted is not None:
                due.append((replica, wanted))
        return due

    def _wanted(self, descriptor: RangeDescriptor, live: list[NodeId]) -> tuple[NodeId, ...] | None:
        """Return the voters that the range should get, None if it lacks nothing."""
        voters = [r.node_id for r in state.voters(descriptor)]
        factor = self._store.context.config.ranges.replication_factor
        has_learners = any(r.kind is ReplicaKind.LEARNER for r in descriptor.replicas)
        if not has_learners:
            self._learners_seen.pop(descriptor.range_id, None)
        elif not self._are_forgotten(descriptor):
            return None
        if len(voters) >= factor and not has_learners:
            return None
        wanted = allocator.wanted_voters(descriptor.range_id, voters, live, factor)
        if wanted == tuple(sorted(voters)) and not has_learners:
            return None
        return wanted

    def _are_forgotten(self, descriptor: RangeDescriptor) -> bool:
        """Return whether the range's learners have waited so long that nobody wants them."""
        now = self._store.context.clock.monotonic()
        generation, since = self._learners_seen.get(descriptor.range_id, (0, now))
        if generation != descriptor.generation:
            self._learners_seen[descriptor.range_id] = (descriptor.generation, now)
            return False
        if now - since < LEARNERS_PATIENCE_S:
            return False
        del self._learners_seen[descriptor.range_id]
        return True

    def _live_nodes(self) -> list[NodeId]:
        liveness = self._store.liveness
        return [node for node in sorted(self._store.known_nodes()) if liveness.support_for(node)]

    async def _change(self, replica: Replica, wanted: tuple[NodeId, ...]) -> None:
        async with self._slots:
            descriptor = replica.descriptor
            if replica.destroyed or descriptor is None:
                return
            done: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
            operation = AdminChangeReplicas(wanted, descriptor.generation)
            self._store.admin.submit(replica, operation, done.set_result)
            reply = await done
            if reply.error is None:
                self._changes += 1
            else:
                problem = errors.from_wire(reply.error).message
                self._last_problem = f"r{replica.range_id}: {problem}"
