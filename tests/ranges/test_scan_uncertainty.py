"""S19: a scan over several ranges misses nothing that was acknowledged before it began."""

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import msgspec
import pytest

from multiraft.client import scan_time
from multiraft.client.database import Database
from multiraft.config import LimitsConfig
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test

ROW_BY_ROW = msgspec.structs.replace(FAST, limits=LimitsConfig(scan_keys_max=1))
AHEAD_S = 0.1


@asynccontextmanager
async def fast_right(cluster: Cluster, db: Database) -> AsyncIterator[tuple[Database, Member]]:
    """Have n2, which is ahead, lead the right half, and n1, which cannot hear it, the left one.

    Yields another client, of which `db` is told nothing, and n1.
    """
    left, right = await db.admin.split(b"m")
    slow, fast = cluster.members[1], cluster.members[2]
    await db.admin.transfer(left.range_id, slow.node_id)
    await db.admin.transfer(right.range_id, fast.node_id)
    await cluster.until_served()
    assert (cluster.leader(left.range_id), cluster.leader(right.range_id)) == (slow, fast)
    async with cluster.connect(name="other") as other:
        await other.get(b"z")
        await db.get_many([b"a", b"z"])
        fast.clock.step_wall(AHEAD_S)
        cluster.network.cut("n2", "n1")
        yield other, slow
        cluster.network.heal("n2", "n1")


async def rows(db: Database, *, reverse: bool = False) -> list[tuple[bytes, bytes]]:
    return [row async for row in db.scan(reverse=reverse)]


@pytest.mark.parametrize("has_rows_before", [False, True])
def test_what_was_acknowledged_before_a_scan_began_is_seen_whoever_wrote_it(
    has_rows_before: bool,
) -> None:
    """S13: its version lies above the scan's time, because of a clock that is ahead."""

    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        expected = [(b"z", b"written")]
        if has_rows_before:
            await db.put(b"a", b"there")
            expected = [(b"a", b"there"), *expected]
        async with fast_right(cluster, db) as (other, slow):
            await other.put(b"z", b"written")
            fast = cluster.members[2]
            last = fast.up.store.context.hlc.last
            assert last > slow.up.store.context.hlc.now(), "it has not heard of that time"
            assert await rows(db) == expected

    run()


@cluster_test(config=ROW_BY_ROW)
async def test_a_scan_that_cannot_move_on_stays_one_view_of_one_moment(
    cluster: Cluster, db: Database
) -> None:
    """What it has given has changed: then it shows nothing that came after that change."""
    await db.put(b"a", b"before")
    async with fast_right(cluster, db) as (other, _), aclosing(db.scan()) as scan:
        found = [await anext(scan)]
        await other.put(b"a", b"after")
        await other.put(b"z", b"later still")
        found += [row async for row in scan]
        assert found == [(b"a", b"before")]
        assert dict(await rows(db)) == {b"a": b"after", b"z": b"later still"}


@cluster_test(config=ROW_BY_ROW)
async def test_a_scan_that_moves_on_shows_every_row_as_of_its_new_time(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many({b"a": b"1", b"b": b"1", b"y": b"1"})
    async with fast_right(cluster, db) as (other, _), aclosing(db.scan()) as scan:
        found = [await anext(scan)]
        await other.put(b"y", b"2")
        found += [row async for row in scan]
        # The write is no older than the scan, so both views are right; this one moved.
        assert found == [(b"a", b"1"), (b"b", b"1"), (b"y", b"2")]


@cluster_test()
async def test_a_scan_of_one_page_is_one_request(cluster: Cluster, db: Database) -> None:
    await db.put_many({b"%d" % n: b"v" for n in range(100)})
    await rows(db)

    def requests() -> int:
        return sum(member.up.store.requests for member in cluster.running())

    before = requests()
    assert len(await rows(db)) == 100
    assert requests() == before + 1


@cluster_test(config=ROW_BY_ROW)
async def test_a_scan_ends_however_much_is_written_under_it(cluster: Cluster, db: Database) -> None:
    await db.put_many({b"%03d" % n: b"0" for n in range(60)})
    await db.admin.split(b"030")
    await cluster.until_served()
    refreshed = 0
    is_the_same = scan_time.ScanTime._is_the_same

    async def counted(time: scan_time.ScanTime, *given: object) -> bool:
        nonlocal refreshed
        refreshed += 1
        return await is_the_same(time, *given)  # type: ignore[arg-type]

    async with cluster.connect(name="other") as other:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(scan_time.ScanTime, "_is_the_same", counted)
            found = []
            async for key, _ in db.scan():
                found.append(key)
                ahead = b"%03d" % min(59, len(found) + 2)
                await other.put(ahead, b"1")
    assert found == [b"%03d" % n for n in range(60)]
    assert 1 <= refreshed <= scan_time.MOVES_MAX
