"""Snapshots: one time for all reads, chosen once, and never in the future."""

import asyncio
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone

import pytest

from multiraft import config, errors
from multiraft.client import moment
from multiraft.client.moment import Moment
from multiraft.ids import NodeId, Timestamp, show_time
from multiraft.model import hlc
from multiraft.model.requests import AdminProtect, BatchRequest, Get, Scan
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
KEYS = [b"a", b"i", b"q", b"z"]


def fill(bench: Bench, value: bytes) -> None:
    for key in KEYS:
        bench.cluster.put(key, value)


def times(bench: Bench) -> set[Timestamp]:
    """The times at which anything but addressing records was read."""
    return {
        request.timestamp
        for _, request in bench.cluster.requests
        for operation in request.operations
        if (isinstance(operation, Get) and operation.key >= b"\x10")
        or (isinstance(operation, Scan) and operation.start >= b"\x10")
    }


def test_all_reads_are_as_of_the_first_one() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"before")
        async with bench.db.snapshot() as then:
            assert then.timestamp is None
            assert await then.get(b"i") == b"before"
            fixed = then.timestamp
            assert fixed
            await asyncio.sleep(0.001)
            fill(bench, b"after")
            assert await then.get(b"z") == b"before"
            assert await then.get(b"missing") is None
            assert await then.get_many(KEYS) == dict.fromkeys(KEYS, b"before")
            assert [row async for row in then.scan()] == [(key, b"before") for key in KEYS]
            pages = [page async for page in then.scan_pages(b"h", reverse=True, limit=2)]
            assert [row for page in pages for row in page] == [(b"z", b"before"), (b"q", b"before")]
            assert times(bench) == {0, fixed}
        assert await bench.db.get(b"z") == b"after"

    clients.run(main)


@pytest.mark.parametrize("first", ["get", "get_many", "scan"])
def test_exactly_one_part_goes_first(first: str) -> None:
    """S19: two leaseholders that both choose would give a torn view."""

    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        await bench.db.get_many(KEYS)
        bench.cluster.requests.clear()
        async with bench.db.snapshot() as now:
            if first == "get":
                await asyncio.gather(*(now.get(key) for key in KEYS))
            elif first == "get_many":
                await asyncio.gather(now.get_many(KEYS), now.get_many(KEYS[::-1]))
            else:
                async with aclosing(now.scan()) as rows:
                    assert await anext(rows) == (b"a", b"v")
                    await now.get(b"z")
            chosen = [r for _, r in bench.cluster.requests if not r.timestamp and is_read(r)]
            assert len(chosen) == 1
            assert times(bench) == {0, now.timestamp}

    clients.run(main)


def is_read(request: BatchRequest) -> bool:
    first = request.operations[0]
    return (
        isinstance(first, Get | Scan)
        and (first.key if isinstance(first, Get) else first.start) >= b"\x10"
    )


def test_the_first_read_is_dated_after_all_that_the_client_has_been_told_of() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        await bench.db.get_many(KEYS)
        bench.cluster.requests.clear()
        told = bench.router._cluster_clock
        async with bench.db.snapshot() as now:
            latest = told.latest
            await now.get(b"a")
        (first,) = [r for _, r in bench.cluster.requests if not r.timestamp and is_read(r)]
        assert first.issued_at >= latest > 0

    clients.run(main)


def test_a_first_read_that_fails_leaves_the_time_to_be_chosen_by_the_next() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        await bench.db.get(b"a")
        async with bench.db.snapshot() as now:
            bench.cluster.intercept = lambda _n, _r: Plan(drop_reply=True)
            with pytest.raises(errors.DeadlineExceededError):
                await now.get(b"a", deadline_s=0.2)
            assert now.timestamp is None
            bench.cluster.intercept = lambda _n, _r: EVALUATE
            assert await now.get(b"z") == b"v"
            assert now.timestamp

    clients.run(main)


def test_a_snapshot_that_was_left_reads_no_more() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        async with bench.db.snapshot() as now:
            await now.get(b"a")
        with pytest.raises(errors.TransactionEndedError):
            await now.get(b"a")
        with pytest.raises(errors.TransactionEndedError):
            await now.get_many(KEYS)
        with pytest.raises(errors.TransactionEndedError):
            [row async for row in now.scan()]

    clients.run(main)


# -- which time is meant ---------------------------------------------------------------------------


def test_a_time_is_a_datetime_a_timedelta_before_now_or_a_timestamp() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"old")
        await asyncio.sleep(10.0)
        at = await moment.resolve(bench.router, timedelta(seconds=2))
        elsewhere = EPOCH.astimezone(timezone(timedelta(hours=-7)))
        fill(bench, b"new")
        moments: list[Moment] = [
            at,
            EPOCH + timedelta(microseconds=hlc.to_us(at)),
            elsewhere + timedelta(microseconds=hlc.to_us(at)),
            timedelta(seconds=2),
        ]
        for given in moments:
            async with bench.db.snapshot(given) as then:
                assert then.timestamp is not None
                assert abs(hlc.to_us(then.timestamp) - hlc.to_us(at)) < 1_000
                assert await then.get(b"a") == b"old"

    clients.run(main)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (timedelta(seconds=-1), "the future cannot be read"),
        (datetime(2100, 1, 1, tzinfo=UTC), "the future cannot be read"),
        (1 << 70, "the future cannot be read"),
        (datetime(2020, 1, 1), "no time zone"),
        (timedelta(days=1_000_000), "after 1970"),
        (0, "after 1970"),
        (-1, "after 1970"),
        (True, "not bool"),
        ("yesterday", "not str"),
    ],
)
def test_a_time_that_makes_no_sense_is_refused(given: Moment, told: str) -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(errors.RequestError, match=told):
            async with bench.db.snapshot(given):
                raise AssertionError("it must not be entered")

    clients.run(main)


def test_the_time_of_a_clock_that_is_a_little_ahead_is_no_future() -> None:
    async def main(bench: Bench) -> None:
        now = bench.router.cluster_time()
        assert await moment.resolve(bench.router, now + hlc.from_ms(200)) > now

    clients.run(main)


def test_times_are_shown_as_people_read_them() -> None:
    moment_shown = datetime(2024, 5, 6, 7, 8, 9, 10, tzinfo=UTC)
    us = (moment_shown - EPOCH) // timedelta(microseconds=1)
    assert show_time(hlc.from_us(us) + 5) == "2024-05-06 07:08:09.000010Z"
    error = errors.ReadTooOldError(timestamp=hlc.from_us(us), threshold=hlc.from_us(us + 10**6))
    assert "2024-05-06 07:08:09.000010Z" in error.message
    assert "2024-05-06 07:08:10.000010Z" in error.message


# -- protections -----------------------------------------------------------------------------------


def protections(bench: Bench) -> list[AdminProtect]:
    """What was asked of protections, in order."""
    return [
        operation
        for _, request in bench.cluster.requests
        for operation in request.operations
        if isinstance(operation, AdminProtect)
    ]


CLIENT = config.ClientConfig()


def test_what_ends_soon_protects_nothing() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        async with bench.db.snapshot() as now:
            await now.get(b"a")
            await asyncio.sleep(CLIENT.protect_after_s - 0.1)
        assert [key async for key, _ in bench.db.scan()] == KEYS
        await asyncio.sleep(100.0)
        assert protections(bench) == []

    clients.run(main)


@pytest.mark.parametrize("what", ["snapshot", "scan"])
def test_what_lasts_protects_its_time_renews_that_and_lets_it_go(what: str) -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        if what == "snapshot":
            async with bench.db.snapshot(owner="me") as now:
                await now.get(b"a")
                at = now.timestamp
                await asyncio.sleep(CLIENT.protect_after_s + CLIENT.protection_s + 1.0)
        else:
            async with aclosing(bench.db.scan()) as rows:
                await anext(rows)
                await asyncio.sleep(CLIENT.protect_after_s + CLIENT.protection_s + 1.0)
                at = next(time for time in times(bench) if time)
        await asyncio.sleep(1.0)
        asked = protections(bench)
        assert len({protect.id for protect in asked}) == 1
        assert {protect.timestamp for protect in asked} == {at}
        assert {protect.owner for protect in asked} == {"me" if what == "snapshot" else "a scan"}
        durations = [protect.duration_ms for protect in asked]
        assert durations == [60_000] * 4 + [0]
        await asyncio.sleep(1_000.0)
        assert len(protections(bench)) == 5, "nothing goes on"
        assert bench.is_quiet()

    clients.run(main)


def test_a_protection_that_is_not_answered_is_asked_for_again() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")

        def intercept(_node: NodeId, request: BatchRequest) -> Plan:
            return Plan(drop_reply=isinstance(request.operations[0], AdminProtect))

        async with bench.db.snapshot() as now:
            await now.get(b"a")
            bench.cluster.intercept = intercept
            await asyncio.sleep(CLIENT.protection_s * 2)
            assert len(protections(bench)) >= 6

    clients.run(main)


def test_a_protection_that_is_refused_is_not_asked_for_again_and_reads_go_on() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        refusal = errors.ReadTooOldError(timestamp=1, threshold=2)

        def intercept(_node: NodeId, request: BatchRequest) -> Plan:
            is_protect = isinstance(request.operations[0], AdminProtect)
            return Plan(refusal=refusal) if is_protect else EVALUATE

        async with bench.db.snapshot() as now:
            await now.get(b"a")
            bench.cluster.intercept = intercept
            await asyncio.sleep(CLIENT.protection_s * 2)
            assert len(protections(bench)) == 1
            assert await now.get(b"z") == b"v"
            with pytest.raises(errors.ReadTooOldError):
                async with bench.db.admin.protect(Timestamp(5)):
                    raise AssertionError("it must not be granted")

    clients.run(main)


def test_closing_the_database_in_a_snapshot_that_is_protected_raises_nothing() -> None:
    async def main(bench: Bench) -> None:
        fill(bench, b"v")
        async with bench.db.snapshot() as now:
            await now.get(b"a")
            await asyncio.sleep(CLIENT.protect_after_s + 1.0)
            await bench.db.close()
        with pytest.raises(errors.StoppedError):
            bench.db.snapshot()

    clients.run(main)
