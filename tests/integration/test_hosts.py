"""Several nodes on each machine: one dies with all of them, and every key can still be written."""

import asyncio
from pathlib import Path

import pytest

from multiraft.client.database import Database
from multiraft.cluster.placement import NO_OTHER_HOST
from multiraft.cluster.replicate_queue import LEARNERS_PATIENCE_S
from multiraft.ids import NodeId
from tests.support import processes

pytestmark = pytest.mark.integration

MENDED_WITHIN_S = processes.PATIENCE_S + 3 * LEARNERS_PATIENCE_S
"""The change of each of the three ranges may lose its leader and be taken up by another."""


async def voters(db: Database) -> list[list[NodeId]]:
    """The nodes that vote in each range."""
    found = await db.admin.ranges(with_status=False)
    return [processes.voters(info.descriptor) for info in found]


async def reasons(db: Database) -> set[str]:
    """Why replicas are on one host, as the leaders tell that answer."""
    return {
        shared["reason"]
        for info in await db.admin.nodes()
        if info.status is not None
        for shared in info.status["replication"]["shared_hosts"]
    }


def test_a_host_dies_with_all_its_nodes_and_every_key_can_be_written(tmp_path: Path) -> None:
    async def main() -> None:
        directory, localities = tmp_path / "c", ("host=a", "host=a", "host=b")
        async with (
            processes.running(directory, localities=localities) as cluster,
            processes.connect(cluster) as db,
        ):
            await db.admin.split(b"key5")
            keys = [b"key%d" % number for number in range(10)]
            await asyncio.gather(*(db.put(key, b"before") for key in keys))

            async def is_told() -> bool:
                return await reasons(db) == {NO_OTHER_HOST}

            await processes.until_async(is_told, "leaders tell of replicas on one host")
            await processes.join_one(cluster, locality="host=c")

            async def is_mended() -> bool:
                return all(nodes in ([1, 3, 4], [2, 3, 4]) for nodes in await voters(db))

            await processes.until_async(
                is_mended, "no range has two voters on host a", within_s=MENDED_WITHIN_S
            )
            await processes.kill(cluster, cluster.nodes[:2])
            await asyncio.gather(*(db.put(key, b"after") for key in keys))
            assert await db.get_many(keys) == dict.fromkeys(keys, b"after")
            where = {info.node_id: info.locality for info in await db.admin.nodes()}
            assert where == {1: "host=a", 2: "host=a", 3: "host=b", 4: "host=c"}

    processes.run(main())
