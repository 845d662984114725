"""Faults at the same time: none trips over another, and together they lose nothing."""

import asyncio
import random

import pytest

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import ALL, Fault
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.cluster import cluster_test
from tests.support.histories import Counters, KeySet
from tests.support.hurting import nobody_is_hurt, tag_of

SECONDS = 12.0
AT_ONCE = 6


async def again_and_again(fault: Fault, target: SimulatedTarget, rng: random.Random) -> None:
    while True:
        await asyncio.sleep(rng.uniform(0.2, 2.0))
        await fault.episode(target, rng)


@pytest.mark.parametrize("seed", range(1, 7))
def test_several_at_once_leave_nobody_hurt_and_lose_nothing(seed: int) -> None:
    rng = random.Random(seed)
    kinds = rng.sample(ALL, AT_ONCE)

    @cluster_test(nodes=rng.choice((3, 5)), seed=seed)
    async def hurt(cluster: Cluster, db: Database) -> None:
        cluster.slow_down(sync_s=0.001, link_s=0.0005)
        async with cluster.connect(name="admin", deadline_s=3.0) as admin:
            target = SimulatedTarget(cluster, admin)
            await admin.admin.split(b"m")
            async with Counters(db, callers=1) as counters, KeySet(db, callers=1) as keys:
                await keys.more(5)
                faults = [
                    asyncio.ensure_future(
                        again_and_again(kind(), target, random.Random(f"{seed} {tag_of(kind)}"))
                    )
                    for kind in kinds
                ]
                await asyncio.sleep(SECONDS)
                for fault in faults:
                    fault.cancel()
                ends = await asyncio.gather(*faults, return_exceptions=True)
                assert [e for e in ends if not isinstance(e, asyncio.CancelledError)] == []
                assert nobody_is_hurt(cluster)
                await counters.more(5)
                await counters.stop()
                await keys.stop()
                await counters.check()
                await keys.check()
        await cluster.until_served()

    hurt()
