"""A range that splits while a snapshot of the whole of it travels to a newcomer.

Purpose
    Play trap T14. The newcomer hears of the right side before it can know of the split, and makes
    an uninitialised replica; the split that it applies at last must find that, or its tombstone.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable

from multiraft.ids import NodeId, RangeId
from multiraft.model import keys
from multiraft.ranges import bootstrap
from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.operations import REFUSALS, change_replicas
from multiraft.testing.target import Target

_POLL_S = 0.002
_REPLICAS_MIN = 4
"""Three of them stay when one goes."""


class SplitUnderSnapshot(Fault, frozen=True, tag="split-under-snapshot", kw_only=True):
    """Takes a replica from a range, returns it, and splits the range while its snapshot travels.

    By chance the right side loses the newcomer at once. Needs a range on four nodes.
    """

    leave_chance: float = 0.5
    ranges_max: int = 12
    within_s: float = 3.0
    """For the snapshot to begin, and again to end."""

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        key = await victims.draw_key(target, rng)
        if key is None or len(cluster.range_ids()) >= self.ranges_max:
            return
        left = cluster.range_at(key)
        before = tuple(replica.node_id for replica in left.replicas)
        if len(before) < _REPLICAS_MIN or left.start == keys.PLAIN + key:
            return
        newcomer, *stay = rng.sample(before, len(before))
        self.note(target, f"r{left.range_id} to n{newcomer}")
        async with Wounds(target) as wounds:
            wounds.add(lambda: change_replicas(target, left.range_id, before))
            await change_replicas(target, left.range_id, tuple(stay))
            adding = asyncio.ensure_future(change_replicas(target, left.range_id, before))
            try:
                if not await self._until(lambda: _receives(cluster, newcomer, left.range_id)):
                    return
                with contextlib.suppress(*REFUSALS):
                    await target.db.admin.split(key, deadline_s=victims.ASK_S)
                if rng.random() < self.leave_chance and await self._until(
                    lambda: _is_known(cluster, keys.PLAIN + key)
                ):
                    await change_replicas(target, cluster.range_at(key).range_id, tuple(stay))
                await self._until(lambda: not _receives(cluster, newcomer, left.range_id))
            finally:
                adding.cancel()

    async def _until(self, condition: Callable[[], bool]) -> bool:
        """Wait until it holds; return whether it does."""
        for _ in range(round(self.within_s / _POLL_S)):
            if condition():
                return True
            await asyncio.sleep(_POLL_S)
        return False


def _receives(cluster: Cluster, node: NodeId, range_id: RangeId) -> bool:
    member = cluster.members[node]
    return member.node is not None and range_id in member.up.store.intake.receiving


def _is_known(cluster: Cluster, start: bytes) -> bool:
    """Whether the addressing records know a range that begins there."""
    is_served = cluster.leader(bootstrap.FIRST_RANGE_ID) is not None
    return is_served and start in cluster.meta_records()
