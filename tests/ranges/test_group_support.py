"""A core asks by replica, and is answered for the node that the replica is on."""

from typing import cast

from multiraft.ids import NO_EPOCH, Epoch, NodeId, ReplicaId, Timestamp
from multiraft.liveness.heartbeats import Liveness
from multiraft.ranges.group_support import GroupSupport

REPLICA = ReplicaId(7)


class _Liveness:
    """Support for the node 2 at epoch 3, and from it at epoch 4 until 5."""

    def support_for(self, node: NodeId) -> Epoch:
        return Epoch(3) if node == 2 else NO_EPOCH

    def support_from(self, node: NodeId) -> tuple[Epoch, Timestamp]:
        return (Epoch(4), Timestamp(5)) if node == 2 else (NO_EPOCH, Timestamp(0))


def made() -> GroupSupport:
    return GroupSupport(cast("Liveness", _Liveness()))


def test_support_is_that_of_the_node_that_the_replica_is_on() -> None:
    support = made()
    support.nodes[REPLICA] = NodeId(2)
    assert support.support_for(REPLICA) == 3
    assert support.support_from(REPLICA) == (4, 5)


def test_a_replica_whose_node_is_not_known_gives_no_support_and_gets_none() -> None:
    support = made()
    assert support.support_for(REPLICA) == NO_EPOCH
    assert support.support_from(REPLICA) == (NO_EPOCH, 0)
