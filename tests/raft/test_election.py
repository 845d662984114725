import pytest

from multiraft.config import RaftConfig
from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.messages import (
    AppendEntries,
    Fortify,
    FortifyReply,
    PreVote,
    PreVoteReply,
    Release,
    ReleaseFortification,
    RequestVote,
    RequestVoteReply,
    StillLeading,
)
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role
from tests.support.raft_disk import disk_with, noop
from tests.support.raft_replica import (
    Replica,
    confirm,
    elect,
    envelopes,
    hard_state,
    leader_of,
    voters,
)


def pre_vote(term: int, index: int = 0, last_term: int = 0) -> PreVote:
    return PreVote(Term(term), Index(index), Term(last_term))


def request_vote(term: int, index: int = 0, last_term: int = 0) -> RequestVote:
    return RequestVote(Term(term), Index(index), Term(last_term))


def test_a_follower_without_a_leader_asks_for_pre_votes_after_its_timeout() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    timeout = replica.config.election_timeout_ticks
    replica.ticks(timeout - 1)
    assert not replica.core.has_ready()
    replica.ticks(1)
    asked = pre_vote(3, 2, 2)
    assert replica.take() == Ready(messages=envelopes(1, (2, asked), (3, asked)))
    assert replica.has_role(Role.PRE_CANDIDATE)
    assert replica.core.term == 2


def test_a_held_follower_lets_no_time_pass_and_answers_others() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.hold_election()
    assert not replica.core.needs_tick
    assert replica.core.waits_for_election
    replica.ticks(3 * replica.config.election_timeout_ticks)
    assert not replica.core.has_ready()
    replica.step(2, pre_vote(3, 2, 2))
    assert replica.settle() == [(2, PreVoteReply(Term(3), True, Index(0), Term(0)))]
    assert not replica.core.election_urged


def test_who_is_resumed_campaigns_at_once() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.hold_election()
    assert replica.core.resume_election()
    asked = pre_vote(3, 2, 2)
    assert replica.settle() == [(2, asked), (3, asked)]
    assert replica.core.needs_tick


def test_who_is_resumed_without_a_quorum_of_stores_says_so_and_is_silent() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.hold_election()
    replica.support.lose(2, 3)
    assert not replica.core.resume_election()
    assert not replica.core.has_ready()


def test_who_is_resumed_leaves_a_leader_that_it_heard_alone() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.step(2, AppendEntries(Term(3), Index(2), Term(2), (), Index(0)))
    replica.settle()
    replica.core.hold_election()
    assert replica.core.resume_election()
    assert not replica.core.has_ready()
    assert replica.core.needs_tick, "until it fortifies that leader, or is tired of it"


def test_who_is_resumed_does_not_wait_for_a_leader_from_before_its_restart() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.step(2, Fortify(Term(3), Epoch(1)))
    replica.settle()
    replica.crash(survive=9)
    assert replica.core.leader == 2
    replica.support.given[2] = 2
    replica.core.hold_election()
    assert replica.core.resume_election()
    asked = pre_vote(4, 2, 2)
    assert replica.settle() == [(2, asked), (3, asked)]


def test_a_held_follower_is_urged_by_a_free_one_that_cannot_win() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.hold_election()
    replica.step(2, pre_vote(3, 1, 1))
    assert replica.core.election_urged
    replica.core.resume_election()
    assert not replica.core.election_urged


def test_a_pre_candidate_with_a_quorum_asks_for_votes_after_the_sync() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(3), True))
    asked = request_vote(3, 2, 2)
    assert replica.take() == Ready(
        hard_state=hard_state(3, vote=1),
        messages_after_sync=envelopes(1, (2, asked), (3, asked)),
        must_sync=True,
    )


def test_a_candidate_with_a_quorum_leads_and_appends_a_noop() -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(3), True))
    replica.settle()
    replica.step(3, RequestVoteReply(Term(3), True))
    append = AppendEntries(Term(3), Index(2), Term(2), (noop(3, 3),), Index(0))
    fortify = Fortify(Term(3), Epoch(1))
    assert replica.take() == Ready(
        entries=(noop(3, 3),),
        hard_state=hard_state(3, vote=1, fortified=(1, 3, 1)),
        messages=envelopes(1, (2, fortify), (3, fortify), (2, append), (3, append)),
        must_sync=True,
    )
    assert replica.has_role(Role.LEADER)
    assert replica.core.leader == 1


def test_a_single_voter_leads_only_once_its_own_vote_is_durable() -> None:
    replica = Replica(disk_with(voters(1)))
    replica.core.campaign()
    assert replica.take() == Ready(hard_state=hard_state(1, vote=1), must_sync=True)
    assert replica.has_role(Role.CANDIDATE)
    replica.sync()
    assert replica.has_role(Role.LEADER)
    replica.settle()
    assert replica.core.leads_and_applied_own_term
    assert not replica.core.needs_tick


def test_a_candidates_own_vote_does_not_count_before_its_sync() -> None:
    replica = Replica()
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(1), True))
    replica.take()
    replica.step(2, RequestVoteReply(Term(1), True))
    assert replica.has_role(Role.CANDIDATE)
    replica.sync()
    assert replica.has_role(Role.LEADER)


def test_a_vote_in_a_term_that_is_durable_waits_for_its_own_sync_all_the_same() -> None:
    replica = Replica(disk_with(voters(3), term=3))
    replica.step(2, request_vote(3))
    ready = replica.take()
    assert ready.messages == ()
    assert ready.messages_after_sync == envelopes(1, (2, RequestVoteReply(Term(3), True)))
    assert ready.must_sync


def test_a_voter_answers_a_pre_vote_without_changing_anything() -> None:
    replica = Replica(disk_with(voters(3), (2, 2), commit_index=1))
    replica.step(2, pre_vote(9, 2, 2))
    reply = PreVoteReply(Term(9), True, Index(1), Term(2))
    ready = replica.core.take_ready()
    assert ready.messages == envelopes(1, (2, reply))
    assert (ready.hard_state, ready.must_sync) == (None, False)
    assert replica.core.term == 2


@pytest.mark.parametrize(("term", "index", "last_term"), [(2, 9, 9), (3, 1, 2), (3, 9, 1)], ids=str)
def test_a_pre_vote_for_an_old_term_or_a_shorter_log_is_refused(
    term: int, index: int, last_term: int
) -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.step(2, pre_vote(term, index, last_term))
    assert replica.settle() == [(2, PreVoteReply(Term(2), False))]


def test_a_refused_pre_vote_of_a_newer_term_raises_the_term() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(7), False))
    assert (replica.core.term, replica.core.role) == (7, Role.FOLLOWER)


def test_a_granted_pre_vote_of_another_round_does_not_count() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.step(2, PreVoteReply(Term(2), True))
    assert replica.has_role(Role.PRE_CANDIDATE)


def test_a_lost_pre_vote_ends_the_attempt_and_it_is_tried_again_soon() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(0), False))
    replica.step(3, PreVoteReply(Term(0), False))
    assert replica.has_role(Role.FOLLOWER)
    replica.ticks(1 + replica.config.support_loss_jitter_ticks)
    assert replica.has_role(Role.PRE_CANDIDATE)


def test_a_vote_leaves_after_the_sync_and_is_given_once_per_term() -> None:
    replica = Replica(disk_with(voters(3), (2,)))
    replica.step(2, request_vote(3, 1, 2))
    assert replica.take() == Ready(
        hard_state=hard_state(3, vote=2),
        messages_after_sync=envelopes(1, (2, RequestVoteReply(Term(3), True))),
        must_sync=True,
    )
    replica.step(3, request_vote(3, 1, 2))
    replica.step(2, request_vote(3, 1, 2))
    replies = (3, RequestVoteReply(Term(3), False)), (2, RequestVoteReply(Term(3), True))
    assert replica.take() == Ready(messages_after_sync=envelopes(1, *replies), must_sync=True)


@pytest.mark.parametrize("last", [(1, 2), (9, 1)], ids=str)
def test_no_vote_for_a_log_that_lacks_something(last: tuple[int, int]) -> None:
    replica = Replica(disk_with(voters(3), (2, 2)))
    replica.step(2, request_vote(3, *last))
    assert replica.settle() == [(2, RequestVoteReply(Term(3), False))]
    assert (replica.core.term, replica.core.vote) == (3, 0)


def test_an_old_vote_request_is_told_the_newer_term() -> None:
    replica = Replica(disk_with(voters(3), (5,)))
    replica.step(2, request_vote(3, 9, 9))
    assert replica.settle() == [(2, RequestVoteReply(Term(5), False))]


def test_no_vote_for_another_once_the_term_has_a_leader() -> None:
    replica = Replica(disk_with(voters(3), (2,)))
    replica.step(2, AppendEntries(Term(3), Index(1), Term(2), (), Index(0)))
    replica.settle()
    replica.step(3, request_vote(3, 9, 9))
    assert replica.settle() == [(3, RequestVoteReply(Term(3), False))]


def test_a_pre_candidate_that_votes_stops_asking() -> None:
    replica = Replica(disk_with(voters(3), term=4))
    replica.core.campaign()
    replica.step(2, request_vote(4))
    assert replica.has_role(Role.FOLLOWER)
    assert replica.core.vote == 2


def test_a_candidate_yields_to_the_leader_of_its_term() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(1), True))
    replica.settle()
    replica.step(3, AppendEntries(Term(1), Index(0), Term(0), (), Index(0)))
    assert (replica.core.role, replica.core.leader) == (Role.FOLLOWER, 3)


def test_a_candidate_that_loses_waits_and_begins_with_a_pre_vote() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(1), True))
    replica.settle()
    replica.step(2, RequestVoteReply(Term(1), False))
    replica.step(3, RequestVoteReply(Term(1), False))
    assert replica.has_role(Role.FOLLOWER)
    replica.ticks(1 + replica.config.support_loss_jitter_ticks)
    assert replica.has_role(Role.PRE_CANDIDATE)
    assert replica.core.term == 1


def test_learners_and_strangers_have_no_timer_and_never_campaign() -> None:
    for configuration in (voters(3, learners=(4,)), voters(3), voters(0)):
        replica = Replica(disk_with(configuration), replica_id=4)
        assert not replica.core.needs_tick
        replica.ticks(100)
        assert not replica.core.campaign()
        assert not replica.core.has_ready()


def test_a_replica_without_the_support_of_a_quorum_does_not_campaign() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.support.lose(2, 3)
    replica.ticks(100)
    assert not replica.core.campaign()
    assert not replica.core.has_ready()
    assert replica.core.needs_tick, "support may come back at any time"


def test_support_of_a_quorum_coming_back_starts_an_election_soon() -> None:
    replica = Replica(disk_with(voters(3)))
    replica.support.lose(2, 3)
    replica.core.support_changed()
    replica.support.given.clear()
    replica.support.received.clear()
    replica.core.support_changed()
    replica.ticks(1)
    assert replica.has_role(Role.PRE_CANDIDATE)


def test_a_leader_without_support_that_hears_nobody_steps_down_and_releases() -> None:
    replica = leader_of(voters(3))
    replica.support.lose(2, 3)
    replica.core.support_changed()
    replica.settle()
    assert replica.core.needs_tick
    replica.ticks(replica.config.election_timeout_ticks)
    assert replica.has_role(Role.FOLLOWER)
    released = ReleaseFortification(Term(1), Release(ReplicaId(1), Term(1), NO_EPOCH, Timestamp(0)))
    sent = replica.settle()
    assert (2, released) in sent
    assert (3, released) in sent


def test_a_leader_that_hears_a_quorum_goes_on_without_a_lease() -> None:
    replica = leader_of(voters(3))
    replica.support.lose(2, 3)
    replica.core.support_changed()
    for _ in range(3):
        replica.ticks(replica.config.election_timeout_ticks - 1)
        confirm(replica, 2)
        replica.ticks(1)
    assert replica.has_role(Role.LEADER)


def test_a_leader_asks_who_is_there_before_it_steps_down() -> None:
    """One that waits for its first snapshot cannot promise anything, and need only be there."""
    config = RaftConfig(election_timeout_ticks=10, retry_ticks=10)
    replica = Replica(config=config)
    elect(replica)
    replica.settle()
    asked = 0
    for _ in range(5 * config.election_timeout_ticks):
        replica.ticks(1)
        for member, message in replica.settle():
            if member == 2 and type(message) is Fortify:
                replica.step(2, FortifyReply(Term(1), NO_EPOCH))
                asked += 1
    assert replica.has_role(Role.LEADER)
    assert asked >= 5


@pytest.mark.parametrize("retry_ticks", [3, 10, 15])
def test_who_refuses_to_fortify_is_sent_again_what_it_lacks(retry_ticks: int) -> None:
    """However often it is asked, as by a leader that is about to step down."""
    config = RaftConfig(election_timeout_ticks=10, retry_ticks=retry_ticks)
    replica = Replica(config=config)
    elect(replica)
    replica.settle()  # The first append is lost, and so is every other.
    probes = 0
    for _ in range(10 * retry_ticks):
        replica.ticks(1)
        for member, message in replica.settle():
            if member == 2 and type(message) is Fortify:
                replica.step(2, FortifyReply(Term(1), NO_EPOCH))
            elif member == 2 and type(message) is AppendEntries:
                probes += 1
    assert replica.has_role(Role.LEADER)
    assert probes == 10


def test_a_leader_whose_lease_has_ended_votes_like_a_follower() -> None:
    replica = leader_of(voters(3))
    replica.step(2, request_vote(2, 9, 9))
    assert replica.has_role(Role.LEADER), "while its lease lives it does not even listen"
    replica.support.lose(2, 3)
    replica.core.support_changed()
    replica.step(2, request_vote(2, 9, 9))
    assert (replica.core.role, replica.core.vote) == (Role.FOLLOWER, 2)
    assert (2, RequestVoteReply(Term(2), True)) in replica.settle()


def test_a_higher_term_in_any_answer_deposes_the_leader() -> None:
    replica = leader_of(voters(3))
    replica.step(2, RequestVoteReply(Term(4), False))
    assert (replica.core.role, replica.core.term, replica.core.vote) == (Role.FOLLOWER, 4, 0)


def test_two_leaders_in_one_term_stop_the_store() -> None:
    replica = leader_of(voters(3))
    with pytest.raises(AssertionError, match="election safety"):
        replica.step(2, AppendEntries(Term(1), Index(0), Term(0), (), Index(0)))


def test_a_candidate_learns_from_a_refused_pre_vote_what_is_committed() -> None:
    """The only voter left could not win under the joint configuration it still has in force."""
    replica = Replica(disk_with(voters(3), (2, 2, 2)))
    replica.core.campaign()
    replica.settle()
    replica.step(2, PreVoteReply(Term(2), False, Index(3), Term(1)))
    assert replica.core.commit_index == 0, "another entry is meant"
    replica.step(2, PreVoteReply(Term(2), False, Index(2), Term(2)))
    assert replica.core.commit_index == 2
    replica.step(3, PreVoteReply(Term(1), False, Index(3), Term(2)))
    assert replica.core.commit_index == 3, "also from one that has not reached this term"


def test_a_restarted_replica_knows_the_leader_it_is_fortified_to() -> None:
    replica = Replica(disk_with(voters(3), (2,), fortified=(3, 2, 1)))
    assert replica.core.leader == 3
    assert not replica.core.needs_tick
    replica.support.given[3] = Epoch(2)
    assert replica.core.needs_tick


def test_a_replica_that_restarted_bound_asks_whether_its_leader_still_leads() -> None:
    """It may have been removed: a leader says nothing to what is no member."""
    replica = Replica(disk_with(voters(3), (2,), fortified=(3, 2, 1)))
    replica.core.support_changed()
    assert replica.settle() == [(3, StillLeading(Term(2)))]
    replica.step(3, AppendEntries(Term(2), Index(1), Term(2), (), Index(0)))
    replica.settle()
    replica.core.support_changed()
    assert replica.settle() == [], "it has heard"


def test_elect_ends_with_a_leader_of_every_configuration_size() -> None:
    for count in (1, 2, 3, 5):
        replica = Replica(disk_with(voters(count)))
        elect(replica)
        assert replica.has_role(Role.LEADER)
