import msgspec
import pytest

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.membership import Refusal
from multiraft.raft.messages import AppendEntries, AppendEntriesReply, Entry, Fortify
from multiraft.raft.progress import BACK_OFF_FACTOR_MAX, Progress, ProgressState
from multiraft.raft.ready import Ready
from tests.support.raft_disk import disk_with, entry, noop
from tests.support.raft_replica import (
    LEASE,
    Replica,
    accepted,
    confirm,
    elect,
    envelopes,
    hard_state,
    leader_of,
    voters,
)


def append(
    term: int, prev: tuple[int, int], entries: tuple[Entry, ...] = (), commit: int = 0
) -> AppendEntries:
    prev_index, prev_term = prev
    return AppendEntries(Term(term), Index(prev_index), Term(prev_term), entries, Index(commit))


def refused(term: int, rejected: int, hint: tuple[int, int], commit: int = 0) -> AppendEntriesReply:
    hint_index, hint_term = hint
    return AppendEntriesReply(
        Term(term),
        False,
        Index(0),
        Index(commit),
        Index(rejected),
        Index(hint_index),
        Term(hint_term),
    )


def progress_of(replica: Replica, member: int) -> Progress:
    assert replica.core.leadership is not None
    [progress] = [
        progress for each, progress in replica.core.leadership.progress.items() if each == member
    ]
    return progress


# --- The leader ---


def test_many_proposals_become_one_append_per_follower() -> None:
    replica = leader_of(voters(3))
    first = replica.core.propose(b"a", Term(1))
    second = replica.core.propose(b"b", Term(1))
    assert (first, second) == (2, 3)
    proposed = (entry(1, 2, b"a"), entry(1, 3, b"b"))
    message = append(1, (1, 1), proposed, commit=1)
    assert replica.take() == Ready(
        entries=proposed, messages=envelopes(1, (2, message), (3, message)), must_sync=True
    )


def test_an_entry_commits_with_the_leaders_own_sync_and_one_answer() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.take()
    replica.sync()
    assert replica.core.commit_index == 1
    replica.step(2, accepted(1, 2, 1))
    message = append(1, (2, 1), commit=2)
    assert replica.take() == Ready(
        hard_state=hard_state(1, vote=1, commit=2, fortified=(1, 1, 1)),
        messages=envelopes(1, (2, message), (3, message)),
        committed=(entry(1, 2, b"a"),),
    )


def test_two_durable_followers_commit_before_the_leaders_own_disk() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.take()
    replica.step(2, accepted(1, 2, 1))
    assert replica.core.commit_index == 1
    replica.step(3, accepted(1, 2, 1))
    assert replica.core.commit_index == 2


def test_a_proposal_is_refused_when_not_leading_that_term() -> None:
    replica = Replica(disk_with(voters(3), (4,)))
    assert replica.core.propose(b"a", Term(4)) == 0
    leader = leader_of(voters(3))
    assert leader.core.propose(b"a", Term(2)) == 0
    assert leader.core.refusal is Refusal.NOT_LEADER
    assert not leader.core.has_ready()


def test_too_many_uncommitted_bytes_are_refused_until_they_commit() -> None:
    replica = leader_of(voters(3), RaftConfig(uncommitted_bytes_max=10))
    assert replica.core.propose(b"x" * 20, Term(1)) == 2, "one is always taken"
    assert replica.core.propose(b"y", Term(1)) == 0
    assert replica.core.refusal is Refusal.OVERLOADED
    replica.settle()
    confirm(replica, 2)
    assert replica.core.propose(b"y", Term(1)) == 3


def test_appends_are_cut_to_size_and_wait_for_the_window() -> None:
    config = RaftConfig(append_bytes_max=2, inflight_messages_max=2)
    replica = leader_of(voters(3), config)
    for payload in (b"aa", b"bb", b"cc"):
        replica.core.propose(payload, Term(1))
    sent = [message for target, message in replica.settle() if target == 2]
    assert sent == [
        append(1, (1, 1), (entry(1, 2, b"aa"),), 1),
        append(1, (2, 1), (entry(1, 3, b"bb"),), 1),
    ]
    replica.step(2, accepted(1, 2, 1))
    sent = [message for target, message in replica.settle() if target == 2]
    assert sent == [append(1, (3, 1), (entry(1, 4, b"cc"),), 2)]


def test_a_refusal_moves_the_probe_over_whole_conflicting_terms() -> None:
    """The figure of 5.3: the follower has four entries of term 2 where the leader has term 4."""
    replica = Replica(disk_with(voters(3), (1, 1, 1, 4, 4, 5, 5)))
    elect(replica)
    replica.settle()
    replica.step(2, refused(6, rejected=7, hint=(7, 3)))
    assert progress_of(replica, 2).next_index == 4
    [(target, message)] = replica.settle()
    assert target == 2
    assert isinstance(message, AppendEntries)
    assert (message.prev_index, message.prev_term, len(message.entries)) == (3, 1, 4)


def test_a_late_refusal_is_ignored() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.step(2, accepted(1, 2, 1))
    replica.step(2, refused(1, rejected=1, hint=(0, 0)))
    assert progress_of(replica, 2).state is ProgressState.REPLICATE
    probing = Replica(disk_with(voters(3), (1, 1)))
    elect(probing)
    probing.step(2, refused(2, rejected=1, hint=(0, 0)))
    assert progress_of(probing, 2).next_index == 3


def test_a_lost_append_is_noticed_by_the_refusal_of_the_next() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.core.propose(b"b", Term(1))
    replica.settle()
    replica.step(2, refused(1, rejected=2, hint=(1, 1)))
    sent = [message for target, message in replica.settle() if target == 2]
    assert sent == [append(1, (1, 1), (entry(1, 2, b"a"), entry(1, 3, b"b")), 1)]


def test_an_answer_of_a_stranger_is_ignored() -> None:
    replica = leader_of(voters(3))
    replica.step(9, accepted(1, 1))
    assert not replica.core.has_ready()


def test_a_silent_follower_is_repeated_to_with_back_off() -> None:
    replica = leader_of(voters(3), RaftConfig(retry_ticks=2))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.step(3, accepted(1, 2, 1))
    replica.settle()
    again = []
    for tick in range(1, 15):
        replica.core.tick()
        if (2, append(1, (1, 1), (entry(1, 2, b"a"),), 2)) in replica.settle():
            again.append(tick)
    assert again == [2, 6, 14]


def test_the_leader_ticks_until_every_member_has_everything() -> None:
    replica = leader_of(voters(3))
    assert not replica.core.needs_tick
    replica.core.propose(b"a", Term(1))
    replica.settle()
    assert replica.core.needs_tick, "nobody has the entry"
    replica.step(2, accepted(1, 2, 1))
    replica.step(3, accepted(1, 2, 1))
    replica.settle()
    assert replica.core.needs_tick, "nobody has confirmed the commit index"
    replica.step(2, accepted(1, 2, 2))
    assert replica.core.needs_tick
    replica.step(3, accepted(1, 2, 2))
    assert not replica.core.needs_tick


def test_a_member_whose_store_is_gone_is_left_alone_after_some_retries() -> None:
    replica = leader_of(voters(3), RaftConfig(retry_ticks=1))
    replica.support.lose(3)
    replica.core.support_changed()
    replica.settle()
    replica.ticks(2 * BACK_OFF_FACTOR_MAX)
    replica.settle()
    assert not replica.core.needs_tick
    replica.support.received[3] = (2, LEASE)
    replica.core.support_changed()
    assert (3, Fortify(Term(1), Epoch(2))) in replica.settle()


def test_a_follower_that_restarted_is_told_the_commit_index_again() -> None:
    replica = leader_of(voters(3))
    replica.support.given[2] = Epoch(2)
    replica.core.support_changed()
    assert replica.settle() == [(2, append(1, (1, 1), commit=1))]
    replica.step(2, accepted(1, 1, 1))
    assert replica.core.needs_tick, "this answer is from before the restart"
    replica.step(2, msgspec.structs.replace(accepted(1, 1, 1), epoch=Epoch(2)))
    assert not replica.core.needs_tick


def test_an_unreachable_follower_is_probed() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.core.report_unreachable(ReplicaId(2))
    replica.core.propose(b"b", Term(1))
    assert [target for target, _ in replica.settle()] == [3]
    replica.ticks(replica.config.retry_ticks)
    assert (2, append(1, (1, 1), (entry(1, 2, b"a"), entry(1, 3, b"b")), 1)) in replica.settle()


# --- The follower ---


def test_a_follower_appends_and_answers_after_the_sync() -> None:
    replica = Replica(disk_with(voters(3), (1,), applied_index=1, commit_index=1), replica_id=2)
    replica.step(1, append(1, (1, 1), (entry(1, 2), entry(1, 3)), commit=2))
    ready = replica.take()
    assert ready == Ready(
        entries=(entry(1, 2), entry(1, 3)),
        hard_state=hard_state(1, commit=2),
        messages_after_sync=envelopes(2, (1, accepted(1, 3, 2))),
        committed=(entry(1, 2),),
        must_sync=True,
    )


def test_several_appends_of_one_turn_are_answered_at_once() -> None:
    replica = Replica(disk_with(voters(3), (1,)), replica_id=2)
    replica.step(1, append(1, (1, 1), (entry(1, 2),)))
    replica.step(1, append(1, (2, 1), (entry(1, 3),)))
    assert replica.settle() == [(1, accepted(1, 3))]


def test_a_commit_index_alone_costs_no_sync() -> None:
    replica = Replica(disk_with(voters(3), (1, 1)), replica_id=2)
    replica.step(1, append(1, (2, 1), commit=2))
    assert replica.take() == Ready(
        hard_state=hard_state(1, commit=2),
        messages=envelopes(2, (1, accepted(1, 2, 2))),
        committed=(entry(1, 1), entry(1, 2)),
    )


def test_what_is_not_durable_yet_is_not_vouched_for() -> None:
    replica = Replica(disk_with(voters(3), (1,)), replica_id=2)
    replica.step(1, append(1, (1, 1), (entry(1, 2),)))
    replica.take()
    replica.step(1, append(1, (2, 1), commit=1))
    ready = replica.take()
    assert ready.messages == ()
    assert ready.messages_after_sync == envelopes(2, (1, accepted(1, 2, 1)))
    assert ready.must_sync


@pytest.mark.parametrize(
    ("prev", "hint"), [((9, 5), (4, 3)), ((4, 4), (4, 3)), ((4, 2), (2, 2))], ids=str
)
def test_an_append_that_does_not_fit_is_refused_with_a_hint(
    prev: tuple[int, int], hint: tuple[int, int]
) -> None:
    replica = Replica(disk_with(voters(3), (1, 2, 3, 3)), replica_id=2)
    replica.step(1, append(6, prev))
    assert replica.settle() == [(1, refused(6, rejected=prev[0], hint=hint))]


def test_a_conflicting_suffix_is_replaced() -> None:
    replica = Replica(disk_with(voters(3), (1, 2, 2), commit_index=1), replica_id=2)
    replica.step(1, append(3, (1, 1), (entry(3, 2),)))
    ready = replica.take()
    assert ready.entries == (entry(3, 2),)
    assert ready.messages_after_sync == envelopes(2, (1, accepted(3, 2, 1)))
    assert replica.disk.last_index() == 2


def test_a_deposed_leader_is_told_the_newer_term() -> None:
    replica = Replica(disk_with(voters(3), (5,), commit_index=1), replica_id=2)
    replica.step(1, append(4, (1, 4)))
    assert replica.settle() == [(1, AppendEntriesReply(Term(5), False, Index(0), Index(1)))]


def test_the_term_of_a_new_leader_is_durable_before_anything_is_answered() -> None:
    replica = Replica(disk_with(voters(3), (1,)), replica_id=2)
    replica.step(1, append(2, (1, 1)))
    ready = replica.take()
    assert (ready.messages, ready.must_sync) == ((), True)
    assert ready.messages_after_sync == envelopes(2, (1, accepted(2, 1)))
    assert ready.hard_state == hard_state(2)


def test_the_leaders_first_append_is_a_probe_with_the_noop() -> None:
    replica = Replica(disk_with(voters(3), (1,)))
    elect(replica)
    probe = append(2, (1, 1), (noop(2, 2),))
    assert [message for target, message in replica.settle() if target == 2][-1] == probe
    replica.core.propose(b"a", Term(2))
    assert replica.settle() == [], "a probe waits for its answer"
