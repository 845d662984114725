"""Which nodes may be lost: as many as every group can be without, and no more."""

import random

from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from multiraft.testing import losses
from tests.support.cluster import cluster_test


@cluster_test(nodes=5)
async def test_a_minority_is_lost_and_not_always_the_same(cluster: Cluster, db: Database) -> None:
    await cluster.until_applied()
    lost = [tuple(losses.draw(cluster, random.Random(seed))) for seed in range(20)]
    assert {len(numbers) for numbers in lost} == {2}
    assert len(set(lost)) > 5


@cluster_test()
async def test_nobody_is_lost_where_one_is_down_already(cluster: Cluster, db: Database) -> None:
    await cluster.crash(3)
    assert losses.draw(cluster, random.Random(1)) == []
    await cluster.restart(3)


@cluster_test(nodes=4)
async def test_no_member_of_a_group_of_two_is_lost(cluster: Cluster, db: Database) -> None:
    await db.admin.change_replicas(USER_RANGE_ID, (NodeId(1), NodeId(2)))
    await cluster.until_applied()
    lost = {number for seed in range(20) for number in losses.draw(cluster, random.Random(seed))}
    assert lost == {3, 4}


@cluster_test()
async def test_nobody_is_lost_while_a_configuration_is_about_to_change(
    cluster: Cluster, db: Database
) -> None:
    await cluster.until_applied()
    leader = cluster.leader()
    assert leader is not None
    core = leader.replica().core
    held = core.configuration
    core.propose_configuration(b"", core.term, held)
    assert losses.draw(cluster, random.Random(1)) == []
    core.log._truncate_from(core.last_index)
