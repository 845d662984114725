"""A leader's only supporter leaves the group, and the leader is cut off the moment it has gone.

Purpose
    Play rule S4. One follower does not support the leader, another one does; that one is replaced
    by a newcomer. What the leader promised under the old configuration must hold under the new.
"""

import asyncio
import random
from functools import partial

from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import ReplicaKind
from multiraft.sim.inspection import Member
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.faults.operations import change_replicas
from multiraft.testing.target import Target

_OTHERS = 3
"""Beside the leader: one that is cut off, one that goes, one that comes."""


class SwapSupporter(Fault, frozen=True, tag="swap-supporter", kw_only=True):
    """Cuts a follower off from its leader; has another one replaced; cuts the leader off then.

    Needs four nodes, and gives the range three of them. It ends with the replicas it found.
    """

    cut_s: Seconds = (0.8, 2.0)
    within_s: float = 4.0
    """For the replacement."""
    after_s: Seconds = (0.5, 2.5)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        drawn = victims.draw_led_range(cluster, rng)
        if drawn is None:
            return
        range_id, leader = drawn
        descriptor = leader.replica(range_id).descriptor
        assert descriptor is not None, "a leader is initialised"
        before = tuple(r.node_id for r in descriptor.replicas)
        others = [n for n in target.numbers if n != leader.number]
        if len(others) < _OTHERS:
            return
        cut_off, supporter, newcomer = map(NodeId, rng.sample(others, _OTHERS))
        self.note(target, f"r{range_id} at n{leader.number}: n{newcomer} instead of n{supporter}")
        async with Wounds(target) as wounds:
            wounds.add(lambda: change_replicas(target, range_id, before))
            await change_replicas(target, range_id, (leader.node_id, cut_off, supporter))
            await wounds.part([leader.number], [cut_off])
            await target.sleep(rng.uniform(*self.cut_s))
            process, is_swapped = leader.process, asyncio.Event()

            def has_gone() -> bool:
                return _is_no_voter(leader, range_id, supporter)

            def cut() -> None:
                for n in others:
                    for pair in ((n, leader.number), (leader.number, n)):
                        cluster.cut(*pair)
                        wounds.add(partial(target.heal, *pair))
                is_swapped.set()

            process.when(has_gone, cut)
            change = asyncio.ensure_future(
                change_replicas(target, range_id, (leader.node_id, cut_off, newcomer))
            )
            try:
                async with asyncio.timeout(self.within_s):
                    await is_swapped.wait()
            except TimeoutError:
                return
            finally:
                process.forget(has_gone)
                change.cancel()
            await target.sleep(rng.uniform(*self.after_s))


def _is_no_voter(leader: Member, range_id: RangeId, node: int) -> bool:
    """Whether a node does not count any more in the configuration that the leader has applied."""
    replica = None if leader.node is None else leader.node.store.replicas.get(range_id)
    descriptor = None if replica is None else replica.descriptor
    if descriptor is None or descriptor.is_joint:
        return False
    there = descriptor.replica_on(NodeId(node))
    return there is None or there.kind is ReplicaKind.LEARNER
