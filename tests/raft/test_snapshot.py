from multiraft.config import RaftConfig
from multiraft.ids import Index, ReplicaId, Term
from multiraft.raft.messages import AppendEntries, AppendEntriesReply, InstallSnapshot
from multiraft.raft.ready import Ready, SnapshotMark
from tests.support.raft_disk import disk_with, empty_disk, entry
from tests.support.raft_replica import (
    Replica,
    accepted,
    elect,
    envelopes,
    hard_state,
    leader_of,
    voters,
)

TO_NINE = InstallSnapshot(Term(3), Index(9), Term(2), voters(3, learners=(4,)))


def install(replica: Replica, message: InstallSnapshot = TO_NINE) -> None:
    replica.step(1, message)


def lagging_leader() -> Replica:
    """Return a leader at term 3 whose log begins at 6, and whose member 2 said it has nothing."""
    replica = Replica(disk_with(voters(3), (2, 2), truncated=(5, 2)))
    elect(replica)
    replica.settle()
    replica.step(2, AppendEntriesReply(Term(3), False, Index(0), Index(0), Index(7)))
    return replica


def test_an_empty_replica_starts_from_a_snapshot() -> None:
    replica = Replica(empty_disk(), replica_id=4)
    install(replica)
    assert replica.take() == Ready(
        snapshot=SnapshotMark(Index(9), Term(2), TO_NINE.configuration),
        hard_state=hard_state(3, commit=9),
        messages_after_sync=envelopes(4, (1, accepted(3, 9, 9))),
        must_sync=True,
    )
    core = replica.core
    assert (core.first_index, core.last_index, core.applied_index) == (10, 9, 9)
    assert core.configuration == TO_NINE.configuration


def test_what_follows_a_snapshot_may_come_with_it() -> None:
    replica = Replica(empty_disk(), replica_id=4)
    install(replica)
    replica.step(1, AppendEntries(Term(3), Index(9), Term(2), (entry(3, 10),), Index(10)))
    ready = replica.take()
    assert (ready.entries, ready.committed) == ((entry(3, 10),), (entry(3, 10),))
    assert ready.messages_after_sync == envelopes(4, (1, accepted(3, 10, 10)))


def test_an_old_snapshot_is_answered_but_changes_nothing() -> None:
    replica = Replica(disk_with(voters(3), (2,) * 10, commit_index=9, applied_index=9))
    install(replica)
    ready = replica.take()
    assert (ready.snapshot, ready.entries) == (None, ())
    assert ready.messages_after_sync == envelopes(1, (1, accepted(3, 9, 9)))
    assert replica.core.last_index == 10


def test_a_log_that_reaches_the_mark_only_commits() -> None:
    replica = Replica(disk_with(voters(3), (2,) * 10, commit_index=8, applied_index=8))
    install(replica)
    ready = replica.take()
    assert (ready.snapshot, ready.committed) == (None, (entry(2, 9),))
    assert replica.core.last_index == 10


def test_a_conflicting_log_is_thrown_away() -> None:
    replica = Replica(disk_with(voters(3), (1,) * 10))
    install(replica)
    assert replica.take().snapshot == SnapshotMark(Index(9), Term(2), TO_NINE.configuration)
    assert (replica.core.first_index, replica.core.last_index) == (10, 9)


def test_a_snapshot_of_a_deposed_leader_is_refused() -> None:
    replica = Replica(disk_with(voters(3), (7,)))
    install(replica)
    assert replica.settle() == [(1, AppendEntriesReply(Term(7), False, Index(0), Index(0)))]


def test_a_snapshot_keeps_vote_and_fortification() -> None:
    disk = disk_with(voters(3), term=3, vote=2, fortified=(1, 3, 1))
    replica = Replica(disk, replica_id=3)
    install(replica)
    assert replica.take().hard_state == hard_state(3, vote=2, commit=9, fortified=(1, 3, 1))


def test_a_follower_behind_the_log_gets_a_snapshot_once() -> None:
    replica = lagging_leader()
    ready = replica.take()
    assert ready.snapshot_targets == (2,)
    replica.core.propose(b"a", Term(3))
    replica.ticks(50)
    again = replica.take()
    assert again.snapshot_targets == ()
    assert AppendEntries not in {type(sent.message) for sent in again.messages if sent.target == 2}


def test_no_snapshot_is_streamed_to_a_store_that_is_gone() -> None:
    replica = lagging_leader()
    replica.support.lose(2)
    assert replica.take().snapshot_targets == ()


def test_after_a_delivered_snapshot_the_follower_is_found_and_streamed_to() -> None:
    replica = lagging_leader()
    replica.settle()
    replica.core.report_snapshot(ReplicaId(2), delivered=True)
    probe = AppendEntries(Term(3), Index(8), Term(3), (), Index(5))
    assert replica.settle() == [(2, probe)]
    replica.step(
        2, AppendEntriesReply(Term(3), False, Index(0), Index(7), Index(8), Index(7), Term(2))
    )
    [(target, message)] = replica.settle()
    assert target == 2
    assert isinstance(message, AppendEntries)
    assert message.prev_index == 7


def test_the_answer_to_a_snapshot_ends_the_waiting_even_without_a_report() -> None:
    replica = lagging_leader()
    replica.settle()
    replica.step(2, accepted(3, 7, 7))
    [(target, message)] = replica.settle()
    assert target == 2
    assert isinstance(message, AppendEntries)
    assert (message.prev_index, len(message.entries)) == (7, 1)
    replica.core.report_snapshot(ReplicaId(2), delivered=True)
    assert not replica.core.has_ready()


def test_a_failed_snapshot_is_tried_again_with_the_next_retry() -> None:
    replica = lagging_leader()
    replica.settle()
    replica.core.report_snapshot(ReplicaId(2), delivered=False)
    assert not replica.core.has_ready()
    assert replica.core.needs_tick
    replica.ticks(RaftConfig().retry_ticks)
    assert replica.take().snapshot_targets == (2,)


def test_reports_about_strangers_and_to_followers_are_ignored() -> None:
    replica = leader_of(voters(3))
    replica.core.report_snapshot(ReplicaId(9), delivered=True)
    follower = Replica()
    follower.core.report_snapshot(ReplicaId(2), delivered=False)
    assert not replica.core.has_ready()
    assert not follower.core.has_ready()
