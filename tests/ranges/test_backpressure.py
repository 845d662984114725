"""Too much at once is refused, not queued; and a store that is in doubt says nothing any more."""

import asyncio
from unittest import mock

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import Config
from multiraft.model.requests import Increment
from multiraft.mvcc.newest import VERSION_BYTES_MAX
from multiraft.raft.core import RaftCore
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test
from tests.support.serving import (
    Asked,
    answered,
    ask,
    codes,
    get,
    holder_of,
    leader_of,
    plain,
    put,
    scan,
)

KIB = bytes(1_000)
TIGHT_RANGE = msgspec.structs.replace(
    FAST, ranges=msgspec.structs.replace(FAST.ranges, inflight_bytes_per_range_max=10_000)
)
TIGHT_STORE = msgspec.structs.replace(
    FAST, ranges=msgspec.structs.replace(FAST.ranges, inflight_bytes_per_store_max=10_000)
)
TIGHT_LOG = msgspec.structs.replace(
    FAST, raft=msgspec.structs.replace(FAST.raft, uncommitted_bytes_max=10_000)
)


def flood(cluster: Cluster, member: Member, prefix: bytes) -> list[Asked]:
    """Ask for twenty writes of a thousand bytes, each of a key of its own, and begin them."""
    asked = [ask(cluster, member, put(prefix + b"%d" % number, KIB)) for number in range(20)]
    holder_of(member).begin_puts()
    return asked


@pytest.mark.parametrize("config", [TIGHT_RANGE, TIGHT_STORE, TIGHT_LOG])
@pytest.mark.parametrize("writers", [1, 200])
def test_writes_beyond_the_bytes_in_flight_are_refused_and_retried_by_the_client(
    config: Config, writers: int
) -> None:
    @cluster_test(config=config)
    async def tight(cluster: Cluster, db: Database) -> None:
        leader = leader_of(cluster)
        holder = holder_of(leader)
        cluster.slow_down(sync_s=0.005, link_s=0.005)
        asked = flood(cluster, leader, b"k")
        refused = [each for each in asked if each.is_answered]
        assert 8 <= len(refused) <= 11
        assert refused == asked[-len(refused) :], "those that came last"
        for each in refused:
            assert each.code == "overloaded"
            assert each.reply.error is not None
            assert each.reply.error.facts["retry_after_ms"] > 0
        assert ask(cluster, leader, get(b"j")).code == "", "reads cost nothing there"
        await answered(cluster, *asked)
        assert codes(asked).count("") == 20 - len(refused)
        assert leader.up.store.context.inflight_bytes == 0
        assert holder.proposals.size_bytes == 0
        assert holder.latches.status().points == 0
        await asyncio.gather(*(db.put(b"w%d" % number, KIB) for number in range(writers)))
        assert [row async for row in db.scan(b"w", b"x")] == sorted(
            (b"w%d" % number, KIB) for number in range(writers)
        )

    tight()


@cluster_test(config=TIGHT_STORE)
async def test_what_is_in_flight_is_counted_over_all_ranges_of_a_store(
    cluster: Cluster, db: Database
) -> None:
    _, right = await db.admin.split(b"m")
    await cluster.until_served()
    leader = leader_of(cluster)
    assert leader_of(cluster, right.range_id) is leader
    cluster.slow_down(sync_s=0.005, link_s=0.005)
    asked = flood(cluster, leader, b"a")
    other = ask(cluster, leader, put(b"z", KIB), range_id=right.range_id)
    await answered(cluster, other, *asked)
    assert other.code == "overloaded"
    assert "store" in other.reply.error.message  # type: ignore[union-attr]


@cluster_test(config=TIGHT_RANGE)
async def test_one_range_that_is_flooded_does_not_hold_up_another(
    cluster: Cluster, db: Database
) -> None:
    _, right = await db.admin.split(b"m")
    await cluster.until_served()
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.005, link_s=0.005)
    asked = flood(cluster, leader, b"a")
    other = ask(cluster, leader, put(b"z", KIB), range_id=right.range_id)
    await answered(cluster, other, *asked)
    assert other.code == ""


@cluster_test(config=TIGHT_RANGE)
async def test_a_lost_term_gives_back_what_it_had_in_flight(cluster: Cluster, db: Database) -> None:
    leader = leader_of(cluster)
    cluster.isolate(leader.number)
    asked = flood(cluster, leader, b"k")
    assert leader.up.store.context.inflight_bytes > 10_000
    await answered(cluster, *asked)
    assert leader.up.store.context.inflight_bytes == 0
    assert set(codes(asked)) == {"overloaded", "not_leaseholder"}
    cluster.rejoin(leader.number)
    await cluster.until_served()
    await cluster.until_applied()


# -- a store in doubt ------------------------------------------------------------------------------


async def expect_stop(cluster: Cluster, member: Member, *, reason: str) -> None:
    """Wait until the node stops; that is no failure of the test."""
    deadline = cluster.loop.time() + 5.0
    while not member.up.failed.done():
        assert cluster.loop.time() < deadline, "the node should have stopped"
        await asyncio.sleep(0.001)
    error = member.up.failed.result()
    assert reason in str(error)
    await asyncio.sleep(0)
    cluster.errors.remove(error)


async def check_that_it_is_silent(cluster: Cluster, member: Member) -> None:
    """A store that has failed answers nothing and sends nothing; the others go on without it."""
    sent = member.up._links.frames_sent
    asked = [
        ask(cluster, member, get(b"k")),
        ask(cluster, member, put(b"k", b"x")),
        ask(cluster, member, scan(b"a", b"z")),
    ]
    await cluster.until(lambda: cluster.leader() not in (None, member))
    async with cluster.connect(name="later") as later:
        await later.put(b"after", b"v")
        assert await later.get(b"before") == b"v"
    assert not any(each.is_answered for each in asked)
    assert member.up._links.frames_sent == sent
    await cluster.crash(member.number)
    await cluster.restart(member.number)
    await cluster.until_applied()


@pytest.mark.parametrize("what", ["write", "sync"])
def test_a_store_whose_disk_fails_stops_and_nothing_acknowledged_is_lost(what: str) -> None:
    """S15: it is not tried again, and nobody is told that the write was done."""

    @cluster_test()
    async def failing(cluster: Cluster, db: Database) -> None:
        await db.put(b"before", b"v")
        leader = leader_of(cluster)
        cluster.slow_down(sync_s=0.005, link_s=0.005)
        if what == "write":
            leader.engine.fail_next_write("no such device")
        else:
            leader.engine.fail_next_sync("no such device")
        write = ask(cluster, leader, put(b"k", b"v"))
        await expect_stop(cluster, leader, reason="no such device")
        assert not write.is_answered
        await check_that_it_is_silent(cluster, leader)

    failing()


@cluster_test()
async def test_what_was_answered_is_kept_though_the_leader_fails_to_write_it(
    cluster: Cluster, db: Database
) -> None:
    """It is committed: a quorum has it, and the next leader applies it."""
    leader = leader_of(cluster)
    cluster.slow_down(sync_s=0.005, link_s=0.005)
    write = ask(cluster, leader, put(b"k", b"v"))
    await asyncio.sleep(0)
    leader.engine.fail_next_write("no such device")
    await expect_stop(cluster, leader, reason="no such device")
    assert write.code == ""
    await cluster.until_served()
    assert await db.get(b"k") == b"v"


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("method", ["first", "scan"])
def test_a_store_that_reads_damaged_bytes_stops_instead_of_answering(
    method: str, waits: bool
) -> None:
    """Whether it is read when the request comes, or when the latch that it waits for is free."""

    @cluster_test()
    async def damaged(cluster: Cluster, db: Database) -> None:
        await db.put(b"before", b"v")
        leader = leader_of(cluster)
        cluster.slow_down(sync_s=0.002, link_s=0.002)
        if waits:
            # A value that is not remembered: it is read from the disk.
            ask(cluster, leader, put(b"k", bytes(VERSION_BYTES_MAX)))
        error = errors.CorruptionError(reason="a block fails its checksum")
        operation = get(b"k") if method == "first" else scan(b"a", b"z")
        if not waits:
            with mock.patch.object(leader.engine, method, side_effect=error):
                read = ask(cluster, leader, operation)
        else:
            read = ask(cluster, leader, operation)
            with mock.patch.object(leader.engine, method, side_effect=error):
                await cluster.until(leader.up.failed.done, step_s=0.0005)
        await expect_stop(cluster, leader, reason="a block fails its checksum")
        assert not read.is_answered
        await check_that_it_is_silent(cluster, leader)

    damaged()


@pytest.mark.parametrize("method", ["tick", "synced", "step_at_once", "support_changed"])
def test_a_broken_invariant_stops_the_store_wherever_it_shows(method: str) -> None:
    @cluster_test()
    async def broken(cluster: Cluster, db: Database) -> None:
        await db.put(b"before", b"v")
        leader = leader_of(cluster)
        core = leader.replica().core
        raises = mock.Mock(side_effect=AssertionError("a broken invariant"))
        original = getattr(RaftCore, method)

        def broken_method(self: RaftCore, *arguments: object) -> object:
            if self is core:
                raises()
            return original(self, *arguments)

        with mock.patch.object(RaftCore, method, broken_method):
            ask(cluster, leader, Increment(plain(b"n"), 1))
            for follower in cluster.followers():
                cluster.network.cut(follower.name, leader.name)
            if method == "step_at_once":
                for follower in cluster.members.values():
                    cluster.network.heal(follower.name, leader.name)
            await expect_stop(cluster, leader, reason="a broken invariant")
        for follower in cluster.members.values():
            cluster.network.heal(follower.name, leader.name)
        await check_that_it_is_silent(cluster, leader)

    broken()
