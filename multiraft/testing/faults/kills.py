"""Nodes that die: one, several, all, and at the worst moment.

In simulation a kill is a power cut, too: of the batches that are not synced a random suffix is
lost.
"""

import random

from multiraft import errors
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.target import Target

Seconds = tuple[float, float]
"""From, to; one is drawn."""


async def _kill_for(
    fault: Fault, target: Target, rng: random.Random, numbers: list[int], down_s: Seconds
) -> None:
    """Kill nodes at one instant; start them again together, or one after the other."""
    if not numbers:
        return
    fault.note(target, " ".join(f"n{n}" for n in numbers))
    async with Wounds(target) as wounds:
        await wounds.kill(*numbers)
        await target.sleep(rng.uniform(*down_s))
        if len(numbers) > 1 and rng.random() < 0.5:
            for n in rng.sample(numbers, len(numbers)):
                await wounds.start(n)
                await target.sleep(rng.uniform(*down_s) / 4)


class KillOne(Fault, frozen=True, tag="kill-one", kw_only=True):
    """Kills one node."""

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await _kill_for(self, target, rng, victims.draw(target, rng), self.down_s)


class KillLeader(Fault, frozen=True, tag="kill-leader", kw_only=True):
    """Kills the leader of a random range."""

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        leader = await victims.draw_leader(target, rng)
        await _kill_for(self, target, rng, leader, self.down_s)


class KillHost(Fault, frozen=True, tag="kill-host", kw_only=True):
    """Kills all nodes of one host, at one instant."""

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        host = rng.choice(target.hosts)
        numbers = [number for number in host if target.is_up(number)]
        await _kill_for(self, target, rng, numbers, self.down_s)


class KillMinority(Fault, frozen=True, tag="kill-minority", kw_only=True):
    """Kills as many as a cluster survives, at one instant."""

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        count = (len(target.numbers) - 1) // 2
        await _kill_for(self, target, rng, victims.draw(target, rng, count), self.down_s)


class KillMajority(Fault, frozen=True, tag="kill-majority", kw_only=True):
    """Kills one more than a cluster survives, at one instant: nothing is served until they return.

    What was acknowledged must be there then.
    """

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        count = len(target.numbers) // 2 + 1
        await _kill_for(self, target, rng, victims.draw(target, rng, count), self.down_s)


class KillAll(Fault, frozen=True, tag="kill-all", kw_only=True):
    """Kills every node at one instant: the power of the building fails."""

    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await _kill_for(self, target, rng, victims.up(target), self.down_s)


class RestartStorm(Fault, frozen=True, tag="restart-storm", kw_only=True):
    """Kills one node again and again, often while it starts."""

    times: tuple[int, int] = (2, 6)
    down_s: Seconds = (0.0, 0.3)
    up_s: Seconds = (0.0, 1.5)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        async with Wounds(target) as wounds:
            for victim in victims.draw(target, rng):
                for _ in range(rng.randint(*self.times)):
                    self.note(target, f"n{victim}")
                    await wounds.kill(victim)
                    await target.sleep(rng.uniform(*self.down_s))
                    wounds.start_soon(victim)
                    await target.sleep(rng.uniform(*self.up_s))


class KillAfterSplit(Fault, frozen=True, tag="kill-after-split", kw_only=True):
    """Splits a range at a key that it holds, and kills a node, mostly its leader, right after."""

    within_s: float = 0.05
    down_s: Seconds = (0.1, 2.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        key = await victims.draw_key(target, rng)
        if key is None:
            return
        try:
            await target.db.admin.split(key, deadline_s=victims.ASK_S)
        except errors.MultiraftError:
            return
        await target.sleep(rng.uniform(0.0, self.within_s))
        victim = await victims.draw_leader(target, rng) if rng.random() < 0.7 else []
        victim = victim or victims.draw(target, rng)
        await _kill_for(self, target, rng, victim, self.down_s)
