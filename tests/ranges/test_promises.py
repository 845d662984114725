"""A promise to a leader must hold over a restart, so nobody gives one that he could not keep."""

import asyncio

from multiraft.client.database import Database
from multiraft.ids import Epoch, NodeId, Term
from multiraft.raft.messages import Fortify, FortifyReply, RequestVote
from multiraft.ranges.messages import GroupEnvelope
from multiraft.sim.cluster import Cluster
from tests.ranges.test_split_races import LATER, inject, vote_request, withhold_splits_from
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of


@cluster_test()
async def test_a_replica_without_a_descriptor_keeps_what_it_promised_over_a_restart(
    cluster: Cluster, db: Database
) -> None:
    """S16: its record names a replica, and only a descriptor tells on which node that one is."""
    slow, other = cluster.followers()
    leader = leader_of(cluster)
    withhold_splits_from(cluster, slow)
    _, right = await db.admin.split(b"m")
    promised: list[Epoch] = []

    def listen(source: int, target: int, envelope: GroupEnvelope) -> bool:
        message = envelope.message
        is_its_own = (source, envelope.range_id) == (slow.number, right.range_id)
        if is_its_own and isinstance(message, FortifyReply):
            promised.append(message.epoch)
        return envelope.range_id == right.range_id or target == slow.number

    cluster.wiretap.drop = listen
    epoch = slow.up.store.liveness.support_for(NodeId(other.number))
    inject(slow.up.store, other.number, right.range_id, slow.number, Fortify(LATER, epoch))
    await cluster.until(lambda: bool(promised))

    await cluster.crash(slow.number, keep=slow.engine.unsynced_count)
    await cluster.restart(slow.number)
    store = slow.up.store
    core = slow.replica(right.range_id).core
    assert core.term == LATER
    supported = store.liveness.support_for(NodeId(other.number))
    request = RequestVote(Term(LATER + 1), vote_request().last_index, LATER)
    inject(store, leader.number, right.range_id, slow.number, request)
    await asyncio.sleep(0.1)
    was_bound = promised[-1] != 0 and promised[-1] == supported
    assert not (was_bound and core.vote == leader.number), "it promised to vote for nobody else"
    cluster.wiretap.drop = None
    await cluster.until_served()
