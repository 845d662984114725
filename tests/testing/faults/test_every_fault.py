"""What is true of every fault."""

import asyncio
import random

import msgspec
import pytest

from multiraft.sim.cluster import Cluster
from multiraft.testing.faults import ALL, AnyFault, Fault
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.hurting import hurt_test, tag_of


@pytest.mark.parametrize("kind", ALL, ids=tag_of)
def test_a_table_of_a_spec_makes_it_with_its_defaults(kind: type[Fault]) -> None:
    table = f'[[fault]]\nkind = "{tag_of(kind)}"\n'
    made = msgspec.toml.decode(table, type=dict[str, list[AnyFault]])
    assert made == {"fault": [kind()]}


@pytest.mark.parametrize("kind", ALL, ids=tag_of)
@pytest.mark.parametrize("after_s", [0.01, 0.7])
def test_cancelled_in_the_middle_it_leaves_nobody_hurt(kind: type[Fault], after_s: float) -> None:
    @hurt_test()
    async def cancelled(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
        episode = asyncio.ensure_future(kind().episode(target, rng))
        await asyncio.sleep(after_s)
        episode.cancel()
        await asyncio.sleep(0)
        episode.cancel()
        await asyncio.wait((episode,))
        assert episode.cancelled() or episode.exception() is None

    cancelled()


@pytest.mark.parametrize("kind", ALL, ids=tag_of)
def test_it_is_the_same_in_every_run_of_a_seed(kind: type[Fault]) -> None:
    def once() -> list[str]:
        told: list[str] = []

        @hurt_test()
        async def run(cluster: Cluster, target: SimulatedTarget, rng: random.Random) -> None:
            told_to = SimulatedTarget(cluster, target.db, lambda _, detail: told.append(detail))
            await kind().episode(told_to, rng)
            told.append(repr(cluster.loop.time()))

        run()
        return told

    assert once() == once()
