"""What happens to all ranges of a store at once is cut into slices; counted, not timed.

No callback of the loop may do work in proportion to the number of ranges: heartbeats would wait.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config
from multiraft.ids import NodeId
from multiraft.liveness.heartbeats import Liveness
from multiraft.liveness.support import Change, Changes
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import PreVote
from multiraft.ranges import commits_owed, elections, inbox, slices, turns
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.sim.cluster import Cluster
from multiraft.sim.loop import VirtualLoop
from tests.support.cluster import cluster_test

RANGES = 400
SLICE_MAX = 8
KINDS = {
    RaftCore: ("synced",),
    Replica: (
        "apply",
        "collect",
        "follow_core",
        "peer_unreachable",
        "step",
        "support_changed",
        "tell_commit",
        "tick",
    ),
}


class Work:
    """How much is done of each kind in one callback of the loop, whatever the replica.

    Each piece takes `seconds` of the one processor that all nodes share.
    """

    def __init__(
        self, loop: VirtualLoop, monkeypatch: pytest.MonkeyPatch, *, seconds: float = 0.0
    ) -> None:
        self.most: Counter[str] = Counter()
        self._loop = loop
        self._seconds = seconds
        self._now: Counter[str] = Counter()
        self._callback = 0
        for owner, kinds in KINDS.items():
            for kind in kinds:
                monkeypatch.setattr(owner, kind, self._counted(kind, getattr(owner, kind)))

    def _counted(self, kind: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:  # noqa: ANN401
            if self._callback != self._loop.callbacks:
                self._callback = self._loop.callbacks
                self._now.clear()
            self._now[kind] += 1
            self.most[kind] = max(self.most[kind], self._now[kind])
            self._loop.skip(self._seconds)
            return method(*arguments)

        return counted


async def split(db: Database) -> None:
    """Make so many ranges, halving what is left."""
    slots = asyncio.Semaphore(16)

    async def at(number: int) -> None:
        async with slots:
            await db.admin.split(b"%04d" % number)

    await asyncio.gather(*(at(number) for number in range(RANGES - 1, 0, -1)))


async def crash_all(cluster: Cluster) -> None:
    for member in cluster.members.values():
        await cluster.crash(member.number)


async def restart_all(cluster: Cluster) -> None:
    for member in cluster.members.values():
        await cluster.start_node(member.number)


@pytest.fixture
def short_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that fewer ranges are many."""
    for module in (commits_owed, elections, inbox, slices, turns):
        monkeypatch.setattr(module, "SLICE_MAX", SLICE_MAX)


@pytest.mark.usefixtures("short_slices")
def test_no_callback_handles_more_than_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when all nodes restart, nor when one dies and comes back, nor when all are written to."""

    @cluster_test()
    async def main(cluster: Cluster, db: Database) -> None:
        await split(db)
        await cluster.until_served()
        assert isinstance(cluster.loop, VirtualLoop)
        work = Work(cluster.loop, monkeypatch)
        cluster.slow_down(sync_s=0.005, link_s=0.001)
        await crash_all(cluster)
        await restart_all(cluster)
        await cluster.until_served()
        victim = cluster.leader()
        assert victim is not None
        await asyncio.gather(*(db.put(b"%04d" % number, b"value") for number in range(RANGES)))
        await cluster.crash(victim.number)
        await cluster.until_served()
        await cluster.restart(victim.number)
        await asyncio.sleep(5.0)
        await cluster.until_served()
        leader = cluster.leader()
        assert leader is not None
        await leader.process.spawn(leader.up.store.hand_over_all(5.0))
        await cluster.until_served()
        assert len(work.most) == sum(map(len, KINDS.values())), "all kinds of work were done"
        assert work.most.pop("synced") < 2 * SLICE_MAX, "whole turns"
        assert max(work.most.values()) <= SLICE_MAX

    main()


@pytest.mark.usefixtures("short_slices")
def test_a_slow_machine_keeps_its_support_while_all_ranges_elect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though a look at all ranges of all nodes takes longer than they support each other ahead."""
    work_s = 5e-4
    monkeypatch.setattr(elections, "UNDER_WAY_MAX", SLICE_MAX)
    ended: list[NodeId] = []
    told = Liveness._tell

    def tell(self: Liveness, changes: Changes) -> None:
        ended.extend([n for n, change in changes if change is Change.SUPPORT_FROM_ENDED])
        told(self, changes)

    monkeypatch.setattr(Liveness, "_tell", tell)

    @cluster_test(config=Config(client=ClientConfig(deadline_s=60.0)))
    async def main(cluster: Cluster, db: Database) -> None:
        await split(db)
        await crash_all(cluster)
        ended.clear()
        assert isinstance(cluster.loop, VirtualLoop)
        Work(cluster.loop, monkeypatch, seconds=work_s)
        await restart_all(cluster)
        began = cluster.loop.time()
        await db.get(b"0100")
        assert cluster.loop.time() - began < 3.0
        await cluster.until_served()
        assert not ended

    main()


def test_a_range_somebody_asks_for_is_elected_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elections, "UNDER_WAY_MAX", 2)

    @cluster_test()
    async def main(cluster: Cluster, db: Database) -> None:
        await split(db)
        await crash_all(cluster)
        cluster.slow_down(sync_s=0.02, link_s=0.005)
        await restart_all(cluster)
        lines = [member.up.store.ticking.elections for member in cluster.running()]
        await cluster.until(lambda: all(line.status().waiting for line in lines))
        for number in (RANGES // 3, RANGES // 2, RANGES - 2):
            await db.get(b"%04d" % number)
        assert max(line.status().waiting for line in lines) > RANGES // 2, "most are in line yet"
        await cluster.until_served()
        assert not any(line.status().waiting for line in lines)

    main()


def test_a_store_has_few_elections_under_way_and_each_range_about_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    most_under_way = 8
    monkeypatch.setattr(elections, "UNDER_WAY_MAX", most_under_way)

    @cluster_test()
    async def main(cluster: Cluster, db: Database) -> None:
        await split(db)
        await crash_all(cluster)
        cluster.slow_down(sync_s=0.005, link_s=0.001)
        campaigns = 0
        held_campaigns = 0

        def hear(source: int, _life: int, _target: int, envelope: GroupEnvelope) -> None:
            nonlocal campaigns, held_campaigns
            if type(envelope.message) is PreVote:
                campaigns += 1
                replica = cluster.members[source].replica(envelope.range_id)
                held_campaigns += replica.core.election_held

        cluster.wiretap.listeners.append(hear)
        await restart_all(cluster)
        under_way: list[int] = []

        def all_served() -> bool:
            for member in cluster.running():
                under_way.append(member.up.store.ticking.elections.status().under_way)
            return all(cluster.leader(r) is not None for r in cluster.range_ids())

        await cluster.until(all_served)
        assert most_under_way <= max(under_way) <= 2 * most_under_way
        assert not held_campaigns
        assert campaigns / 2 < 1.5 * RANGES, "to two others each"

    main()
