"""The job queue on a cluster that is being hurt: `cd docs/examples; pytest`."""

import asyncio

import pytest
from jobs import Queue, SafeQueue, work

import multiraft
from multiraft.testing import Cluster, simulated


async def trouble(cluster: Cluster) -> None:
    """Hurt whichever node leads, again and again, for as long as this runs."""
    while True:
        await asyncio.sleep(cluster.random.uniform(0.5, 2.0))
        node = cluster.leader() or cluster.random.choice(cluster.nodes)
        fault = cluster.random.choice(["crash", "pause", "partition"])
        if fault == "crash":
            await cluster.crash(node)
        elif fault == "pause":
            cluster.pause(node)
        else:
            cluster.partition([node])
        await asyncio.sleep(cluster.random.uniform(0.5, 3.0))
        if fault == "crash":
            await cluster.restart(node)
        elif fault == "pause":
            cluster.resume(node)
        else:
            cluster.heal()


async def run_workers(cluster: Cluster, kind: type[Queue], paid: list[str]) -> None:
    """Let three workers, each with a connection of its own, empty the queue."""

    async def run(worker: str) -> None:
        async with cluster.connect(name=worker) as db:
            await work(kind(db), worker, paid)

    async with asyncio.TaskGroup() as group:
        for worker in ("ann", "bob", "cem"):
            group.create_task(run(worker))


async def add_jobs(queue: Queue) -> None:
    """Add twenty jobs."""
    for number in range(20):
        await queue.add(f"{number:02}")


@pytest.mark.parametrize("kind", [Queue, SafeQueue])
@simulated(seeds=20)
async def test_on_a_quiet_day(cluster: Cluster, db: multiraft.Database, kind: type[Queue]) -> None:
    """Nothing goes wrong: both queues pass."""
    await add_jobs(kind(db))
    paid: list[str] = []
    await run_workers(cluster, kind, paid)
    assert len(paid) == 20


@pytest.mark.parametrize("kind", [Queue, SafeQueue])
@simulated(seeds=20)
async def test_every_job_is_paid_for_once(
    cluster: Cluster, db: multiraft.Database, kind: type[Queue]
) -> None:
    """Nodes crash, stand still and are cut off while the workers work."""
    await add_jobs(kind(db))
    paid: list[str] = []
    storm = asyncio.create_task(trouble(cluster))
    await run_workers(cluster, kind, paid)
    storm.cancel()
    twice = sorted({job for job in paid if paid.count(job) > 1})
    assert not twice, f"paid for twice: {', '.join(twice)}"
