"""Old versions go from real disks, the same ones on each, and stay gone over kills."""

from pathlib import Path

import pytest

from multiraft import errors
from multiraft.cli.cluster_process import LocalCluster
from multiraft.client.database import Database
from tests.support import processes

pytestmark = pytest.mark.integration

SHORT = "\n[ranges]\ngc_ttl_s = 1.0\n"
KEYS = [b"%03d" % number for number in range(300)]


async def overwrite(db: Database, times: int) -> None:
    for number in range(times):
        await db.put_many({key: b"%d" % number for key in KEYS})


async def until_collected(db: Database) -> None:
    async def is_collected() -> bool:
        statuses = [info.status for info in await db.admin.ranges()]
        return all(s is not None and s["versions"] == s["live_keys"] for s in statuses)

    await processes.until_async(is_collected, "every version that is left is live")


def test_old_versions_go_everywhere_and_stay_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            processes.running(tmp_path / "c", settings=SHORT) as cluster,
            processes.connect(cluster) as db,
        ):
            async with db.snapshot() as first:
                assert await first.get(KEYS[0]) is None
                began = first.timestamp
            await overwrite(db, 10)
            await until_collected(db)
            with pytest.raises(errors.ReadTooOldError):
                await read_at(db, began)
            await kill_all(cluster)
            assert await db.get_many(KEYS) == dict.fromkeys(KEYS, b"9")
            with pytest.raises(errors.ReadTooOldError):
                await read_at(db, began)
            await overwrite(db, 3)
            await until_collected(db)
            assert await processes.check_replicas_agree(db, cluster) >= 2

    processes.run(main())


async def read_at(db: Database, timestamp: int | None) -> bytes | None:
    assert timestamp is not None
    async with db.snapshot(timestamp) as then:
        return await then.get(KEYS[0])


async def kill_all(cluster: LocalCluster) -> None:
    nodes = list(cluster.nodes)
    await processes.kill(cluster, nodes)
    await processes.restart(cluster, nodes)
