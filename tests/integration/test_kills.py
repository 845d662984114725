"""Processes that are killed, paused, terminated: nothing acknowledged is lost, nothing is stale."""

import asyncio
from pathlib import Path

import pytest

from multiraft import errors
from multiraft.ids import NodeId
from tests.support import processes
from tests.support.histories import Counters, KeySet, Register

pytestmark = pytest.mark.integration


def test_kills_of_one_of_a_majority_and_of_all_lose_nothing(tmp_path: Path) -> None:
    """The logs are truncated early, so that those who were away need snapshots."""

    async def main() -> None:
        async with (
            processes.running(tmp_path / "c", settings=processes.SMALL_LOGS) as cluster,
            processes.connect(cluster) as db,
            Counters(db) as counters,
            KeySet(db) as keys,
        ):
            nodes = cluster.nodes
            range_id = await processes.user_range(db)
            await keys.more(200)
            leader = await processes.leader_of(db, cluster, range_id)
            for victims in ([leader], nodes[:2], nodes, nodes[1:], [nodes[0]]):
                await processes.kill(cluster, victims)
                if len(victims) == 1:
                    await keys.more(100)
                await processes.restart(cluster, victims)
                await asyncio.gather(keys.more(50), counters.more(50))
            for delay_s in (0.3, 0.5, 0.7):
                await cluster.kill_node(nodes[0])
                await processes.start_and_kill(cluster, nodes[0], delay_s)
            await cluster.start_node(nodes[0])
            await asyncio.gather(keys.more(), counters.more())
            for workload in (counters, keys):
                await workload.stop()
                await workload.check()
                assert (workload.refused, workload.unknown) == (0, 0)
            await processes.check_replicas_agree(db, cluster)

    processes.run(main())


def test_kills_right_after_splits_leave_every_range_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
            Counters(db) as counters,
            KeySet(db) as keys,
        ):
            await keys.more(100)
            for number in range(4):
                boundary = b"set/%04x" % (0x2000 * (number + 1))
                victim = cluster.nodes[number % 3]
                if number % 2:
                    await db.admin.split(boundary)
                    await asyncio.sleep(0.008 * number)
                    await cluster.kill_node(victim)
                else:
                    splitting = asyncio.create_task(db.admin.split(boundary))
                    await asyncio.sleep(0.005 * number)
                    await cluster.kill_node(victim)
                    await splitting
                await cluster.start_node(victim)
                await asyncio.gather(keys.more(), counters.more())
            for workload in (counters, keys):
                await workload.stop()
                await workload.check()
            assert await processes.check_replicas_agree(db, cluster) == 6

    processes.run(main())


def test_reads_around_pauses_of_the_leader_are_never_stale(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
            Register(db, readers=8) as register,
            Counters(db) as counters,
        ):
            range_id = await processes.user_range(db)
            for pause_s in (0.1, 1.3, 0.5, 2.0, 0.9, 1.1):
                await register.more()
                leader = await processes.leader_of(db, cluster, range_id)
                processes.pause(leader)
                try:
                    await asyncio.sleep(pause_s)
                finally:
                    processes.resume(leader)
            await asyncio.gather(register.more(), counters.more())
            for workload in (register, counters):
                await workload.stop()
                await workload.check()
                assert (workload.refused, workload.unknown) == (0, 0)

    processes.run(main())


def test_sigterm_hands_over_and_writes_hardly_notice(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
            KeySet(db) as keys,
        ):
            for boundary in (b"set/4", b"set/8", b"set/c"):
                await db.admin.split(boundary)
            for info in await db.admin.ranges(with_status=False):
                await db.admin.transfer(info.descriptor.range_id, NodeId(1))
            await keys.more(100)
            keys.gaps_s.clear()
            await cluster.stop_node(cluster.nodes[0])
            assert await cluster.nodes[0].wait() == 0
            await keys.more(100)
            stall_s = max(keys.gaps_s)
            assert stall_s < 0.5, (
                f"writes stalled for {stall_s:.2f} s, as if nobody had handed over"
            )
            await cluster.start_node(cluster.nodes[0])
            await keys.stop()
            await keys.check()
            assert (keys.refused, keys.unknown) == (0, 0)

    processes.run(main())


def test_without_a_majority_calls_end_by_their_deadline_and_tell_what_is_known(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c") as cluster,
            processes.connect(cluster) as db,
        ):
            await db.put(b"k", b"v")
            range_id = await processes.user_range(db)
            leader = await processes.leader_of(db, cluster, range_id)
            others = [node for node in cluster.nodes if node is not leader]
            await processes.kill(cluster, others)
            with pytest.raises((errors.OutcomeUnknownError, errors.DeadlineExceededError)):
                await db.put(b"k", b"w", deadline_s=2.0)
            await processes.kill(cluster, [leader])
            with pytest.raises(errors.DeadlineExceededError):
                await db.get(b"k", deadline_s=1.0)
            await processes.restart(cluster, cluster.nodes)
            assert await db.get(b"k") in (b"v", b"w")

    processes.run(main())
