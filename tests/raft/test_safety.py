"""The rules of the safety page that live in the core, each with the schedule that breaks it.

Every test replays the schedule of its rule, step by step, on real cores; without the rule it ends
in two values for one (term, index), a lost acknowledged write, or two serving leaders.
"""

import pytest

from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft.membership import Refusal
from multiraft.raft.messages import (
    AppendEntries,
    Configuration,
    Envelope,
    Fortify,
    FortifyReply,
    Release,
    RequestVote,
    RequestVoteReply,
    StillLeading,
    TimeoutNow,
)
from multiraft.raft.ready import HardState
from multiraft.raft.role import Role
from tests.support.raft_cluster import LEASE, Cluster
from tests.support.raft_disk import Disk, Machine, State, disk_with, empty_disk, pack_configuration
from tests.support.raft_replica import (
    Replica,
    configuration_entry,
    confirm,
    joint,
    leader_of,
    voters,
)

SPLIT_TERM = Term(5)
SPLIT_INDEX = Index(10)


def right_half(vote: int = 1, fortified: tuple[int, int, int] = (0, 0, 0)) -> Disk:
    """Return a replica as the trigger of a split leaves it; nothing of it is durable by itself."""
    leader, term, epoch = fortified
    hard_state = HardState(
        SPLIT_TERM,
        ReplicaId(vote),
        SPLIT_INDEX,
        ReplicaId(leader),
        Term(term),
        Epoch(epoch),
    )
    return Disk(State(hard_state, Machine(SPLIT_INDEX, 0, voters(3)), SPLIT_TERM))


def send(cluster: Cluster, source: int, target: int, message: Fortify | RequestVote) -> None:
    cluster[target].core.step(Envelope(ReplicaId(source), ReplicaId(target), message))


# --- S1: a split without an election ---


def test_s1_the_first_leaders_entry_reaches_nobody_before_its_own_sync() -> None:
    cluster = Cluster(voters(3), {number: right_half() for number in (1, 2, 3)})
    cluster[1].core.become_first_leader()
    cluster.propose(1, "a")
    cluster[1].turn()
    assert cluster.flights == []
    # Power is lost. The trigger is applied again, late: a follower now, not a leader again.
    cluster[1].crash()
    cluster[1].restart()
    assert cluster[1].core.propose(b"b", SPLIT_TERM) == 0
    cluster.tick(1, 20)
    cluster.settle()
    assert cluster[1].core.role is Role.LEADER
    assert cluster[1].core.term > SPLIT_TERM
    assert {tuple(node.log) for node in cluster.nodes.values()} == {(6,)}


def test_s1_the_first_leader_serves_at_once_after_one_round() -> None:
    cluster = Cluster(voters(3), {number: right_half() for number in (1, 2, 3)})
    cluster[1].core.become_first_leader()
    cluster.propose(1, "a")
    cluster.settle()
    assert cluster.payloads(3) == ["a"]
    assert cluster[1].core.lease_until() == LEASE
    assert not any(node.core.needs_tick for node in cluster.nodes.values())


# --- S4: the lease over changes of the configuration ---


def group_with_a_learner() -> Cluster:
    configuration = voters(3, learners=(4,))
    cluster = Cluster(configuration)
    cluster.elect(1)
    return cluster


ENTERING = joint((1, 3, 4), (1, 2, 3))
LEFT = Configuration(ENTERING.voters, (), (ReplicaId(2),))


def test_s4_a_lease_promise_is_carried_over_both_steps() -> None:
    """The lease to 2000 came from 1 and 2. Then 2 leaves: 3 and 4 never promised as much."""
    cluster = group_with_a_learner()
    cluster.until = {(1, 1): 2_000, (1, 2): 2_000, (1, 3): 1_500, (1, 4): 1_500}
    assert cluster[1].core.lease_until() == 2_000
    cluster.change(1, ENTERING)
    cluster.settle()
    assert cluster[1].core.configuration == ENTERING
    assert cluster[1].core.lease_until() == 1_500
    assert not cluster[1].core.wants_to_leave_joint
    assert cluster[1].core.configuration_refusal(LEFT) is Refusal.LEASE_NOT_CARRIED
    cluster.until[1, 3] = 2_000
    assert cluster[1].core.wants_to_leave_joint
    cluster.change(1, LEFT)
    cluster.settle()
    assert cluster[1].core.configuration == LEFT
    assert cluster[1].core.lease_until() == 2_000


def test_s4_a_joint_configuration_is_entered_only_with_the_present_promise_in_force() -> None:
    cluster = group_with_a_learner()
    cluster.until = {(1, 1): 2_000, (1, 2): 2_000, (1, 3): 1_500}
    assert cluster[1].core.lease_until() == 2_000
    cluster.withdraw(1, 2)
    assert cluster[1].core.configuration_refusal(ENTERING) is Refusal.LEASE_NOT_CARRIED
    # Learners bear no part of a promise.
    assert cluster[1].core.configuration_refusal(voters(3)) is None


def test_s4_new_voters_are_fortified_first() -> None:
    cluster = group_with_a_learner()
    cluster.withdraw(1, 4)
    assert cluster[1].core.configuration_refusal(ENTERING) is Refusal.NOT_FORTIFIED
    cluster.grant(1, 4)
    assert cluster[1].core.configuration_refusal(ENTERING) is Refusal.NOT_FORTIFIED
    cluster.settle()
    assert cluster[1].core.configuration_refusal(ENTERING) is None


def test_s4_support_counts_per_replica_and_is_dropped_with_it() -> None:
    replica = leader_of(voters(3, learners=(4,)))
    replica.step(4, FortifyReply(Term(1), Epoch(1)))
    replica.support.received = {2: (0, 0), 4: (1, 9_000), 3: (1, 500)}
    assert replica.core.lease_until() == 500, "a learner does not count"


# --- S5: when a configuration is in force ---


def test_s5_an_entry_is_acknowledged_only_with_its_commit_index_on_the_same_disk() -> None:
    replica = Replica(disk_with(voters(3), (1,), applied_index=1, commit_index=1), replica_id=2)
    changed = configuration_entry(1, 2, pack_configuration(ENTERING))
    replica.step(1, AppendEntries(Term(1), Index(1), Term(1), (changed,), Index(1)))
    replica.take()
    left = configuration_entry(1, 3, pack_configuration(LEFT))
    replica.step(1, AppendEntries(Term(1), Index(2), Term(1), (left,), Index(2)))
    ready = replica.core.take_ready()
    assert ready.entries == (left,)
    assert ready.hard_state is not None
    assert ready.hard_state.commit_index == 2


def test_s5_no_campaign_while_a_committed_change_is_not_applied() -> None:
    """B knows entry 2 as committed and restarts with the old configuration still in force."""
    disk = disk_with(voters(3), (5, 5), commit_index=2)
    disk.written.entries[1] = configuration_entry(5, 2, pack_configuration(ENTERING))
    replica = Replica(disk, replica_id=2)
    assert not replica.core.campaign()
    replica.ticks(100)
    assert not replica.core.messages
    release = Release(ReplicaId(1), Term(5), Epoch(0), Timestamp(1))
    replica.step(1, TimeoutNow(Term(5), release))
    assert replica.has_role(Role.FOLLOWER)
    replica.take()
    assert replica.core.configuration == ENTERING
    assert replica.core.campaign(), "it is applied, and 2 still votes in the old half"


def test_s5_the_next_change_waits_for_the_former_to_be_applied() -> None:
    replica = leader_of(voters(3, learners=(4,)))
    core = replica.core
    assert core.propose_configuration(pack_configuration(ENTERING), core.term, ENTERING)
    assert core.configuration_refusal(LEFT) is Refusal.CHANGE_PENDING
    replica.settle()
    assert core.configuration_refusal(LEFT) is Refusal.CHANGE_PENDING
    confirm(replica, 2, 3, 4)
    assert core.configuration_refusal(LEFT) is None


def test_s5_a_committed_write_survives_the_restart_of_a_replica_with_old_knowledge() -> None:
    """The schedule: joint at 25, left at 30, B restarts and would lead under {1, 2, 3}."""
    cluster = Cluster(voters(3), {4: empty_disk()})
    cluster.elect(1)
    cluster.change(1, voters(3, learners=(4,)))
    cluster.settle()
    cluster.change(1, ENTERING)
    cluster.settle()
    cluster.cut([2], [1, 3, 4])
    cluster.change(1, LEFT)
    cluster.settle()
    cluster.propose(1, "acknowledged")
    cluster.settle()
    assert cluster.payloads(4) == ["acknowledged"]
    # 2 is alone with the joint configuration, unfortified, and asks everyone.
    cluster.heal()
    cluster[2].crash()
    cluster.withdraw(1, 2, 3)
    cluster[2].restart()
    for _ in range(3):
        cluster.tick(2, 20)
        cluster.settle()
    for node in cluster.nodes.values():
        applied = [entry for entry in node.disk.written.entries if entry.payload == b"acknowledged"]
        assert node.id == 2 or len(applied) == 1


# --- S6: a transfer is one-way ---


def test_s6_a_late_timeout_now_meets_a_leader_that_stopped_serving_for_good() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].clock = 700
    cluster.holding.append("TimeoutNow")
    assert cluster[1].core.transfer(ReplicaId(2), Timestamp(700))
    cluster.settle()
    assert cluster[1].core.role is Role.FOLLOWER
    assert cluster[1].core.lease_until() == 0
    assert not cluster[1].core.propose(b"x", Term(1))
    # It never leads term 1 again, however long TimeoutNow is under way.
    cluster.tick(1, 10)
    cluster.settle()
    assert cluster[1].core.term == 2
    cluster.holding.clear()
    cluster.settle()
    assert cluster.leaders == [1]
    assert cluster[2].core.term == 2, "a TimeoutNow of term 1 is too old"


def test_s6_the_release_frees_a_voter_and_brings_the_old_leaders_clock_first() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.holding.extend(["ReleaseFortification"])
    assert cluster[1].core.transfer(ReplicaId(2), Timestamp(800))
    cluster.settle()
    assert cluster.leaders == [2], "3 was free to vote by the release that the request showed"
    assert cluster[3].clock >= 800
    assert cluster[2].clock >= 800


@pytest.mark.parametrize(
    "release",
    [
        None,
        Release(ReplicaId(2), Term(1), Epoch(0), LEASE),
        Release(ReplicaId(1), Term(0), Epoch(0), LEASE),
    ],
    ids=["no release", "another leader", "another term"],
)
def test_s6_a_voter_is_released_only_from_the_leader_and_term_it_is_fortified_to(
    release: Release | None,
) -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    send(cluster, 2, 3, RequestVote(Term(2), Index(9), Term(9), release))
    cluster.settle()
    assert cluster[3].core.term == 1
    assert cluster.leaders == [1]


# --- S14: what goes before and what after the sync ---


def test_s14_a_vote_request_waits_for_the_candidates_own_vote() -> None:
    """Five voters. 1 is elected by 2, 4, 5 and crashes: it must not be able to ask them again."""
    cluster = Cluster(voters(5))
    cluster[1].core.campaign()
    cluster[1].turn()
    cluster.deliver()
    for number in (2, 3, 4, 5):
        cluster[number].turn()
    cluster.deliver()
    cluster[1].turn()
    assert cluster[1].core.role is Role.CANDIDATE
    assert cluster.take("RequestVote") == []
    cluster[1].crash()
    cluster[1].restart()
    assert cluster[1].core.term == 0


def test_s14_votes_and_promises_wait_for_the_voters_sync() -> None:
    cluster = Cluster(voters(3))
    send(cluster, 1, 2, RequestVote(Term(1), Index(0), Term(0)))
    cluster[2].turn()
    assert cluster.flights == []
    cluster[2].sync()
    assert [flight.message for flight in cluster.take()] == [RequestVoteReply(Term(1), True)]
    send(cluster, 1, 2, Fortify(Term(1), Epoch(1)))
    cluster[2].turn()
    assert cluster.flights == []
    cluster[2].sync()
    assert [flight.message for flight in cluster.take()] == [FortifyReply(Term(1), Epoch(1))]


def test_s14_appends_of_a_durable_term_need_not_wait() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster[1].turn()
    assert len(cluster.take("1> AppendEntries")) == 2


# --- S16: fortification survives every rewrite of the replica's state ---


def test_s16_a_right_half_keeps_what_it_promised_before_the_split_was_applied() -> None:
    disk = right_half(fortified=(1, 5, 1))
    replica = Replica(disk, replica_id=2)
    assert replica.core.fortified_leader == 1
    replica.step(3, RequestVote(Term(6), Index(99), Term(99)))
    assert replica.core.term == SPLIT_TERM


def test_s16_a_restart_keeps_it_and_a_new_epoch_ends_it() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[2].crash()
    cluster[2].restart()
    send(cluster, 3, 2, RequestVote(Term(9), Index(9), Term(9)))
    assert cluster[2].core.term == 1
    cluster[1].crash()
    cluster[1].restart()
    send(cluster, 3, 2, RequestVote(Term(9), Index(9), Term(9)))
    assert cluster[2].core.vote == 3


# --- S17: proposals ---


def test_s17_a_proposal_evaluated_in_an_older_term_is_refused() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    evaluated_under = cluster[1].core.term
    assert cluster[1].core.transfer(ReplicaId(2), Timestamp(1))
    cluster.settle()
    assert cluster[2].core.transfer(ReplicaId(1), Timestamp(2))
    cluster.settle()
    assert cluster.leaders == [1]
    assert cluster[1].core.propose(b"late", evaluated_under) == 0
    assert cluster[1].core.refusal is Refusal.NOT_LEADER


def test_s17_a_second_change_is_refused_and_never_made_into_something_else() -> None:
    replica = leader_of(voters(3))
    core = replica.core
    one, two = voters(3, learners=(4,)), voters(3, learners=(5,))
    index = core.propose_configuration(pack_configuration(one), core.term, one)
    assert core.propose_configuration(pack_configuration(two), core.term, two) == 0
    assert core.last_index == index
    [written] = replica.take().entries
    assert written.payload == pack_configuration(one)


# --- L1: fortified to a ghost ---


def test_l1_a_leader_whose_replica_stops_releases_everyone_first() -> None:
    """Its store lives and goes on renewing support; without the release nobody ever elects."""
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].core.step_down(Timestamp(640))
    cluster.settle()
    cluster[1].crash()
    assert cluster[2].clock >= 640
    cluster.tick(2, 20)
    cluster.settle()
    assert cluster.leaders == [2]


def test_l1_a_lost_release_is_repeated() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].core.step_down(Timestamp(640))
    cluster[1].turn()
    assert len(cluster.take("ReleaseFortification")) == 2
    assert cluster[2].core.fortified_leader == 1
    assert cluster[1].core.needs_tick
    cluster.tick(1, 3)
    cluster.settle()
    assert cluster[2].core.fortified_leader == 0


def test_l1_a_follower_may_ask_and_is_released_by_a_replica_that_does_not_lead() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].crash()
    cluster[1].start()  # As if only the replica had been stopped: support goes on.
    assert cluster[2].core.fortified_leader == 1
    assert not cluster[2].core.needs_tick
    assert cluster[2].core.ask_still_leading()
    assert cluster[3].core.ask_still_leading()
    cluster[2].turn()
    assert [type(flight.message) for flight in cluster.flights] == [StillLeading]
    cluster.settle()
    assert cluster[2].core.fortified_leader == 0
    cluster.tick(2, 20)
    cluster.settle()
    assert cluster.leaders == [2]


# --- L2: lost messages with nobody to repeat them ---


def test_l2_a_lost_commit_index_is_repeated_to_a_follower_that_has_every_entry() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    while cluster[1].core.commit_index == 1:
        for node in cluster.nodes.values():
            node.turn()
            node.sync()
        cluster.deliver()
    cluster[1].turn()
    assert cluster.take("1>3 AppendEntries"), "the commit index is lost on its way"
    cluster.settle()
    assert cluster.payloads(3) == []
    assert cluster[1].core.needs_tick
    cluster.tick(1, 3)
    cluster.settle()
    assert cluster.payloads(3) == ["a"]
    assert not cluster[1].core.needs_tick


def test_l2_a_lost_fortify_is_repeated() -> None:
    cluster = Cluster(voters(3))
    cluster.holding.append("Fortify")
    cluster.elect(1)
    assert cluster[1].core.lease_until() == 0
    cluster.take("Fortify")
    cluster.holding.clear()
    assert cluster[1].core.needs_tick
    cluster.tick(1, 3)
    cluster.settle()
    assert cluster[1].core.lease_until() == LEASE


def test_l2_a_lost_refusal_with_a_higher_term_comes_again() -> None:
    cluster = Cluster(voters(3), {3: disk_with(voters(3), term=7)})
    cluster.isolate(3)
    cluster.elect(1)
    cluster.heal()
    cluster.tick(1, 3)
    cluster[1].turn()
    cluster.deliver("1>3")
    cluster[3].turn()
    cluster[3].sync()
    assert cluster.take("3>1"), "the refusal is lost"
    assert cluster[1].core.needs_tick
    cluster.tick(1, 6)
    cluster.settle()
    assert cluster[1].core.term == 7


# --- L3: the requester's side ---


def test_l3_a_supporter_with_a_new_epoch_is_fortified_again() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.withdraw(1, 2, 3)
    assert cluster[1].core.lease_until() == 0
    cluster.grant(1, 2, 3)
    assert cluster[1].core.lease_until() == 0, "support at a new epoch is no promise yet"
    cluster.settle()
    assert cluster.leaders == [1]
    assert cluster[1].core.lease_until() == LEASE


def test_l3_a_leader_without_a_lease_answers_votes_like_a_follower() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.withdraw(1, 2, 3)
    cluster.settle()
    cluster.elect(2)
    assert cluster[1].core.leader == 2


def test_l3_no_campaign_without_the_support_of_a_quorum() -> None:
    cluster = Cluster(voters(3))
    cluster.withdraw(1, 2, 3)
    assert not cluster[1].core.campaign()
    cluster.grant(1, 2)
    assert cluster[1].core.campaign()


# --- A1: acknowledgements of past syncs ---


def test_a1_a_late_sync_does_not_vouch_for_what_replaced_its_entries() -> None:
    """Written at term 2, synced after a leader of term 3 replaced the entry."""
    replica = leader_of(voters(3))
    replica.core.propose(b"a", Term(1))
    mine = replica.take()
    replica.step(2, AppendEntries(Term(3), Index(1), Term(1), (), Index(1)))
    other = configuration_entry(3, 2, pack_configuration(ENTERING))
    replica.step(2, AppendEntries(Term(3), Index(1), Term(1), (other,), Index(1)))
    replica.take()
    replica.core.synced(mine)
    assert replica.core.log.durable_index == 1
    replica.core.synced(replica.unsynced[-1])
    assert replica.core.log.durable_index == 2


def test_a1_the_leaders_own_match_is_what_was_synced_and_not_what_it_has() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.propose(1, "a")
    cluster[1].turn()
    cluster.propose(1, "b")
    cluster[1].sync()
    cluster[1].turn()
    cluster.deliver()
    cluster[2].turn()
    cluster[2].sync()
    cluster.deliver()
    assert cluster[1].core.log.last_index == 3
    assert cluster[1].core.commit_index == 2
