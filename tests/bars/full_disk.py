"""No space at the n-th write of a scripted load: of one node's disk, or of all of them at once.

Purpose
    For every n the load runs until a node has written so often; from then on its disk takes no
    batch. After a while there is space again, and the node is started if it has stopped.
Invariants, for each n
    - While there is no space, a store that could not write has stopped, and is not started on the
      full disk; one that was not asked to write refuses writes, which then are not made.
    - When there is space, every node starts, nothing acknowledged is lost, replicas are equal, and
      the cluster goes on.
"""

import asyncio

from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.bars import scripted_load
from tests.bars.bar import Bar, Case, Tell
from tests.bars.scripted_load import NODES, ScriptedLoad

FULL_S = 2.5
"""For so long there is no space; the disk is looked at every second."""
SEEN_S = 1.5
"""After so long every node that still runs has seen that there is space."""
EXCUSE = "its disk is full"


class _Full:
    """Disks without space."""

    def __init__(self, cluster: Cluster, members: list[Member]) -> None:
        self.cluster = cluster
        self.members = members

    def begin(self) -> None:
        """Take all space."""
        for member in self.members:
            member.excuses.append(EXCUSE)
            member.engine.limit(0)

    async def look(self) -> str:
        """Return how the nodes have taken it; those that have stopped must not start."""
        running = [member for member in self.members if member.node is not None]
        for member in running:
            assert not member.engine.has_failed, f"{member.name} lives on after a failed write"
            refusal = member.up.store.context.write_refusal
            assert refusal is not None, f"{member.name} takes writes without space"
        for member in self.members:
            if member.node is None:
                await self.cluster.start_node(member.number)
        return f"{len(self.members) - len(running)} stopped, {len(running)} refused writes"

    async def end(self) -> None:
        """Give space, start what does not run, and let the others see it."""
        for member in self.members:
            member.engine.limit(None)
            if member.node is not None and member.engine.has_failed:
                self.cluster.kill(member.number)
        await asyncio.sleep(SEEN_S)
        for member in self.members:
            member.excuses.remove(EXCUSE)
            if member.node is None:
                await self.cluster.start_node(member.number)


def fill(seed: int, number: int, writes: int, *, everybody: bool) -> Case:
    """Let the disk of a node, or of all, be full when the node has written so often."""
    kind = "all nodes" if everybody else "one node"
    outcome = ""

    async def main(load: ScriptedLoad) -> None:
        nonlocal outcome
        members = load.cluster.members
        member = members[number]
        full = _Full(load.cluster, list(members.values()) if everybody else [member])
        began = asyncio.Event()

        def begin() -> None:
            full.begin()
            began.set()

        engine = member.engine
        so_far = engine.written_count
        member.process.when(lambda: engine.written_count >= so_far + writes, begin)
        load.begin()
        await began.wait()
        ending = asyncio.create_task(load.end())
        await asyncio.sleep(FULL_S)
        outcome = await full.look()
        await full.end()
        await ending
        await load.check()

    try:
        scripted_load.run(seed, main)
    except Exception as error:  # whatever it is, it is a finding
        problem = f"seed {seed}, n{number} after {writes} writes: {type(error).__name__}: {error}"
        return Case(kind, "FAILED", problem)
    return Case(kind, outcome)


def run(count: int, seed: int, tell: Tell) -> None:
    """Try so many cases: each n-th write of a node with its own disk full, then with all full."""
    for case in range(count):
        writes, everybody = divmod(case, 2)
        number = NODES[writes % len(NODES)]
        tell(fill(seed, number, writes, everybody=bool(everybody)))


BAR = Bar("full-disk", "No space at the n-th write, for each n.", 1_000, run)
