"""A follower gets what a deposed leader had, and, while it syncs that, what replaces it.

Purpose
    Play rule A1. The sync of the first must not vouch for the second, which lies at the same
    indexes and is not durable yet.
"""

import random

from multiraft.ids import RangeId, Term
from multiraft.raft.core import RaftCore
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.testing.faults import disks, victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

_POLL_S = 0.002
_ELECTORATE_MIN = 5
"""The leader and the follower stand aside; the others must be a majority."""


class StaleTail(Fault, frozen=True, tag="stale-tail", kw_only=True):
    """Lets a follower of slow disk hear of a leader that is cut off, then of its successor.

    Needs a range on five nodes.
    """

    sync_s: Seconds = (0.1, 0.6)
    """Of the follower."""
    within_s: float = 4.0
    """For the election of a successor, and for the follower to write."""
    after_s: Seconds = (0.5, 1.5)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        drawn = victims.draw_led_range(cluster, rng)
        if drawn is None:
            return
        range_id, leader = drawn
        voters = [m for m in cluster.running() if range_id in m.up.store.replicas]
        if len(voters) < _ELECTORATE_MIN:
            return
        term = leader.replica(range_id).core.term
        follower = rng.choice([m for m in voters if m is not leader])
        others = [n for n in target.numbers if n not in (leader.number, follower.number)]
        self.note(target, f"r{range_id} from n{leader.number} to n{follower.number}")
        async with Wounds(target) as wounds:
            sync_s = rng.uniform(*self.sync_s)
            disks.trouble_syncs(wounds, follower, lambda: sync_s)
            await wounds.part([leader.number], others)
            for n in others:
                await wounds.cut(n, follower.number)
            await wounds.cut(leader.number, follower.number)
            if not await self._until_as_long(cluster, leader, range_id, target):
                return
            await wounds.heal_last()
            if not await self._until_written(follower, range_id, term, target):
                return
            for _ in others:
                await wounds.heal_last()
            await target.sleep(rng.uniform(*self.after_s))

    async def _until_as_long(
        self, cluster: Cluster, deposed: Member, range_id: RangeId, target: Target
    ) -> bool:
        """Wait until a successor's log is as long as that of the deposed; return whether it is."""
        for _ in range(round(self.within_s / _POLL_S)):
            await target.sleep(_POLL_S)
            tail = _core(deposed, range_id)
            leader = cluster.leader(range_id)
            successor = None if leader is None else _core(leader, range_id)
            if tail is None or successor is None or successor.term <= tail.term:
                continue
            if successor.last_index >= tail.last_index:
                return successor.last_index == tail.last_index
        return False

    async def _until_written(
        self, follower: Member, range_id: RangeId, term: Term, target: Target
    ) -> bool:
        """Wait until unsynced entries of `term` end the log; return whether they do."""
        for _ in range(round(self.within_s / _POLL_S)):
            await target.sleep(_POLL_S)
            core = _core(follower, range_id)
            if core is None or core.term > term:
                return False
            if core.log.last_term == term and core.log.durable_index < core.log.written_index:
                return True
        return False


def _core(member: Member, range_id: RangeId) -> RaftCore | None:
    replica = None if member.node is None else member.up.store.replicas.get(range_id)
    return None if replica is None else replica.core
