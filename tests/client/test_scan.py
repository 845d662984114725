import asyncio
import gc
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Any

import pytest

from multiraft import config, errors
from multiraft.client.router import NO_TIMESTAMP
from multiraft.client.scan import Cursor
from multiraft.client.scan_time import ScanTime
from multiraft.ids import NodeId, Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Scan, ScanResult
from multiraft.model.transaction_requests import Refresh
from multiraft.sim.randomness import SeededRng
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

SMALL_PAGES = config.LimitsConfig(scan_keys_max=7)
KEYS = [b"%c%02d" % (letter, n) for letter in b"bhmpx" for n in range(20)]


def fill(bench: Bench) -> dict[bytes, bytes]:
    rows = {key: b"value of " + key for key in KEYS}
    for key, value in rows.items():
        bench.cluster.put(key, value)
    return rows


def scans(bench: Bench) -> list[tuple[BatchRequest, Scan]]:
    """Every scan that arrived, with its request."""
    return [
        (request, operation)
        for _, request in bench.cluster.requests
        for operation in request.operations
        if isinstance(operation, Scan)
    ]


@pytest.mark.parametrize("prefetch", [True, False])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 7, 8, 50, 1_000])
def test_a_scan_gives_exactly_its_span_in_order(
    prefetch: bool, reverse: bool, limit: int | None
) -> None:
    async def main(bench: Bench) -> None:
        rows = fill(bench)
        for start, end in [
            (b"", None),
            (b"b05", b"p10"),
            (b"h", b"p"),
            (b"c", b"d"),
            (b"x19", None),
        ]:
            inside = [(k, rows[k]) for k in KEYS if start <= k and (end is None or k < end)]
            expected = (inside[::-1] if reverse else inside)[:limit]
            found = [r async for r in bench.db.scan(start, end, reverse=reverse, limit=limit)]
            assert found == expected
        assert bench.is_quiet()

    clients.run(main, limits=SMALL_PAGES, scan_prefetch=prefetch)


def test_all_parts_are_read_at_the_time_that_the_first_one_fixed() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        scan = bench.db.scan()
        async with aclosing(scan):
            rows = [await anext(scan)]
            bench.cluster.put(b"b001", b"too late")
            bench.cluster.put(b"z", b"too late")
            bench.cluster.put(b"x00", None)
            rows += [row async for row in scan]
        assert [key for key, _ in rows] == KEYS
        first, *others = [request for request, scan in scans(bench) if scan.start >= b"\x10"]
        evaluated = [r for r in others if r.timestamp]
        assert first.timestamp == 0
        assert len({r.timestamp for r in evaluated}) == 1
        assert len(evaluated) >= len(KEYS) // 7

    clients.run(main, limits=SMALL_PAGES)


@pytest.mark.parametrize("reverse", [False, True])
def test_splits_under_a_scan_neither_lose_nor_repeat_a_key(reverse: bool) -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        cuts = iter([b"b10", b"b03", b"m05", b"m", b"x01", b"h07", b"p19", b"x18", b"b", b"h19"])
        found = []
        async for key, _ in bench.db.scan(reverse=reverse):
            found.append(key)
            if len(found) % 9 == 0 and (cut := next(cuts, None)):
                bench.cluster.split(cut, update_meta=len(found) % 2 == 0)
        assert found == (KEYS[::-1] if reverse else KEYS)

    clients.run(main, limits=SMALL_PAGES)


def test_leaders_that_move_and_replies_that_are_lost_do_not_disturb_a_scan() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        rng = SeededRng(5)

        def intercept(_node: NodeId, _request: BatchRequest) -> Plan:
            for a_range in list(bench.cluster.ranges.values())[1:]:
                if rng.below(6) == 0:
                    a_range.leader = bench.cluster.node_ids[rng.below(3)]
            return EVALUATE if rng.below(5) else Plan(drop_reply=True)

        bench.cluster.intercept = intercept
        assert [key async for key, _ in bench.db.scan(deadline_s=300.0)] == KEYS

    clients.run(main, limits=SMALL_PAGES)


def test_the_next_page_is_on_its_way_while_the_application_works() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        await bench.db.get(b"a")
        bench.cluster.intercept = lambda _n, _r: Plan(reply_delay_s=1.0)
        began = bench.loop.time()
        pages = 0
        async for page in bench.db.scan_pages(b"b", b"c"):
            assert page
            pages += 1
            await asyncio.sleep(1.0)
        assert pages == 3
        assert bench.loop.time() - began == pytest.approx(4.0, abs=0.2)

    clients.run(main, limits=SMALL_PAGES)


def test_no_more_is_asked_for_than_the_limit() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        await bench.db.get(b"a")
        bench.cluster.requests.clear()
        assert len([row async for row in bench.db.scan(b"b", limit=3)]) == 3
        assert [scan.limit_keys for _, scan in scans(bench)] == [3]
        assert [row async for row in bench.db.scan(b"b", limit=0)] == []
        assert len(scans(bench)) == 1

    clients.run(main)


@pytest.mark.parametrize("taken", [0, 1, 8])
def test_closing_a_scan_early_leaves_nothing_behind(taken: int) -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        await bench.db.get(b"b")
        scan = bench.db.scan()
        for _ in range(taken):
            await anext(scan)
        bench.cluster.intercept = lambda _n, _r: Plan(drop_reply=True)
        await scan.aclose()
        assert bench.is_quiet()
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    clients.run(main, limits=SMALL_PAGES)


@pytest.mark.parametrize("ends_by", ["deadline", "close"])
def test_the_error_of_a_page_that_nobody_waits_for_is_not_logged(ends_by: str) -> None:
    async def main(bench: Bench) -> None:
        logged: list[dict[str, Any]] = []
        bench.loop.set_exception_handler(lambda _loop, context: logged.append(context))
        fill(bench)
        await bench.db.get(b"b")
        scan = bench.db.scan_pages()
        bench.cluster.intercept = lambda _n, request: (
            Plan(drop_reply=True) if request.timestamp else EVALUATE
        )
        assert await anext(scan)
        if ends_by == "close":
            await bench.db.close()
        else:
            await asyncio.sleep(60.0)
        await scan.aclose()
        del scan
        gc.collect()
        assert logged == []

    clients.run(main, limits=SMALL_PAGES)


def test_a_scan_that_is_cancelled_while_it_waits_leaves_nothing_behind() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        await bench.db.get(b"b")
        bench.cluster.intercept = lambda _n, _r: Plan(drop_reply=True)

        async def read() -> None:
            async for _ in bench.db.scan():
                pass

        task = asyncio.ensure_future(read())
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bench.is_quiet()

    clients.run(main)


async def moving(bench: Bench, plan: Plan, deadline_s: float | None) -> Coroutine[Any, Any, bool]:
    """Return the move of a scan's time to a later one; what it asks then meets with `plan`."""
    fill(bench)
    await bench.db.get(b"b")
    at = bench.cluster.now()
    time = ScanTime(bench.router, deadline_s, NO_TIMESTAMP)
    time.chosen(at, Timestamp(at + 10))
    bench.cluster.intercept = lambda _node, _request: plan
    return time.move_to(Timestamp(at + 5), keys.PLAIN + b"b", keys.PLAIN + b"c")


def test_a_scan_that_is_cancelled_while_its_time_moves_leaves_nothing_behind() -> None:
    async def main(bench: Bench) -> None:
        task = asyncio.ensure_future(await moving(bench, Plan(drop_reply=True), None))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert isinstance(bench.cluster.requests[-1][1].operations[0], Refresh)
        assert bench.is_quiet()

    clients.run(main)


def test_a_scan_that_is_collected_where_no_loop_runs_while_its_time_moves_ends_quietly() -> None:
    async def main(bench: Bench) -> None:
        busy = errors.OverloadedError(what="r1", retry_after_ms=10)
        move = await moving(bench, Plan(refusal=busy), 0.05)
        refresh = move.send(None)
        await asyncio.sleep(0.02)
        with ThreadPoolExecutor() as elsewhere:
            elsewhere.submit(move.close).result()
        await asyncio.wait([refresh])
        assert isinstance(refresh.exception(), errors.DeadlineExceededError)
        assert bench.is_quiet()

    clients.run(main)


def test_the_deadline_is_for_each_page() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        await bench.db.get(b"b")
        bench.cluster.intercept = lambda _n, _r: Plan(reply_delay_s=0.8)
        assert len([row async for row in bench.db.scan(deadline_s=2.0)]) == len(KEYS)
        bench.cluster.intercept = lambda _n, _r: Plan(drop_reply=True)
        with pytest.raises(errors.DeadlineExceededError):
            await anext(bench.db.scan(deadline_s=2.0))

    clients.run(main, limits=SMALL_PAGES)


def test_a_prefix_is_a_span_and_may_be_narrowed() -> None:
    async def main(bench: Bench) -> None:
        fill(bench)
        bench.cluster.put(b"\xff", b"1")
        bench.cluster.put(b"\xff\xff", b"2")

        async def found(*given: bytes, prefix: bytes) -> list[bytes]:
            return [key async for key, _ in bench.db.scan(*given, prefix=prefix)]

        assert await found(prefix=b"h") == [k for k in KEYS if k.startswith(b"h")]
        assert await found(prefix=b"\xff") == [b"\xff", b"\xff\xff"]
        assert await found(b"h05", b"h07", prefix=b"h") == [b"h05", b"h06"]
        assert await found(b"p", prefix=b"h") == []

    clients.run(main)


def test_a_span_that_ends_before_it_starts_is_refused() -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(errors.InvalidSpanError):
            bench.db.scan(b"b", b"a")
        with pytest.raises(errors.RequestError, match="limit is -1"):
            bench.db.scan(limit=-1)
        with pytest.raises(errors.RequestError, match="limit must be an int, not float"):
            bench.db.scan(limit=1.5)  # type: ignore[arg-type]
        assert [row async for row in bench.db.scan(b"b", b"b")] == []

    clients.run(main)


def test_a_cursor_counts_what_is_left_of_its_limit() -> None:
    cursor = Cursor(b"a", b"z", reverse=False, limit=3, limits=config.LimitsConfig())
    assert cursor.operation().limit_keys == 3
    cursor.advance(ScanResult((b"a", b"1", b"b", b"2"), b"c"))
    assert (cursor.operation().start, cursor.operation().limit_keys) == (b"c", 1)
    cursor.advance(ScanResult((b"c", b"3"), b"d"))
    assert cursor.has_ended


@pytest.mark.parametrize("reverse", [False, True])
def test_a_cursor_tells_what_its_pages_have_decided(reverse: bool) -> None:
    cursor = Cursor(b"a", b"z", reverse=reverse, limit=None, limits=config.LimitsConfig())
    assert cursor.covered == ((b"z", b"z") if reverse else (b"a", b"a"))
    cursor.advance(ScanResult((b"k", b"v"), b"k"))
    assert cursor.covered == ((b"k", b"z") if reverse else (b"a", b"k"))
    cursor.advance(ScanResult((), None))
    assert cursor.covered == (b"a", b"z")
    cursor.begin_anew()
    assert not cursor.has_ended
    assert (cursor.operation().start, cursor.operation().end) == (b"a", b"z")
