"""Writes, log truncation, a split, snapshots, hand-overs and membership changes in two seconds.

Purpose
    A simulated cluster of three under a load that is the same in every run of a seed, so that
    something can be made to happen at its n-th step. Thresholds are tiny: each log is cut every few
    entries, and a replica that comes back gets a snapshot of many chunks.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar

from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config, RaftConfig, RangesConfig
from multiraft.ids import NodeId, RangeId
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.sim.loop import VirtualLoop
from multiraft.testing.faults import operations
from multiraft.testing.recovery import Recovery
from tests.support.histories import Counters, KeySet, Pairs, Workload

T = TypeVar("T")

CONFIG = Config(
    raft=RaftConfig(tick_ms=20),
    ranges=RangesConfig(log_keep_bytes=1_000, log_bytes_max=4_000, snapshot_chunk_bytes=200),
    client=ClientConfig(attempt_timeout_ms=500, deadline_s=30.0),
)
NODES = (1, 2, 3)
SYNC_S = 0.004
LINK_S = 0.001
MIDDLE = b"set/8"
"""Where the range is split: half of the keys of a KeySet lie behind."""
RECOVERY_S = 15.0
LIMIT_S = 300.0


class ScriptedLoad:
    """The load on a started cluster. Entered, it runs; `over` is set when its script is through."""

    def __init__(self, cluster: Cluster, db: Database) -> None:
        self.cluster = cluster
        self.db = db
        self.phase = "writes"
        """What the script is at."""
        self.refusals: list[str] = []
        """What it could not do; nothing, as long as nobody hurts the cluster."""
        self.over = asyncio.Event()
        self.workloads: tuple[Workload, ...] = (
            KeySet(db, callers=2, value_bytes=20),
            Counters(db, callers=1, keys=2),
            Pairs(db, b"pair", b"tail"),
        )
        self._script: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Let clients and script begin."""
        for workload in self.workloads:
            workload.start()
        self._script = asyncio.create_task(self._run())

    async def _run(self) -> None:
        await asyncio.sleep(0.1)
        for phase, step in (
            ("split", self._split),
            ("replica removed", lambda: self._change(USER_RANGE_ID, (1, 2))),
            ("replica added, by snapshot", lambda: self._change(USER_RANGE_ID, NODES)),
            ("leader handed over", self._hand_over),
            ("replica moved back and forth", self._change_right),
        ):
            self.phase = phase
            try:
                await step()
            except operations.REFUSALS as error:
                self.refusals.append(f"{phase}: {error}")
        self.over.set()

    async def _split(self) -> None:
        await self.db.admin.split(MIDDLE)

    async def _change(self, range_id: RangeId, voters: tuple[int, ...]) -> None:
        await self.db.admin.change_replicas(range_id, tuple(NodeId(n) for n in voters))

    async def _hand_over(self) -> None:
        leader = self.cluster.leader()
        number = 1 if leader is None else leader.number % len(NODES) + 1
        await self.db.admin.transfer(USER_RANGE_ID, NodeId(number))

    async def _change_right(self) -> None:
        right = self.cluster.range_at(MIDDLE).range_id
        await self._change(right, (2, 3))
        await self._change(right, NODES)

    async def end(self) -> None:
        """Break the script off where it is, and let every client finish its call."""
        if self._script is not None:
            self._script.cancel()
            await asyncio.gather(self._script, return_exceptions=True)
        await asyncio.gather(*(workload.stop() for workload in self.workloads))

    async def check(self) -> None:
        """Nothing acknowledged is lost, replicas are equal, and the cluster goes on."""
        await Recovery(self.cluster, RECOVERY_S).wait()
        for workload in self.workloads:
            await workload.check()
            workload.start()
        for workload in self.workloads:
            await workload.more(3)
            await workload.stop()
            await workload.check()
        await Recovery(self.cluster, RECOVERY_S).wait()
        for range_id in self.cluster.range_ids():
            holders = [m for m in self.cluster.running() if range_id in m.up.store.replicas]
            contents = [self.cluster.contents(m.number, range_id) for m in holders]
            assert all(each == contents[0] for each in contents), f"r{range_id}: replicas differ"
        self.cluster.check_statistics()


def run(seed: int, main: Callable[[ScriptedLoad], Coroutine[Any, Any, T]]) -> T:
    """Run `main` with a load on a cluster that has just started; invariants hold all the time."""

    async def on_loop(loop: VirtualLoop) -> T:
        cluster = Cluster(loop, nodes=len(NODES), config=CONFIG, seed=seed)
        cluster.slow_down(sync_s=SYNC_S, link_s=LINK_S)
        await cluster.start()
        async with cluster.connect() as db:
            result = await main(ScriptedLoad(cluster, db))
        await cluster.stop()
        return result

    scheduling = random.Random(f"scheduling {seed}")
    return virtual_loop.run(on_loop, limit_s=LIMIT_S, scheduling=scheduling)


class Steps:
    """Counts what a node does to its disk: turns in which it wrote, and syncs that ended.

    `reached` is to be asked before each callback of the node: it asks `is_wanted` once for each
    step, by its number from 1.
    """

    def __init__(self, member: Member, is_wanted: Callable[[int], bool]) -> None:
        self._engine = member.engine
        self._is_wanted = is_wanted
        self._count = 0
        self._seen = self._state()

    def _state(self) -> tuple[int, int]:
        return self._engine.synced_count, self._engine.unsynced_count

    def reached(self) -> bool:
        """Return whether the node has come to the wanted step just now. A process.Condition."""
        state = self._state()
        if state == self._seen:
            return False
        self._seen = state
        self._count += 1
        return self._is_wanted(self._count)


def spread(found: Sequence[T], count: int) -> list[T]:
    """Return so many of them, or all, at equal distances."""
    count = min(count, len(found))
    return [found[i * len(found) // count] for i in range(count)]
