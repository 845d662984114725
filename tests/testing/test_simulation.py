"""An application and a cluster on one virtual clock."""

import asyncio
import errno
import gc
import inspect
from collections.abc import AsyncGenerator
from typing import cast

import pytest

from multiraft.client.database import Database
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import StuckError, VirtualLoop
from multiraft.testing import Cluster, MisuseError, run_simulated, simulated
from multiraft.testing.simulation import SEED_VARIABLE


async def hurt_and_count(cluster: Cluster) -> list[float]:
    """Write while nodes crash, and return when each write was acknowledged."""
    moments = []
    async with cluster.connect() as db:
        for number in range(6):
            node = cluster.random.choice(cluster.nodes)
            await cluster.crash(node)
            await db.increment(b"n")
            moments.append(asyncio.get_running_loop().time())
            await asyncio.sleep(cluster.random.random())
            await cluster.restart(node)
            assert await db.increment(b"n", 0) == number + 1
    return moments


def test_one_seed_is_one_run() -> None:
    runs = [run_simulated(hurt_and_count, seed=seed) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_sleeps_and_timeouts_are_virtual() -> None:
    async def main(cluster: Cluster) -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(100.0):
                await asyncio.Event().wait()
        before = asyncio.get_running_loop().time()
        await asyncio.sleep(3600.0)
        assert asyncio.get_running_loop().time() - before >= 3600.0
        return "done"

    assert run_simulated(main, nodes=1, limit_s=4000.0) == "done"


def test_nodes_are_where_they_are_told_to_be() -> None:
    async def main(cluster: Cluster) -> list[str]:
        return [node.locality for node in cluster.status().nodes]

    localities = ["host=a", "host=b", "host=c"]
    assert run_simulated(main, localities=localities) == localities


def test_a_failure_names_its_seed_and_moment() -> None:
    async def main(cluster: Cluster) -> None:
        await asyncio.sleep(2.5)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        run_simulated(main, seed=17)
    (note,) = caught.value.__notes__
    assert note.startswith("seed 17, 2.")
    assert note.endswith(" s of virtual time")


def test_an_application_that_never_ends_is_ended() -> None:
    async def main(cluster: Cluster) -> None:
        await asyncio.Event().wait()

    with pytest.raises(StuckError):
        run_simulated(main, limit_s=20.0)


def test_there_are_as_many_nodes_as_asked_for() -> None:
    async def main(cluster: Cluster) -> int:
        return len(cluster.status().nodes)

    assert run_simulated(main, nodes=5) == 5


@simulated(seeds=2)
async def test_a_test_may_ask_for_the_cluster_and_a_client(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    await cluster.crash(1)
    assert await db.get(b"k") == b"v"


@pytest.mark.parametrize("value", [b"1", b"2"])
@simulated(nodes=1)
async def test_a_test_may_ask_for_a_client_alone(db: Database, value: bytes) -> None:
    await db.put(b"k", value)
    assert await db.get(b"k") == value


class TestMethods:
    @simulated(nodes=1)
    async def test_a_test_may_be_a_method(self, cluster: Cluster) -> None:
        assert cluster.nodes == (1,)


def test_it_runs_once_for_each_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    @simulated(seed=5, seeds=3, nodes=1)
    async def test(cluster: Cluster) -> None:
        drawn.append(cluster.random.random())

    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    test()
    assert len(set(drawn)) == 3
    monkeypatch.setenv(SEED_VARIABLE, "6")
    test()
    assert drawn[3:] == drawn[1:2]


def test_a_failed_test_carries_the_command_that_repeats_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @simulated(seed=5, seeds=3, nodes=1)
    async def test(cluster: Cluster) -> None:
        raise ZeroDivisionError

    monkeypatch.delenv(SEED_VARIABLE, raising=False)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/a.py::test[1 2] (call)")
    with pytest.raises(ZeroDivisionError) as caught:
        test()
    assert (
        caught.value.__notes__[-1] == "to repeat: MULTIRAFT_SEED=5 pytest 'tests/a.py::test[1 2]'"
    )
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(ZeroDivisionError) as caught:
        test()
    assert caught.value.__notes__[-1].startswith("to repeat: MULTIRAFT_SEED=5 ")


def test_the_other_parameters_stay() -> None:
    @simulated()
    async def test(tmp_path: str, cluster: Cluster, db: Database, other: int = 1) -> None:
        """Say what is tested."""

    assert list(inspect.signature(test).parameters) == ["tmp_path", "other"]
    assert (test.__name__, test.__doc__) == ("test", "Say what is tested.")
    assert not inspect.iscoroutinefunction(test)


def test_a_test_without_seeds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MisuseError, match="seeds is 0, but must be 1 or more"):
        simulated(seeds=0)

    @simulated()
    async def test(cluster: Cluster) -> None: ...

    monkeypatch.setenv(SEED_VARIABLE, "first")
    with pytest.raises(MisuseError, match=f"{SEED_VARIABLE} is 'first'"):
        test()


def test_a_run_does_not_depend_on_when_garbage_is_collected() -> None:
    async def main(cluster: Cluster) -> list[float]:
        closed: list[float] = []

        async def numbers() -> AsyncGenerator[int, None]:
            try:
                yield 1
            finally:
                closed.append(asyncio.get_running_loop().time())

        for _ in range(5):
            ring: list[object] = [numbers()]
            ring.append(ring)
            async for _ in cast("AsyncGenerator[int, None]", ring[0]):
                break
            del ring
            await asyncio.sleep(0.2)
        return list(closed)

    thresholds = gc.get_threshold()
    try:
        gc.set_threshold(50)
        often = run_simulated(main)
        gc.set_threshold(1_000_000)
        assert run_simulated(main) == often
        assert gc.isenabled()
    finally:
        gc.set_threshold(*thresholds)


def test_a_loop_within_a_loop_is_refused() -> None:
    async def main(cluster: Cluster) -> None: ...

    async def test() -> None:
        run_simulated(main)

    with pytest.raises(MisuseError, match="a loop of its own"):
        asyncio.run(test())


def test_what_cannot_be_simulated_is_refused() -> None:
    with pytest.raises(MisuseError, match="a parameter `cluster` or `db`"):

        @simulated()
        async def needs_nothing() -> None: ...

    with pytest.raises(MisuseError, match="`async def`"):
        simulated()(lambda cluster: cluster)


def test_why_there_is_no_loop_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> VirtualLoop:
        raise OSError(errno.EMFILE, "too many open files")

    async def main(cluster: Cluster) -> None: ...

    monkeypatch.setattr(virtual_loop, "VirtualLoop", fail)
    with pytest.raises(OSError, match="too many open files"):
        run_simulated(main)
