"""Splits under load: a thousand of them, no snapshot, no row lost or doubled, exact statistics."""

import asyncio

from multiraft.client.batch import Batch
from multiraft.client.database import Database
from multiraft.model.descriptor import RangeDescriptor
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

SPLITS = 1_000
LOSS = 0.02
KEYS = [b"%05d" % number for number in range(2 * SPLITS)]


def halving(count: int) -> list[int]:
    """Return 0 .. count-1 so that each splits what the ones before left in about two halves."""
    order: list[int] = []
    spans = [(0, count)]
    for low, high in spans:
        if low < high:
            middle = (low + high) // 2
            order.append(middle)
            spans += ((low, middle), (middle + 1, high))
    return order


class Load:
    """Writers that go on until told to stop, and remember what they were acknowledged."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._stopping = False
        self.increments: dict[bytes, int] = {}

    async def increment(self, writer: int, pace_s: float) -> None:
        """Add one to key after key."""
        position = writer
        while not self._stopping:
            position = (position * 7_919 + 104_729) % len(KEYS)
            key = KEYS[position]
            await self._db.increment(key)
            self.increments[key] = self.increments.get(key, 0) + 1
            await asyncio.sleep(pace_s)

    async def batches(self, writer: int, cuts: list[bytes]) -> None:
        """Write, remove and count on both sides of the cuts, in one batch each."""
        number = 0
        while not self._stopping:
            number += 1
            cut = cuts[(number + writer) % len(cuts)]
            batch = Batch()
            for side in (b"%d" % (int(cut) - 1), cut):
                batch.put(b"w%d-%b" % (writer, side), b"x" * (number % 40))
                batch.increment(side + b"#", 1)
            batch.put(cut + b"/%d" % writer, b"y")
            batch.delete(b"%d/%d" % (int(cut) - 1, number % 3))
            await self._db.batch(batch)

    def stop(self) -> None:
        """Let every writer end after what it is doing."""
        self._stopping = True


@cluster_test()
async def test_a_thousand_splits_under_load_send_no_snapshot_and_keep_every_row_once(
    cluster: Cluster, db: Database
) -> None:
    cluster.slow_down(sync_s=0.002, link_s=0.0005)
    # Lost messages make replicas apply splits late: the messages for the right half come first.
    cluster.wiretap.drop = lambda *_: cluster.random.random() < LOSS
    load = Load(db)
    slots = asyncio.Semaphore(8)

    async def split(number: int) -> RangeDescriptor:
        async with slots:
            return (await db.admin.split(KEYS[2 * number + 1]))[1]

    async with asyncio.TaskGroup() as group:
        for writer in range(8):
            group.create_task(load.increment(writer, 0.001))
        rights = await asyncio.gather(*(split(number) for number in halving(SPLITS)))
        load.stop()

    cluster.wiretap.drop = None
    assert len({right.range_id for right in rights}) == SPLITS
    assert cluster.snapshots_sent() == 0
    assert sum(load.increments.values()) > SPLITS / 2, "there was a load"
    rows = [row async for row in db.scan()]
    expected = {key: n.to_bytes(8, "big") for key, n in load.increments.items()}
    assert rows == sorted(expected.items())
    for range_id in cluster.range_ids():
        await cluster.until_applied(range_id)
    assert len(cluster.range_ids()) == SPLITS + 2
    cluster.check_statistics()


@cluster_test()
async def test_statistics_stay_exact_though_batches_straddle_the_key_being_split(
    cluster: Cluster, db: Database
) -> None:
    cluster.slow_down(sync_s=0.002, link_s=0.001)
    cuts = [b"%d" % number for number in range(110, 190, 10)]
    await db.put_many({b"%d/%d" % (n, m): b"seed" for n in range(100, 200) for m in range(3)})
    load = Load(db)
    async with asyncio.TaskGroup() as group:
        for writer in range(6):
            group.create_task(load.batches(writer, cuts))
        for number in halving(len(cuts)):
            await asyncio.sleep(0.01)
            await db.admin.split(cuts[number])
            await db.admin.split(b"w%d-%b" % (number % 6, cuts[number]))
        load.stop()
    for range_id in cluster.range_ids():
        await cluster.until_applied(range_id)
    assert len(cluster.range_ids()) == 2 + 2 * len(cuts)
    cluster.check_statistics()
    assert cluster.snapshots_sent() == 0
