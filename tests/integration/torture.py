"""A cluster of real processes, hurt at random for as long as you like, with every answer checked.

    .venv/bin/python tests/integration/torture.py --minutes 10 [--seed N] [--keep DIR]

Purpose
    What the suite does once, done for hours: kills of one node, of a majority, of all, during
    starts and right after splits; pauses; orderly restarts; transfers. Counters, registers and
    sets of keys run all the time. Now and then everything is stopped and replicas are compared.
Invariants
    - The first wrong answer ends the run with an exception and leaves the directory.
"""

import argparse
import asyncio
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from multiraft import errors
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.client.database import Database
from multiraft.ids import NodeId
from tests.support import processes
from tests.support.histories import Counters, KeySet, Register, Workload

COMPARE_EVERY = 25
"""Faults between two comparisons of what is on disk."""

RANGES_MAX = 40


class Torture:
    """One run. Every method named in `FAULTS` does one bad thing and mends it."""

    def __init__(self, cluster: LocalCluster, db: Database, rng: random.Random) -> None:
        self.cluster = cluster
        self.db = db
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.splits = 0

    def victim(self) -> NodeProcess:
        return self.rng.choice(self.cluster.nodes)

    async def leader(self) -> NodeProcess:
        infos = await self.db.admin.ranges(with_status=False)
        chosen = self.rng.choice(infos).descriptor.range_id
        return await processes.leader_of(self.db, self.cluster, chosen)

    async def kill_and_restart(self, victims: list[NodeProcess]) -> None:
        await processes.kill(self.cluster, victims)
        await asyncio.sleep(self.rng.random() * 1.5)
        await processes.restart(self.cluster, victims)

    async def kill_one(self) -> None:
        await self.kill_and_restart([self.victim()])

    async def kill_leader(self) -> None:
        await self.kill_and_restart([await self.leader()])

    async def kill_majority(self) -> None:
        count = len(self.cluster.nodes) // 2 + 1
        await self.kill_and_restart(self.rng.sample(self.cluster.nodes, count))

    async def kill_all(self) -> None:
        await self.kill_and_restart(list(self.cluster.nodes))

    async def kill_during_start(self) -> None:
        victim = self.victim()
        await processes.kill(self.cluster, [victim])
        for _ in range(self.rng.randint(1, 4)):
            await processes.start_and_kill(self.cluster, victim, self.rng.random() * 1.2)
        await processes.restart(self.cluster, [victim])

    async def storm(self) -> None:
        for _ in range(3):
            await processes.kill(self.cluster, self.cluster.nodes)
            await processes.restart(self.cluster, self.cluster.nodes)

    async def pause_leader(self) -> None:
        leader = await self.leader()
        processes.pause(leader)
        try:
            await asyncio.sleep(0.1 * 50 ** self.rng.random())  # 0.1 to 5 s
        finally:
            processes.resume(leader)

    async def pause_two(self) -> None:
        victims = self.rng.sample(self.cluster.nodes, 2)
        for victim in victims:
            processes.pause(victim)
        try:
            await asyncio.sleep(0.1 * 30 ** self.rng.random())
        finally:
            for victim in victims:
                processes.resume(victim)

    async def split(self) -> None:
        if self.splits >= RANGES_MAX:
            return
        self.splits += 1
        key = b"set/%04x" % self.rng.randrange(65536)
        await self.db.admin.split(key, deadline_s=60)

    async def split_and_kill(self) -> None:
        victim = self.victim()
        await self.split()
        await asyncio.sleep(self.rng.random() * 0.05)
        await self.kill_and_restart([victim])

    async def kill_while_splitting(self) -> None:
        victim = await self.leader()
        splitting = asyncio.create_task(self.split())
        await asyncio.sleep(self.rng.random() * 0.03)
        await self.kill_and_restart([victim])
        await splitting

    async def terminate(self) -> None:
        victim = self.victim()
        await self.cluster.stop_node(victim)
        await processes.restart(self.cluster, [victim])

    async def transfer(self) -> None:
        info = self.rng.choice(await self.db.admin.ranges(with_status=False))
        target = NodeId(self.rng.choice(self.cluster.nodes).node_id or 1)
        try:
            await self.db.admin.transfer(info.descriptor.range_id, target, deadline_s=20)
        except (errors.DeadlineExceededError, errors.OutcomeUnknownError) as error:
            print(f"  transfer: {error}")

    async def hurt(self) -> str:
        """Do one thing; return its name."""
        fault = self.rng.choice(FAULTS)
        name = getattr(fault, "__name__", "?")
        self.counts[name] += 1
        await fault(self)
        return name

    async def compare(self, workloads: list[Workload]) -> int:
        """Stop the workloads, check them and what all nodes have, and go on."""
        for workload in workloads:
            await workload.stop()
            await workload.check()
        ranges = await processes.check_replicas_agree(self.db, self.cluster)
        await processes.restart(self.cluster, self.cluster.nodes)
        for workload in workloads:
            await workload.check()
            workload.start()
        return ranges


FAULTS: list[Callable[[Torture], Awaitable[None]]] = [
    Torture.kill_one,
    Torture.kill_one,
    Torture.kill_leader,
    Torture.kill_leader,
    Torture.kill_majority,
    Torture.kill_all,
    Torture.kill_during_start,
    Torture.storm,
    Torture.pause_leader,
    Torture.pause_leader,
    Torture.pause_two,
    Torture.split_and_kill,
    Torture.split_and_kill,
    Torture.kill_while_splitting,
    Torture.terminate,
    Torture.transfer,
]


async def torture(directory: Path, *, minutes: float, seed: int, nodes: int) -> None:
    """Hurt a new cluster in `directory` for so long."""
    loop = asyncio.get_running_loop()
    settings = processes.SMALL_LOGS
    async with (
        processes.running(directory, nodes=nodes, settings=settings) as cluster,
        processes.connect(cluster, deadline_s=60) as db,
    ):
        run = Torture(cluster, db, random.Random(seed))
        workloads: list[Workload] = [Counters(db), Register(db), KeySet(db)]
        for workload in workloads:
            workload.start()
        end = loop.time() + minutes * 60
        began = loop.time()
        while loop.time() < end:
            fault_began = loop.time()
            name = await run.hurt()
            mended = loop.time()
            await asyncio.gather(*(workload.more() for workload in workloads))
            now = loop.time()
            print(
                f"{now - began:7.1f} s  {name:22} took {mended - fault_began:5.2f} s, "
                f"serving again after {now - mended:5.2f} s",
                flush=True,
            )
            if sum(run.counts.values()) % COMPARE_EVERY == 0:
                ranges = await run.compare(workloads)
                print(f"{loop.time() - began:7.1f} s  {ranges} ranges compared", flush=True)
        ranges = await run.compare(workloads)
        for workload in workloads:
            await workload.stop()
            await workload.check()
            print(
                f"{workload.name}: {workload.done} done, {workload.refused} refused, "
                f"{workload.unknown} unknown, longest gap {max(workload.gaps_s):.2f} s"
            )
        print(f"{sum(run.counts.values())} faults: {dict(run.counts)}")
        print(f"{run.splits} splits; the replicas of {ranges} ranges are equal")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="the directory to work in; it is kept")
    options = parser.parse_args()
    directory = options.keep or Path(tempfile.mkdtemp(prefix="torture-"))
    print(f"seed {options.seed}, {options.nodes} nodes, in {directory}", flush=True)
    processes.run(
        torture(directory, minutes=options.minutes, seed=options.seed, nodes=options.nodes)
    )


if __name__ == "__main__":
    main()
