"""A scan over ranges whose leaders differ in time shows what its client knows of (rule S13)."""

import asyncio

from multiraft.client.database import Database
from multiraft.config import Config
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys
from multiraft.model.requests import Scan
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test


@cluster_test()
async def test_a_scan_from_a_slow_clock_shows_the_clients_own_write_by_a_fast_one(
    cluster: Cluster, db: Database
) -> None:
    left, right = await db.admin.split(b"m")
    await db.admin.transfer(left.range_id, cluster.members[1].up.me.node_id)
    await db.admin.transfer(right.range_id, cluster.members[2].up.me.node_id)
    await cluster.until_served()
    leader = cluster.leader(right.range_id)
    assert leader is not None
    assert leader.number == 2, "the fast clock leads the right half"
    first = cluster.leader(left.range_id)
    assert first is not None
    assert first.number == 1, "the slow one leads the left half"
    leader.clock.step_wall(0.1)
    cluster.network.cut("n2", "n1")
    await db.put(b"z", b"mine")
    ahead = leader.up.store.context.hlc.last > first.up.store.context.hlc.now()
    assert ahead, "the first page's node has not heard of the write's time"
    assert [row async for row in db.scan()] == [(b"z", b"mine")]
    cluster.network.heal("n2", "n1")


@cluster_test(config=Config())
async def test_a_part_whose_time_is_a_little_ahead_is_served_when_the_clock_is_there(
    cluster: Cluster, db: Database
) -> None:
    await db.put(b"k", b"v")
    leader = cluster.leader((await db.admin.ranges())[-1].descriptor.range_id)
    assert leader is not None
    clock = leader.up.store.context.hlc
    loop = asyncio.get_running_loop()
    scan = (Scan(keys.PLAIN, keys.END),)
    began = loop.time()
    for _ in range(10):
        ahead = Timestamp(clock.now() + hlc.from_ms(5))
        reply = await db._router.execute(scan, timestamp=ahead)
        assert reply.timestamp == ahead
    assert 0.05 <= loop.time() - began < 0.4, "and not at the next tick"


@cluster_test(config=Config())
async def test_no_scan_is_older_than_what_its_client_has_been_told(
    cluster: Cluster, db: Database
) -> None:
    """Also one page alone, which no other page moves on to a later time."""
    await db.put(b"k", b"v")
    leader = cluster.leader((await db.admin.ranges())[-1].descriptor.range_id)
    assert leader is not None
    ahead = Timestamp(leader.up.store.context.hlc.now() + hlc.from_ms(50))
    db._router._observe(ahead)
    reply = await db._router.execute((Scan(keys.PLAIN, keys.END),))
    assert ahead <= reply.timestamp < ahead + hlc.from_ms(250)
