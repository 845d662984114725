"""When a log is shortened, and what must never be dropped."""

import asyncio
from typing import cast

import msgspec

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import LOG_KEEP_BYTES_MIN, Config, RangesConfig
from multiraft.ids import Index, NodeId, RangeId
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command, TruncateTrigger
from multiraft.ranges.proposals import Waiter
from multiraft.ranges.replica import Replica
from multiraft.ranges.snapshot import SnapshotSender
from multiraft.ranges.truncation import Truncation
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.network import Delay
from multiraft.storage import raft_log
from tests.support.cluster import cluster_test

KEEP, MOST = 1_000, 5_000


class Fake:
    """Replica, core, log, applied state and leaseholder, as far as Truncation looks at them."""

    range_id = RangeId(7)

    def __init__(self, *, size: int, first: int, replicated: int, applied: int) -> None:
        self.size_bytes = size
        self._first = first
        self._replicated = replicated
        self.index = applied
        self.proposed: list[int] = []
        self.accepts = True
        self.config = Config(ranges=RangesConfig(log_keep_bytes=KEEP, log_bytes_max=MOST))
        self.core = self.log = self.applied = self.context = self

    def first_index(self) -> int:
        return self._first

    def replicated_index(self) -> int:
        return self._replicated

    def propose(self, command: Command, waiter: Waiter) -> bool:
        if self.accepts:
            assert isinstance(command.trigger, TruncateTrigger)
            self.proposed.append(command.trigger.index)
        return self.accepts


class FakeSnapshots:
    """Sends snapshots of some ranges."""

    def __init__(self, *sent: RangeId) -> None:
        self._sent = sent

    def is_sending(self, range_id: RangeId) -> bool:
        return range_id in self._sent


def look(truncation: Truncation, fake: Fake, *, sending: bool = False) -> list[int]:
    snapshots = FakeSnapshots(fake.range_id) if sending else FakeSnapshots()
    truncation.look_at(
        cast("Replica", fake), cast("Leaseholder", fake), cast("SnapshotSender", snapshots)
    )
    return fake.proposed


def test_a_short_log_is_left_alone() -> None:
    assert look(Truncation(), Fake(size=KEEP, first=11, replicated=50, applied=50)) == []


def test_a_longer_log_is_cut_behind_what_every_member_has() -> None:
    assert look(Truncation(), Fake(size=KEEP + 1, first=11, replicated=30, applied=50)) == [30]


def test_nothing_is_cut_that_is_not_applied_here() -> None:
    assert look(Truncation(), Fake(size=KEEP + 1, first=11, replicated=60, applied=50)) == [50]


def test_nothing_is_proposed_when_there_is_nothing_to_cut() -> None:
    assert look(Truncation(), Fake(size=KEEP + 1, first=31, replicated=30, applied=50)) == []


def test_no_entry_is_added_to_drop_a_single_one() -> None:
    assert look(Truncation(), Fake(size=KEEP + 1, first=30, replicated=30, applied=50)) == []
    assert look(Truncation(), Fake(size=KEEP + 1, first=29, replicated=30, applied=50)) == [30]
    assert look(Truncation(), Fake(size=MOST + 1, first=50, replicated=10, applied=50)) == []


def test_a_log_over_its_limit_does_not_wait_for_a_member_that_is_behind() -> None:
    assert look(Truncation(), Fake(size=MOST, first=11, replicated=10, applied=50)) == []
    assert look(Truncation(), Fake(size=MOST + 1, first=11, replicated=10, applied=50)) == [50]


def test_while_a_snapshot_travels_what_comes_behind_it_stays() -> None:
    fake = Fake(size=MOST + 1, first=11, replicated=10, applied=50)
    assert look(Truncation(), fake, sending=True) == []
    fake = Fake(size=MOST + 1, first=11, replicated=30, applied=50)
    assert look(Truncation(), fake, sending=True) == [30]


def test_when_a_snapshot_has_arrived_its_receiver_has_a_whole_log_more_to_catch_up() -> None:
    truncation = Truncation()
    fake = Fake(size=3 * MOST, first=11, replicated=10, applied=50)
    truncation.snapshot_arrived(cast("Replica", fake))
    fake.size_bytes = 4 * MOST
    assert look(truncation, fake) == []
    fake.size_bytes = 4 * MOST + 1
    assert look(truncation, fake) == [50]
    truncation.applied()
    fake.size_bytes = MOST + 1
    assert look(truncation, fake) == [50, 50], "once, and for the next one as ever"


def test_what_a_receiver_was_kept_is_kept_for_nobody_once_it_has_caught_up() -> None:
    truncation = Truncation()
    fake = Fake(size=3 * MOST, first=11, replicated=10, applied=50)
    truncation.snapshot_arrived(cast("Replica", fake))
    fake.size_bytes = KEEP
    assert look(truncation, fake) == []
    fake.size_bytes = MOST + 1
    assert look(truncation, fake) == [50]


def test_one_proposal_is_under_way_at_a_time() -> None:
    truncation = Truncation()
    fake = Fake(size=KEEP + 1, first=11, replicated=30, applied=50)
    look(truncation, fake)
    assert look(truncation, fake) == [30]
    truncation.applied()
    assert look(truncation, fake) == [30, 30]


def test_a_refused_proposal_is_tried_again() -> None:
    truncation = Truncation()
    fake = Fake(size=KEEP + 1, first=11, replicated=30, applied=50)
    fake.accepts = False
    assert look(truncation, fake) == []
    fake.accepts = True
    assert look(truncation, fake) == [30]


def test_the_end_of_the_term_needs_no_answer() -> None:
    Truncation().failed(errors.StoppedError(what="the term"))


# -- in a cluster ----------------------------------------------------------------------------------

SHORT = msgspec.structs.replace(
    FAST, ranges=RangesConfig(log_keep_bytes=KEEP, log_bytes_max=1 << 20)
)
SHORTEST = msgspec.structs.replace(
    FAST, ranges=RangesConfig(log_keep_bytes=LOG_KEEP_BYTES_MIN, log_bytes_max=1 << 20)
)


async def write_kilobytes(db: Database, count: int) -> None:
    for _ in range(count):
        for number in range(8):
            await db.put(b"%d" % number, b"x" * 100)


@cluster_test(config=SHORT)
async def test_logs_of_all_replicas_stay_short_and_keep_what_is_not_applied(
    cluster: Cluster, db: Database
) -> None:
    await write_kilobytes(db, 10)
    await cluster.until_applied()
    for replica in cluster.replicas():
        assert replica.log.size_bytes < 2 * KEEP + 200
        assert replica.log.first_index() > Index(60)
        assert replica.log.first_index() <= replica.applied.index + 1


@cluster_test(config=SHORT)
async def test_a_log_of_hardly_more_than_new_leaders_is_shortened(
    cluster: Cluster, db: Database
) -> None:
    """Their entries hold two bytes each, and take more than ten times as many."""
    terms = 4 * KEEP // raft_log.ENTRY_OVERHEAD_BYTES
    for _ in range(terms):
        await db.admin.transfer(USER_RANGE_ID, NodeId(cluster.followers()[0].number))
    await cluster.until_applied()
    for replica in cluster.replicas():
        assert replica.core.last_index > terms
        assert replica.core.last_index - replica.log.first_index() < terms / 2


@cluster_test(config=SHORT)
async def test_a_member_that_is_behind_a_little_holds_truncation_up_and_needs_no_snapshot(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    cluster.isolate(behind.number)
    cluster.break_connections(behind.number)
    await write_kilobytes(db, 10)
    leader = cluster.leader()
    assert leader is not None
    assert leader.replica().log.first_index() <= behind.replica().log.last_index() + 1
    cluster.rejoin(behind.number)
    await cluster.until_applied()
    for number in range(3):  # Logs are looked at when something is applied.
        await asyncio.sleep(0.1)
        await db.put(b"more", b"%d" % number)
    await cluster.until_applied()
    assert cluster.snapshots_sent() == 0
    assert leader.replica().log.size_bytes < 2 * KEEP + 200, "and then it is caught up with"


@cluster_test(config=SHORTEST)
async def test_cutting_a_log_is_no_reason_to_cut_it_again_while_a_member_is_far_away(
    cluster: Cluster, db: Database
) -> None:
    leader, far = cluster.leader(), cluster.followers()[0]
    assert leader is not None
    cluster.slow_down(sync_s=0.000_2, link_s=0.001)
    for way in ((leader.name, far.name), (far.name, leader.name)):
        cluster.conditions.delays[way] = Delay(0.03)
    for _ in range(60):
        await db.put(b"k", b"x" * 100)
    await asyncio.sleep(1.0)
    applied = leader.replica().applied.index
    await asyncio.sleep(1.0)
    assert leader.replica().applied.index == applied


@cluster_test(config=SHORT)
async def test_a_truncated_log_is_found_whole_after_a_power_cut(
    cluster: Cluster, db: Database
) -> None:
    for keep in range(4):
        victim = cluster.followers()[0]
        victim.sync_delay_s = 0.1
        await write_kilobytes(db, 3)
        await cluster.crash(victim.number, keep=min(keep * 5, victim.engine.unsynced_count))
        victim.sync_delay_s = 0.0
        await cluster.restart(victim.number)
        await cluster.until(lambda: len(cluster.replicas()) == len(cluster.members))
        await cluster.until_served()
        await cluster.until_applied()
        loaded = raft_log.load(
            victim.engine, victim.replica().range_id, applied_index=victim.replica().applied.index
        )
        assert loaded.first_index() == victim.replica().log.first_index()
    assert cluster.snapshots_sent() == 0
