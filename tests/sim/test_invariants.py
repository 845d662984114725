"""Each invariant of a cluster is caught when it is broken by hand, on a cluster that runs.

What violates is written to an engine, or said on the wire, as a bug in the product would.
"""

import msgspec
import pytest

from multiraft.client.database import Database
from multiraft.config import RangesConfig
from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model import keys
from multiraft.raft import messages as raft
from multiraft.raft.messages import Entry, EntryKind, Message
from multiraft.raft.ready import HardState
from multiraft.raft.role import Role
from multiraft.ranges import state
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.inspection import Member
from multiraft.storage import layout
from tests.support.cluster import cluster_test


def found(cluster: Cluster) -> str:
    """Return what was found so far, and forget it."""
    text = "\n".join(cluster.invariants.violations)
    cluster.invariants.violations.clear()
    return text


def say(cluster: Cluster, member: Member, message: Message, *, target: int = 9) -> None:
    """Let a node's replica of the users' range say something, as far as listeners can tell."""
    replica = member.replica()
    envelope = GroupEnvelope(replica.range_id, replica.replica_id, ReplicaId(target), message, b"")
    for hear in cluster.wiretap.listeners:
        hear(member.number, member.incarnation, target, envelope)


def write_hard_state(member: Member, hard_state: HardState) -> None:
    """Write a hard state that need not follow from the one before."""
    log = member.replica().log
    log.hard_state = HardState()
    batch = member.engine.new_batch()
    log.set_hard_state(batch, hard_state)
    member.engine.write(batch)


async def leader_of(cluster: Cluster, db: Database) -> Member:
    await db.put(b"k", b"v")
    await cluster.until_applied()
    leader = cluster.leader()
    assert leader is not None
    return leader


@cluster_test()
async def test_an_honest_run_has_no_violation_and_is_looked_at(
    cluster: Cluster, db: Database
) -> None:
    for number in range(50):
        await db.put(b"k%d" % number, b"v")
        if number == 25:
            await cluster.crash(1)
            await cluster.restart(1)
    await cluster.until_applied()
    cluster.invariants.check()
    assert not cluster.invariants.violations
    assert cluster.invariants.contents.compared
    facts = cluster.invariants.facts(USER_RANGE_ID)
    assert facts.committed_last == cluster.members[1].replica().applied.index


@cluster_test()
async def test_two_leaders_of_one_term(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    core = leader.replica().core
    append = raft.AppendEntries(core.term, core.last_index, core.term, (), core.commit_index)
    say(cluster, leader, append)
    assert not cluster.invariants.violations
    say(cluster, cluster.followers()[0], append)
    assert "election safety" in found(cluster)


@cluster_test()
async def test_two_votes_in_one_term(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    term = leader.replica().core.term
    me = leader.replica().replica_id
    say(cluster, leader, raft.RequestVote(term, Index(1), term), target=2)
    say(cluster, leader, raft.RequestVoteReply(term, False), target=3)
    assert not cluster.invariants.violations
    say(cluster, leader, raft.RequestVoteReply(term, True), target=9)
    assert f"voted in term {term} for {me}, and for 9" in found(cluster)


@cluster_test()
async def test_a_leader_without_a_committed_entry(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    replica = leader.replica()
    await cluster.until(lambda: not replica.core.commit_untold)  # It has no more to say.
    facts = cluster.invariants.facts(USER_RANGE_ID)
    missing = Index(replica.core.last_index + 1)
    facts.commits(missing, replica.core.term, Term(1))
    leader.incarnation += 1  # So that it looks like a new leader.
    cluster.invariants.look(leader, replica)
    leader.incarnation -= 1
    del facts.committed[missing]
    assert "leader completeness" in found(cluster)


@cluster_test()
async def test_two_entries_at_one_place(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    replica = leader.replica()
    entry = Entry(replica.core.term, replica.log.last_index(), EntryKind.COMMAND, b"another")
    batch = leader.engine.new_batch()
    prefix = replica.range_id.to_bytes(8, "big") + b"\x03" + entry.index.to_bytes(8, "big")
    batch.put(prefix, entry.term.to_bytes(8, "big") + b"\x01another", leader.engine.raft)
    leader.engine.write(batch)
    assert "log matching" in found(cluster)


@cluster_test()
async def test_entries_have_the_predecessor_that_was_written_before_them(
    cluster: Cluster, db: Database
) -> None:
    """Whatever replaces it in the same batch: what a log says when that is written is too late."""
    await leader_of(cluster, db)
    one, other = cluster.followers()
    last = one.replica().log.last_index()
    term = one.replica().core.term

    def write(member: Member, *appends: tuple[int, ...]) -> None:
        batch = member.engine.new_batch()
        for terms in appends:
            entries = [
                Entry(Term(term + each), Index(last + place), EntryKind.COMMAND, b"\x00")
                for place, each in enumerate(terms, 1)
            ]
            member.replica().log.append(batch, entries)
        member.engine.write(batch)

    write(one, (1, 1), (2,))
    assert not cluster.invariants.violations
    write(other, (0, 1))
    assert f"before ({term + 1}, {last + 2}) is an entry of term {term + 1}" in found(cluster)
    for member in (one, other):
        await cluster.crash(member.number, keep=0)
        await cluster.restart(member.number)


@cluster_test()
async def test_another_entry_committed_at_an_index(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    log = leader.replica().log
    facts = cluster.invariants.facts(USER_RANGE_ID)
    next_index = Index(log.last_index() + 1)
    facts.commits(next_index, Term(1), Term(1))
    await db.put(b"k", b"w")
    assert "state machine safety" in found(cluster)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (HardState(Term(1), ReplicaId(1), Index(1)), "was in term"),
        (HardState(Term(9), ReplicaId(1), Index(1)), "as committed, and then 1"),
    ],
)
def test_a_hard_state_that_goes_back(change: HardState, problem: str) -> None:
    @cluster_test()
    async def run(cluster: Cluster, db: Database) -> None:
        leader = await leader_of(cluster, db)
        write_hard_state(leader, change)
        assert problem in found(cluster)

    run()


@cluster_test()
async def test_a_vote_that_is_changed_within_its_term(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    hard = leader.replica().log.hard_state
    write_hard_state(leader, HardState(hard.term, ReplicaId(8), hard.commit_index))
    assert "and then for 8" in found(cluster)


@cluster_test()
async def test_an_applied_index_that_goes_back(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    applied = leader.replica().applied
    older = state.AppliedState(
        Index(applied.index - 1), applied.term, applied.stats, applied.clock_floor
    )
    batch = leader.engine.new_batch()
    state.write_applied(batch, leader.engine, state.applied_key(USER_RANGE_ID), older)
    leader.engine.write(batch)
    assert f"applied {applied.index}, and then {older.index}" in found(cluster)


@cluster_test()
async def test_something_applied_that_is_not_committed(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    applied = leader.replica().applied
    later = state.AppliedState(
        Index(applied.index + 9), applied.term, applied.stats, applied.clock_floor
    )
    batch = leader.engine.new_batch()
    state.write_applied(batch, leader.engine, state.applied_key(USER_RANGE_ID), later)
    leader.engine.write(batch)
    assert "which nobody knows as committed" in found(cluster)


@cluster_test()
async def test_another_applied_state_at_one_index(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    applied = leader.replica().applied
    other = state.AppliedState(
        applied.index, applied.term, applied.stats, Timestamp(applied.clock_floor + 1)
    )
    batch = leader.engine.new_batch()
    state.write_applied(batch, leader.engine, state.applied_key(USER_RANGE_ID), other)
    leader.engine.write(batch)
    assert "another applied state" in found(cluster)


@cluster_test()
async def test_rows_that_differ_at_equal_applied_index(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    batch = leader.engine.new_batch()
    key = layout.version_key(keys.PLAIN + b"stray", Timestamp(1))
    batch.put(key, b"\x00", leader.engine.data)
    leader.engine.write(batch)
    cluster.invariants.contents.compare(USER_RANGE_ID)
    assert "other rows on each of" in found(cluster)
    batch = leader.engine.new_batch()
    batch.delete(key, leader.engine.data)
    leader.engine.write(batch)


@cluster_test()
async def test_a_term_that_was_spoken_in_and_forgotten(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    term = Term(leader.replica().core.term + 5)
    say(cluster, leader, raft.PreVote(Term(term + 1), Index(1), Term(1)))
    say(cluster, leader, raft.RequestVoteReply(term, False))
    await cluster.crash(leader.number)
    await cluster.restart(leader.number)
    assert f"spoke in term {term} and restarted in" in found(cluster)


@cluster_test()
async def test_an_acknowledged_entry_that_is_lost_with_a_crash(
    cluster: Cluster, db: Database
) -> None:
    await leader_of(cluster, db)
    follower = cluster.followers()[0]
    core = follower.replica().core
    # It vouches for what the others will have, and is cut off from it.
    ahead = Index(core.last_index + 1)
    say(cluster, follower, raft.AppendEntriesReply(core.term, True, ahead, core.commit_index))
    cluster.wiretap.drop = lambda _, target, __: target == follower.number
    await db.put(b"k", b"w")
    await cluster.crash(follower.number)
    await cluster.restart(follower.number)
    assert f"acknowledged and committed at {ahead}" in found(cluster)
    cluster.wiretap.drop = None


@cluster_test()
async def test_a_synced_hard_state_that_is_older_after_a_restart(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    hard = leader.replica().log.hard_state
    await cluster.crash(leader.number)
    engine = leader.engine
    key = USER_RANGE_ID.to_bytes(8, "big") + b"\x01"
    packed = engine.get(key, engine.raft)
    assert packed is not None
    batch = engine.new_batch()
    batch.put(key, (hard.term - 1).to_bytes(8, "big") + packed[8:], engine.raft)
    engine.write(batch)
    await cluster.restart(leader.number)
    assert "over a restart" in found(cluster)


@cluster_test()
async def test_two_leaseholders_of_one_span(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    cluster.isolate(leader.number)
    await cluster.until(lambda: cluster.leader() not in (None, leader))
    assert not cluster.invariants.violations
    leadership = leader.replica().core.leadership
    assert leadership is not None
    core = leader.replica().core
    future = Timestamp(leader.up.store.context.hlc.last << 1)
    core.support = Forever(future)
    for progress in leadership.progress.values():
        progress.fortified_epoch = Epoch(1)
    cluster.invariants.check()
    assert "two leaseholders" in found(cluster)
    cluster.rejoin(leader.number)


class Forever:
    """Support that never ends."""

    def __init__(self, until: Timestamp) -> None:
        self._until = until

    def support_for(self, replica: ReplicaId) -> Epoch:
        return Epoch(1)

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        return Epoch(1), self._until


@cluster_test()
async def test_a_leader_that_goes_on_in_a_term_that_it_released(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    replica = leader.replica()
    release = raft.Release(
        replica.replica_id, replica.core.term, Epoch(0), leader.up.store.context.hlc.last
    )
    say(cluster, leader, raft.TimeoutNow(replica.core.term, release))
    await db.put(b"k", b"w")
    await cluster.crash(leader.number)
    assert "which it released" in found(cluster)


@cluster_test()
async def test_a_snapshot_that_entries_could_have_replaced_is_counted(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    follower = cluster.followers()[0].replica().replica_id
    leader.up.store.send_snapshot(leader.replica(), follower)
    assert len(cluster.invariants.snapshots.needless) == 1


SHORT_LOGS = msgspec.structs.replace(
    FAST, ranges=RangesConfig(log_keep_bytes=300, log_bytes_max=1_000)
)


@cluster_test(config=SHORT_LOGS)
async def test_a_snapshot_of_an_earlier_term_holds_no_log(cluster: Cluster, db: Database) -> None:
    """Its sender ends it as soon as the receiver, which cannot be reached here, answers."""
    leader = await leader_of(cluster, db)
    away, other = cluster.followers()
    cluster.isolate(away.number)
    snapshots = leader.up.store.snapshots
    leader.up.store.send_snapshot(leader.replica(), away.replica().replica_id)
    await db.admin.transfer(USER_RANGE_ID, NodeId(other.number))
    for _ in range(20):
        await db.put(b"k", b"x" * 100)
    assert snapshots.is_sending(USER_RANGE_ID)
    await db.admin.transfer(USER_RANGE_ID, NodeId(leader.number))
    await db.put(b"k", b"y")
    assert leader.replica().log.first_index() > away.replica().log.last_index() + 1
    cluster.rejoin(away.number)
    await cluster.until_applied()
    assert found(cluster) == ""


@cluster_test(config=SHORT_LOGS)
async def test_a_log_that_is_cut_behind_the_snapshot_on_its_way(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    away = cluster.followers()[0]
    cluster.isolate(away.number)
    for _ in range(20):
        await db.put(b"k", b"x" * 100)
    assert leader.replica().log.first_index() > away.replica().log.last_index() + 1
    target = away.replica().replica_id
    leader.up.store.send_snapshot(leader.replica(), target)
    job = (leader.node_id, USER_RANGE_ID, target)
    snapshots = cluster.invariants.snapshots
    term, index = snapshots._under_way[job]
    assert index >= leader.replica().log.first_index() - 1
    snapshots._under_way[job] = term, away.replica().log.last_index()
    await db.put(b"k", b"y")
    assert "cuts its log at" in found(cluster)
    cluster.rejoin(away.number)


@cluster_test()
async def test_a_clock_that_is_dragged_ahead_of_its_wall_clock(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    clock = leader.up.store.context.hlc
    clock.forward(Timestamp(clock.wall() + 4 * clock.offset_max))
    await db.put(b"k", b"v")
    await cluster.until(lambda: bool(cluster.invariants.violations))
    assert f"the HLC of {leader.name} is " in found(cluster)


@cluster_test()
async def test_a_replica_that_a_split_will_bring_needs_no_snapshot(
    cluster: Cluster, db: Database
) -> None:
    await leader_of(cluster, db)
    slow = cluster.followers()[0]
    cluster.wiretap.drop = lambda _, target, envelope: (
        target == slow.number and envelope.range_id != FIRST_RANGE_ID
    )
    _, right = await db.admin.split(b"m")
    right_id = RangeId(right.range_id)
    await cluster.until(lambda: cluster.leader(right_id) is not None)
    leader = cluster.leader(right_id)
    assert leader is not None
    replica = leader.up.store.replicas[right_id]
    target = right.replica_on(slow.node_id)
    assert target is not None
    assert cluster.invariants.snapshots.could_follow(replica, slow.up.store, target.replica_id)
    cluster.wiretap.drop = None


@cluster_test()
async def test_a_term_that_begins_within_the_lease_of_an_earlier_one(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    leader.replica().lease._end = Timestamp(leader.up.store.context.hlc.last << 1)
    await cluster.crash(leader.number)
    await cluster.until_served()
    await db.put(b"k", b"w")
    assert "though the lease of term" in found(cluster)


@cluster_test()
async def test_a_lease_that_lasts_into_a_later_term(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    replica = leader.replica()
    cluster.invariants.promises._begins[replica.range_id][Term(replica.core.term + 1)] = Timestamp(
        1
    )
    replica.lease._end = Timestamp(replica.lease.last_told + 1)
    cluster.invariants.promises.look_at_all(leader)
    assert "began at 1" in found(cluster)


@cluster_test()
async def test_a_message_of_a_term_that_is_not_durable(cluster: Cluster, db: Database) -> None:
    leader = await leader_of(cluster, db)
    term = Term(leader.replica().core.term + 1)
    say(cluster, leader, raft.RequestVoteReply(term, False))
    assert not cluster.invariants.violations
    say(cluster, leader, raft.RequestVoteReply(term, True))
    assert "and that term is not synced" in found(cluster)


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_disk_with_rows_that_do_not_belong_there(is_removed: bool) -> None:
    @cluster_test(nodes=4)
    async def run(cluster: Cluster, db: Database) -> None:
        await leader_of(cluster, db)
        member = cluster.followers()[0]
        if is_removed:
            others = tuple(m.node_id for m in cluster.running() if m is not member)
            await db.admin.change_replicas(USER_RANGE_ID, others)
            await cluster.until(lambda: USER_RANGE_ID not in member.up.store.replicas)
        await cluster.crash(member.number, keep=member.engine.unsynced_count)
        batch = member.engine.new_batch()
        key = layout.version_key(keys.PLAIN + b"stray", Timestamp(1))
        batch.put(key, b"\x01" + bytes(16), member.engine.data)
        member.engine.write(batch)
        cluster.invariants.attach_disk(member)
        problem = "which is of no range" if is_removed else "with other rows than it applied"
        assert problem in found(cluster)

    run()


@cluster_test()
async def test_a_descriptor_that_is_not_of_the_applied_index(
    cluster: Cluster, db: Database
) -> None:
    leader = await leader_of(cluster, db)
    descriptor = leader.replica().descriptor
    assert descriptor is not None
    await cluster.crash(leader.number)
    other = msgspec.structs.replace(descriptor, generation=descriptor.generation + 1)
    for written in (other, descriptor):
        batch = leader.engine.new_batch()
        state.write_descriptor(batch, leader.engine, written)
        leader.engine.write(batch)
        cluster.invariants.attach_disk(leader)
        assert ("with a descriptor of another index" in found(cluster)) is (written is other)


@cluster_test()
async def test_what_a_node_writes_while_it_is_being_stopped_is_seen(
    cluster: Cluster, db: Database
) -> None:
    """Two nodes elect a leader while one of them takes its time to stop: nothing is wrong."""
    leader = cluster.leader()
    assert leader is not None
    await cluster.crash(leader.number)
    living = cluster.running()
    stop = living[0].up.stop
    replicas = [member.replica() for member in living]

    async def stop_slowly(*, hand_over: bool = False) -> None:
        await cluster.until(lambda: any(each.core.role is Role.LEADER for each in replicas))
        await stop(hand_over=hand_over)

    living[0].up.stop = stop_slowly  # type: ignore[method-assign]


@cluster_test()
async def test_terms_that_all_have_left_are_forgotten_but_for_their_last_lease(
    cluster: Cluster, db: Database
) -> None:
    first = await leader_of(cluster, db)
    await cluster.crash(first.number)
    await cluster.until_served()
    await cluster.restart(first.number)
    leader = await leader_of(cluster, db)
    term = leader.replica().core.term
    promises = cluster.invariants.promises
    ends = promises._ends[USER_RANGE_ID]
    ends[Term(1)] = Timestamp(min(ends.values()) - 1)
    last = max(before for before in ends if before < term)
    promises.forget_below(USER_RANGE_ID, term)
    assert sorted(ends) in ([last], [last, term])
    assert list(promises._begins[USER_RANGE_ID]) == [term]
    ends[last] = Timestamp(leader.up.store.context.hlc.last << 1)
    await cluster.crash(leader.number)
    await cluster.until_served()
    await db.put(b"k", b"w")
    assert f"though the lease of term {last}" in found(cluster)
