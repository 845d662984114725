"""Under each fault, again and again: what was acknowledged is kept, and all is well afterwards."""

import random

import pytest

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import ALL, Fault
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.cluster import cluster_test
from tests.support.histories import Counters, KeySet
from tests.support.hurting import nobody_is_hurt, tag_of

EPISODES = 2
FIVE_NODES = ("kill-minority", "freeze-two", "partition", "bridge", "ring")
"""With three nodes these are special cases."""
ONLY_FIVE_NODES = ("swap-supporter", "stale-tail", "split-under-snapshot")
HURTS_CLIENTS = ("vanish",)
"""Its own tests have clients that can vanish."""
CASES = [
    (nodes, kind)
    for nodes, left_out in ((3, (*ONLY_FIVE_NODES, *HURTS_CLIENTS)), (5, ()))
    for kind in ALL
    if tag_of(kind) not in left_out and (nodes == 3 or tag_of(kind) in FIVE_NODES + ONLY_FIVE_NODES)
]


@pytest.mark.parametrize(
    ("nodes", "kind"), CASES, ids=[f"{tag_of(kind)}-{nodes}" for nodes, kind in CASES]
)
def test_a_cluster_survives_it_and_keeps_what_was_acknowledged(
    nodes: int, kind: type[Fault]
) -> None:
    @cluster_test(nodes=nodes, seed=nodes)
    async def hurt(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.001, link_s=0.0005)
        rng = random.Random(f"{kind.__name__} {nodes}")
        async with cluster.connect(name="admin") as admin:
            target = SimulatedTarget(cluster, admin)
            for key in (b"a", b"m"):
                await admin.admin.split(key)
            async with Counters(db, callers=2) as counters, KeySet(db, callers=2) as keys:
                for _ in range(EPISODES):
                    await keys.more(5)
                    await kind().episode(target, rng)
                    assert nobody_is_hurt(cluster)
                    await counters.more(5)
                await counters.stop()
                await keys.stop()
                await counters.check()
                await keys.check()
            assert target.faults.total() > 0, "it hurt nobody"
        await cluster.until_served()

    hurt()
