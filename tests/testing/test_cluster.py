"""The cluster in a user's test: on loops with real and with virtual time, hurt and misused."""

import asyncio
import gc
import math
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from multiraft import errors
from multiraft.sim import loop as virtual_loop
from multiraft.testing import Cluster, MisuseError

Main = Callable[[], Coroutine[Any, Any, None]]


def on_virtual_time(main: Main) -> None:
    virtual_loop.run(lambda _: main(), limit_s=1_000)


LOOPS = pytest.mark.parametrize(
    "run",
    [
        pytest.param(lambda main: asyncio.run(main()), id="asyncio"),
        pytest.param(lambda main: uvloop.run(main()), id="uvloop"),
        pytest.param(on_virtual_time, id="virtual"),
    ],
)
Run = Callable[[Main], None]


def virtual(main: Main) -> Callable[[], None]:
    """Make a test on virtual time of an `async def test_...()`."""

    def test() -> None:
        on_virtual_time(main)

    return test


@LOOPS
def test_a_crash_loses_nothing_that_was_acknowledged(run: Run) -> None:
    async def main() -> None:
        async with Cluster() as cluster, cluster.connect() as db:
            await db.put(b"answer", b"42")
            leader = cluster.leader(b"answer")
            assert leader is not None
            await cluster.crash(leader)
            assert await db.get(b"answer") == b"42"
            assert cluster.leader(b"answer") not in {None, leader}
            await cluster.restart(leader)
            assert {node.state for node in cluster.status().nodes} == {"up"}

    run(main)


@LOOPS
def test_a_paused_node_is_passed_by_and_goes_on_later(run: Run) -> None:
    async def main() -> None:
        async with Cluster() as cluster, cluster.connect() as db:
            leader = cluster.leader()
            assert leader is not None
            cluster.pause(leader)
            await db.put(b"k", b"v")
            assert cluster.status().nodes[leader - 1].state == "paused"
            cluster.resume(leader)
            await cluster.until_served()
            assert await db.get(b"k") == b"v"

    run(main)


@LOOPS
def test_nothing_is_left_behind(run: Run) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with Cluster() as cluster:
            forgotten = cluster.connect()
            await forgotten.open()
            await cluster.split(b"m")
            await cluster.crash(1)
            cluster.pause(2)
            cluster.partition([3, "client"])
        assert asyncio.all_tasks() == before
        with pytest.raises(errors.StoppedError):
            await forgotten.get(b"k")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main)
        gc.collect()


@LOOPS
def test_a_cluster_is_left_in_order_when_the_test_fails(run: Run) -> None:
    class TheTestsOwnError(Exception):
        pass

    async def main() -> None:
        async def test() -> None:
            async with Cluster() as cluster:
                cluster.pause(1)
                raise TheTestsOwnError

        before = asyncio.all_tasks()
        with pytest.raises(TheTestsOwnError):
            await test()
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
def test_nothing_is_left_behind_however_often_the_test_is_cancelled(run: Run) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        is_started = asyncio.Event()

        async def test() -> None:
            async with Cluster() as cluster, cluster.connect():
                is_started.set()
                await asyncio.sleep(100.0)

        task = asyncio.create_task(test())
        await is_started.wait()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
@pytest.mark.parametrize("steps", [1, 3, 10, 30])
def test_nothing_is_left_behind_if_the_test_is_cancelled_while_its_cluster_starts(
    run: Run, steps: int
) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()

        async def test() -> None:
            async with Cluster():
                pass

        task = asyncio.create_task(test())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_a_cluster_may_end_while_a_node_starts(run: Run, steps: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with Cluster() as cluster:
            await cluster.crash(1)
            restarting = asyncio.create_task(cluster.restart(1))
            for _ in range(steps):
                await asyncio.sleep(0)
        await restarting
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 6])
def test_a_node_may_crash_while_it_starts(run: Run, steps: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with Cluster() as cluster, cluster.connect() as db:
            await cluster.crash(1)
            restarting = asyncio.create_task(cluster.restart(1))
            for _ in range(steps):
                await asyncio.sleep(0)
            await cluster.crash(1)
            await restarting
            assert cluster.status().nodes[0].state == "down"
            await cluster.restart(1)
            await db.put(b"k", b"v")
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
def test_two_clusters_in_one_loop_know_nothing_of_each_other(run: Run) -> None:
    async def main() -> None:
        async with (
            Cluster() as one,
            Cluster(seed=2) as other,
            one.connect() as first,
            other.connect() as second,
        ):
            await first.put(b"k", b"1")
            await second.put(b"k", b"2")
            await one.crash(1)
            one.partition([2])
            assert {node.state for node in other.status().nodes} == {"up"}
            assert await second.get(b"k") == b"2"
            one.heal()
            assert await first.get(b"k") == b"1"

    run(main)


@pytest.mark.parametrize("nodes", [1, 2, 3, 5])
def test_it_has_as_many_nodes_as_one_asks_for(nodes: int) -> None:
    async def main() -> None:
        async with Cluster(nodes) as cluster, cluster.connect() as db:
            await db.put(b"k", b"v")
            assert len(cluster.nodes) == len(cluster.addresses) == len(cluster.status().nodes)
            assert cluster.nodes == tuple(range(1, nodes + 1))

    on_virtual_time(main)


@virtual
async def test_a_partition_isolates_those_in_no_group_from_the_groups() -> None:
    async with Cluster() as cluster, cluster.connect(name="app") as db:
        old = cluster.leader()
        assert old is not None
        cluster.partition([old])
        await db.put(b"k", b"v")
        assert cluster.leader() not in {None, old}
        assert len(cluster.status().cuts) == 4
        cluster.heal()
        assert cluster.status().cuts == ()


@virtual
async def test_a_client_in_a_partition_reaches_its_side_only() -> None:
    async with (
        Cluster() as cluster,
        cluster.connect(name="cut off", deadline_s=3.0) as here,
        cluster.connect(name="at large") as there,
    ):
        cluster.partition([1, "cut off"], [2, 3])
        await there.put(b"k", b"v")
        with pytest.raises((errors.DeadlineExceededError, errors.OutcomeUnknownError)):
            await here.put(b"k", b"w")
        cluster.heal()
        assert await here.get(b"k") in {b"v", b"w"}


@virtual
async def test_a_second_partition_replaces_the_first() -> None:
    async with Cluster() as cluster:
        cluster.partition([1])
        first = set(cluster.status().cuts)
        cluster.partition([2])
        assert first & set(cluster.status().cuts) == {("n1", "n2"), ("n2", "n1")}


@virtual
async def test_a_small_skew_is_borne() -> None:
    async with Cluster() as cluster, cluster.connect() as db:
        cluster.skew(1, 0.1)
        cluster.skew(1, 0.1)
        assert cluster.status().nodes[0].clock_offset_s == pytest.approx(0.1)
        for number in range(50):
            await db.put(b"%d" % number, b"v")
            await asyncio.sleep(0.1)
        assert {node.state for node in cluster.status().nodes} == {"up"}


@pytest.mark.parametrize("run", LOOPS.args[1][::2])
def test_a_node_with_a_clock_that_is_far_off_stops(run: Run) -> None:
    async def main() -> None:
        async with Cluster() as cluster, cluster.connect() as db:
            cluster.skew(1, 1.0)
            await cluster.simulated.until(lambda: cluster.status().nodes[0].state == "down")
            await db.put(b"k", b"v")
            cluster.skew(1, 0.0)
            await cluster.restart(1)
            await cluster.until_served()
            assert await db.get(b"k") == b"v"

    run(main)


@LOOPS
def test_a_node_that_refuses_to_start_stays_down(run: Run) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        async with Cluster() as cluster:
            await cluster.crash(1)
            cluster.skew(1, -7200.0)
            await cluster.restart(1)
            assert cluster.status().nodes[0].state == "down"
            cluster.skew(1, 0.0)
            await cluster.restart(1)
            assert cluster.status().nodes[0].state == "up"
        assert asyncio.all_tasks() == before

    run(main)


@LOOPS
def test_split_and_transfer_are_done_on_return(run: Run) -> None:
    async def main() -> None:
        async with Cluster() as cluster, cluster.connect() as db:
            await db.put_many({b"a": b"1", b"z": b"2"})
            await cluster.split(b"m")
            await cluster.split(b"m")
            assert len(cluster.status().ranges) == 3  # The system's own, and two.
            for node in (1, 2, 3):
                await cluster.transfer(b"z", node)
                assert cluster.leader(b"z") == node
            leads = {r for node in cluster.status().nodes for r in node.leads}
            assert leads == {r.range_id for r in cluster.status().ranges}
            assert await db.get_many([b"a", b"z"]) == {b"a": b"1", b"z": b"2"}

    run(main)


@virtual
async def test_nobody_leads_when_all_are_down() -> None:
    async with Cluster() as cluster:
        for node in cluster.nodes:
            await cluster.crash(node)
        assert cluster.leader() is None
        assert cluster.status().ranges == ()
        for node in cluster.nodes:
            await cluster.restart(node)
        await cluster.until_served()


@virtual
async def test_a_paused_node_may_crash() -> None:
    async with Cluster() as cluster:
        cluster.pause(2)
        await cluster.crash(2)
        await cluster.restart(2)
        assert cluster.status().nodes[1].state == "up"


@virtual
async def test_slow_links_and_disks_cost_time() -> None:
    async with Cluster() as cluster, cluster.connect() as db:
        cluster.slow_down(link_s=0.1, sync_s=0.05)
        loop = asyncio.get_running_loop()
        began = loop.time()
        await db.put(b"k", b"v")
        assert loop.time() - began > 0.4  # There and back, twice, and one sync.


@virtual
async def test_a_whole_host_may_crash_once_replicas_are_on_hosts_of_their_own() -> None:
    localities = ("host=a", "host=a", "host=b", "host=c")
    async with Cluster(4, localities=localities) as cluster, cluster.connect() as db:
        assert tuple(node.locality for node in cluster.status().nodes) == localities
        assert {each.replicas for each in cluster.status().ranges} == {(1, 2, 3)}
        await db.put(b"k", b"before")
        apart = ({1, 3, 4}, {2, 3, 4})
        await cluster.simulated.until(
            lambda: all({*each.replicas} in apart for each in cluster.status().ranges)
        )
        await cluster.crash(1)
        await cluster.crash(2)
        await db.put(b"k", b"after")
        assert await db.get(b"k") == b"after"


@virtual
async def test_misuse_is_answered_with_what_to_do() -> None:
    async with Cluster() as cluster:
        for misuse, hint in (
            (lambda: cluster.pause(4), "there is no node 4; there are 1 to 3"),
            (lambda: cluster.skew(0, 1.0), "there is no node 0"),
            (lambda: cluster.resume(1), "n1 is not paused"),
            (lambda: cluster.partition([1, 2], [2, 3]), "n2 cannot be in two groups"),
            (lambda: cluster.partition([7]), "there is no node 7"),
            (lambda: cluster.connect(name="n1"), "a node's name"),
        ):
            with pytest.raises(MisuseError, match=hint):
                misuse()
        with pytest.raises(MisuseError, match="n1 is up; crash it first"):
            await cluster.restart(1)
        cluster.pause(1)
        with pytest.raises(MisuseError, match=r"n1 is paused; resume\(1\)"):
            await cluster.restart(1)
        with pytest.raises(MisuseError, match="paused already"):
            cluster.pause(1)
        await cluster.crash(1)
        for again in (cluster.crash(1), cluster.transfer(b"k", 1)):
            with pytest.raises(MisuseError, match=r"n1 is down; restart\(1\) starts it"):
                await again
        with pytest.raises(MisuseError, match="n1 is down"):
            cluster.pause(1)
        with pytest.raises(MisuseError, match="started before"):
            await cluster.__aenter__()


@virtual
async def test_arguments_that_would_show_nothing_are_refused() -> None:
    async with Cluster() as cluster:
        ask: Any = cluster  # As one does without a type checker.
        wrong: list[tuple[Callable[[], object], str]] = [
            (lambda: ask.slow_down(link_s=-1), r"link_s is -1, but must be 0 or more \(seconds\)"),
            (lambda: ask.slow_down(link_s=math.nan), "link_s must be a finite number .*not nan"),
            (lambda: ask.slow_down(sync_s="1"), "sync_s must be a finite number .*not '1'"),
            (lambda: ask.slow_down(sync_s=True), "sync_s must be a finite number .*not True"),
            (lambda: ask.skew(1, math.nan), "seconds must be a finite number .*not nan"),
            (lambda: ask.skew(1, -math.inf), "seconds must be a finite number .*not -inf"),
            (lambda: ask.skew(1, 1e12), r"seconds is 1e\+12, but must be -1e\+09 to 1e\+09"),
            (lambda: ask.pause(1.0), r"there is no node 1.0; there are 1 to 3"),
            (lambda: ask.pause(True), "there is no node True"),
            (lambda: ask.pause([1]), r"there is no node \[1\]"),
            (lambda: ask.partition(["typo"]), "no client 'typo'; there are 'admin', and nodes are"),
            (lambda: ask.partition("client"), r"a group is a list .*such as \['client'\]"),
            (lambda: ask.partition(3), r"a group is a list .*such as \[3\]"),
            (lambda: ask.leader("k"), "key must be bytes, not 'k'"),
            (lambda: ask.connect(name=""), "name must be text that is not empty, not ''"),
            (lambda: ask.connect(name=3), "name must be text that is not empty, not 3"),
        ]
        for misuse, told in wrong:
            with pytest.raises(MisuseError, match=told):
                misuse()
        with pytest.raises(errors.ConfigError, match=r"deadline_s is -1\.0, but must be above 0"):
            cluster.connect(deadline_s=-1.0)
        for awaited, told in (
            (ask.split("k"), "key must be bytes"),
            (ask.transfer(None, 1), "key must be bytes"),
            (ask.until_served(within_s=math.nan), "within_s must be a finite number"),
            (ask.until_served(within_s=-1), "within_s is -1, but must be 0 or more"),
        ):
            with pytest.raises(MisuseError, match=told):
                await awaited
        assert [node.state for node in cluster.status().nodes] == ["up"] * 3
        assert cluster.status().cuts == ()
    make: Any = Cluster
    for arguments, told in (
        ({"nodes": 2.5}, "nodes must be an int, not 2.5"),
        ({"nodes": True}, "nodes must be an int, not True"),
        ({"seed": None}, "seed must be an int, not None"),
    ):
        with pytest.raises(MisuseError, match=told):
            make(**arguments)


@virtual
async def test_a_cluster_that_does_not_run_says_so() -> None:
    cluster = Cluster()
    with pytest.raises(MisuseError, match="not started"):
        cluster.status()
    async with cluster:
        pass
    with pytest.raises(MisuseError, match="has ended"):
        cluster.connect()
    with pytest.raises(MisuseError, match="nodes is 0, but must be 1 or more"):
        Cluster(0)
    with pytest.raises(MisuseError, match="2 localities are given for 3 nodes"):
        Cluster(localities=("host=a", "host=b"))
    with pytest.raises(errors.ConfigError, match="is not KEY=VALUE"):
        Cluster(localities=("a", "b", "c"))


@virtual
async def test_a_broken_promise_fails_the_test() -> None:
    with pytest.raises(AssertionError, match="two leaders"):
        async with Cluster() as cluster:
            cluster.simulated.invariants.violations.append("two leaders")


@virtual
async def test_a_broken_promise_does_not_hide_the_tests_own_failure() -> None:
    async def test() -> None:
        async with Cluster() as cluster:
            cluster.simulated.invariants.violations.append("two leaders")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        await test()
    assert any("two leaders" in note for note in caught.value.__notes__)
