"""Two candidates and a dead third: nobody wins, and it must not take long to try again."""

from multiraft.config import RaftConfig
from multiraft.raft import election
from multiraft.raft.role import Role
from tests.support.raft_cluster import Cluster
from tests.support.raft_replica import voters

CONFIG = RaftConfig()
RETRY_TICKS_MAX = 1 + 2 * CONFIG.support_loss_jitter_ticks


def without_leader() -> Cluster:
    """Return a cluster whose leader 1 is dead, and whose others are free to campaign."""
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].crash()
    cluster.withdraw(1, 2, 3)
    return cluster


def test_of_two_that_ask_for_pre_votes_at_once_the_lower_goes_first() -> None:
    cluster = without_leader()
    for number in (2, 3):
        cluster.tick(number, 1)
        cluster[number].turn()
    cluster.settle()
    assert cluster.leaders == [2]


def test_one_that_was_refused_does_not_stand_in_the_way_of_a_higher_one() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].crash()
    cluster.withdraw(1, 2)
    cluster.tick(2, 1)
    cluster.settle()
    assert cluster[2].core.role is Role.PRE_CANDIDATE
    cluster.withdraw(1, 3)
    cluster.tick(3, 1)
    cluster.settle()
    assert cluster.leaders == [3]


def test_the_better_log_asks_again_as_soon_as_the_other_shows_that_it_is_free() -> None:
    """It was refused while the other was bound; the other, once free, cannot win."""
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster.isolate(3)
    cluster.propose(1, "only at 2")
    cluster.settle()
    cluster.heal()
    cluster[1].crash()
    cluster.withdraw(1, 2)
    cluster.tick(2, 1)
    cluster.settle()
    cluster.withdraw(1, 3)
    cluster.tick(3, 1)
    cluster.settle()
    assert cluster.leaders == []
    cluster.tick(2, 1)
    cluster.settle()
    assert cluster.leaders == [2]


def test_an_attempt_that_a_newer_term_ends_is_made_again_soon() -> None:
    """The term is of an attempt that failed: it brings no leader, so nobody else may try."""
    cluster = without_leader()
    cluster.isolate(2)
    election.become_candidate(cluster[3].core, None)
    cluster.settle()
    cluster.heal()
    assert cluster[2].core.term < cluster[3].core.term
    cluster.tick(2, 1)
    cluster.settle()
    assert (cluster[2].core.term, cluster.leaders) == (cluster[3].core.term, [])
    cluster.tick(2, RETRY_TICKS_MAX)
    cluster.settle()
    assert cluster.leaders == [2]


def test_a_follower_that_was_never_fortified_asks_soon_when_its_leaders_store_is_dead() -> None:
    cluster = Cluster(voters(3))
    cluster.holding.append("Fortify 1>3")
    cluster.elect(1)
    cluster[1].crash()
    cluster.withdraw(1, 2, 3)
    cluster.tick(3, CONFIG.support_loss_jitter_ticks)
    cluster.settle()
    assert cluster.leaders == [3]


def test_a_split_vote_is_tried_again_well_within_an_election_timeout() -> None:
    cluster = without_leader()
    for number in (2, 3):
        election.become_candidate(cluster[number].core, None)
    cluster.settle()
    assert cluster.leaders == []
    assert CONFIG.election_timeout_ticks > RETRY_TICKS_MAX
    cluster.tick(2, RETRY_TICKS_MAX)
    cluster.settle()
    assert cluster.leaders == [2]


def test_candidates_wait_longer_each_time_that_an_election_ends_undecided() -> None:
    """Votes that take longer than the retry timer would never be counted."""
    cluster = without_leader()
    cluster.isolate(2)
    core = cluster[2].core
    waits: list[int] = []
    for _ in range(5):
        cluster.tick(2, core.election_timeout - core.election_elapsed)
        cluster[2].turn()
        waits.append(core.election_timeout)
    jitter, longest = CONFIG.support_loss_jitter_ticks, CONFIG.election_timeout_ticks
    assert 1 + jitter <= waits[0] < 1 + 2 * jitter
    assert 1 + 2 * jitter <= waits[1] < 1 + 4 * jitter
    assert all(1 + longest <= wait < 1 + 2 * longest for wait in waits[2:])
