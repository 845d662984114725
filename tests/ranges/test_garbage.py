"""Garbage collection of ranges on a cluster: what goes, what stays, and what is told to whom."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.router import Router
from multiraft.cluster import garbage_queue
from multiraft.cluster.garbage_queue import GarbageQueueStatus
from multiraft.config import Config, LimitsConfig
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys
from multiraft.model.requests import AdminProtect
from multiraft.mvcc.garbage import GarbageScan
from multiraft.ranges import garbage, protections, right_half
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
from multiraft.sim.cluster import FAST, Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import ask, get, leader_of, now_of

TTL_S = 4.0
TTL = hlc.from_us(int(TTL_S * 1e6))
COLLECTED_S = TTL_S * (1 + 3 / garbage_queue.STEPS)
"""After so long what was overwritten is gone: a step for the interval, one for the threshold."""


def keeping(ttl_s: float) -> Config:
    return msgspec.structs.replace(
        FAST, ranges=msgspec.structs.replace(FAST.ranges, gc_ttl_s=ttl_s)
    )


SHORT = keeping(TTL_S)


def thresholds(cluster: Cluster, range_id: int = USER_RANGE_ID) -> set[Timestamp]:
    return {replica.applied.gc_threshold for replica in cluster.replicas(range_id)}


def versions(cluster: Cluster, range_id: int = USER_RANGE_ID) -> int:
    return max(replica.applied.stats.versions for replica in cluster.replicas(range_id))


def collected(cluster: Cluster) -> list[GarbageQueueStatus]:
    return [member.up.status().garbage for member in cluster.running()]


async def overwrite(db: Database, count: int, times: int) -> None:
    for number in range(times):
        await db.put_many({b"%05d" % key: b"%d" % number for key in range(count)})


@cluster_test(config=SHORT)
async def test_what_was_overwritten_goes_after_its_time_and_nothing_else(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=3, times=5)
    await db.put(b"gone", b"x")
    await db.delete(b"gone")
    written = now_of(leader_of(cluster))
    before = versions(cluster)
    await asyncio.sleep(TTL_S / 2)
    assert versions(cluster) == before
    assert thresholds(cluster) == {0}, "nothing is refused while there is nothing to remove"
    await asyncio.sleep(COLLECTED_S)
    await cluster.until_applied()
    assert versions(cluster) == 3
    (threshold,) = thresholds(cluster)
    assert written - hlc.from_ms(250) < threshold <= now_of(leader_of(cluster)) - TTL
    cluster.check_statistics()
    assert await db.get_many([b"00000", b"00001", b"00002", b"gone"]) == {
        b"00000": b"4",
        b"00001": b"4",
        b"00002": b"4",
        b"gone": None,
    }
    assert [row async for row in db.scan()] == [(b"%05d" % key, b"4") for key in range(3)]


@cluster_test(config=SHORT)
async def test_reads_at_or_below_the_threshold_are_refused_and_say_so(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=1, times=2)
    await asyncio.sleep(COLLECTED_S)
    leader = leader_of(cluster)
    threshold = leader.replica().applied.gc_threshold
    assert ask(cluster, leader, get(b"00000"), timestamp=threshold).code == "read_too_old"
    assert ask(cluster, leader, get(b"00000"), timestamp=threshold + 1).value == b"1"


@cluster_test(config=SHORT)
async def test_the_addressing_records_are_collected_too(cluster: Cluster, db: Database) -> None:
    for key in range(5):
        await db.admin.split(b"%d" % key)
    await asyncio.sleep(COLLECTED_S)
    stats = cluster.replicas(FIRST_RANGE_ID)[0].applied.stats
    assert stats.versions == stats.live_keys
    cluster.check_statistics()


@cluster_test(config=SHORT)
async def test_an_idle_cluster_is_silent_again_when_its_garbage_is_gone(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=2, times=3)
    await asyncio.sleep(COLLECTED_S + TTL_S)
    before = cluster.wiretap.envelopes
    passes = sum(status.passes for status in collected(cluster))
    await asyncio.sleep(20 * TTL_S)
    assert cluster.wiretap.envelopes == before
    assert sum(status.passes for status in collected(cluster)) == passes


@cluster_test(config=keeping(0))
async def test_with_no_time_to_live_everything_is_kept(cluster: Cluster, db: Database) -> None:
    await overwrite(db, count=1, times=10)
    await asyncio.sleep(1_000)
    assert versions(cluster) == 10
    assert thresholds(cluster) == {0}


@cluster_test(config=SHORT)
async def test_many_versions_go_in_many_commands_beside_writes(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=garbage.REMOVED_PER_COMMAND + 3, times=4)
    counts = 0

    async def count() -> None:
        nonlocal counts
        while True:
            counts = await db.increment(b"counter")
            await asyncio.sleep(0.02)

    counting = asyncio.ensure_future(count())
    await asyncio.sleep(2 * COLLECTED_S)
    counting.cancel()
    await asyncio.sleep(COLLECTED_S)
    await cluster.until_applied()
    assert await db.increment(b"counter", 0) in (counts, counts + 1)
    assert versions(cluster) <= garbage.REMOVED_PER_COMMAND + 3 + 2
    cluster.check_statistics()


@cluster_test(config=SHORT)
async def test_ranges_that_are_written_all_the_time_keep_no_other_from_being_collected(
    cluster: Cluster, db: Database
) -> None:
    count = 3 * garbage_queue.PASSES_CONCURRENT_MAX
    for key in range(1, count):
        await db.admin.split(b"%05d" % key)
    for _ in range(int(3 * TTL_S / 0.25)):
        await overwrite(db, count, times=1)
        await asyncio.sleep(0.25)
    ranges = set(cluster.range_ids()) - {FIRST_RANGE_ID}
    assert len(ranges) == count
    assert {range_id for range_id in ranges if 0 in thresholds(cluster, range_id)} == set()


# -- splits, leaders, snapshots --------------------------------------------------------------------


@cluster_test(config=SHORT)
async def test_the_right_half_of_a_split_inherits_the_threshold(
    cluster: Cluster, db: Database
) -> None:
    """What the whole range had collected is gone from both halves."""
    await overwrite(db, count=2, times=3)
    written = now_of(leader_of(cluster))
    await asyncio.sleep(COLLECTED_S)
    (threshold,) = thresholds(cluster)
    assert threshold
    _, right = await db.admin.split(b"00001")
    await cluster.until_served()
    await cluster.until_applied()
    assert thresholds(cluster, right.range_id) == {threshold}
    old = ask(
        cluster,
        leader_of(cluster, right.range_id),
        get(b"00001"),
        timestamp=written - 1 if written - 1 <= threshold else threshold,
        range_id=right.range_id,
    )
    assert old.code == "read_too_old"
    cluster.check_statistics()


class Held:
    """Stops every pass before its `slices`th slice until told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
        self._gate = asyncio.Event()
        self.reached = asyncio.Event()
        looked = 0

        async def one_slice(pace: garbage.Pace, scan: GarbageScan) -> bool:
            nonlocal looked
            looked += 1
            if looked >= slices:
                self.reached.set()
                await self._gate.wait()
            await asyncio.sleep(0)
            return scan.advance(4)

        monkeypatch.setattr(garbage.Pace, "slice", one_slice)
        monkeypatch.setattr(garbage, "REMOVED_PER_COMMAND", 3)

    def go_on(self) -> None:
        self._gate.set()


InTheMiddle = Callable[[Cluster, Database], Awaitable[None]]


async def split_in_the_middle(cluster: Cluster, db: Database) -> None:
    await db.admin.split(b"00003")


async def transfer_in_the_middle(cluster: Cluster, db: Database) -> None:
    follower = cluster.followers()[0]
    await db.admin.transfer(USER_RANGE_ID, follower.node_id)


async def write_in_the_middle(cluster: Cluster, db: Database) -> None:
    await overwrite(db, count=8, times=2)


@pytest.mark.parametrize("slices", [1, 3, 5])
@pytest.mark.parametrize(
    "happens", [split_in_the_middle, transfer_in_the_middle, write_in_the_middle]
)
def test_statistics_stay_exact_whatever_happens_in_the_middle_of_a_pass(
    monkeypatch: pytest.MonkeyPatch, slices: int, happens: InTheMiddle
) -> None:
    @cluster_test(config=SHORT)
    async def run(cluster: Cluster, db: Database) -> None:
        await overwrite(db, count=8, times=5)
        with monkeypatch.context() as patch:
            held = Held(patch, slices)
            await held.reached.wait()
            await happens(cluster, db)
            held.go_on()
            await asyncio.sleep(0.5)
            await cluster.until_applied()
            cluster.check_statistics()
        await asyncio.sleep(2 * COLLECTED_S)
        await cluster.until_applied()
        cluster.check_statistics()
        counted = [
            replica.applied.stats for r in cluster.range_ids() for replica in cluster.replicas(r)
        ]
        assert all(stats.versions == stats.live_keys for stats in counted)
        assert len([row async for row in db.scan()]) == 8

    run()


@cluster_test(config=SHORT)
async def test_a_split_counts_its_right_half_while_removals_are_applied(
    cluster: Cluster, db: Database
) -> None:
    """What goes between the view of the count and the split is counted; nothing goes across it."""
    await overwrite(db, count=20, times=20)
    cluster.slow_down(sync_s=0.004, link_s=0.002)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(right_half, "KEYS_PER_SLICE", 20)
        patch.setattr(right_half, "PAUSE_S", 0.002)
        Held(patch, slices=1).go_on()
        for key in (19, 16, 13, 10):
            await cluster.until(lambda: any(status.under_way for status in collected(cluster)))
            await asyncio.sleep(0.003 * key)
            await db.admin.split(b"%05d" % key)
        await cluster.until_served()
        await cluster.until_applied()
        cluster.check_statistics()
    assert sum(status.versions_removed for status in collected(cluster)) > 20


@cluster_test(config=SHORT)
async def test_a_follower_that_gets_a_snapshot_gets_the_threshold(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=2, times=3)
    follower = cluster.followers()[0]
    await db.admin.change_replicas(
        USER_RANGE_ID, tuple(m.node_id for m in cluster.running() if m is not follower)
    )
    await asyncio.sleep(COLLECTED_S)
    await db.admin.change_replicas(USER_RANGE_ID, tuple(m.node_id for m in cluster.running()))
    await cluster.until_applied()
    (threshold,) = thresholds(cluster)
    assert threshold
    assert len(cluster.replicas()) == 3


# -- protections -----------------------------------------------------------------------------------


@cluster_test(config=SHORT)
async def test_a_protected_time_stays_readable_for_as_long_as_it_is_renewed(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=1, times=2)
    at = now_of(leader_of(cluster))
    await overwrite(db, count=1, times=2)
    async with db.admin.protect(at, owner="a test"):
        await asyncio.sleep(3 * COLLECTED_S)
        (found,) = await db.admin.protections()
        assert (found.timestamp, found.owner) == (at, "a test")
        assert ask(cluster, leader_of(cluster), get(b"00000"), timestamp=at).value == b"1"
    await asyncio.sleep(COLLECTED_S)
    assert await db.admin.protections() == []
    assert ask(cluster, leader_of(cluster), get(b"00000"), timestamp=at).code == "read_too_old"


@cluster_test(config=SHORT)
async def test_the_protection_of_a_client_that_vanished_ends_by_itself(
    cluster: Cluster, db: Database
) -> None:
    at = now_of(leader_of(cluster))
    await overwrite(db, count=1, times=2)
    asked = AdminProtect(bytes(16), at, 6_000, "somebody who is gone")
    await db._router.execute((asked,), anchor=keys.PROTECTION_PREFIX)
    await asyncio.sleep(5.9)
    (threshold,) = thresholds(cluster)
    assert threshold < at
    await asyncio.sleep(COLLECTED_S)
    (threshold,) = thresholds(cluster)
    assert threshold > at
    await asyncio.sleep(COLLECTED_S)
    stats = cluster.replicas(FIRST_RANGE_ID)[0].applied.stats
    assert stats.versions == stats.live_keys, "nothing is left of it either"


SLOWLY = msgspec.structs.replace(keeping(8.0), limits=LimitsConfig(scan_keys_max=1))


@cluster_test(config=SLOWLY)
async def test_a_scan_that_lasts_longer_than_versions_live_reads_on(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=6, times=2)
    found = []
    async for row in db.scan():
        found.append(row)
        await overwrite(db, count=6, times=1)
        await asyncio.sleep(10.0)
    assert found == [(b"%05d" % key, b"1") for key in range(6)]
    await asyncio.sleep(20.0)
    assert versions(cluster) == 6, "and lets go of them at its end"


@cluster_test(config=SHORT)
async def test_a_time_that_may_be_gone_is_not_protected(cluster: Cluster, db: Database) -> None:
    at = now_of(leader_of(cluster))
    await asyncio.sleep(TTL_S + 1.0)
    with pytest.raises(errors.ReadTooOldError):
        async with db.admin.protect(at):
            raise AssertionError("it must not be granted")
    assert await db.admin.protections() == []


@cluster_test(config=SHORT)
async def test_a_protection_that_had_expired_is_given_only_anew(
    cluster: Cluster, db: Database
) -> None:
    """Between its end and the renewal a collector may have seen none."""
    at = now_of(leader_of(cluster))
    asked = AdminProtect(bytes(16), at, 1_000, "a test")
    await db._router.execute((asked,), anchor=keys.PROTECTION_PREFIX)
    await asyncio.sleep(0.5)
    await db._router.execute((asked,), anchor=keys.PROTECTION_PREFIX)
    await asyncio.sleep(2.0)
    await db._router.execute((asked,), anchor=keys.PROTECTION_PREFIX)  # Young enough to be anew.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protections, "forget_expired", leave_them)
        await asyncio.sleep(TTL_S)
        with pytest.raises(errors.ReadTooOldError):
            await db._router.execute((asked,), anchor=keys.PROTECTION_PREFIX)


async def leave_them(router: Router, at: Timestamp, found: list[protections.Stored]) -> None:
    """Keep what has expired."""


@cluster_test(config=SHORT)
async def test_what_read_the_protections_before_one_was_written_stays_below_it(
    cluster: Cluster, db: Database
) -> None:
    """The race: a collector reads, a time is protected, and only then the threshold is raised."""
    await overwrite(db, count=1, times=2)
    await asyncio.sleep(TTL_S * 0.7)
    at = now_of(leader_of(cluster))
    await overwrite(db, count=1, times=2)
    has_read, goes_on = asyncio.Event(), asyncio.Event()
    read = protections.read

    async def then_wait(router: Router) -> tuple[Timestamp, list[protections.Stored]]:
        found = await read(router)
        has_read.set()
        await goes_on.wait()
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protections, "read", then_wait)
        await has_read.wait()
        async with db.admin.protect(at):
            await asyncio.sleep(2 * TTL_S)
            goes_on.set()
            await asyncio.sleep(COLLECTED_S)
            assert thresholds(cluster) != {0}, "what was overwritten before could go"
            assert ask(cluster, leader_of(cluster), get(b"00000"), timestamp=at).value == b"1"


@cluster_test(config=SHORT)
async def test_nothing_is_collected_while_the_protections_cannot_be_read(
    cluster: Cluster, db: Database
) -> None:
    await overwrite(db, count=1, times=2)

    async def fail(router: Router) -> tuple[Timestamp, list[protections.Stored]]:
        raise errors.DeadlineExceededError(deadline_s=10.0, last_error="nobody answers")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(protections, "read", fail)
        await asyncio.sleep(5 * COLLECTED_S)
        assert thresholds(cluster) == {0}
        problems = {status.problem for status in collected(cluster)}
        assert any("the protections cannot be read" in problem for problem in problems)
    await asyncio.sleep(COLLECTED_S)
    assert {status.problem for status in collected(cluster)} == {""}
    assert thresholds(cluster) != {0}
