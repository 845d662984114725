"""Disks that are slow, that fail, that are full, that forget, and that lie."""

import random
from collections.abc import Callable
from typing import Literal

from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.storage.memory import MemoryEngine
from multiraft.testing.faults import victims
from multiraft.testing.faults.fault import Fault, Wounds
from multiraft.testing.faults.kills import Seconds
from multiraft.testing.target import Target

_POLL_S = 0.05


def _excuse(wounds: Wounds, member: Member, why: str) -> None:
    """Let the store of a node die of this fault until the episode ends; it is started again."""
    member.excuses.append(why)

    async def heal() -> None:
        member.excuses.remove(why)

    wounds.will_be_down(member.number)
    wounds.add(heal)


async def _until_dead(target: Target, number: int, within_s: float) -> bool:
    """Wait for a node's store to die; return whether it has."""
    for _ in range(round(within_s / _POLL_S)):
        if not target.is_up(number):
            return True
        await target.sleep(_POLL_S)
    return not target.is_up(number)


def trouble_syncs(wounds: Wounds, member: Member, trouble: Callable[[], float]) -> None:
    """Let each sync of a node take longer, by as much as `trouble` says when it begins."""
    member.sync_troubles[trouble] = None

    async def heal() -> None:
        del member.sync_troubles[trouble]

    wounds.add(heal)


class _Syncs(Fault, frozen=True, kw_only=True):
    """What slow syncs and stalls share."""

    lasts_s: Seconds = (0.5, 5.0)
    nodes: int = 1

    needs_simulation = True

    def trouble(self, cluster: Cluster, rng: random.Random, ends_at: float) -> Callable[[], float]:
        """Return what says how much longer a sync takes."""
        raise NotImplementedError

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        length = rng.uniform(*self.lasts_s)
        async with Wounds(target) as wounds:
            for number in victims.draw(target, rng, self.nodes):
                self.note(target, f"n{number} {length:.1f} s")
                trouble = self.trouble(cluster, rng, cluster.loop.time() + length)
                trouble_syncs(wounds, cluster.members[number], trouble)
            await target.sleep(length)


class SlowSyncs(_Syncs, frozen=True, tag="slow-syncs", kw_only=True):
    """Every sync of a node takes long, and not always as long."""

    sync_s: Seconds = (0.005, 0.2)

    def trouble(self, cluster: Cluster, rng: random.Random, ends_at: float) -> Callable[[], float]:
        """See _Syncs."""
        mean_s = rng.uniform(*self.sync_s)
        return lambda: rng.expovariate(1 / mean_s)


class StalledSyncs(_Syncs, frozen=True, tag="stalled-syncs", kw_only=True):
    """No sync of a node that begins meanwhile ends before the stall does."""

    lasts_s: Seconds = (1.0, 10.0)

    def trouble(self, cluster: Cluster, rng: random.Random, ends_at: float) -> Callable[[], float]:
        """See _Syncs."""
        return lambda: max(0.0, ends_at - cluster.loop.time())


class _DeadlyDisk(Fault, frozen=True, kw_only=True):
    """What faults share of which the store must die, to be started again on a good disk."""

    within_s: float = 3.0
    """For the node to touch what is bad; it is killed then, and the disk is good again."""
    down_s: Seconds = (0.1, 2.0)
    restart_chance: float = 0.0
    """That the node is restarted on the bad disk."""

    needs_simulation = True

    def hurt(self, engine: MemoryEngine, rng: random.Random) -> None:
        """Make the disk bad."""
        raise NotImplementedError

    def heal(self, engine: MemoryEngine) -> None:
        """Make the disk good, after a death."""

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        for number in victims.draw(target, rng):
            member = cluster.members[number]
            process = member.process
            async with Wounds(target) as wounds:

                async def heal(member: Member = member, number: int = number) -> None:
                    await target.kill(number)
                    self.heal(member.engine)

                _excuse(wounds, member, str(self.__struct_config__.tag))
                wounds.add(heal)
                self.hurt(member.engine, rng)
                if rng.random() < self.restart_chance:
                    await wounds.kill(number)
                    await wounds.start(number)
                    process = member.process
                died = await _until_dead(target, number, self.within_s)
                self.note(target, f"n{number} {'died of it' if died else 'did not notice'}")
                assert process.is_dead or not member.engine.has_failed, "a failed store lives on"
                if died:
                    await target.sleep(rng.uniform(*self.down_s))


class WriteError(_DeadlyDisk, frozen=True, tag="write-error", kw_only=True):
    """The next write of a node fails. Its store must die of it."""

    def hurt(self, engine: MemoryEngine, rng: random.Random) -> None:
        """See _DeadlyDisk."""
        engine.fail_next_write("input/output error")


class SyncError(_DeadlyDisk, frozen=True, tag="sync-error", kw_only=True):
    """The next sync of a node fails. Its store must die: trying again proves nothing (S15)."""

    def hurt(self, engine: MemoryEngine, rng: random.Random) -> None:
        """See _DeadlyDisk."""
        engine.fail_next_sync("input/output error")


class FullDisk(_DeadlyDisk, frozen=True, tag="full-disk", kw_only=True):
    """A node has little space left: it refuses writes below half the reserve, dies at nothing.

    Space is freed afterwards.
    """

    free_bytes: tuple[int, int] = (0, 100_000)

    def hurt(self, engine: MemoryEngine, rng: random.Random) -> None:
        """See _DeadlyDisk."""
        engine.limit(rng.randint(*self.free_bytes))

    def heal(self, engine: MemoryEngine) -> None:
        """See _DeadlyDisk."""
        engine.limit(None)


class BitRot(_DeadlyDisk, frozen=True, tag="bit-rot", kw_only=True):
    """Values on a node's disk fail their checksum. Its store must die when it reads one.

    Afterwards they are read rightly, as behind a controller that was replaced: a disk that stays
    damaged needs a new node instead, which is a matter of membership.
    """

    values: tuple[int, int] = (1, 20)
    restart_chance: float = 0.5

    def hurt(self, engine: MemoryEngine, rng: random.Random) -> None:
        """See _DeadlyDisk."""
        for _ in range(rng.randint(*self.values)):
            engine.damage(rng.randrange(1 << 30))

    def heal(self, engine: MemoryEngine) -> None:
        """See _DeadlyDisk."""
        engine.mend()


class PowerCut(Fault, frozen=True, tag="power-cut", kw_only=True):
    """Nodes lose power at one instant, and none, all or some of what was not synced."""

    keep: tuple[Literal["none", "all", "some"], ...] = ("none", "all", "some")
    all_chance: float = 0.5
    """That it hits every node."""
    down_s: Seconds = (0.1, 2.0)

    needs_simulation = True

    async def episode(self, target: Target, rng: random.Random) -> None:
        """See Fault."""
        cluster = victims.simulation(target)
        is_all = rng.random() < self.all_chance
        numbers = victims.up(target) if is_all else victims.draw(target, rng)
        async with Wounds(target) as wounds:
            for number in numbers:
                keep = rng.choice(self.keep)
                unsynced = cluster.members[number].engine.unsynced_count
                kept = {"none": 0, "all": unsynced, "some": rng.randint(0, unsynced)}[keep]
                self.note(target, f"n{number} keeps {kept} of {unsynced}")
                wounds.will_be_down(number)
                cluster.kill(number, keep=kept)
            await target.sleep(rng.uniform(*self.down_s))
