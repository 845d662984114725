import pytest

from multiraft.ids import Index, Term
from multiraft.raft.messages import AppendEntriesReply, ReadIndex, ReadIndexReply
from multiraft.raft.ready import ReadState, Ready
from tests.support.raft_disk import disk_with
from tests.support.raft_replica import Replica, elect, envelopes, leader_of, voters


def test_a_read_is_confirmed_by_a_quorum() -> None:
    replica = leader_of(voters(3))
    assert replica.core.read_index(7)
    asked = ReadIndex(Term(1), 7)
    assert replica.take() == Ready(messages=envelopes(1, (2, asked), (3, asked)))
    replica.step(3, ReadIndexReply(Term(1), 7))
    assert replica.take() == Ready(reads=(ReadState(7, Index(1)),))


def test_a_single_voter_confirms_itself() -> None:
    replica = leader_of(voters(1))
    replica.core.read_index(1)
    assert replica.take().reads == (ReadState(1, Index(1)),)


def test_a_later_round_confirms_the_attempts_before_it_and_not_those_after() -> None:
    replica = leader_of(voters(3))
    for context in (1, 2, 3):
        replica.core.read_index(context)
    replica.settle()
    replica.step(2, ReadIndexReply(Term(1), 2))
    assert replica.take().reads == (ReadState(1, Index(1)), ReadState(2, Index(1)))
    replica.step(2, ReadIndexReply(Term(1), 2))
    assert replica.take().reads == ()


def test_every_attempt_has_a_context_of_its_own() -> None:
    replica = leader_of(voters(3))
    replica.core.read_index(4)
    with pytest.raises(AssertionError, match="context"):
        replica.core.read_index(4)


def test_only_a_leader_that_committed_in_its_term_can_tell() -> None:
    assert not Replica().core.read_index(1)
    replica = Replica(disk_with(voters(3), (1,), commit_index=1))
    elect(replica)
    replica.settle()
    assert not replica.core.read_index(1)


def test_a_follower_answers_and_learns_its_leader() -> None:
    replica = Replica(disk_with(voters(3), term=1), replica_id=2)
    replica.step(1, ReadIndex(Term(1), 5))
    assert replica.settle() == [(1, ReadIndexReply(Term(1), 5))]
    assert replica.core.leader == 1


def test_a_follower_of_a_newer_term_deposes_instead() -> None:
    replica = Replica(disk_with(voters(3), term=4), replica_id=2)
    replica.step(1, ReadIndex(Term(1), 5))
    assert replica.settle() == [(1, AppendEntriesReply(Term(4), False, Index(0), Index(0)))]


def test_a_deposed_leader_forgets_its_reads() -> None:
    replica = leader_of(voters(3))
    replica.core.read_index(1)
    replica.settle()
    replica.core.step_down()
    replica.settle()
    replica.step(2, ReadIndexReply(Term(1), 1))
    assert not replica.core.has_ready()
