"""Links that carry nothing for a while, and all of it when they heal, as TCP does."""

import random

from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target


def _names(numbers: list[int]) -> str:
    return " ".join(f"n{n}" for n in numbers)


def _shuffled(target: Target, rng: random.Random) -> list[int]:
    return rng.sample(target.numbers, len(target.numbers))


class Isolate(Fault, frozen=True, tag="isolate", kw_only=True):
    """Cuts one node off from everybody, clients included."""

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await self._isolate(target, rng, victims.draw(target, rng))

    async def _isolate(self, target: Target, rng: random.Random, numbers: list[int]) -> None:
        async with Wounds(target) as wounds:
            for number in numbers:
                self.note(target, f"n{number}")
                await wounds.isolate(number)
                await target.sleep(rng.uniform(*self.cut_s))


class IsolateLeader(Isolate, frozen=True, tag="isolate-leader", kw_only=True):
    """Cuts the leader of a random range off from everybody."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        await self._isolate(target, rng, await victims.draw_leader(target, rng))


class CutOffLeader(Fault, frozen=True, tag="cut-off-leader", kw_only=True):
    """Cuts the leader of a random range off from the other nodes; clients still reach it.

    So it goes on to take writes that nobody else has, and reads as long as its lease lasts.
    """

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        for leader in await victims.draw_leader(target, rng):
            self.note(target, f"n{leader}")
            async with Wounds(target) as wounds:
                await wounds.part([leader], [n for n in target.numbers if n != leader])
                await target.sleep(rng.uniform(*self.cut_s))


class Partition(Fault, frozen=True, tag="partition", kw_only=True):
    """Cuts the nodes into two groups of random sizes; clients reach both."""

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        nodes = _shuffled(target, rng)
        if len(nodes) < 2:
            return
        size = rng.randint(1, len(nodes) // 2)
        self.note(target, f"{_names(nodes[:size])} | {_names(nodes[size:])}")
        async with Wounds(target) as wounds:
            await wounds.part(nodes[:size], nodes[size:])
            await target.sleep(rng.uniform(*self.cut_s))


class OneWayCut(Fault, frozen=True, tag="one-way-cut", kw_only=True):
    """One node is heard by nobody, or hears nobody: the other direction works."""

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        victim, *others = _shuffled(target, rng)
        is_deaf = rng.random() < 0.5
        self.note(target, f"n{victim} {'hears' if is_deaf else 'is heard by'} nobody")
        async with Wounds(target) as wounds:
            for other in others:
                await (wounds.cut(other, victim) if is_deaf else wounds.cut(victim, other))
            await target.sleep(rng.uniform(*self.cut_s))


class PartialCut(Fault, frozen=True, tag="partial-cut", kw_only=True):
    """Two nodes do not reach each other, in one direction or both; all others reach both."""

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        nodes = _shuffled(target, rng)
        if len(nodes) < 2:
            return
        one, other = nodes[:2]
        async with Wounds(target) as wounds:
            await wounds.cut(one, other)
            is_both = rng.random() < 0.7
            if is_both:
                await wounds.cut(other, one)
            self.note(target, f"n{one} {'<->' if is_both else '->'} n{other}")
            await target.sleep(rng.uniform(*self.cut_s))


class Bridge(Fault, frozen=True, tag="bridge", kw_only=True):
    """Two halves that do not reach each other, and one node that reaches both: two majorities."""

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        bridge, *nodes = _shuffled(target, rng)
        half = len(nodes) // 2
        self.note(target, f"{_names(nodes[:half])} - n{bridge} - {_names(nodes[half:])}")
        async with Wounds(target) as wounds:
            await wounds.part(nodes[:half], nodes[half:])
            await target.sleep(rng.uniform(*self.cut_s))


class Ring(Fault, frozen=True, tag="ring", kw_only=True):
    """Each node reaches a bare majority, its neighbours on a ring; no two reach the same one.

    Of three nodes that is everybody; with fewer than five this cuts one link.
    """

    cut_s: Seconds = (0.1, 5.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        nodes = _shuffled(target, rng)
        count = len(nodes)
        reach = max(1, count // 4)
        far = [
            (nodes[i], nodes[j])
            for i in range(count)
            for j in range(i + 1, count)
            if min(j - i, count - j + i) > reach
        ]
        self.note(target, _names(nodes))
        async with Wounds(target) as wounds:
            for one, other in far or [(nodes[0], nodes[-1])]:
                await wounds.part([one], [other])
            await target.sleep(rng.uniform(*self.cut_s))


class SwizzleClog(Fault, frozen=True, tag="swizzle-clog", kw_only=True):
    """Isolates some nodes one after the other, then lets them return in another order.

    Source: FoundationDB, whose testers found that this breaks more than anything else.
    """

    step_s: Seconds = (0.0, 1.0)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        chosen = [n for n in target.numbers if rng.random() < 0.7]
        self.note(target, _names(chosen))
        async with Wounds(target) as wounds:
            for number in chosen:
                await wounds.isolate(number)
                await target.sleep(rng.uniform(*self.step_s))
            wounds.shuffle(rng)
            for _ in chosen:
                await wounds.heal_last()
                await target.sleep(rng.uniform(*self.step_s))


class Reset(Fault, frozen=True, tag="reset", kw_only=True):
    """Breaks the connections between two nodes, losing what travels; they may connect again."""

    times: tuple[int, int] = (1, 1)
    pause_s: Seconds = (0.0, 0.2)

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        for _ in range(rng.randint(*self.times)):
            nodes = _shuffled(target, rng)
            if len(nodes) < 2:
                return
            self.note(target, f"n{nodes[0]} n{nodes[1]}")
            await target.reset(nodes[0], nodes[1])
            await target.sleep(rng.uniform(*self.pause_s))


class ResetStorm(Reset, frozen=True, tag="reset-storm", kw_only=True):
    """Breaks connections again and again."""

    times: tuple[int, int] = (5, 40)
