from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Fortify,
    FortifyReply,
    PreVote,
    PreVoteReply,
    Release,
    ReleaseFortification,
    ReleaseReply,
    RequestVote,
    StillLeading,
)
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from tests.support.raft_disk import disk_with
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

CLOCK = Timestamp(700)


def release(leader: int, term: int, epoch: int = 0, clock: int = CLOCK) -> Release:
    return Release(ReplicaId(leader), Term(term), Epoch(epoch), Timestamp(clock))


def released(sender_term: int, proof: Release) -> ReleaseFortification:
    return ReleaseFortification(Term(sender_term), proof)


def fortified_to_one() -> Replica:
    """Return replica 2, fortified to leader 1 of term 3 at epoch 1."""
    replica = Replica(disk_with(voters(3), term=3), replica_id=2)
    replica.step(1, Fortify(Term(3), Epoch(1)))
    replica.settle()
    return replica


# --- The follower ---


def test_a_follower_fortifies_and_says_so_after_the_sync() -> None:
    replica = Replica(disk_with(voters(3), term=3), replica_id=2)
    replica.support.given[1] = Epoch(7)
    replica.step(1, Fortify(Term(3), Epoch(7)))
    assert replica.take() == Ready(
        hard_state=hard_state(3, fortified=(1, 3, 7)),
        messages_after_sync=envelopes(2, (1, FortifyReply(Term(3), Epoch(7)))),
        must_sync=True,
    )
    assert not replica.core.needs_tick


def test_a_follower_whose_store_does_not_support_the_leaders_refuses() -> None:
    replica = Replica(disk_with(voters(3), term=3), replica_id=2)
    replica.support.lose(1)
    replica.step(1, Fortify(Term(3), Epoch(1)))
    assert replica.take() == Ready(messages=envelopes(2, (1, FortifyReply(Term(3), NO_EPOCH))))
    assert replica.core.needs_tick


def test_a_fortify_of_a_leader_that_has_restarted_since_is_refused() -> None:
    """Its store is supported again, at a new epoch; the message names the old one."""
    replica = Replica(disk_with(voters(3), term=3), replica_id=2)
    replica.support.given[1] = Epoch(2)
    replica.step(1, Fortify(Term(3), Epoch(1)))
    assert replica.settle() == [(1, FortifyReply(Term(3), NO_EPOCH))]
    assert replica.core.fortified_leader == 0


def test_a_leader_asks_only_where_it_has_support() -> None:
    replica = Replica()
    replica.support.received[3] = (0, 0)
    elect(replica)
    asked = [target for target, message in replica.settle() if isinstance(message, Fortify)]
    assert asked == [2]


def test_a_fortified_follower_neither_campaigns_nor_votes_nor_pre_votes() -> None:
    replica = fortified_to_one()
    replica.ticks(100)
    assert not replica.core.campaign()
    replica.step(3, PreVote(Term(9), Index(9), Term(9)))
    assert replica.settle() == [(3, PreVoteReply(Term(3), False))]
    replica.step(3, RequestVote(Term(9), Index(9), Term(9)))
    assert not replica.core.has_ready()
    assert replica.core.term == 3


def test_a_bound_follower_whose_term_went_up_does_not_vote_in_it_either() -> None:
    replica = fortified_to_one()
    replica.step(3, FortifyReply(Term(4), NO_EPOCH))
    replica.step(3, RequestVote(Term(4), Index(9), Term(9)))
    assert replica.core.vote == 0


def test_withdrawn_support_ends_it_and_an_election_comes_soon() -> None:
    replica = fortified_to_one()
    replica.support.given[1] = NO_EPOCH
    assert replica.core.needs_tick
    replica.core.support_changed()
    replica.ticks(1)
    assert replica.has_role(Role.PRE_CANDIDATE)


def test_support_at_a_new_epoch_does_not_revive_it() -> None:
    replica = fortified_to_one()
    replica.support.given[1] = Epoch(2)
    replica.step(3, RequestVote(Term(9), Index(9), Term(9)))
    assert replica.core.vote == 3


def test_a_leader_of_a_higher_term_ends_an_older_fortification() -> None:
    replica = fortified_to_one()
    replica.step(3, AppendEntries(Term(4), Index(0), Term(0), (), Index(0)))
    assert replica.take().hard_state == hard_state(4)
    replica.step(3, Fortify(Term(4), Epoch(1)))
    assert replica.take().hard_state == hard_state(4, fortified=(3, 4, 1))


def test_a_higher_term_alone_ends_nothing() -> None:
    replica = fortified_to_one()
    replica.step(3, FortifyReply(Term(4), NO_EPOCH))
    assert replica.take().hard_state == hard_state(4, fortified=(1, 3, 1))
    assert not replica.core.campaign()


def test_a_release_takes_the_clock_in_frees_and_is_confirmed_after_the_sync() -> None:
    replica = fortified_to_one()
    replica.step(1, released(3, release(1, 3)))
    assert replica.clocks == [CLOCK]
    assert replica.take() == Ready(
        hard_state=hard_state(3),
        messages_after_sync=envelopes(2, (1, ReleaseReply(Term(3), Term(3)))),
        must_sync=True,
    )
    assert replica.core.leader == 0
    assert replica.core.needs_tick


def test_a_release_of_something_else_is_confirmed_but_frees_nothing() -> None:
    for other in (release(3, 3), release(3, 2), release(1, 2), release(1, 3, epoch=9)):
        replica = fortified_to_one()
        replica.step(1, released(3, other))
        assert replica.core.fortified_leader == 1
        assert replica.settle() == [(1, ReleaseReply(Term(3), other.term))]


def test_a_release_by_a_later_leader_frees_from_an_older_one() -> None:
    """The later one led: its electors had denied the older a quorum, and its clock is higher."""
    replica = fortified_to_one()
    replica.step(3, released(4, release(3, 4)))
    assert replica.core.fortified_leader == 0


def test_a_fortify_that_comes_after_the_release_of_its_term_is_refused() -> None:
    replica = Replica(disk_with(voters(3), term=3), replica_id=2)
    replica.step(1, released(3, release(1, 3)))
    replica.step(1, Fortify(Term(3), Epoch(1)))
    assert (1, FortifyReply(Term(3), NO_EPOCH)) in replica.settle()
    assert replica.core.fortified_leader == 0


def test_a_release_of_an_older_term_still_frees() -> None:
    replica = Replica(disk_with(voters(3), term=5, fortified=(1, 3, 1)), replica_id=2)
    replica.step(1, released(3, release(1, 3)))
    assert replica.core.fortified_leader == 0
    assert replica.settle() == [(1, ReleaseReply(Term(5), Term(3)))]


def test_a_bound_follower_may_ask_whether_its_leader_still_leads() -> None:
    replica = fortified_to_one()
    assert replica.core.ask_still_leading()
    assert replica.settle() == [(1, StillLeading(Term(3)))]
    assert not Replica().core.ask_still_leading()


# --- The leader ---


def test_the_lease_is_what_a_quorum_promises() -> None:
    replica = leader_of(voters(3))
    assert replica.core.lease_until() == LEASE
    replica.support.received = {1: (1, 300), 2: (1, 900), 3: (1, 600)}
    assert replica.core.lease_until() == 600


def test_support_at_another_epoch_than_the_fortified_one_does_not_count() -> None:
    replica = leader_of(voters(3))
    replica.support.received = {2: (2, 9_000), 3: (1, 400)}
    assert replica.core.lease_until() == 400
    replica.support.received = {2: (2, 9_000), 3: (2, 9_000)}
    assert replica.core.lease_until() == 0


def test_there_is_no_lease_before_an_own_entry_is_applied() -> None:
    replica = Replica(disk_with(voters(3)))
    elect(replica)
    replica.settle()
    replica.step(2, FortifyReply(Term(1), Epoch(1)))
    assert replica.core.lease_until() == 0
    confirm(replica, 2)
    assert replica.core.lease_until() == LEASE
    assert Replica().core.lease_until() == 0


def test_the_leaders_own_promise_counts_after_its_sync() -> None:
    replica = Replica(disk_with(voters(1)))
    replica.core.campaign()
    replica.take()
    replica.sync()
    replica.take()
    assert replica.core.leadership is not None
    assert replica.core.leadership.progress[ReplicaId(1)].fortified_epoch == NO_EPOCH
    replica.sync()
    assert replica.core.leadership.progress[ReplicaId(1)].fortified_epoch == 1


def test_every_input_of_the_lease_changes_its_version() -> None:
    replica = Replica(disk_with(voters(3)))
    versions = [replica.core.lease_version]
    elect(replica)
    versions.append(replica.core.lease_version)
    replica.step(2, FortifyReply(Term(1), Epoch(1)))
    versions.append(replica.core.lease_version)
    replica.settle()
    confirm(replica, 2)
    versions.append(replica.core.lease_version)
    replica.core.transfer(ReplicaId(3), CLOCK)
    versions.append(replica.core.lease_version)
    replica.core.step_down()
    versions.append(replica.core.lease_version)
    assert sorted(set(versions)) == versions


def test_support_from_a_member_at_a_new_epoch_is_asked_for_again() -> None:
    replica = leader_of(voters(3))
    replica.support.received[2] = (2, LEASE)
    assert replica.core.needs_tick
    replica.core.support_changed()
    assert (2, Fortify(Term(1), Epoch(2))) in replica.settle()
    replica.step(2, FortifyReply(Term(1), Epoch(2)))
    assert not replica.core.needs_tick


def test_a_lost_fortify_is_repeated() -> None:
    replica = leader_of(voters(3))
    replica.support.received[2] = (2, LEASE)
    replica.core.support_changed()
    replica.settle()
    replica.ticks(replica.config.retry_ticks)
    assert (2, Fortify(Term(1), Epoch(2))) in replica.settle()


def test_a_leader_renews_its_own_fortification_too() -> None:
    replica = leader_of(voters(3))
    replica.support.given[1] = Epoch(2)
    replica.support.received[1] = (2, LEASE)
    replica.core.support_changed()
    assert replica.take().hard_state == hard_state(1, vote=1, commit=1, fortified=(1, 1, 2))


def test_a_stepping_down_leader_releases_until_each_has_confirmed() -> None:
    replica = leader_of(voters(3))
    replica.core.step_down(CLOCK)
    message = released(1, release(1, 1))
    assert replica.take() == Ready(
        hard_state=hard_state(1, vote=1, commit=1),
        messages=envelopes(1, (2, message), (3, message)),
        must_sync=True,
    )
    replica.step(2, ReleaseReply(Term(1), Term(1)))
    replica.ticks(replica.config.retry_ticks)
    assert (3, message) in replica.settle()
    replica.step(3, ReleaseReply(Term(1), Term(1)))
    assert replica.core.releasing is None


def test_a_deposed_leader_releases_its_term() -> None:
    replica = leader_of(voters(3))
    replica.step(2, AppendEntriesReply(Term(4), False, Index(0), Index(0)))
    message = released(4, release(1, 1, clock=0))
    sent = replica.settle()
    assert (2, message) in sent
    assert (3, message) in sent


def test_releases_rest_while_a_later_leader_is_served_and_are_owed_again_after_it() -> None:
    """The later leader reaches the others itself, unless it dies before it has."""
    replica = leader_of(voters(3))
    replica.core.step_down(CLOCK)
    replica.step(3, Fortify(Term(2), Epoch(1)))
    replica.settle()
    assert not replica.core.needs_tick
    replica.ticks(10)
    assert not replica.core.has_ready()
    replica.support.given[3] = Epoch(2)
    replica.core.support_changed()
    assert replica.core.needs_tick
    replica.ticks(replica.config.retry_ticks)
    assert (2, released(2, release(1, 1))) in replica.settle()


def test_leading_again_ends_the_releasing() -> None:
    replica = leader_of(voters(3))
    replica.core.step_down(CLOCK)
    elect(replica)
    assert replica.core.releasing is None


def test_a_confirmation_of_another_term_does_not_count() -> None:
    replica = leader_of(voters(3))
    replica.core.step_down(CLOCK)
    replica.step(2, ReleaseReply(Term(1), Term(9)))
    assert replica.core.releasing is not None
    assert sorted(replica.core.releasing.pending) == [2, 3]


def test_releases_to_stores_that_are_gone_end_with_the_back_off_and_resume() -> None:
    replica = leader_of(voters(3, learners=(4,)))
    replica.support.lose(2, 3, 4)
    replica.core.step_down(CLOCK)
    replica.ticks(replica.config.retry_ticks * 16)
    replica.settle()
    assert replica.core.releasing is not None
    assert replica.core.releasing.retry_ticks == replica.config.retry_ticks * 8
    replica.core.support_changed()
    assert replica.core.releasing.retry_ticks == replica.config.retry_ticks


def test_who_still_leads_fortifies_anew_who_does_not_releases() -> None:
    replica = leader_of(voters(3))
    replica.step(2, StillLeading(Term(1)))
    assert replica.settle() == [(2, Fortify(Term(1), Epoch(1)))]
    replica.core.step_down(CLOCK)
    replica.settle()
    replica.step(2, StillLeading(Term(1)))
    assert replica.settle() == [(2, released(1, release(1, 1, clock=0)))]
    newer = Replica(disk_with(voters(3), term=5))
    newer.step(2, StillLeading(Term(3)))
    assert newer.settle() == [(2, released(5, release(1, 3, clock=0)))]


def test_a_candidate_does_not_deny_a_term_that_it_may_yet_lead() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(1), True))
    replica.settle()
    assert replica.has_role(Role.CANDIDATE)
    replica.step(2, StillLeading(Term(1)))
    assert not replica.core.has_ready()


def test_a_follower_binds_itself_only_to_a_member_of_its_configuration() -> None:
    # After a restart only its configuration would tell it on which store that replica is.
    replica = Replica(disk_with(voters(3)), replica_id=2)
    replica.step(7, Fortify(Term(1), Epoch(1)))
    assert replica.settle() == [(7, FortifyReply(Term(1), Epoch(0)))]
    assert replica.core.fortified_leader == 0


def test_a_member_that_learns_late_that_its_leader_is_one_is_asked_again_at_once() -> None:
    leader = leader_of(voters(2))
    leader.core.propose(b"x", leader.core.term)
    leader.settle()
    assert leader.core.leadership is not None
    leader.core.leadership.progress[ReplicaId(2)].fortified_epoch = Epoch(0)
    leader.step(2, accepted(1, 2, 1))
    assert (2, Fortify(Term(1), Epoch(1))) not in leader.settle(), "it does not know all yet"
    leader.step(2, accepted(1, 2, 2))
    assert (2, Fortify(Term(1), Epoch(1))) in leader.settle()
