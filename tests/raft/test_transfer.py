from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.membership import leaving
from multiraft.raft.messages import (
    Release,
    ReleaseFortification,
    RequestVote,
    TimeoutNow,
)
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from tests.support.raft_disk import disk_with, pack_configuration
from tests.support.raft_replica import (
    Replica,
    accepted,
    confirm,
    envelopes,
    hard_state,
    joint,
    leader_of,
    voters,
)

CLOCK = Timestamp(700)
RELEASE = Release(ReplicaId(1), Term(1), NO_EPOCH, CLOCK)


def test_a_target_that_has_everything_is_told_to_campaign_at_once() -> None:
    replica = leader_of(voters(3))
    assert replica.core.transfer(ReplicaId(2), CLOCK)
    assert replica.has_role(Role.FOLLOWER)
    released = ReleaseFortification(Term(1), RELEASE)
    assert replica.take() == Ready(
        hard_state=hard_state(1, vote=1, commit=1),
        messages=envelopes(1, (2, TimeoutNow(Term(1), RELEASE)), (2, released), (3, released)),
        must_sync=True,
    )


def test_a_target_that_is_behind_is_brought_up_to_date_first() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    assert replica.core.transfer(ReplicaId(2), CLOCK)
    assert replica.core.is_transferring
    assert replica.core.needs_tick
    assert replica.core.lease_until() == 0
    assert replica.core.propose(b"b", Term(1)) == 0
    replica.step(3, accepted(1, 2, 1))
    assert replica.has_role(Role.LEADER)
    replica.step(2, accepted(1, 2, 1))
    assert (2, TimeoutNow(Term(1), RELEASE)) in replica.settle()
    assert replica.has_role(Role.FOLLOWER)


def test_a_transfer_that_does_not_get_anywhere_is_given_up_before_anything_left() -> None:
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.core.transfer(ReplicaId(2), CLOCK)
    replica.ticks(replica.config.election_timeout_ticks)
    assert not replica.core.is_transferring
    assert replica.core.propose(b"b", Term(1))
    assert replica.core.lease_until() > 0
    replica.settle()
    replica.step(2, accepted(1, 3, 1))
    assert replica.has_role(Role.LEADER)


def test_a_transfer_ends_when_its_target_votes_no_more() -> None:
    """The change was proposed before the transfer began, and is applied while it runs."""
    replica = leader_of(voters(3))
    joint_without_three = joint((1, 2), (1, 2, 3))
    core = replica.core
    payload = pack_configuration(joint_without_three)
    assert core.propose_configuration(payload, core.term, joint_without_three)
    replica.settle()
    confirm(replica, 2)
    left = leaving(joint_without_three)
    assert core.propose_configuration(pack_configuration(left), core.term, left)
    replica.settle()
    assert core.transfer(ReplicaId(3), CLOCK)
    confirm(replica, 2)
    assert core.configuration == left
    assert not core.is_transferring
    replica.step(3, accepted(1, core.last_index, core.commit_index))
    assert replica.has_role(Role.LEADER)


def test_a_transfer_that_makes_no_sense_changes_nothing() -> None:
    replica = leader_of(voters(3, learners=(4,)))
    for target in (1, 4, 9):
        assert not replica.core.transfer(ReplicaId(target), CLOCK)
    assert not Replica().core.transfer(ReplicaId(2), CLOCK)
    assert not replica.core.has_ready()
    replica.core.propose(b"a", Term(1))
    assert replica.core.transfer(ReplicaId(2), CLOCK)
    assert not replica.core.transfer(ReplicaId(3), CLOCK), "one at a time"


def test_the_target_asks_for_votes_without_a_pre_vote_and_shows_the_release() -> None:
    replica = Replica(disk_with(voters(3), (1,), fortified=(1, 1, 1)), replica_id=2)
    replica.step(1, TimeoutNow(Term(1), RELEASE))
    assert replica.clocks == [CLOCK]
    asked = RequestVote(Term(2), Index(1), Term(1), RELEASE)
    assert replica.take() == Ready(
        hard_state=hard_state(2, vote=2),
        messages_after_sync=envelopes(2, (1, asked), (3, asked)),
        must_sync=True,
    )


def test_a_later_attempt_of_the_target_shows_no_release() -> None:
    replica = Replica(disk_with(voters(3), (1,)), replica_id=2)
    replica.step(1, TimeoutNow(Term(1), RELEASE))
    replica.settle()
    assert replica.core.campaign()
    assert replica.core.release is None


def test_a_target_bound_to_a_later_leader_does_not_campaign() -> None:
    replica = Replica(disk_with(voters(3), (1,), term=5, fortified=(3, 5, 1)), replica_id=2)
    replica.step(1, TimeoutNow(Term(6), Release(ReplicaId(1), Term(4), Epoch(0), CLOCK)))
    assert replica.has_role(Role.FOLLOWER)


def test_an_old_timeout_now_is_ignored() -> None:
    replica = Replica(disk_with(voters(3), (5,)), replica_id=2)
    replica.step(1, TimeoutNow(Term(1), RELEASE))
    assert not replica.core.has_ready()


def test_the_old_leader_leaves_the_target_time() -> None:
    replica = leader_of(voters(3))
    replica.core.transfer(ReplicaId(2), CLOCK)
    replica.settle()
    replica.ticks(replica.config.election_timeout_ticks - 1)
    assert replica.has_role(Role.FOLLOWER)
    replica.ticks(1)
    assert replica.has_role(Role.PRE_CANDIDATE)
