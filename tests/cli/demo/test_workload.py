import asyncio
import itertools
from collections.abc import Awaitable, Callable

import pytest

import multiraft
from multiraft import errors
from multiraft.cli.demo import characters
from multiraft.cli.demo.workload import Rows, Workload
from multiraft.client.database import Database
from multiraft.model import requests
from multiraft.runtime import SystemClock
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from tests.support.fake_cluster import EVALUATE, FakeCluster, FakeTransport, Plan


@pytest.fixture
def rows() -> Rows:
    """The real rows, thinned out: a few of each section."""
    return Rows(itertools.islice(characters.all_characters(), 0, None, 2_000))


@pytest.fixture
def cluster(rows: Rows) -> FakeCluster:
    """Holds every row of the fixture; requests take a millisecond."""
    cluster = FakeCluster(SystemClock())
    for section in rows.sections:
        for row in section:
            cluster.put(rows.keys[row], rows.value(row, 0))
    cluster.intercept = lambda _node, _request: Plan(request_delay_s=0.001)
    return cluster


def run(
    cluster: FakeCluster,
    rows: Rows,
    meanwhile: Callable[[Database], Awaitable[None]] | None = None,
) -> Workload:
    """Run the callers for a fifth of a virtual second."""

    async def main(loop: VirtualLoop) -> Workload:
        async with multiraft.connect(
            "c1-n1:7000",
            transport=FakeTransport(cluster),
            clock=VirtualClock(loop),
            deadline_s=0.05,
        ) as database:
            work = Workload(database, rows, loop.time)
            running = asyncio.create_task(work.run())
            await asyncio.sleep(0.1)
            if meanwhile is not None:
                await meanwhile(database)
            await asyncio.sleep(0.1)
            work.stop()
            await running
            return work

    return virtual_loop.run(main)


def all_accepted(cluster: FakeCluster, rows: Rows) -> bool:
    return all(
        rows.accepts(row, cluster.value(rows.keys[row]) or b"")
        for section in rows.sections
        for row in section
    )


def test_what_was_acknowledged_is_what_is_accepted(cluster: FakeCluster, rows: Rows) -> None:
    work = run(cluster, rows)
    assert sum(rows.revisions) == sum(len(each.ends) for each in work.recorder.writes) > 100
    assert not work.stale_reads
    assert not work.recorder.failed
    assert all_accepted(cluster, rows)


def test_a_lost_write_is_noticed(cluster: FakeCluster, rows: Rows) -> None:
    run(cluster, rows)
    row = next(row for row in range(len(rows)) if rows.revisions[row] > 0)
    assert not rows.accepts(row, rows.value(row, rows.revisions[row] - 1))
    assert not rows.accepts(row, b"")


def test_a_stale_read_is_noticed(cluster: FakeCluster, rows: Rows) -> None:
    async def forget_the_latest_version(_: Database) -> None:
        for section in rows.sections:
            for row in section:
                if rows.revisions[row] > 1:
                    old = rows.value(row, rows.revisions[row] - 2)
                    cluster.put(rows.keys[row], old)

    work = run(cluster, rows, forget_the_latest_version)
    assert work.stale_reads
    assert work.stale_reads[0].revision < work.stale_reads[0].known


def test_a_write_in_doubt_may_have_happened_or_not(cluster: FakeCluster, rows: Rows) -> None:
    first = rows.keys[rows.sections[0][0]]

    def lose_replies(_node: object, request: requests.BatchRequest) -> Plan:
        operation = request.operations[0]
        lost = isinstance(operation, requests.Put) and operation.key.endswith(first)
        return Plan(drop_reply=True) if lost else Plan(request_delay_s=0.001)

    cluster.intercept = lose_replies
    work = run(cluster, rows)
    assert rows.in_doubt == {rows.sections[0][0]}
    assert {each.code for each in work.recorder.failed} == {errors.OutcomeUnknownError.code}
    assert rows.accepts(rows.sections[0][0], rows.value(rows.sections[0][0], 0))
    assert rows.accepts(rows.sections[0][0], rows.value(rows.sections[0][0], 1))
    assert not rows.accepts(rows.sections[0][0], rows.value(rows.sections[0][0], 2))
    assert all_accepted(cluster, rows)


def test_failures_are_recorded_and_the_callers_go_on(cluster: FakeCluster, rows: Rows) -> None:
    def refuse(_node: object, request: requests.BatchRequest) -> Plan:
        is_get = isinstance(request.operations[0], requests.Get)
        refusal = errors.AdminRefusedError(reason="no reads today")
        return Plan(request_delay_s=0.001, refusal=refusal if is_get else None)

    cluster.intercept = refuse
    work = run(cluster, rows)
    assert len(work.recorder.failed) > 10
    assert {each.code for each in work.recorder.failed} == {errors.AdminRefusedError.code}
    cluster.intercept = lambda _node, _request: EVALUATE
    assert all_accepted(cluster, rows)
