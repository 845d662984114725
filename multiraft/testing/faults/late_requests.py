"""Requests that wait unread at a leader while another one answers their repetitions.

Purpose
    Play rule S7. What clients send to a leader is held; leadership moves on, and attempts that are
    sent again are answered there; leadership comes back, and the first attempts arrive after all.
"""

import random
from functools import partial

from multiraft.ids import NodeId, RangeId
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.operations import REFUSALS
from multiraft.testing.target import Target


class LateRequests(Fault, frozen=True, tag="late-requests", kw_only=True):
    """Holds what clients send to the leader of a range, until it has lost and regained the range.

    `held_s` is how long before the range moves away, and again before it moves back.
    """

    held_s: tuple[float, float] = (0.1, 1.0)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        drawn = victims.draw_led_range(cluster, rng)
        if drawn is None:
            return
        range_id, leader = drawn
        number = leader.number
        other = rng.choice([n for n in target.numbers if n != number])
        self.note(target, f"r{range_id} at n{number}")
        stores = {member.name for member in cluster.members.values()}
        network = cluster.network
        async with Wounds(target) as wounds:
            for caller in network.callers_of(leader.name):
                if caller not in stores and caller != victims.ADMIN:
                    network.cut(caller, leader.name)
                    wounds.add(partial(_heal, target, caller, leader.name))
            await target.sleep(rng.uniform(*self.held_s))
            await _transfer(target, range_id, other)
            await target.sleep(rng.uniform(*self.held_s))
            await _transfer(target, range_id, number)


async def _heal(target: Target, caller: str, name: str) -> None:
    victims.simulation(target).network.heal(caller, name)


async def _transfer(target: Target, range_id: RangeId, number: int) -> None:
    try:
        await target.db.admin.transfer(range_id, NodeId(number), deadline_s=victims.ASK_S)
    except REFUSALS:
        return
