"""Snapshots: who gets one, what a crash or damage leaves, what is refused (A4, S15, S16, T19)."""

import asyncio
from unittest import mock

import msgspec
import pytest
import xxhash

from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import Config, RangesConfig
from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model import keys
from multiraft.model.descriptor import RangeDescriptor, initial_descriptor
from multiraft.mvcc.statistics import RangeStats
from multiraft.net.transport import FrameKind
from multiraft.raft.messages import AppendEntries, Envelope
from multiraft.ranges import messages, snapshot
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import (
    GroupEnvelope,
    PeerFrame,
    ReplicaRemoved,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHeader,
)
from multiraft.ranges.snapshot import SnapshotReceiver, StagedSnapshot
from multiraft.ranges.snapshot_intake import SnapshotIntake
from multiraft.ranges.state import AppliedState, RangeState
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from multiraft.storage.memory import MemoryEngine
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of

SHORT_LOGS = msgspec.structs.replace(
    FAST,
    ranges=RangesConfig(log_keep_bytes=256, log_bytes_max=2_000, snapshot_chunk_bytes=1_000),
)
"""Every few writes the log is truncated, so whoever misses some needs a snapshot."""

WRITERS = 4
ROWS = {b"%03d" % n: b"v" * 40 for n in range(100)}
"""About eight kilobytes."""


def streaming_slowly(config: Config = SHORT_LOGS, **ranges: int) -> Config:
    """Return a configuration in which a snapshot of ROWS takes about a second."""
    # What is counted is the compressed size.
    settings = {"snapshot_bytes_per_s": 1_500, **ranges}
    return msgspec.structs.replace(
        config, ranges=msgspec.structs.replace(config.ranges, **settings)
    )


async def leave_behind(cluster: Cluster, db: Database, member: Member) -> None:
    """Have the others truncate what the member has not got; it is cut off when this returns."""
    cluster.isolate(member.number)
    cluster.break_connections(member.number)
    await write_past_the_log(db)
    leader = leader_of(cluster)
    assert leader.replica().core.first_index > member.replica().core.last_index + 1


async def write_past_the_log(db: Database) -> None:
    """Write ROWS, and then as much as makes the leaders truncate, from memory too."""
    await db.put_many(ROWS)
    await asyncio.sleep(0.5)  # Until then a leader keeps in memory what a silent member lacks.
    for number in range(120):
        await db.put(b"%03d" % (number % 2 * 90 + 5), b"x" * 50)


async def until_converged(cluster: Cluster, range_id: int = USER_RANGE_ID) -> None:
    await cluster.until_served()
    await cluster.until(lambda: len(cluster.replicas(range_id)) == len(cluster.members))
    await cluster.until_applied(range_id)
    contents = [cluster.contents(number, range_id) for number in cluster.members]
    assert contents == contents[:1] * len(contents)
    cluster.check_statistics()


# -- a follower that needs one ---------------------------------------------------------------------


@cluster_test(config=SHORT_LOGS)
async def test_a_follower_behind_a_truncated_log_gets_a_snapshot_and_the_same_bytes(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    await leave_behind(cluster, db, behind)
    cluster.rejoin(behind.number)
    await until_converged(cluster)
    assert behind.replica().snapshots_installed == 1
    assert cluster.snapshots_sent() == 1
    await db.put(b"after", b"the snapshot")
    await until_converged(cluster)
    assert cluster.snapshots_sent() == 1, "and the log serves it from there on"


@cluster_test(config=SHORT_LOGS)
async def test_a_follower_that_has_everything_in_the_log_gets_no_snapshot(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    cluster.isolate(behind.number)
    for number in range(5):
        await db.put(b"%d" % number, b"x" * 50)
    cluster.rejoin(behind.number)
    await until_converged(cluster)
    assert cluster.snapshots_sent() == 0


async def catch_up_under_writes(cluster: Cluster, db: Database, *, keys_written: int) -> None:
    """Leave a follower behind and let it come back while writes go on: it must keep up with them.

    Returns when all is quiet and equal.
    """
    behind = cluster.followers()[0]
    await leave_behind(cluster, db, behind)
    cluster.slow_down(sync_s=0.001, link_s=0.001)
    stopping = False

    async def write() -> None:
        number = 0
        while not stopping:
            number += 1
            await db.put(b"w%d" % (number % keys_written), b"x" * 60)

    writers = [asyncio.create_task(write()) for _ in range(WRITERS)]
    cluster.rejoin(behind.number)
    await cluster.until(lambda: behind.replica().snapshots_installed > 0)
    await asyncio.sleep(1.0)
    gap = leader_of(cluster).replica().applied.index - behind.replica().applied.index
    assert gap < 50, "the follower keeps up with the writes"
    stopping = True
    await asyncio.gather(*writers)
    await until_converged(cluster)


@cluster_test(config=streaming_slowly())
async def test_a_follower_catches_up_though_writes_never_pause_and_logs_are_tiny(
    cluster: Cluster, db: Database
) -> None:
    """T19, T22: what is written while a snapshot travels must not be truncated away behind it."""
    await catch_up_under_writes(cluster, db, keys_written=7)
    assert cluster.snapshots_sent() == 1


STREAMING_IN_SMALL_WINDOWS = msgspec.structs.replace(
    streaming_slowly(log_bytes_max=10_000),
    raft=msgspec.structs.replace(
        FAST.raft, append_bytes_max=4_000, inflight_bytes_max=32_000, inflight_messages_max=8
    ),
)


@cluster_test(config=STREAMING_IN_SMALL_WINDOWS)
async def test_what_is_logged_during_a_snapshot_waits_till_its_receiver_has_got_it(
    cluster: Cluster, db: Database
) -> None:
    """It is more than is sent at once: cut when the snapshot has arrived, it came in vain."""
    await catch_up_under_writes(cluster, db, keys_written=1)
    assert cluster.snapshots_sent() == 1


@cluster_test(config=SHORT_LOGS)
async def test_a_snapshot_keeps_term_vote_and_fortification(cluster: Cluster, db: Database) -> None:
    """S16: what was promised is one record, and a snapshot is no reason to forget it."""
    behind = cluster.followers()[0]
    before = behind.replica().core.hard_state()
    assert before.fortified_leader
    # Only the range's own messages are lost: the stores go on supporting each other.
    cluster.wiretap.drop = lambda _, target, e: (
        target == behind.number and e.range_id == USER_RANGE_ID
    )
    await write_past_the_log(db)
    cluster.wiretap.drop = None
    await until_converged(cluster)
    assert behind.replica().snapshots_installed == 1
    after = behind.replica().log.hard_state
    for field in ("term", "vote", "fortified_leader", "fortified_term", "fortified_epoch"):
        assert getattr(after, field) == getattr(before, field), field


# -- crashes ---------------------------------------------------------------------------------------


@cluster_test(config=streaming_slowly())
async def test_a_receiver_that_crashes_in_the_middle_has_its_old_state(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    await leave_behind(cluster, db, behind)
    cluster.rejoin(behind.number)
    await cluster.until(lambda: bool(behind.up.store.intake.receiving))
    index, rows = behind.replica().applied.index, cluster.contents(behind.number)
    await asyncio.sleep(0.2)
    assert behind.up.store.intake.receiving, "still under way"
    await cluster.crash(behind.number)
    cluster.isolate(behind.number)
    await cluster.restart(behind.number)
    await cluster.until(lambda: bool(behind.up.store.replicas))
    assert behind.replica().applied.index == index
    assert cluster.contents(behind.number) == rows
    cluster.rejoin(behind.number)
    await until_converged(cluster)


@pytest.mark.parametrize("lost", [0, 1, 2, 3])
def test_a_receiver_that_crashes_at_the_install_has_the_old_state_or_the_new_one(
    lost: int,
) -> None:
    @cluster_test(config=streaming_slowly())
    async def run(cluster: Cluster, db: Database) -> None:
        behind = cluster.followers()[0]
        await leave_behind(cluster, db, behind)
        cluster.rejoin(behind.number)
        await cluster.until(lambda: bool(behind.up.store.intake.receiving))
        index = behind.replica().applied.index
        behind.sync_delay_s = 0.05
        await cluster.until(lambda: behind.replica().snapshots_installed > 0, step_s=0.0005)
        installed = behind.replica().applied.index
        unsynced = behind.engine.unsynced_count
        assert unsynced
        await cluster.crash(behind.number, keep=max(0, unsynced - lost))
        behind.sync_delay_s = 0.0
        cluster.isolate(behind.number)
        await cluster.restart(behind.number)
        await cluster.until(lambda: bool(behind.up.store.replicas))
        assert behind.replica().applied.index in ((index, installed) if lost else (installed,))
        cluster.check_statistics()
        cluster.rejoin(behind.number)
        await until_converged(cluster)

    run()


# -- the sender ------------------------------------------------------------------------------------


@cluster_test(config=streaming_slowly())
async def test_a_sender_that_leads_no_more_stops_and_the_next_leader_sends_its_own(
    cluster: Cluster, db: Database
) -> None:
    behind, other = cluster.followers()
    await leave_behind(cluster, db, behind)
    old = leader_of(cluster)
    cluster.rejoin(behind.number)
    await cluster.until(lambda: bool(behind.up.store.intake.receiving))
    await db.admin.transfer(USER_RANGE_ID, NodeId(other.number))
    await cluster.until(lambda: cluster.leader() is other)
    sender = old.up.store.snapshots
    assert sender.status().under_way == 1
    await cluster.until(lambda: not sender.is_sending(USER_RANGE_ID), within_s=0.3)
    status = sender.status()
    assert (status.sent, status.failed, status.under_way) == (0, 1, 0)
    assert status.last_failure.startswith(f"r{USER_RANGE_ID} to replica ")
    assert status.bytes_sent > 0
    await until_converged(cluster)
    assert other.up.store.snapshots.sent == 1


@cluster_test(config=streaming_slowly())
async def test_a_sender_that_is_stopped_keeps_its_receiver_from_no_later_snapshot(
    cluster: Cluster, db: Database
) -> None:
    """Its connection lives on: else the range would stand still for as long as it does."""
    behind, other = cluster.followers()
    await leave_behind(cluster, db, behind)
    old = leader_of(cluster)
    cluster.rejoin(behind.number)
    await cluster.until(lambda: bool(behind.up.store.intake.receiving))
    cluster.freeze(old.number)
    try:
        await cluster.until(lambda: cluster.leader() is other)
        await cluster.until(lambda: behind.replica().snapshots_installed == 1)
        await db.put(b"after", b"1")
    finally:
        cluster.thaw(old.number)  # What stands still cannot end either.
    await until_converged(cluster)
    assert cluster.leader() is other


@cluster_test(config=streaming_slowly())
async def test_a_receiver_that_is_stopped_is_given_up_whether_it_has_all_chunks_or_not(
    cluster: Cluster, db: Database
) -> None:
    """Else it would keep a slot, and the sender's view of its engine, for as long as it likes."""
    for buffered_bytes_max in (snapshot.BUFFERED_BYTES_MAX, 500):
        behind = cluster.followers()[0]
        await leave_behind(cluster, db, behind)
        cluster.rejoin(behind.number)
        await cluster.until(lambda behind=behind: bool(behind.up.store.intake.receiving))  # type: ignore[misc]
        sender = leader_of(cluster).up.store.snapshots
        failed = sender.failed
        cluster.freeze(behind.number)
        with mock.patch.object(snapshot, "BUFFERED_BYTES_MAX", buffered_bytes_max):
            await asyncio.sleep(snapshot.RECEIVER_TIMEOUT_S - 1)
            assert sender.failed == failed, "it may only be slow"
            await cluster.until(lambda sender=sender, failed=failed: sender.failed > failed)  # type: ignore[misc]
        assert "it took nothing of a snapshot, or did not answer, for 60 s" in sender.last_failure
        cluster.thaw(behind.number)
        await until_converged(cluster)


@cluster_test(config=streaming_slowly())
async def test_a_snapshot_that_was_refused_is_not_sent_to_its_end(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    await leave_behind(cluster, db, behind)
    sender = leader_of(cluster).up.store.snapshots
    before = sender.status()
    with mock.patch.object(SnapshotIntake, "admit", return_value="no room"):
        cluster.rejoin(behind.number)
        await cluster.until(lambda: sender.failed > before.failed)
    assert "no room" in sender.last_failure
    refused = sender.status()
    await until_converged(cluster)
    assert sender.sent == before.sent + 1
    whole_bytes = sender.bytes_sent - refused.bytes_sent
    assert refused.bytes_sent - before.bytes_sent < whole_bytes / 2


@cluster_test(config=streaming_slowly(snapshots_concurrent_max=2))
async def test_no_more_snapshots_are_under_way_than_the_limit_says(
    cluster: Cluster, db: Database
) -> None:
    rights = [(await db.admin.split(b"%03d" % n))[1].range_id for n in (20, 40, 60, 80)]
    behind = cluster.followers()[0]
    cluster.isolate(behind.number)
    cluster.break_connections(behind.number)
    for _ in range(4):
        await db.put_many({key: b"x" * 100 for key in ROWS})
        await asyncio.sleep(0.2)
    cluster.rejoin(behind.number)
    most = 0

    def done() -> bool:
        nonlocal most
        most = max(most, len(behind.up.store.intake.receiving))
        return all(behind.replica(right).snapshots_installed for right in rights)

    await cluster.until(done)
    assert most == 2
    for right in rights:
        await until_converged(cluster, right)


@cluster_test(config=streaming_slowly())
async def test_a_range_that_is_split_while_its_snapshot_travels_needs_no_second_one(
    cluster: Cluster, db: Database
) -> None:
    behind = cluster.followers()[0]
    await leave_behind(cluster, db, behind)
    cluster.rejoin(behind.number)
    await cluster.until(lambda: bool(behind.up.store.intake.receiving))
    _, right = await db.admin.split(b"050")
    await db.put(b"077", b"written on the right meanwhile")
    assert behind.up.store.intake.receiving, "still under way"
    await until_converged(cluster)
    await until_converged(cluster, right.range_id)
    assert cluster.snapshots_sent() == 1


# -- spans (A4) ------------------------------------------------------------------------------------


@cluster_test(config=SHORT_LOGS)
async def test_a_snapshot_that_narrows_a_replica_clears_what_it_covers_no_more(
    cluster: Cluster, db: Database
) -> None:
    await db.put_many(ROWS)
    await cluster.until_applied()
    behind = cluster.followers()[0]
    cluster.wiretap.drop = lambda _, target, e: target == behind.number and e.range_id != 1
    _, right = await db.admin.split(b"050")
    await write_past_the_log(db)
    cluster.wiretap.drop = lambda _, target, e: (
        target == behind.number and e.range_id == right.range_id
    )
    await cluster.until(lambda: behind.replica().snapshots_installed > 0)
    assert right.range_id not in behind.up.store.replicas, "it creates nothing to the right"
    assert list(snapshot.rows_of(behind.engine.view(), behind.engine.data, right)) == []
    cluster.check_statistics()

    cluster.wiretap.drop = None
    await until_converged(cluster)
    await until_converged(cluster, right.range_id)
    assert cluster.snapshots_sent() == 2, "the right range needs one of its own"


def header_for(
    descriptor: RangeDescriptor, *, target: int = 3, index: int = 1_000
) -> SnapshotHeader:
    applied = AppliedState(Index(index), Term(6), RangeStats(), Timestamp(1))
    state = RangeState(descriptor, applied)
    return SnapshotHeader(ReplicaId(1), ReplicaId(target), Term(6), state, Timestamp(1))


@cluster_test()
async def test_what_cannot_be_taken_is_refused_with_the_reason(
    cluster: Cluster, db: Database
) -> None:
    store = cluster.members[3].up.store
    mine = cluster.members[3].replica().descriptor
    assert mine is not None
    stranger = initial_descriptor(RangeId(77), keys.PLAIN + b"x", keys.END, (NodeId(1),))
    assert "no replica waits" in store.intake.admit(header_for(stranger))
    assert "no replica waits" in store.intake.admit(header_for(mine, target=9))
    assert "but 3 is here" in store.intake.admit(header_for(mine, target=2))
    without = msgspec.structs.replace(mine, replicas=mine.replicas[:2])
    assert "3 is no member any more" in store.intake.admit(header_for(without))
    old = header_for(mine, index=cluster.members[3].replica().applied.index)
    assert "but we applied" in store.intake.admit(old)
    hlc = store.context.hlc
    ahead = msgspec.structs.replace(
        header_for(mine), clock=Timestamp(hlc.now() + 2 * hlc.offset_max)
    )
    assert "clock is" in store.intake.admit(ahead)
    assert hlc.now() < ahead.clock, "and is not followed"
    first = header_for(mine)
    assert store.intake.admit(first) == ""
    assert "another one" in store.intake.admit(header_for(mine))
    store.intake.over(first)
    assert store.intake.admit(header_for(mine)) == ""
    later = msgspec.structs.replace(first, term=Term(first.term + 1))
    assert store.intake.admit(later) == "", "of a later leader"
    store.intake.over(first)
    assert "another one" in store.intake.admit(later), "the end of an earlier one is not its end"


@cluster_test()
async def test_a_snapshot_over_a_span_that_is_covered_here_is_refused(
    cluster: Cluster, db: Database
) -> None:
    """A4, both ways: another replica covers part of it, or a snapshot that is on its way will."""
    _, right = await db.admin.split(b"m")
    await cluster.until(lambda: len(cluster.replicas(right.range_id)) == 3)
    store = cluster.members[3].up.store
    wide = cluster.range_at(b"a")
    wide = msgspec.structs.replace(wide, end=keys.END)
    assert f"r{right.range_id} covers" in store.intake.admit(header_for(wide))
    store.intake.receiving[RangeId(99)] = header_for(
        initial_descriptor(RangeId(99), keys.PLAIN + b"b", keys.PLAIN + b"c", (NodeId(3),))
    )
    narrow = msgspec.structs.replace(wide, end=keys.PLAIN + b"m")
    assert "snapshot of r99" in store.intake.admit(header_for(narrow))
    del store.intake.receiving[RangeId(99)]
    assert store.intake.admit(header_for(narrow)) == ""


def forgive_made_up_snapshot(cluster: Cluster) -> None:
    """Forget the one complaint about a snapshot at index 1,000 that a test has made up."""
    [violation] = cluster.invariants.violations
    assert "applied 1000, which nobody knows as committed" in violation, "it is made up"
    cluster.invariants.violations.clear()


@cluster_test()
async def test_of_two_snapshots_in_one_turn_the_second_waits_for_the_next(
    cluster: Cluster, db: Database
) -> None:
    follower = cluster.followers()[0]
    replica, store = follower.replica(), follower.up.store
    assert replica.descriptor is not None
    header = header_for(replica.descriptor, target=follower.number)
    older = header_for(replica.descriptor, target=follower.number, index=900)
    source = NodeId(leader_of(cluster).number)
    cluster.isolate(follower.number)  # These snapshots are not of anything that happened.
    for each, refusal in ((header, ""), (older, "another one is being installed")):
        current = msgspec.structs.replace(each, term=replica.core.term, source=replica.core.leader)
        staged = StagedSnapshot(current.state, current.clock, [])
        assert store.intake.install(current, staged, source) == refusal
    await asyncio.sleep(0.1)
    assert not cluster.errors
    assert replica.applied.index == 1_000
    forgive_made_up_snapshot(cluster)


@cluster_test()
async def test_what_was_put_off_is_not_applied_once_a_snapshot_is_to_be_installed(
    cluster: Cluster, db: Database
) -> None:
    """A sync ended, and then a snapshot was complete, in one iteration of the loop."""
    follower = cluster.followers()[0]
    replica, store = follower.replica(), follower.up.store
    follower.sync_delay_s = 1.0
    await db.put(b"k", b"1")
    await db.put(b"k", b"2")
    await cluster.until(lambda: bool(replica.unapplied))
    assert replica.descriptor is not None
    cluster.isolate(follower.number)  # This snapshot is not of anything that happened.
    header = header_for(replica.descriptor, target=follower.number)
    header = msgspec.structs.replace(header, term=replica.core.term, source=replica.core.leader)
    staged = StagedSnapshot(header.state, header.clock, [])
    store.turns._apply_rest_soon()
    assert store.intake.install(header, staged, NodeId(leader_of(cluster).number)) == ""
    await asyncio.sleep(0.1)
    assert not cluster.errors
    assert replica.applied.index == 1_000
    forgive_made_up_snapshot(cluster)


@cluster_test()
async def test_what_came_just_before_a_snapshot_is_not_applied_in_its_turn(
    cluster: Cluster, db: Database
) -> None:
    """An append that commits, taken at once, and then a snapshot, in one iteration of the loop."""
    follower = cluster.followers()[0]
    replica, store, leader = follower.replica(), follower.up.store, leader_of(cluster)
    await db.put(b"k", b"1")
    await cluster.until(lambda: replica.applied.index == leader.replica().applied.index)
    cluster.isolate(follower.number)  # This snapshot is not of anything that happened.
    await db.put(b"k", b"2")
    core, log = replica.core, leader.replica().core.log
    entries, _ = log.slice(Index(core.last_index + 1), Index(log.last_index + 1), 1_000)
    append = AppendEntries(
        core.term, core.last_index, core.log.last_term, entries, entries[-1].index
    )
    assert replica.descriptor is not None
    header = header_for(replica.descriptor, target=follower.number)
    header = msgspec.structs.replace(header, term=core.term, source=core.leader)
    staged = StagedSnapshot(header.state, header.clock, [])
    node = NodeId(leader.number)
    replica.step(node, Envelope(core.leader, core.replica_id, append))
    assert core.handed_index == append.commit_index, "it was taken at once"
    assert store.intake.install(header, staged, node) == ""
    await asyncio.sleep(0.1)
    assert not cluster.errors
    assert replica.applied.index == 1_000
    forgive_made_up_snapshot(cluster)


@cluster_test(nodes=4)
async def test_of_two_snapshots_that_overlap_the_second_is_refused_before_the_first_is_installed(
    cluster: Cluster, db: Database
) -> None:
    """A4: the second one came as the first one was complete, in one iteration of the loop."""
    member = cluster.followers()[0]
    store, whole = member.up.store, member.replica().descriptor
    assert whole is not None
    cluster.isolate(member.number)  # What follows has happened to nobody else.
    others = tuple(r for r in whole.replicas if r.node_id != member.number)
    gone = msgspec.structs.replace(whole, generation=whole.generation + 1, replicas=others)
    store.removed(ReplicaRemoved(gone))
    nodes = (NodeId(9), NodeId(member.number))
    wide = initial_descriptor(RangeId(70), keys.PLAIN + b"b", keys.END, nodes)
    narrow = initial_descriptor(RangeId(71), keys.PLAIN + b"m", keys.END, nodes)
    source = NodeId(9)
    on_its_way = "a snapshot of r70 is being received for part of its span"
    for each, refusal in ((wide, ""), (narrow, on_its_way)):
        append = AppendEntries(Term(6), Index(10), Term(5), (), Index(10))
        envelope = GroupEnvelope(each.range_id, ReplicaId(1), ReplicaId(2), append, each.start)
        frame = PeerFrame(store.context.hlc.now(), envelopes=(envelope,))
        store.receive_frame(source, messages.encode(frame))
        header = header_for(each, target=2)
        staged = StagedSnapshot(header.state, header.clock, [])
        assert store.intake.admit(header) == refusal
        store.intake.over(header)
        assert store.intake.install(header, staged, source) == refusal
    await asyncio.sleep(0.1)
    assert store.replicas[RangeId(70)].descriptor == wide
    assert store.replicas[RangeId(71)].descriptor is None
    forgive_made_up_snapshot(cluster)


@cluster_test()
async def test_a_snapshot_that_breaks_an_invariant_stops_the_store_not_just_its_connection(
    cluster: Cluster, db: Database
) -> None:
    follower, other = cluster.followers()
    core, descriptor = follower.replica().core, follower.replica().descriptor
    assert descriptor is not None
    header = header_for(descriptor, target=follower.number)
    second_leader = msgspec.structs.replace(header, term=core.term, source=ReplicaId(other.number))
    staged = StagedSnapshot(header.state, header.clock, [])
    follower.up.store.intake.install(second_leader, staged, NodeId(other.number))
    assert "two leaders" in str(follower.up.failed.result())
    await asyncio.sleep(0)
    cluster.errors.clear()


# -- one connection's receiver ---------------------------------------------------------------------


class Recording:
    """A connection and a store, as far as a SnapshotReceiver needs them."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.installed: list[StagedSnapshot] = []
        self.ended: list[RangeId] = []
        self.refusal = ""

    def send(self, kind: FrameKind, payload: bytes) -> None:
        assert kind is FrameKind.SNAPSHOT_REPLY
        self.sent.append(payload)

    def admit(self, header: SnapshotHeader) -> str:
        return self.refusal

    def over(self, header: SnapshotHeader) -> None:
        self.ended.append(header.state.descriptor.range_id)

    def install(self, header: SnapshotHeader, staged: StagedSnapshot, source: NodeId) -> str:
        self.installed.append(staged)
        return ""


DESCRIPTOR = initial_descriptor(RangeId(7), b"a", b"z", (NodeId(1), NodeId(2), NodeId(3)))
PAIRS = [(b"\x04%03d" % n, b"value %d" % n) for n in range(50)]


def receiver() -> tuple[SnapshotReceiver, Recording]:
    recording = Recording()
    made = SnapshotReceiver(recording, NodeId(1), recording)  # type: ignore[arg-type]
    return made, recording


def feed(made: SnapshotReceiver, frame: messages.SnapshotFrame) -> None:
    made.received(FrameKind.SNAPSHOT, messages.encode(frame))


def chunk_frames() -> list[SnapshotChunk]:
    chunks = snapshot.chunks_of(iter(PAIRS), 200)
    return [SnapshotChunk(data, xxhash.xxh3_64_intdigest(data)) for data in chunks]


def test_rows_survive_the_way_through_chunks() -> None:
    made, recording = receiver()
    feed(made, header_for(DESCRIPTOR))
    chunks = chunk_frames()
    assert len(chunks) > 2
    for chunk in chunks:
        feed(made, chunk)
    feed(made, SnapshotEnd(len(chunks)))
    engine = MemoryEngine()
    batch = engine.new_batch()
    recording.installed[0].put_rows(batch, engine.data)
    engine.write(batch)
    assert list(engine.scan(b"", b"\xff", engine.data)) == PAIRS
    assert [messages.decode_snapshot_reply(p).refusal for p in recording.sent] == [""]
    assert recording.ended == [RangeId(7)]


def test_a_damaged_chunk_ends_the_connection_and_nothing_is_installed() -> None:
    made, recording = receiver()
    feed(made, header_for(DESCRIPTOR))
    good = chunk_frames()[0]
    damaged = SnapshotChunk(good.data[:-1] + bytes([good.data[-1] ^ 1]), good.checksum)
    with pytest.raises(errors.ProtocolError, match="damaged"):
        feed(made, damaged)
    made.closed("a bad frame")
    assert recording.ended == [RangeId(7)], "another snapshot may come"
    assert recording.installed == []


def test_a_snapshot_with_a_missing_chunk_is_not_installed() -> None:
    made, recording = receiver()
    feed(made, header_for(DESCRIPTOR))
    chunks = chunk_frames()
    for chunk in chunks[:-1]:
        feed(made, chunk)
    with pytest.raises(errors.ProtocolError, match="chunks arrived"):
        feed(made, SnapshotEnd(len(chunks)))
    assert recording.installed == []


def test_a_refused_snapshot_is_answered_at_once_and_its_chunks_are_dropped() -> None:
    made, recording = receiver()
    recording.refusal = "not now"
    feed(made, header_for(DESCRIPTOR))
    for chunk in chunk_frames():
        feed(made, chunk)
    feed(made, SnapshotEnd(1))
    assert [messages.decode_snapshot_reply(p).refusal for p in recording.sent] == ["not now"]
    assert recording.installed == []


def test_bytes_that_are_no_snapshot_frame_end_the_connection() -> None:
    made, _ = receiver()
    with pytest.raises(errors.ProtocolError, match="unreadable"):
        made.received(FrameKind.SNAPSHOT, b"\xc1 not msgpack")
    with pytest.raises(errors.ProtocolError, match="unexpected frame"):
        made.received(FrameKind.RAFT, b"")


def test_a_second_header_ends_the_connection() -> None:
    made, _ = receiver()
    feed(made, header_for(DESCRIPTOR))
    with pytest.raises(errors.ProtocolError, match="second snapshot header"):
        feed(made, header_for(DESCRIPTOR))
