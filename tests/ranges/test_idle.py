"""Idle is free: what a cluster costs without requests depends on its stores, not on its ranges."""

import asyncio

from multiraft.client.database import Database
from multiraft.ranges.replica import Replica
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

RANGES = 1_000
IDLE_S = 60.0
SETTLE_S = 10.0


class Cost:
    """What happened on every node since it was made."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._before = self._now()

    def _now(self) -> list[int]:
        members = self._cluster.running()
        wiretap = self._cluster.wiretap
        return [
            *(wiretap.frames[a.number, b.number] for a in members for b in members),
            *(m.up.store.turns.taken for m in members),
            *(m.up.store.turns.syncs for m in members),
            wiretap.envelopes,
        ]

    def since(self) -> list[int]:
        """Return the frames of each pair, turns and syncs of each store, and Raft messages."""
        return [now - before for now, before in zip(self._now(), self._before, strict=True)]


@cluster_test()
async def test_a_thousand_idle_ranges_cost_what_two_cost(cluster: Cluster, db: Database) -> None:
    await asyncio.sleep(SETTLE_S)
    cost = Cost(cluster)
    await asyncio.sleep(IDLE_S)
    with_two = cost.since()

    slots = asyncio.Semaphore(16)

    async def split(number: int) -> None:
        async with slots:
            await db.admin.split(b"%04d" % number)

    await asyncio.gather(*(split(number) for number in range(RANGES - 1, 0, -1)))
    await cluster.until_served()
    await asyncio.sleep(SETTLE_S)
    assert len(cluster.range_ids()) == RANGES + 1
    for member in cluster.running():
        store = member.up.store
        assert not store.ticking
        assert not store.turns._dirty
        assert not store._lease_waiters
        assert not store.ticking.timer_runs

    woken: list[Replica] = []
    for member in cluster.running():
        member.up.store.context.mark_dirty = woken.append
    cost = Cost(cluster)
    await asyncio.sleep(IDLE_S)
    assert cost.since() == with_two
    assert cost.since()[-1] == 0, "no Raft message at all"
    assert not woken
    leases = [cluster.leader(range_id) for range_id in cluster.range_ids()]
    assert None not in leases, "and every range is served all the while"
