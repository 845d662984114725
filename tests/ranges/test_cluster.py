"""The whole path, in one process: requests, leaders, splits, crashes."""

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test


@cluster_test()
async def test_a_value_put_is_read_back(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_every_replica_holds_the_same_bytes(cluster: Cluster, db: Database) -> None:
    for number in range(20):
        await db.put(b"k%d" % number, b"v")
    await cluster.until_applied()
    first, second, third = (cluster.contents(n) for n in (1, 2, 3))
    assert first == second == third
    assert len(first) == 20


@cluster_test()
async def test_a_value_survives_the_power_cut_of_all_nodes(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    for number in (1, 2, 3):
        await cluster.crash(number)
    await cluster.start()
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_writes_go_on_after_the_leader_crashed(cluster: Cluster, db: Database) -> None:
    leader = cluster.leader()
    assert leader is not None
    await cluster.crash(leader.number)
    await db.put(b"k", b"v")
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_a_split_keeps_every_row_and_both_halves_serve(
    cluster: Cluster, db: Database
) -> None:
    rows = [(b"k%02d" % number, b"v%d" % number) for number in range(40)]
    for key, value in rows:
        await db.put(key, value)
    left, right = await db.admin.split(b"k20")
    assert [row async for row in db.scan()] == rows
    await db.put(b"k10", b"left")
    await db.put(b"k30", b"right")
    await cluster.until_applied(left.range_id)
    await cluster.until_applied(right.range_id)
    stats = {r.applied.stats.live_keys for r in cluster.replicas(right.range_id)}
    assert stats == {20}
