"""A leader brings the ranges it leads to the wanted number of voters, in the best places there are.

Purpose
    After nodes joined, ranges with fewer voters than the replication factor get more, a few at a
    time. Where voters are nearer to each other than they need be, one is swapped for another.
    Learners that a broken-off change left behind are removed.
Invariants
    - One timer per store, not per range; a look at a range that lacks nothing costs a comparison,
      and one more where nodes have something in common.
    - Changes go through AdminChangeReplicas, which refuses what does not fit.
    - A range with learners is left alone until nothing about it has changed for a while: they
      belong to a change whose caller is about to ask the new leader to go on with it.
"""

import asyncio
from collections import Counter
from itertools import chain

import msgspec

from multiraft import errors
from multiraft.cluster import allocator
from multiraft.cluster.allocator import NodePool
from multiraft.cluster.placement import PlacementReview, SharedHost
from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import AdminChangeReplicas, BatchReply
from multiraft.ranges.peers import AddressBook
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store

INTERVAL_S = 1.0
CONCURRENT_MAX = 4
CHANGES_PER_LOOK_MAX = 64
"""What was found out about the nodes is old when so many ranges have changed."""
LEARNERS_PATIENCE_S = 10.0


class ReplicateQueueStatus(msgspec.Struct, frozen=True):
    """How many membership changes were made since the start, and why the last to fail did."""

    changes: int
    last_problem: str
    shared_hosts: tuple[SharedHost, ...] = ()
    """Voters of ranges led here that share a host, and why they do."""


class ReplicateQueue:
    """Runs for the life of a store; see the module."""

    def __init__(self, store: Store, addresses: AddressBook) -> None:
        self._store = store
        self._addresses = addresses
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._changes = 0
        self._last_problem = ""
        self._review = PlacementReview()
        self._learners_seen: dict[RangeId, tuple[int, float]] = {}
        """Ranges with learners: the generation seen, and since when."""

    def status(self) -> ReplicateQueueStatus:
        """Return what was changed, and what is not as it should be."""
        return ReplicateQueueStatus(self._changes, self._last_problem, self._review.shared_hosts())

    async def run(self) -> None:
        """Look at all ranges led here, again and again."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            jobs = [self._change(*job) for job in self._due()]
            await asyncio.gather(*jobs)

    def _due(self) -> list[tuple[Replica, RangeDescriptor, tuple[NodeId, ...]]]:
        """Return ranges that are to change, as they are, with the voters they should have."""
        live = self._live_nodes()
        localities = {entry.node_id: entry.locality for entry in self._addresses.nodes()}
        nodes = self._review.begin(live, localities)
        faulty = self._faulty()
        if not faulty:
            return []
        load = Counter(chain.from_iterable(r.voter_nodes for r in self._store.replicas.values()))
        pool = nodes._replace(replicas=load)
        due = []
        for replica, descriptor in faulty:
            wanted = self._wanted(replica, descriptor, pool)
            if wanted is None:
                continue
            load.subtract(replica.voter_nodes)
            load.update(wanted)
            due.append((replica, descriptor, wanted))
            if len(due) == CHANGES_PER_LOOK_MAX:
                break
        return due

    def _faulty(self) -> list[tuple[Replica, RangeDescriptor]]:
        """Return the ranges led here that lack members, or have them in places that can improve."""
        faulty = []
        review_is_needed = self._review.is_needed
        for replica in self._store.replicas.values():
            if not (replica.lacks_members or review_is_needed):
                continue
            holder, descriptor = replica.leaseholder, replica.descriptor
            if holder is None or not holder.serving or descriptor is None or descriptor.is_joint:
                continue
            can_improve = review_is_needed and self._review.can_improve(
                replica.range_id, replica.voter_nodes
            )
            if replica.lacks_members or can_improve:
                faulty.append((replica, descriptor))
        return faulty

    def _wanted(
        self, replica: Replica, descriptor: RangeDescriptor, pool: NodePool
    ) -> tuple[NodeId, ...] | None:
        """Return the voters that the range should get, None if it is to be left as it is."""
        context, voters = self._store.context, replica.voter_nodes
        has_learners = len(voters) < len(descriptor.replicas)
        if not has_learners:
            self._learners_seen.pop(descriptor.range_id, None)
        elif not self._are_forgotten(descriptor):
            return None
        factor = context.config.ranges.replication_factor
        wanted = allocator.wanted_voters(
            descriptor.range_id, voters, pool, factor, leader=context.node_id
        )
        return wanted if wanted != voters or has_learners else None

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

    def _live_nodes(self) -> tuple[NodeId, ...]:
        liveness = self._store.liveness
        known = sorted(self._store.known_nodes())
        return tuple(node for node in known if liveness.support_for(node))

    async def _change(
        self, replica: Replica, seen: RangeDescriptor, wanted: tuple[NodeId, ...]
    ) -> None:
        async with self._slots:
            if replica.destroyed or replica.descriptor is not seen:
                return  # Somebody else had an idea of who should keep it; the next look will tell.
            done: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
            operation = AdminChangeReplicas(wanted, seen.generation)
            self._store.admin.submit(replica, operation, done.set_result)
            reply = await done
            if reply.error is None:
                self._changes += 1
            else:
                problem = errors.from_wire(reply.error).message
                self._last_problem = f"r{replica.range_id}: {problem}"
