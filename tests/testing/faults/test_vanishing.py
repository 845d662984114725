"""Clients that vanish leave their locks behind, for a while."""

import asyncio
import random

from multiraft.client.transaction import Transaction
from multiraft.sim.cluster import Cluster
from multiraft.sim.process import Process
from multiraft.testing import runner, spec
from multiraft.testing.faults.vanishing import Vanish
from multiraft.testing.simulated_target import SimulatedTarget
from tests.support.hurting import hurt_test


@hurt_test()
async def test_what_a_vanished_client_has_locked_becomes_free(
    cluster: Cluster, target: SimulatedTarget, rng: random.Random
) -> None:
    process = Process("mortal")
    cluster.mortals["mortal"] = process
    has_locked = asyncio.Event()
    ended: list[str] = []

    async def live() -> None:
        async with cluster.connect(name="mortal", process=process) as db:

            async def hold(txn: Transaction) -> None:
                await txn.get(b"held", for_update=True)
                has_locked.set()
                for _ in range(500):  # It has callbacks to die at.
                    await asyncio.sleep(0.01)

            await db.run(hold)
        ended.append("it has gone on")

    task = process.spawn(live())
    await has_locked.wait()
    await Vanish(within_callbacks=5).episode(target, rng)
    assert not await process.outlives(task)

    began = cluster.loop.time()
    await target.db.put(b"held", b"mine")
    expiry_s = cluster.config.ranges.transaction_expiry_ms / 1_000
    assert cluster.loop.time() - began < 2 * expiry_s
    assert not ended


def test_a_run_goes_on_with_other_clients() -> None:
    result = runner.run(spec.load("abandoned"), 1)
    assert result.ok, result.problems
    assert result.faults["vanish"] > 5
