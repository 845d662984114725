"""A power cut between two given callbacks of a node.

Purpose
    A crash that comes at random times rarely falls into the few microseconds that matter: after a
    batch was written and before it is durable, or when it is durable and nobody was told; least of
    all when that batch is one of the rare ones. Here it falls nowhere else.
"""

import random
from typing import Literal

from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.sim.process import Condition
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

Moment = Literal["callback", "written", "synced", "born", "installed", "destroyed"]
"""Before a callback; after a write or a sync; after a split, a snapshot, a tombstone is written."""
POLL_S = 0.01


class KillAtStep(Fault, frozen=True, tag="kill-at-step", kw_only=True):
    """Kills a node before its k-th callback, or between a write, its sync, and the replies."""

    moments: tuple[Moment, ...] = ("callback", "written", "synced")
    callbacks_max: int = 200
    wait_s: float = 2.0
    """For a moment that may not come."""
    down_s: Seconds = (0.1, 2.0)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        for number in victims.draw(target, rng):
            moment = rng.choice(self.moments)
            process = cluster.members[number].process
            condition = self._condition(cluster, number, moment, rng)
            async with Wounds(target) as wounds:
                wounds.will_be_down(number)
                cluster.kill_when(number, condition)
                try:
                    await self._wait(cluster, number, target)
                finally:
                    process.forget(condition)
                if process.is_dead:
                    self.note(target, f"n{number} {moment}")
                    await target.sleep(rng.uniform(*self.down_s))

    async def _wait(self, cluster: Cluster, number: int, target: Target) -> None:
        process = cluster.members[number].process
        for _ in range(round(self.wait_s / POLL_S)):
            if process.is_dead:
                return
            await target.sleep(POLL_S)

    def _condition(
        self, cluster: Cluster, number: int, moment: Moment, rng: random.Random
    ) -> Condition:
        member = cluster.members[number]
        engine = member.engine
        left = rng.randint(1, self.callbacks_max)
        synced = engine.synced_count

        def at_callback() -> bool:
            nonlocal left
            left -= 1
            return left <= 0

        before = dict.fromkeys(member.up.store.replicas)
        installed = _installed(member)
        return {
            "callback": at_callback,
            "written": lambda: engine.unsynced_count > 0,
            "synced": lambda: engine.synced_count > synced,
            "born": lambda: (
                engine.unsynced_count > 0 and any(r not in before for r in member.up.store.replicas)
            ),
            "destroyed": lambda: (
                engine.unsynced_count > 0 and any(r not in member.up.store.replicas for r in before)
            ),
            "installed": lambda: engine.unsynced_count > 0 and _installed(member) > installed,
        }[moment]


def _installed(member: Member) -> int:
    return sum(replica.snapshots_installed for replica in member.up.store.replicas.values())
