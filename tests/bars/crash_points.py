"""A power cut after every durable step of a scripted load, with several parts of what was unsynced.

Purpose
    The load is run once to count the steps of every node's disk; then once for each of them and for
    each loss. Steps are told apart at callbacks: a turn's batch was written, or a sync has ended
    and nobody was told yet.
Invariants, after each
    - Every node starts, and what was acknowledged is there, transactions whole.
    - Replicas are equal, their statistics right, and the cluster goes on; no invariant of the
      simulation was violated on the way.
"""

import asyncio
import random
from typing import NamedTuple

from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.bars import scripted_load
from tests.bars.bar import Bar, Case, Tell
from tests.bars.scripted_load import ScriptedLoad, Steps

LOSSES_EACH = 4


class Point(NamedTuple):
    """A step of a node's disk, how many batches are unsynced after it, and what the script does."""

    node: int
    step: int
    unsynced: int
    phase: str


class Loss(NamedTuple):
    """How many unsynced batches the node keeps; None: all nodes lose power and keep some."""

    keep: int | None
    draw: int = 0
    """Of the batches that all nodes keep; in the first they keep none."""

    @property
    def name(self) -> str:
        """For a table."""
        if self.keep is None:
            return "all nodes, keeping " + ("some" if self.draw else "nothing")
        return "one node, keeping " + ("some" if self.keep else "nothing")


def points(seed: int) -> list[Point]:
    """Return all steps that nodes do while the script of this seed runs."""
    found: list[Point] = []

    async def main(load: ScriptedLoad) -> None:
        for member in load.cluster.members.values():

            def note(step: int, member: Member = member) -> bool:
                if not load.over.is_set():
                    unsynced = member.engine.unsynced_count
                    found.append(Point(member.number, step, unsynced, load.phase))
                return False

            member.process.when(Steps(member, note).reached, lambda: None)
        load.begin()
        await load.over.wait()
        await load.end()
        await load.check()

    scripted_load.run(seed, main)
    return found


def losses(point: Point) -> list[Loss]:
    """Return the ways in which the point is tried, all of them different."""
    kept = sorted({0, point.unsynced // 2, point.unsynced})
    alone = [Loss(keep) for keep in kept]
    return alone + [Loss(None, draw) for draw in range(LOSSES_EACH - len(alone))]


def crash(seed: int, point: Point, loss: Loss) -> Case:
    """Run the load, cut the power at the point, start what is down, and look at everything."""

    async def main(load: ScriptedLoad) -> None:
        cluster, crashed = load.cluster, asyncio.Event()
        member = cluster.members[point.node]

        def cut() -> None:
            assert member.engine.unsynced_count == point.unsynced, "the load is always the same"
            _cut_power(cluster, point, loss)
            crashed.set()

        member.process.when(Steps(member, lambda step: step == point.step).reached, cut)
        load.begin()
        await crashed.wait()
        ending = asyncio.create_task(load.end())
        for each in cluster.members.values():
            if each.node is None:
                await cluster.start_node(each.number)
        await ending
        await load.check()

    try:
        scripted_load.run(seed, main)
    except Exception as error:  # whatever it is, it is a finding
        problem = f"seed {seed}, {point}, {loss}: {type(error).__name__}: {error}"
        return Case(point.phase, "FAILED", problem)
    return Case(point.phase, loss.name)


def _cut_power(cluster: Cluster, point: Point, loss: Loss) -> None:
    if loss.keep is not None:
        cluster.kill(point.node, keep=loss.keep)
        return
    dice = random.Random(f"{point} {loss}")
    for member in cluster.running():
        most = member.engine.unsynced_count if loss.draw else 0
        cluster.kill(member.number, keep=dice.randint(0, most))


def run(count: int, seed: int, tell: Tell) -> None:
    """Crash so many times; at the points of one seed's load, then at those of the next one's."""
    left = -(-count // LOSSES_EACH)
    while left > 0:
        found = points(seed)
        chosen = scripted_load.spread(found, left)
        for point in chosen:
            for loss in losses(point):
                tell(crash(seed, point, loss))
        left -= len(chosen)
        seed += 1


BAR = Bar("crash-points", "Power cuts after every durable step.", 8_000, run)
