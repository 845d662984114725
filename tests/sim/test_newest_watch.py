"""The watch of remembered versions finds what is wrong, and nothing else."""

from multiraft.ids import NodeId
from multiraft.mvcc.newest import LeaseholderReader
from multiraft.mvcc.versions import Version
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim import loop as virtual_loop
from multiraft.sim import newest_watch
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.sim.loop import VirtualLoop


def _leader(cluster: Cluster, range_id: int = USER_RANGE_ID) -> Member:
    member = cluster.leader(range_id)
    assert member is not None
    return member


def _remembered(member: Member) -> dict[bytes, tuple[LeaseholderReader, Version]]:
    return member.up.store.context.newest.entries


def test_a_version_that_is_not_the_newest_any_more_is_told() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        async with cluster.connect() as db:
            await db.put(b"m", b"1")
            holder = _leader(cluster)
            before = dict(_remembered(holder))
            assert before, "the write is remembered"
            await db.put(b"m", b"2")
        assert not list(newest_watch.wrong(holder.up.store))
        _remembered(holder).update(before)
        ((range_id, problem),) = newest_watch.wrong(holder.up.store)
        assert range_id == USER_RANGE_ID
        assert "as the newest of" in problem
        await cluster.stop()

    virtual_loop.run(main)


def test_a_wrong_version_is_told_when_it_is_asked_for() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        async with cluster.connect() as db:
            await db.put(b"m", b"1")
            before = dict(_remembered(_leader(cluster)))
            await db.put(b"m", b"2")
            entries = _remembered(_leader(cluster))
            after = dict(entries)
            entries.update(before)
            assert await db.get(b"m") == b"1", "it is believed"
            entries.update(after)
        violations = cluster.invariants.violations
        assert len([each for each in violations if "as the newest of" in each]) == 1
        violations.clear()  # What was read is told, too.
        await cluster.stop()

    virtual_loop.run(main)


def test_keys_that_a_split_has_taken_away_are_others_business() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop)
        await cluster.start()
        async with cluster.connect() as db:
            await db.put(b"m", b"1")
            left = _leader(cluster)
            right = (await db.admin.split(b"h"))[1].range_id
            await cluster.until_served()
            other = NodeId(1 + left.number % 3)
            await db.admin.transfer(right, other)
            await cluster.until(lambda: cluster.leader(right) is cluster.members[other])
            await db.put(b"m", b"2")
            await cluster.until_applied(right)
        assert _leader(cluster) is left
        assert any(found.value == b"1" for _, found in _remembered(left).values())
        assert not list(newest_watch.wrong(left.up.store))
        await cluster.stop()

    virtual_loop.run(main)
