"""How long a cluster in a test takes to start and to end: `pytest bench/bench_test_cluster.py`.

On a loop with real time nearly all of it is the wait for the first election; on virtual time it is
the work alone.
"""

import asyncio

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.testing import BlockingCluster, Cluster, run_simulated


@pytest.mark.parametrize("nodes", [1, 3, 5])
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_a_cluster_on_a_real_loop(benchmark: BenchmarkFixture, run: object, nodes: int) -> None:
    async def main() -> None:
        async with Cluster(nodes):
            pass

    assert callable(run)
    benchmark(lambda: run(main()))


@pytest.mark.parametrize("nodes", [1, 3, 5])
def test_a_cluster_on_virtual_time(benchmark: BenchmarkFixture, nodes: int) -> None:
    async def main(cluster: Cluster) -> None:
        pass

    benchmark(lambda: run_simulated(main, nodes=nodes))


def test_a_cluster_in_a_thread(benchmark: BenchmarkFixture) -> None:
    def main() -> None:
        with BlockingCluster():
            pass

    benchmark(main)
