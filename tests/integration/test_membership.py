"""Nodes come and go: joining, moving replicas, and what was removed while it was away."""

import asyncio
from pathlib import Path

import pytest

from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId
from tests.support import processes
from tests.support.histories import Counters, KeySet

pytestmark = pytest.mark.integration


async def move(db: Database, range_id: RangeId, *nodes: int) -> None:
    wanted = tuple(NodeId(node) for node in nodes)
    changed = await db.admin.change_replicas(range_id, wanted)
    assert processes.voters(changed) == list(wanted)


def test_replicas_move_under_load_and_who_was_away_learns_of_it(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c", settings=processes.SMALL_LOGS) as cluster,
            processes.connect(cluster) as db,
            Counters(db) as counters,
            KeySet(db) as keys,
        ):
            range_id = await processes.user_range(db)
            await keys.more(200)
            fourth = await processes.join_one(cluster)
            first = cluster.nodes[0]

            # To the new node, and away from one that is dead meanwhile and comes back later.
            await cluster.kill_node(first)
            await move(db, range_id, 2, 3, 4)
            await asyncio.gather(keys.more(), counters.more())
            await cluster.start_node(first)

            async def is_gone() -> bool:
                return await db.admin.replica_status(range_id, NodeId(1)) is None

            await processes.until_async(is_gone, "the removed replica is destroyed")
            # And back again, as a new replica; the joined node starts again from its directory.
            await move(db, range_id, 1, 2, 4)
            await cluster.kill_node(fourth)
            await asyncio.gather(keys.more(), counters.more())
            await cluster.start_node(fourth)
            await move(db, range_id, 1, 2, 3)
            await asyncio.gather(keys.more(), counters.more())
            for workload in (counters, keys):
                await workload.stop()
                await workload.check()
                assert (workload.refused, workload.unknown) == (0, 0)
            await processes.check_replicas_agree(db, cluster)

    processes.run(main())
