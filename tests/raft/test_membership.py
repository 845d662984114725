import pytest

from multiraft.config import RaftConfig
from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft import membership
from multiraft.raft.membership import Refusal
from multiraft.raft.messages import (
    AppendEntries,
    Configuration,
    Fortify,
    FortifyReply,
)
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from tests.support.raft_disk import disk_with, entry, pack_configuration
from tests.support.raft_replica import (
    Replica,
    accepted,
    configuration_entry,
    confirm,
    elect,
    envelopes,
    joint,
    leader_of,
    voters,
)

WITH_LEARNER = voters(3, learners=(4,))
ENTERING = Configuration(
    voters=(ReplicaId(1), ReplicaId(2), ReplicaId(4)),
    outgoing=(ReplicaId(1), ReplicaId(2), ReplicaId(3)),
)
LEFT = Configuration((ReplicaId(1), ReplicaId(2), ReplicaId(4)), (), (ReplicaId(3),))


def propose(replica: Replica, new: Configuration) -> Index:
    term = replica.core.term
    return replica.core.propose_configuration(pack_configuration(new), term, new)


def change(replica: Replica, new: Configuration, *members: int) -> None:
    """Propose `new`, and let `members` confirm until it is applied."""
    assert propose(replica, new)
    replica.settle()
    confirm(replica, *members)
    assert replica.core.configuration == new


@pytest.mark.parametrize(
    ("present", "new"),
    [
        (voters(3), WITH_LEARNER),
        (WITH_LEARNER, voters(3)),
        (WITH_LEARNER, ENTERING),
        (ENTERING, LEFT),
        (voters(3), joint((1, 2), (1, 2, 3))),
        (
            joint((1, 2), (1, 2, 3)),
            Configuration((ReplicaId(1), ReplicaId(2)), (), (ReplicaId(3),)),
        ),
    ],
    ids=str,
)
def test_one_step_leads_there(present: Configuration, new: Configuration) -> None:
    assert membership.is_step(present, new)


@pytest.mark.parametrize(
    ("present", "new", "why"),
    [
        (voters(3), voters(2), "voters change only through a joint configuration"),
        (voters(3), joint((1, 2, 4), (1, 2, 3)), "a new voter was a learner before"),
        (WITH_LEARNER, joint((1, 2, 4), (1, 2)), "the old half is the present one"),
        (ENTERING, Configuration(ENTERING.voters), "who leaves is demoted first"),
        (ENTERING, Configuration(voters(3).voters, (), (ReplicaId(4),)), "there is no way back"),
        (ENTERING, joint((1, 2), (1, 2, 4)), "a joint configuration is left before the next"),
        (voters(3), Configuration((), voters(3).voters), "somebody must vote"),
        (voters(3), voters(3, learners=(3,)), "a voter is no learner"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_one_step_does_not_lead_there(present: Configuration, new: Configuration, why: str) -> None:
    assert not membership.is_step(present, new), why


def test_leaving_demotes_those_who_go() -> None:
    assert membership.leaving(ENTERING) == LEFT


def test_a_change_is_an_entry_of_its_own_kind() -> None:
    replica = leader_of(voters(3))
    assert propose(replica, WITH_LEARNER) == 2
    changed = configuration_entry(1, 2, pack_configuration(WITH_LEARNER))
    append = AppendEntries(Term(1), Index(1), Term(1), (changed,), Index(1))
    assert replica.take() == Ready(
        entries=(changed,), messages=envelopes(1, (2, append), (3, append)), must_sync=True
    )
    assert replica.core.configuration == voters(3), "in force when applied"


def test_an_applied_learner_is_fortified_and_probed() -> None:
    replica = leader_of(voters(3))
    propose(replica, WITH_LEARNER)
    replica.settle()
    replica.step(2, accepted(1, 2, 1))
    sent = replica.settle()
    assert (4, Fortify(Term(1), Epoch(1))) in sent
    assert (4, AppendEntries(Term(1), Index(2), Term(1), (), Index(2))) in sent
    assert replica.core.configuration == WITH_LEARNER


def test_the_next_change_is_refused_until_the_former_is_applied() -> None:
    replica = leader_of(voters(3))
    propose(replica, WITH_LEARNER)
    assert propose(replica, voters(3, learners=(5,))) == 0
    assert replica.core.refusal is Refusal.CHANGE_PENDING
    assert replica.core.last_index == 2, "refused, not replaced by something else"


def test_a_new_leader_changes_nothing_before_its_own_entry_is_applied() -> None:
    replica = Replica(disk_with(voters(3), (1,)))
    elect(replica)
    replica.settle()
    assert replica.core.configuration_refusal(WITH_LEARNER) is Refusal.CHANGE_PENDING
    confirm(replica, 2)
    assert replica.core.configuration_refusal(WITH_LEARNER) is None


def test_only_a_leader_that_is_not_handing_over_changes_anything() -> None:
    assert Replica().core.configuration_refusal(WITH_LEARNER) is Refusal.NOT_LEADER
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    replica.settle()
    assert replica.core.transfer(ReplicaId(2), replica.core.lease_until())
    assert propose(replica, WITH_LEARNER) == 0
    assert replica.core.refusal is Refusal.TRANSFERRING


def test_an_impossible_step_is_refused() -> None:
    replica = leader_of(voters(3))
    assert propose(replica, voters(2)) == 0
    assert replica.core.refusal is Refusal.NOT_A_STEP


def test_a_new_voter_must_be_fortified_first() -> None:
    replica = leader_of(WITH_LEARNER)
    replica.support.received[4] = (2, 1_000)
    assert propose(replica, ENTERING) == 0
    assert replica.core.refusal is Refusal.NOT_FORTIFIED
    replica.step(4, FortifyReply(Term(1), Epoch(2)))
    assert propose(replica, ENTERING)


def test_a_joint_configuration_needs_both_halves_to_commit() -> None:
    replica = leader_of(WITH_LEARNER)
    change(replica, ENTERING, 2, 3)
    replica.core.propose(b"a", Term(1))
    replica.settle()
    replica.step(3, accepted(1, 3, 2))
    assert replica.core.commit_index == 2, "the old half alone"
    replica.step(4, accepted(1, 3, 2))
    assert replica.core.commit_index == 3


def test_the_leader_wants_to_leave_once_the_joint_configuration_is_applied() -> None:
    replica = leader_of(WITH_LEARNER)
    propose(replica, ENTERING)
    assert not replica.core.wants_to_leave_joint
    replica.settle()
    confirm(replica, 2, 3, 4)
    assert replica.core.wants_to_leave_joint
    change(replica, LEFT, 2, 4)
    assert not replica.core.wants_to_leave_joint


def test_a_leader_that_votes_no_more_steps_down_and_releases() -> None:
    replica = leader_of(voters(3))
    without_me = joint((2, 3), (1, 2, 3))
    change(replica, without_me, 2, 3)
    assert propose(replica, membership.leaving(without_me))
    replica.settle()
    confirm_index = replica.core.last_index
    replica.step(2, accepted(1, confirm_index, 2))
    replica.step(3, accepted(1, confirm_index, 2))
    replica.settle()
    assert replica.has_role(Role.FOLLOWER)
    assert replica.core.releasing is not None
    assert not replica.core.campaign()


def test_promises_of_a_removed_member_are_dropped() -> None:
    replica = leader_of(WITH_LEARNER)
    change(replica, voters(3), 2, 3)
    replica.step(4, FortifyReply(Term(1), Epoch(7)))
    assert replica.core.leadership is not None
    assert 4 not in replica.core.leadership.progress


def test_unapplied_changes_are_found_wherever_they_lie() -> None:
    disk = disk_with(voters(3), (1, 1), commit_index=2)
    disk.written.entries[1] = configuration_entry(1, 2, pack_configuration(WITH_LEARNER))
    replica = Replica(disk, config=RaftConfig(committed_bytes_max=1))
    assert membership.has_unapplied_configuration(replica.core)
    replica.take()
    assert membership.has_unapplied_configuration(replica.core), "only the first is applied"
    replica.take()
    assert not membership.has_unapplied_configuration(replica.core)
    assert replica.core.configuration == WITH_LEARNER


def test_a_configuration_applies_in_order() -> None:
    replica = Replica(disk_with(voters(3), (1,), commit_index=1, applied_index=1))
    with pytest.raises(AssertionError, match="in order"):
        replica.core.apply_configuration(WITH_LEARNER, Index(1))


def test_commands_are_no_changes() -> None:
    replica = Replica(disk_with(voters(3), (1,), commit_index=1))
    assert not membership.has_unapplied_configuration(replica.core)
    assert replica.take().committed == (entry(1, 1),)
