"""A supporter of a leader that is restarted while somebody else wants to lead.

Purpose
    Play rules S3 and A6. One follower is cut off from the leader and wants to campaign; whether the
    others vote for it depends on whether they remember, over a restart, whom they support.
"""

import asyncio
import random

from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target


class RestartSupporters(Fault, frozen=True, tag="restart-supporters", kw_only=True):
    """Cuts a follower off from the leader of a range; restarts all others while it campaigns.

    Before their death no sync of theirs ends for `stalled_s`. It may hit the leader, too.
    """

    cut_s: Seconds = (0.5, 2.0)
    """How long the follower is cut off before."""
    stalled_s: Seconds = (0.0, 0.0)
    down_s: Seconds = (0.0, 0.05)
    after_s: Seconds = (0.5, 2.5)
    """How long it stays cut off after."""
    leader_chance: float = 0.2

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        leader = await victims.draw_leader(target, rng)
        if not leader:
            return
        others = [n for n in target.numbers if n not in leader]
        follower = rng.choice(others)
        restarted = leader if rng.random() < self.leader_chance else others
        restarted = [n for n in restarted if n != follower]
        self.note(
            target, f"n{leader[0]} without n{follower}, {' '.join(f'n{n}' for n in restarted)}"
        )
        async with Wounds(target) as wounds:
            await wounds.part(leader, [follower])
            await target.sleep(rng.uniform(*self.cut_s))
            await self._stall(cluster, wounds, restarted, rng)
            await wounds.kill(*restarted)
            await wounds.heal_last()
            await target.sleep(rng.uniform(*self.down_s))
            for n in restarted:
                wounds.start_soon(n)
            await target.sleep(rng.uniform(*self.after_s))

    async def _stall(
        self, cluster: Cluster, wounds: Wounds, numbers: list[int], rng: random.Random
    ) -> None:
        """Let no sync end from now on until the last wound heals; return in the middle of it."""
        length = rng.uniform(*self.stalled_s)
        ends_at = cluster.loop.time() + length

        def stall() -> float:
            return max(0.0, ends_at - cluster.loop.time())

        for n in numbers:
            cluster.members[n].sync_troubles[stall] = None

        async def heal() -> None:
            for n in numbers:
                del cluster.members[n].sync_troubles[stall]

        wounds.add(heal)
        await asyncio.sleep(length * rng.random())
