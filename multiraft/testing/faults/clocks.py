"""Wall clocks that are wrong: within the bound, where nobody may notice, and far beyond it.

One fault at a time has a clock in hand, so that several together do not leave the bound. When it
ends the clock is as wrong as it was before.
"""

import random

from multiraft.model import hlc
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

_SHARE = 0.35
"""Of the bound, either way: two clocks never differ by the 80 % at which a node stops."""
_POLL_S = 0.1


def _draw_member(cluster: Cluster, target: Target, rng: random.Random) -> list[Member]:
    """Return a node that is up, and whose clock nobody has in hand."""
    found = [cluster.members[n] for n in victims.up(target)]
    found = [member for member in found if not member.clock_is_wrong]
    return [rng.choice(found)] if found else []


def _take(wounds: Wounds, member: Member) -> None:
    """Have the clock in hand until the episode ends."""
    member.clock_is_wrong = True
    home_s = member.clock.offset_s()

    async def heal() -> None:
        member.clock.drift(1.0)
        member.clock.coarsen(1)
        member.clock.step_wall(home_s - member.clock.offset_s())
        member.clock_is_wrong = False

    wounds.add(heal)


def _bound_s(cluster: Cluster) -> float:
    return cluster.config.liveness.clock_offset_ms_max * _SHARE / 1_000


def _set(member: Member, offset_s: float) -> None:
    member.clock.step_wall(offset_s - member.clock.offset_s())


class _WithinBound(Fault, frozen=True, kw_only=True):
    """What faults share that nobody may notice."""

    lasts_s: Seconds = (1.0, 10.0)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        for member in _draw_member(cluster, target, rng):
            async with Wounds(target) as wounds:
                _take(wounds, member)
                await self.play(target, member, _bound_s(cluster), rng)

    async def play(
        self, target: Target, member: Member, bound_s: float, rng: random.Random
    ) -> None:
        """Be wrong by up to `bound_s`, for a while."""
        raise NotImplementedError


class ClockOffset(_WithinBound, frozen=True, tag="clock-offset", kw_only=True):
    """A clock steps to another offset."""

    async def play(
        self, target: Target, member: Member, bound_s: float, rng: random.Random
    ) -> None:
        """See _WithinBound."""
        offset_s = rng.uniform(-bound_s, bound_s)
        self.note(target, f"{member.name} {offset_s * 1e3:+.0f} ms")
        _set(member, offset_s)
        await target.sleep(rng.uniform(*self.lasts_s))


class ClockDrift(_WithinBound, frozen=True, tag="clock-drift", kw_only=True):
    """A clock runs fast or slow, as far as the bound lets it."""

    async def play(
        self, target: Target, member: Member, bound_s: float, rng: random.Random
    ) -> None:
        """See _WithinBound."""
        length = rng.uniform(*self.lasts_s)
        rate = rng.choice((-1, 1)) * bound_s / length
        self.note(target, f"{member.name} {rate * 1e6:+.0f} ppm")
        _set(member, 0.0)
        member.clock.drift(1.0 + rate)
        await target.sleep(length)


class ClockStrobe(_WithinBound, frozen=True, tag="clock-strobe", kw_only=True):
    """A clock jumps to and fro, many times a second."""

    period_s: Seconds = (0.01, 0.2)

    async def play(
        self, target: Target, member: Member, bound_s: float, rng: random.Random
    ) -> None:
        """See _WithinBound."""
        left_s = rng.uniform(*self.lasts_s)
        self.note(target, f"{member.name} {left_s:.1f} s")
        while left_s > 0:
            _set(member, rng.choice((-1, 1)) * rng.uniform(0, bound_s))
            step_s = rng.uniform(*self.period_s)
            left_s -= step_s
            await target.sleep(step_s)


class CoarseClock(_WithinBound, frozen=True, tag="coarse-clock", kw_only=True):
    """A clock stands still, and catches up every few milliseconds: many equal timestamps."""

    granularity_ms: tuple[int, int] = (1, 20)

    async def play(
        self, target: Target, member: Member, bound_s: float, rng: random.Random
    ) -> None:
        """See _WithinBound."""
        granularity_ms = rng.randint(*self.granularity_ms)
        self.note(target, f"{member.name} {granularity_ms} ms")
        member.clock.coarsen(granularity_ms * 1_000)
        await target.sleep(rng.uniform(*self.lasts_s))


class ClockJump(Fault, frozen=True, tag="clock-jump", kw_only=True):
    """A clock jumps far beyond the bound, forward or back, while the node runs or over a restart.

    The node must stop, and drag no other node's clock along. Then its clock is set right and it
    starts again, which takes as long as its clock was ahead: so hours are for tests of their own.
    """

    jump_s: Seconds = (0.5, 10.0)
    back_chance: float = 0.4
    restart_chance: float = 0.5
    within_s: float = 5.0
    """For the node to notice; without a majority to compare with it cannot."""

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        for member in _draw_member(cluster, target, rng):
            number = member.number
            jump_s = rng.uniform(*self.jump_s) * (-1 if rng.random() < self.back_chance else 1)
            over_restart = rng.random() < self.restart_chance
            async with Wounds(target) as wounds:
                wounds.will_be_down(number)
                member.excuses.append("clock-jump")

                async def no_excuse(member: Member = member) -> None:
                    member.excuses.remove("clock-jump")

                wounds.add(no_excuse)
                _take(wounds, member)
                wounds.add(lambda number=number: target.kill(number))  # type: ignore[misc]
                if over_restart:
                    await wounds.kill(number)
                member.clock.step_wall(jump_s)
                if over_restart:
                    wounds.start_soon(number)
                died = await self._watch(cluster, target, member)
                told = "stopped" if died else "did not stop"
                self.note(target, f"{member.name} {jump_s:+.1f} s, {told}")

    async def _watch(self, cluster: Cluster, target: Target, wrong: Member) -> bool:
        """Wait for the node to stop; no other clock may follow it."""
        process = wrong.process
        for _ in range(round(self.within_s / _POLL_S)):
            await target.sleep(_POLL_S)
            for member in cluster.running():
                if not member.clock_is_wrong:
                    _check_not_dragged(cluster, member)
            if process.is_dead:
                return True
        return False


def _check_not_dragged(cluster: Cluster, member: Member) -> None:
    """An HLC may be ahead of its wall clock by what the bound allows, and no more."""
    ahead_us = hlc.to_us(member.up.store.context.hlc.now()) - member.clock.wall_us()
    limit_us = cluster.config.liveness.clock_offset_ms_max * 1_000
    assert ahead_us <= limit_us, f"{member.name} was dragged {ahead_us} us ahead"
