"""Nodes that stand still and go on as if nothing had been: SIGSTOP, a paused virtual machine."""

import random

from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

_LONG_CHANCE = 0.1


class Freeze(Fault, frozen=True, tag="freeze", kw_only=True):
    """Freezes nodes at one instant; they thaw one by one. One time in ten, for long."""

    nodes: int = 1
    frozen_s: Seconds = (0.1, 3.0)
    long_s: Seconds = (3.0, 30.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await self._freeze(target, rng, victims.draw(target, rng, self.nodes))

    async def _freeze(self, target: Target, rng: random.Random, numbers: list[int]) -> None:
        lengths = self.long_s if rng.random() < _LONG_CHANCE else self.frozen_s
        async with Wounds(target) as wounds:
            for number in numbers:
                self.note(target, f"n{number}")
                await wounds.freeze(number)
            for _ in numbers:
                await target.sleep(rng.uniform(*lengths) / len(numbers))
                await wounds.heal_last()


class FreezeLeader(Freeze, frozen=True, tag="freeze-leader", kw_only=True):
    """Freezes the leader of a random range."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await self._freeze(target, rng, await victims.draw_leader(target, rng))


class FreezeAll(Freeze, frozen=True, tag="freeze-all", kw_only=True):
    """Freezes every node at one instant, as when their host is suspended; all thaw at once."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        self.note(target, "all")
        async with Wounds(target) as wounds:
            for number in target.numbers:
                await wounds.freeze(number)
            await target.sleep(rng.uniform(*self.frozen_s))


class FreezeTwo(Freeze, frozen=True, tag="freeze-two", kw_only=True):
    """Freezes two nodes at one instant: of three, the majority."""

    nodes: int = 2
