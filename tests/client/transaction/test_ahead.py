import asyncio
import gc
from contextlib import aclosing

import pytest

from multiraft import config, errors
from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.model.requests import BatchRequest, Scan
from multiraft.model.transaction_requests import Refresh
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

PAGES_OF_TWO = config.LimitsConfig(scan_keys_max=2)
KEYS = [b"b%d" % number for number in range(6)]


async def fill(bench: Bench) -> None:
    """Three pages, in one range that the client knows."""
    for key in KEYS:
        bench.cluster.put(key, b"old")
    await bench.db.get(b"b")
    bench.cluster.requests.clear()


def starts(bench: Bench) -> list[bytes]:
    """Where the pages began that were asked for."""
    return [
        operation.start.removeprefix(b"\x10")
        for _, request in bench.cluster.sent(Scan)
        for operation in request.operations
        if isinstance(operation, Scan)
    ]


def test_the_next_page_is_on_its_way_while_the_application_works() -> None:
    async def main(bench: Bench) -> None:
        await fill(bench)
        bench.cluster.intercept = lambda _n, _r: Plan(reply_delay_s=1.0)
        began = bench.loop.time()
        async with bench.db.transaction() as txn:
            found = []
            async for page in txn.scan_pages(prefix=b"b"):
                found += [key for key, _ in page]
                await asyncio.sleep(1.0)
        assert found == KEYS
        assert bench.loop.time() - began == pytest.approx(4.0, abs=0.2)
        assert starts(bench) == [b"b", b"b2", b"b4"]

    clients.run(main, limits=PAGES_OF_TWO)


@pytest.mark.parametrize("why", ["the setting", "locks", "for update", "the limit"])
def test_nothing_is_asked_for_early_when(why: str) -> None:
    async def main(bench: Bench) -> None:
        await fill(bench)
        async with bench.db.transaction() as txn:
            if why == "locks":
                await txn.get(b"a", for_update=True)
            limit = 2 if why == "the limit" else None
            pages = txn.scan_pages(prefix=b"b", for_update=why == "for update", limit=limit)
            async with aclosing(pages):
                assert len(await anext(pages)) == 2
                await asyncio.sleep(0.1)
                assert starts(bench) == [b"b"]

    clients.run(main, limits=PAGES_OF_TWO, scan_prefetch=why != "the setting")


def test_only_what_was_taken_counts_as_read() -> None:
    async def main(bench: Bench) -> None:
        for pages_taken in (1, 2):
            await fill(bench)
            txn = bench.db.transaction()
            async with aclosing(txn.scan_pages(prefix=b"b")) as pages:
                for _ in range(pages_taken):
                    await anext(pages)
                await asyncio.sleep(0.1)
                bench.cluster.put(b"b3", b"new")
                # Somebody has read what is written below: it has to move to a later time.
                now = bench.cluster.now()
                bench.cluster.transactions.reads.append((b"\x10x", b"", now, b"other"))
                await txn.put(b"x", b"1")
                if pages_taken == 1:
                    await txn.commit()
                else:
                    with pytest.raises(errors.TransactionRetryError, match="/plain/b3 was written"):
                        await txn.commit()
        refreshed = {
            (operation.key, operation.end)
            for _, request in bench.cluster.sent(Refresh)
            for operation in request.operations
            if isinstance(operation, Refresh)
        }
        assert refreshed == {(b"\x10b", b"\x10b4")}, "of the last one"

    clients.run(main, limits=PAGES_OF_TWO)


def test_a_page_of_an_earlier_time_is_not_taken() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)
        await fill(bench)
        async with bench.db.transaction() as txn, aclosing(txn.scan(prefix=b"b")) as rows:
            assert await anext(rows) == (b"b0", b"old")
            await asyncio.sleep(0.1)
            bench.cluster.put(b"b2", b"new")
            bench.cluster.put(b"q", b"new")
            assert await txn.get(b"q") == b"new"
            rest = [row async for row in rows]
            assert rest[:2] == [(b"b1", b"old"), (b"b2", b"new")]
        assert starts(bench) == [b"b", b"b2", b"b2", b"b4"]

    clients.run(main, limits=PAGES_OF_TWO)


def test_a_page_that_a_refresh_under_way_does_not_cover_is_not_taken() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)
        await fill(bench)

        def slow(_node: NodeId, request: BatchRequest) -> Plan:
            is_refresh = isinstance(request.operations[0], Refresh)
            return Plan(reply_delay_s=1.0) if is_refresh else EVALUATE

        bench.cluster.intercept = slow
        async with bench.db.transaction() as txn, aclosing(txn.scan(prefix=b"b")) as rows:
            assert [await anext(rows), await anext(rows)] == [(b"b0", b"old"), (b"b1", b"old")]
            await asyncio.sleep(0.1)
            bench.cluster.put(b"b2", b"new")
            bench.cluster.put(b"q", b"new")
            moving = asyncio.create_task(txn.get(b"q"))
            await asyncio.sleep(0.5)
            assert await anext(rows) == (b"b2", b"new")
            assert await moving == b"new"

    clients.run(main, limits=PAGES_OF_TWO)


def test_an_abort_meets_who_asks_again() -> None:
    async def main(bench: Bench) -> None:
        await fill(bench)
        victims: list[bytes] = []

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            last = request.operations[-1]
            if isinstance(last, Scan) and last.start == b"\x10b2" and not victims:
                victims.append(request.id)
                return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
            return EVALUATE

        bench.cluster.intercept = decide
        async with bench.db.transaction() as txn:
            assert [key async for key, _ in txn.scan(prefix=b"b")] == KEYS
        assert victims == [txn.id], "what nobody waits for ends nothing"

    clients.run(main, limits=PAGES_OF_TWO)


@pytest.mark.parametrize("how", ["break", "cancel", "close"])
def test_a_page_that_nobody_wants_is_given_up(how: str) -> None:
    async def main(bench: Bench) -> None:
        await fill(bench)

        def slow(_node: NodeId, request: BatchRequest) -> Plan:
            is_ahead = isinstance(request.operations[0], Scan) and bool(request.timestamp)
            return Plan(reply_delay_s=5.0) if is_ahead else EVALUATE

        bench.cluster.intercept = slow

        async def work() -> None:
            async with bench.db.transaction() as txn:
                async for key, _ in txn.scan(prefix=b"b"):
                    if how == "break" and key == b"b1":
                        break
                await txn.put(b"x", b"1")

        task = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        if how == "break":
            await task
            assert bench.cluster.value(b"x") == b"1"
        elif how == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            await bench.db.close()
            with pytest.raises(errors.StoppedError):
                await task
        del task
        gc.collect()
        await asyncio.sleep(0.1)
        assert how == "close" or bench.is_quiet()

    clients.run(main, limits=PAGES_OF_TWO)
