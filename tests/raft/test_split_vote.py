"""Two candidates and a dead third: nobody wins, and it must not take long to try again."""

from multiraft.config import RaftConfig
from multiraft.raft.role import Role
from tests.support.raft_cluster import Cluster
from tests.support.raft_replica import voters

CONFIG = RaftConfig()
RETRY_TICKS_MAX = 1 + 2 * CONFIG.support_loss_jitter_ticks


def test_a_split_vote_is_tried_again_well_within_an_election_timeout() -> None:
    cluster = Cluster(voters(3))
    cluster.elect(1)
    cluster[1].crash()
    cluster.withdraw(1, 2, 3)
    for number in (2, 3):
        cluster.tick(number, 1)
        cluster[number].turn()
    # Each grants the other's pre-vote, and both ask for votes of one term.
    cluster.deliver("PreVote")
    for number in (2, 3):
        cluster[number].turn()
    cluster.deliver("PreVoteReply")
    assert cluster[2].core.role is cluster[3].core.role is Role.CANDIDATE
    assert cluster[2].core.term == cluster[3].core.term
    cluster.settle()
    assert cluster.leaders == []
    assert CONFIG.election_timeout_ticks > RETRY_TICKS_MAX
    cluster.tick(2, RETRY_TICKS_MAX)
    cluster.settle()
    assert cluster.leaders == [2]
