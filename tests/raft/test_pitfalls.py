"""What broke other implementations, replayed on real cores (the traps that reach into the core)."""

from multiraft.config import RaftConfig
from multiraft.ids import Index, ReplicaId, Term
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    InstallSnapshot,
    ReadIndex,
    ReadIndexReply,
)
from multiraft.raft.progress import ProgressState
from tests.support.raft_cluster import Cluster
from tests.support.raft_disk import disk_with, empty_disk, entry
from tests.support.raft_replica import Replica, accepted, joint, leader_of, voters


def append(prev: tuple[int, int], *entries: tuple[int, int], commit: int = 0) -> AppendEntries:
    prev_index, prev_term = prev
    return AppendEntries(
        Term(5),
        Index(prev_index),
        Term(prev_term),
        tuple(entry(term, index) for term, index in entries),
        Index(commit),
    )


# --- T6: an old or duplicated append removes entries ---


def test_t6_a_duplicated_append_removes_nothing() -> None:
    replica = Replica(disk_with(voters(3), term=5), replica_id=2)
    replica.step(1, append((0, 0), (5, 1), (5, 2), (5, 3)))
    replica.settle()
    replica.step(1, append((0, 0), (5, 1)))
    replica.step(1, append((1, 5), (5, 2)))
    assert replica.settle() == [(1, accepted(5, 3))]
    assert replica.disk.last_index() == 3


def test_t6_an_append_that_begins_below_the_truncation_is_taken_from_there() -> None:
    disk = disk_with(voters(3), (5, 5), truncated=(10, 4), term=5)
    replica = Replica(disk, replica_id=2)
    replica.step(1, append((8, 4), (4, 9), (4, 10), (5, 11), (5, 12), (5, 13)))
    assert replica.settle() == [(1, accepted(5, 13, 10))]
    assert [each.term for each in replica.disk.written.entries] == [5, 5, 5]


def test_t6_an_append_wholly_below_the_commit_index_is_answered_with_it() -> None:
    disk = disk_with(voters(3), (5, 5), truncated=(10, 4), term=5, commit_index=12)
    replica = Replica(disk, replica_id=2)
    replica.step(1, append((3, 2), (2, 4)))
    assert (1, accepted(5, 12, 12)) in replica.settle()
    assert replica.disk.last_index() == 12


# --- T7: a commit index beyond what the message vouches for ---


def test_t7_an_empty_append_commits_no_further_than_its_previous_entry() -> None:
    replica = Replica(disk_with(voters(3), (1, 1, 2, 2)), replica_id=2)
    replica.step(1, append((2, 1), commit=4))
    assert replica.core.commit_index == 2, "entries 3 and 4 may differ from the leader's"


def test_t7_what_was_verified_in_another_term_does_not_count() -> None:
    replica = Replica(disk_with(voters(3), (1,)), replica_id=2)
    replica.step(1, append((1, 1), (5, 2), (5, 3)))
    replica.settle()
    newer = AppendEntries(Term(6), Index(1), Term(1), (), Index(3))
    replica.step(3, newer)
    assert replica.core.commit_index == 1


# --- T8: reads before the leader has committed in its term ---


def test_t8_a_new_leader_answers_no_read_until_its_noop_is_committed() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster.settle()
    cluster.withdraw(1, 2, 3)
    cluster.settle()
    cluster.holding.append("2>1")
    cluster.holding.append("2>3 AppendEntries")
    cluster.elect(2)
    assert not cluster[2].core.read_index(1)
    assert cluster[2].core.lease_until() == 0
    cluster.holding.clear()
    cluster.settle()
    assert cluster[2].core.read_index(1)


# --- T9: one context in several attempts ---


def test_t9_an_answer_to_an_earlier_attempt_confirms_no_later_one() -> None:
    """The leader pauses; the answer to its first attempt arrives when another leads."""
    replica = leader_of(voters(3))
    replica.core.read_index(1)
    replica.settle()
    replica.core.read_index(2)
    sent = [message for _, message in replica.settle()]
    assert sent == [ReadIndex(Term(1), 2)] * 2
    replica.step(2, ReadIndexReply(Term(1), 1))
    assert [read.context for read in replica.take().reads] == [1]


# --- T17: the configuration from the wrong place ---


def test_t17_the_configuration_survives_truncation_snapshot_and_restart_in_any_order() -> None:
    cluster = Cluster(voters(3), {4: empty_disk()})
    cluster.elect(1)
    with_learner = voters(3, learners=(4,))
    cluster.isolate(3)
    cluster.change(1, with_learner)
    cluster.settle()
    for number in (1, 2, 4):
        node = cluster[number]
        node.disk.truncate(node.core.applied_index)
        node.disk.sync()
        node.crash()
        node.restart()
        assert node.core.configuration == with_learner
    cluster.heal()
    cluster.elect(2)
    cluster.settle()
    assert cluster[3].core.configuration == with_learner
    cluster[3].crash()
    cluster[3].restart()
    assert cluster[3].core.configuration == with_learner


# --- T18: a change before an entry of the own term is committed ---


def test_t18_a_new_leader_does_not_change_the_configuration_at_once() -> None:
    cluster = Cluster(voters(4))
    cluster.holding.append("AppendEntriesReply")
    cluster.elect(1)
    core = cluster[1].core
    assert core.propose_configuration(b"", core.term, joint((1, 2, 3), (1, 2, 3, 4))) == 0


# --- T19: a gap between snapshot and log, two snapshots in a short time ---


def test_t19_an_append_behind_a_gap_after_a_snapshot_is_refused() -> None:
    replica = Replica(empty_disk(), replica_id=4)
    replica.step(1, InstallSnapshot(Term(5), Index(9), Term(4), voters(3)))
    replica.step(1, append((11, 5), (5, 12)))
    ready = replica.take()
    assert ready.entries == ()
    [refusal] = [sent.message for sent in ready.messages_after_sync if sent.target == 1][:1]
    assert isinstance(refusal, AppendEntriesReply)
    assert (refusal.accepted, refusal.hint_index) == (False, 9)


def test_t19_two_snapshots_before_the_first_is_written_leave_the_newer() -> None:
    replica = Replica(empty_disk(), replica_id=4)
    for index in (9, 12, 9):
        replica.step(1, InstallSnapshot(Term(5), Index(index), Term(4), voters(3)))
    ready = replica.take()
    assert ready.snapshot is not None
    assert ready.snapshot.index == 12
    replica.step(1, append((12, 4), (5, 13)))
    assert replica.take().entries == (entry(5, 13),)


# --- T22: a follower's stream stalls for ever ---


def tiny_cluster() -> Cluster:
    config = RaftConfig(
        append_bytes_max=1, inflight_bytes_max=2, inflight_messages_max=2, retry_ticks=1
    )
    cluster = Cluster(voters(3), config=config)
    cluster.elect(1)
    return cluster


def recover(cluster: Cluster, member: int) -> None:
    """Within a bounded number of ticks `member` has everything."""
    for _ in range(40):
        cluster.tick(1)
        cluster.settle()
    assert cluster[member].disk.written.machine == cluster[1].disk.written.machine
    assert not cluster[1].core.needs_tick


def test_t22_a_full_window_whose_messages_were_all_lost_opens_again() -> None:
    cluster = tiny_cluster()
    cluster.isolate(3)
    for text in "abcdef":
        cluster.propose(1, text)
        cluster.settle()
    cluster.heal()
    recover(cluster, 3)


def test_t22_a_window_full_of_lost_commit_indexes_opens_again() -> None:
    cluster = tiny_cluster()
    for text in "abcdef":
        cluster.propose(1, text)
        cluster.settle()
        cluster.holding.append("3>1")
    cluster.take("3>1")
    cluster.holding.clear()
    recover(cluster, 3)


def test_t22_a_lost_probe_is_sent_again() -> None:
    cluster = tiny_cluster()
    cluster[1].core.report_unreachable(ReplicaId(3))
    cluster.propose(1, "a")
    cluster.isolate(3)
    cluster.settle()
    cluster.tick(1, 2)
    cluster.settle()
    cluster.heal()
    recover(cluster, 3)


def test_t22_a_snapshot_that_fails_again_and_again_ends_in_success() -> None:
    cluster = tiny_cluster()
    cluster.isolate(3)
    for text in "abc":
        cluster.propose(1, text)
    cluster.settle()
    cluster[1].disk.truncate(cluster[1].core.applied_index)
    cluster[1].core.log.trim(cluster[1].core.applied_index, cluster[1].core.applied_index)
    for _ in range(5):
        cluster.tick(1)
        cluster.settle()
    leadership = cluster[1].core.leadership
    assert leadership is not None
    assert leadership.progress[ReplicaId(3)].state is not ProgressState.REPLICATE
    cluster.heal()
    recover(cluster, 3)
