"""What a client is told of its transactions is true, whatever happens to its requests."""

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from multiraft import errors
from multiraft.client.transaction import Transaction
from multiraft.ids import NodeId
from multiraft.model import encoding, hlc
from multiraft.model.requests import BatchRequest, Get, Put
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import EndTransaction
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

ACCOUNTS = [b"a", b"c", b"e", b"i", b"k", b"q", b"s"]
WORKERS = 4
TRANSACTIONS = 12


async def move(txn: Transaction, draw: random.Random, mark: bytes) -> None:
    """Move money between two accounts, in some way, and leave a mark."""
    source, target = draw.sample(ACCOUNTS, 2)
    if draw.random() < 0.3:
        await txn.get(source, for_update=True)
    if draw.random() < 0.3:
        rows = [row async for row in txn.scan(b"a", b"t", reverse=draw.random() < 0.5)]
        assert sum(encoding.unpack_counter(value) or 0 for _, value in rows) == 0
    await txn.increment(source, -1)
    if draw.random() < 0.5:
        await txn.increment(target, 1)
    else:
        await asyncio.gather(txn.increment(target, 1), txn.get(source))
    await txn.put(mark, b"done", expected=None)


Work = Callable[[Transaction], Coroutine[Any, Any, None]]


async def run(bench: Bench, work: Work, deadline_s: float) -> None:
    await bench.db.run(work, deadline_s=deadline_s)


async def run_once(bench: Bench, work: Work, deadline_s: float) -> None:
    async with bench.db.transaction(deadline_s=deadline_s) as txn:
        await work(txn)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_told_is_true(seed: int) -> None:
    draw = random.Random(f"transactions {seed}")

    def fate(_node: NodeId, request: BatchRequest) -> Plan:
        kind = draw.random()
        last = request.operations[-1]
        may_be_aborted = isinstance(last, Get | Put) or (
            isinstance(last, EndTransaction) and last.status is not TransactionStatus.ABORTED
        )
        if may_be_aborted and request.txn is not None and draw.random() < 0.02:
            return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
        if kind < 0.03:
            return Plan(drop_request=True)
        if kind < 0.06:
            return Plan(drop_reply=True)
        if kind < 0.07:
            return Plan(breaks_connection=True)
        if kind < 0.09:
            return Plan(request_delay_s=draw.uniform(0, 8))
        if kind < 0.12:
            return Plan(refusal=errors.OverloadedError(what="r", retry_after_ms=20))
        return Plan(request_delay_s=draw.uniform(0, 0.01)) if kind < 0.5 else EVALUATE

    async def worker(bench: Bench, number: int, told: dict[bytes, str]) -> None:
        for count in range(TRANSACTIONS):
            mark = b"z/%d/%d" % (number, count)
            work = partial(move, draw=draw, mark=mark)
            by = draw.choice([run, run_once])
            task = asyncio.create_task(by(bench, work, draw.choice([1.0, 10.0])))
            if draw.random() < 0.15:
                await asyncio.sleep(draw.uniform(0, 0.05))
                task.cancel()
            try:
                await task
                told[mark] = "done"
            except (errors.DeadlineExceededError, errors.TransactionRetryError):
                told[mark] = "not done"
            except (errors.OutcomeUnknownError, asyncio.CancelledError):
                told[mark] = "unknown"

    async def disturb(bench: Bench) -> None:
        for key in (b"b", b"d", b"j", b"r", b"z/2"):
            await asyncio.sleep(draw.uniform(0.1, 2))
            bench.cluster.split(key, update_meta=draw.random() < 0.5)
            moved = draw.choice(list(bench.cluster.ranges.values())[1:])
            moved.leader = draw.choice(bench.cluster.node_ids[:3])

    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(draw.choice([0, 250]))
        bench.cluster.intercept = fate
        told: dict[bytes, str] = {}
        storm = asyncio.create_task(disturb(bench))
        await asyncio.gather(*(worker(bench, number, told) for number in range(WORKERS)))
        await storm
        bench.cluster.intercept = lambda _node, _request: EVALUATE
        await asyncio.sleep(60)  # What is late has arrived, what is in the background has ended.
        bench.cluster.transactions.abandon()
        rows = dict([row async for row in bench.db.scan()])
        assert sum(encoding.unpack_counter(rows.get(key, bytes(8))) or 0 for key in ACCOUNTS) == 0
        for mark, outcome in told.items():
            assert outcome == "unknown" or (mark in rows) is (outcome == "done"), mark
        assert bench.is_quiet()
        assert bench.db.transactions_status().in_background == 0

    clients.run(main, seed=seed)
