"""A cluster that is hurt: what tests of faults look at."""

import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from multiraft.client.database import Database
from multiraft.sim.clock import VirtualClock
from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import Fault
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.cluster import cluster_test

Hurt = Callable[[Cluster, SimulatedTarget, random.Random], Coroutine[Any, Any, None]]


def tag_of(kind: type[Fault]) -> str:
    return str(kind.__struct_config__.tag)


def is_off(clock: VirtualClock) -> bool:
    """Whether it shows another time than the loop's; a clock has whole microseconds."""
    return abs(clock.offset_s()) > 2e-6


def nobody_is_hurt(cluster: Cluster) -> bool:
    members = cluster.members.values()
    return (
        len(cluster.running()) == len(members)
        and not any(cluster.is_frozen(member.number) for member in members)
        and not any(member.excuses or member.sync_troubles for member in members)
        and not any(member.clock_is_wrong or is_off(member.clock) for member in members)
        and not any(member.engine.free_bytes() < 1 << 40 for member in members)
        and not cluster.conditions.troubles
        and not any(cluster.network.is_cut(a.name, b.name) for a in members for b in members)
    )


def hurt_test(
    *, nodes: int = 3, localities: Sequence[str] = (), seed: int = 1
) -> Callable[[Hurt], Callable[[], None]]:
    """Make a test of an `async def test_...(cluster, target, rng)`, which must leave nobody hurt.

    The target's client is `target.db`; a few keys are there.
    """

    def wrap(main: Hurt) -> Callable[[], None]:
        @cluster_test(nodes=nodes, localities=localities, seed=seed)
        async def test(cluster: Cluster, db: Database) -> None:
            cluster.slow_down(sync_s=0.001, link_s=0.0005)
            for number in range(10):
                await db.put(b"key%d" % number, b"v")
            await main(cluster, SimulatedTarget(cluster, db), random.Random(seed))
            assert nobody_is_hurt(cluster)
            await cluster.until_served()

        test.__doc__ = main.__doc__
        return test

    return wrap
