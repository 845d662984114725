"""The operations whose costs are bounded, and what one of them costs.

Each is run many times on one cluster, so that what happens now and then, as heartbeats, counts with
its share. `client` ones have no cluster: a node that answers at once, without any of the product's
nodes, leaves the client's own work.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from bench import bare_cluster
from bench.bare_cluster import BareCluster
from bench.bench_client import LoopbackTransport
from multiraft.client import database
from multiraft.client.database import Database
from multiraft.client.transaction.transaction import Transaction
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from tests.costs.counting import CallCounter, Calls

VALUE = bytes(256)
CALLERS = 64
ROWS = 100
SETTLING_S = 0.01
"""By then followers know what is committed, and have applied it."""


class Operation(msgspec.Struct, frozen=True):
    """What is counted: `round` does it `in_round` times."""

    about: str
    round: Callable[[Database], Coroutine[Any, Any, None]]
    in_round: int = 1
    rounds: int = 50
    client_only: bool = False
    ranges: int = 1
    """Over which the first so many keys spread, one in each."""


class Cost(msgspec.Struct, frozen=True):
    """What one operation costs, all nodes and the client together; the rest is zero for clients."""

    calls: float
    """Of functions of the product."""
    builtin_calls: float
    """... by these, of functions that are not written in Python."""
    turns: float
    syncs: float
    frames: float
    """Between nodes."""
    engine_reads: float
    engine_writes: float
    engine_bytes: float


class Measured(msgspec.Struct, frozen=True):
    """The cost of one operation, and where `count` of them spent it."""

    cost: Cost
    functions: Calls
    count: int

    def calls_by_package(self) -> dict[str, float]:
        """Return how the calls of one operation spread over the packages, most first."""
        by_package: dict[str, int] = {}
        for function, calls in self.functions.calls.items():
            by_package[function.package] = by_package.get(function.package, 0) + calls
        ordered = sorted(by_package.items(), key=lambda item: (-item[1], item[0]))
        each = {package: round(calls / self.count, 1) for package, calls in ordered}
        return {package: calls for package, calls in each.items() if calls}


def _key(number: int) -> bytes:
    return b"key %05d" % number


async def _put(db: Database) -> None:
    await db.put(_key(1), VALUE)


async def _get(db: Database) -> None:
    await db.get(_key(1))


async def _together(make: Callable[[int], Awaitable[object]]) -> None:
    await asyncio.gather(*(make(number) for number in range(CALLERS)))


async def _puts_together(db: Database) -> None:
    await _together(lambda number: db.put(_key(number), VALUE))


async def _gets_together(db: Database) -> None:
    await _together(lambda number: db.get(_key(number)))


async def _batch(db: Database) -> None:
    await db.put_many((_key(number), VALUE) for number in range(CALLERS))


async def _scan(db: Database) -> None:
    rows = [key async for key, _ in db.scan(_key(0), _key(ROWS))]
    assert len(rows) == ROWS, "the rows are there"


async def _update(db: Database) -> None:
    async def body(txn: Transaction) -> None:
        await txn.get(_key(1))
        await txn.put(_key(1), VALUE)

    await db.run(body)


OPERATIONS = {
    "put": Operation("one put, one caller", _put),
    "put_of_64": Operation("a put of 64 callers", _puts_together, CALLERS, 10),
    "put_to_64_ranges": Operation(
        "a put of 64 callers, each to a range of its own",
        _puts_together,
        CALLERS,
        10,
        ranges=CALLERS,
    ),
    "put_in_batch": Operation("a put in a batch of 64", _batch, CALLERS, 10),
    "get": Operation("one get, one caller", _get),
    "get_of_64": Operation("a get of 64 callers", _gets_together, CALLERS, 10),
    "scan": Operation("a scan of 100 rows", _scan, rounds=20),
    "update": Operation("a transaction that reads a key and writes it", _update),
    "client_put": Operation("the client's part of a put", _put, client_only=True),
    "client_put_of_64": Operation(
        "the client's part of a put of 64 callers", _puts_together, CALLERS, 10, client_only=True
    ),
    "client_get_of_64": Operation(
        "the client's part of a get of 64 callers", _gets_together, CALLERS, 10, client_only=True
    ),
}


def measure(operation: Operation) -> Measured:
    """Run an operation and return its cost: the same one each time."""
    return virtual_loop.run(
        lambda loop: (_of_client if operation.client_only else _of_cluster)(loop, operation)
    )


async def _of_client(loop: VirtualLoop, operation: Operation) -> Measured:
    db = database.connect(
        "here:1", transport=LoopbackTransport(), clock=VirtualClock(loop), rng=SeededRng()
    )
    async with db:
        await operation.round(db)
        counter = await _count(operation, db)
    return _measured(operation, counter, [0.0] * 6)


async def _of_cluster(loop: VirtualLoop, operation: Operation) -> Measured:
    async with bare_cluster.running(loop) as (cluster, db):
        await db.put_many((_key(number), VALUE) for number in range(ROWS))
        for number in range(1, operation.ranges):
            await db.admin.split(_key(number))
        await operation.round(db)  # The first one fills caches.
        await asyncio.sleep(1.0)  # Nobody is busy with anything else any more.
        before = _work_of(cluster)
        counter = await _count(operation, db)
        done = [after - earlier for after, earlier in zip(_work_of(cluster), before, strict=True)]
    return _measured(operation, counter, done)


async def _count(operation: Operation, db: Database) -> CallCounter:
    counter = CallCounter()
    counter.start()
    for _ in range(operation.rounds):
        await operation.round(db)
    await asyncio.sleep(SETTLING_S)
    counter.stop()
    return counter


def _work_of(cluster: BareCluster) -> list[float]:
    """Return turns, syncs, frames, and reads, writes and bytes of engines, of all nodes so far."""
    statuses = [node.status() for node in cluster.nodes]
    return [
        sum(status.store.turns for status in statuses),
        sum(status.store.syncs for status in statuses),
        sum(status.links.frames_sent for status in statuses),
        sum(engine.reads for engine in cluster.engines),
        sum(engine.writes for engine in cluster.engines),
        sum(engine.bytes_written for engine in cluster.engines),
    ]


def _measured(operation: Operation, counter: CallCounter, work: list[float]) -> Measured:
    count = operation.rounds * operation.in_round
    functions = counter.counted()
    totals = [sum(functions.calls.values()), sum(functions.builtin_calls.values()), *work]
    return Measured(Cost(*(float(f"{total / count:.4g}") for total in totals)), functions, count)
