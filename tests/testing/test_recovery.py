"""When a hurt cluster has recovered, and how long that may take."""

import asyncio

import msgspec
import pytest

from multiraft.cluster import replica_gc
from multiraft.ids import NodeId, RangeId
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.store import Store
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.loop import VirtualLoop
from multiraft.testing.recovery import Recovery

BOUND_S = 10.0
FAR = 40
"""Entries, one a second: more than the bound."""


async def _with_a_stranger(loop: VirtualLoop) -> Cluster:
    """Return a cluster in which n4 has a replica that was removed while n4 was down."""
    cluster = Cluster(loop, nodes=4)
    await cluster.start()
    async with cluster.connect() as db:
        nodes = tuple(NodeId(number) for number in (1, 2, 3, 4))
        await db.admin.change_replicas(USER_RANGE_ID, nodes)
        await cluster.until_applied()
        await cluster.crash(4)
        await db.admin.change_replicas(USER_RANGE_ID, nodes[:3])
    await cluster.restart(4)
    return cluster


def _hears_of_its_removal_after(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    removed = Store.removed

    def heard(self: Store, removal: object) -> None:
        if self.context.clock.monotonic() > seconds:
            removed(self, removal)  # type: ignore[arg-type]

    monkeypatch.setattr(Store, "removed", heard)


def test_a_removed_replica_may_stay_until_its_store_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    _hears_of_its_removal_after(monkeypatch, BOUND_S + 5)

    async def main(loop: VirtualLoop) -> None:
        cluster = await _with_a_stranger(loop)
        recovery = Recovery(cluster, BOUND_S)
        await cluster.until(lambda: recovery.is_well(recovery.members))
        assert len(cluster.replicas()) == 4
        await recovery.wait()
        assert len(cluster.replicas()) == 3
        assert loop.time() > BOUND_S + 5
        await cluster.stop()

    virtual_loop.run(main)


def test_a_removed_replica_has_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    _hears_of_its_removal_after(monkeypatch, 1e9)

    async def main(loop: VirtualLoop) -> float:
        cluster = await _with_a_stranger(loop)
        began = loop.time()
        with pytest.raises(AssertionError, match="not within"):
            await Recovery(cluster, BOUND_S).wait()
        return loop.time() - began

    assert virtual_loop.run(main) >= BOUND_S + replica_gc.INTERVAL_S


def test_a_member_that_stands_still_has_only_the_bound() -> None:
    async def main(loop: VirtualLoop) -> float:
        cluster = Cluster(loop)
        await cluster.start()
        cluster.freeze(3)
        async with cluster.connect() as db:
            await db.put(b"a", b"1")
            began = loop.time()
            with pytest.raises(AssertionError, match="not within"):
                await Recovery(cluster, BOUND_S).wait()
            lasted_s = loop.time() - began
        cluster.thaw(3)
        await cluster.stop()
        return lasted_s

    assert virtual_loop.run(main) == pytest.approx(BOUND_S, abs=1.0)


def test_who_has_far_to_go_may_take_long_as_long_as_it_comes_nearer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        began = loop.time()

        def left(_: Recovery) -> int:
            return max(0, FAR - int(loop.time() - began))

        monkeypatch.setattr(Recovery, "entries_behind", left)
        monkeypatch.setattr(Recovery, "is_well", lambda self, replicas_of: left(self) == 0)
        await Recovery(cluster, BOUND_S).wait()
        assert loop.time() - began >= FAR
        await cluster.stop()

    virtual_loop.run(main)


def test_without_a_leaseholder_every_replica_counts() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        for number in (1, 2):
            await cluster.crash(number)
        recovery = Recovery(cluster, BOUND_S)
        await cluster.until(lambda: cluster.leader() is None)
        assert recovery.members(RangeId(USER_RANGE_ID)) == cluster.replicas()
        assert not recovery.is_well(recovery.members)

    virtual_loop.run(main)


def test_a_range_cannot_commit_before_enough_voters_have_what_is_committed() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        leader = cluster.leader()
        assert leader is not None
        behind, lost = (number for number in cluster.members if number != leader.number)
        recovery = Recovery(cluster, BOUND_S)
        async with cluster.connect() as db:
            await cluster.crash(behind)
            for number in range(20):
                await db.put(b"%d" % number, b"")
        assert recovery.can_commit()
        cluster.kill(lost)
        assert cluster.leader() is leader, "its lease is not over yet"
        assert not recovery.can_commit()
        await cluster.restart(behind)
        await recovery.wait_until_able([asyncio.create_task(asyncio.sleep(FAR))])
        assert recovery.can_commit()
        applied = {
            member.number: member.replica().core.commit_index for member in cluster.running()
        }
        assert applied[behind] >= 20
        await cluster.stop()

    virtual_loop.run(main)


def test_whoever_waits_for_what_never_becomes_able_waits_no_longer_than_the_bound() -> None:
    async def main(loop: VirtualLoop) -> float:
        cluster = Cluster(loop)
        await cluster.start()
        for number in (1, 2):
            await cluster.crash(number)
        began = loop.time()
        await Recovery(cluster, BOUND_S).wait_until_able([asyncio.create_task(asyncio.sleep(FAR))])
        return loop.time() - began

    assert virtual_loop.run(main) == pytest.approx(BOUND_S, abs=1.0)


def test_nobody_waits_for_ranges_once_all_calls_have_ended() -> None:
    async def main(loop: VirtualLoop) -> float:
        cluster = Cluster(loop)
        await cluster.start()
        for number in (1, 2):
            await cluster.crash(number)
        began = loop.time()
        calls = [asyncio.create_task(asyncio.sleep(delay_s)) for delay_s in (1.0, 3.0)]
        await Recovery(cluster, BOUND_S).wait_until_able(calls)
        return loop.time() - began

    assert virtual_loop.run(main) == pytest.approx(3.0, abs=0.1)


def test_a_snapshot_may_travel_for_as_long_as_its_pace_asks_for() -> None:
    slowly = msgspec.structs.replace(
        FAST.ranges,
        log_keep_bytes=300,
        log_bytes_max=2_048,
        snapshot_bytes_per_s=4_096,
        snapshot_chunk_bytes=1_024,
    )

    async def main(loop: VirtualLoop) -> float:
        cluster = Cluster(loop, config=msgspec.structs.replace(FAST, ranges=slowly))
        await cluster.start()
        async with cluster.connect() as db:
            await cluster.crash(3)
            for number in range(100):
                await db.put(b"%d" % number, cluster.random.randbytes(1_000))
        await cluster.restart(3)
        began = loop.time()
        await Recovery(cluster, BOUND_S).wait()
        lasted_s = loop.time() - began
        assert cluster.snapshots_sent()
        await cluster.stop()
        return lasted_s

    assert virtual_loop.run(main) > 2 * BOUND_S
