from multiraft.config import RaftConfig
from multiraft.ids import NO_EPOCH, ReplicaId
from multiraft.raft.messages import Fortify
from tests.support.raft_cluster import Cluster
from tests.support.raft_replica import voters

MEMBER = ReplicaId(2)


def test_a_member_that_never_falls_silent_is_asked_again_to_fortify() -> None:
    """A lost or early request is repeated under load too, when each tick brings answers (L2)."""
    cluster = Cluster(voters(3))
    cluster.elect(1)
    leadership = cluster[1].core.leadership
    assert leadership is not None
    progress = leadership.progress[MEMBER]
    progress.fortified_epoch = NO_EPOCH  # as if its reply had never come
    asked = 0
    for _ in range(RaftConfig().retry_ticks * 3):
        cluster.tick(1)
        progress.answered()
        ready = cluster[1].turn()
        asked += sum(type(sent.message) is Fortify for sent in ready.messages)
    assert asked == 3
