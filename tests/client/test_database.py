import multiraft
from tests.support import virtual_loop
from tests.support.fake_cluster import FakeCluster, FakeTransport
from tests.support.virtual_loop import VirtualClock, VirtualLoop


def test_smoke() -> None:
    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        cluster = FakeCluster(clock, splits=(b"g", b"n"))
        async with multiraft.connect(
            "c1-n1:7000", transport=FakeTransport(cluster), clock=clock
        ) as db:
            await db.put(b"a", b"1")
            assert await db.get(b"a") == b"1"
            assert await db.get(b"zz") is None
            assert await db.increment(b"k", 5) == 5
            await db.put_many({b"%d" % i: b"x" for i in range(1000)})
            cluster.split(b"5")
            assert len([r async for r in db.scan()]) == 1002
            assert [k async for k, _ in db.scan(reverse=True)] == sorted(
                [b"a", b"k", *(b"%d" % i for i in range(1000))], reverse=True
            )
            print(db.status(), [r.status for r in await db.admin.ranges()])
            print(await db.admin.status(), await db.admin.split(b"33"))

    virtual_loop.run(main)
