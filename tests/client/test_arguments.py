"""What no node could read is refused at once, and disturbs nobody else."""

import math
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

import multiraft
from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.ids import NodeId, RangeId, Timestamp
from tests.support import clients
from tests.support.clients import Bench

NOT_A_NUMBER = math.nan
TOO_LARGE = 1 << 70


async def scan(db: Database, limit: object) -> None:
    async for _ in db.scan(limit=cast("int", limit)):
        pass


async def scan_in_transaction(db: Database, limit: object) -> None:
    async with db.transaction() as txn:
        async for _ in txn.scan(limit=cast("int", limit)):
            pass


async def scan_past(db: Database, limit: object) -> None:
    async with db.snapshot() as then:
        async for _ in then.scan(limit=cast("int", limit)):
            pass


async def write(txn: Transaction) -> None:
    await txn.put(b"k", b"v")


def run(db: Database, priority: object = 0, deadline_s: float | None = None) -> Awaitable[None]:
    return db.run(write, priority=cast("int", priority), deadline_s=deadline_s)


async def keep(db: Database, at: object, owner: object) -> None:
    async with db.admin.protect(cast("Timestamp", at), owner=cast("str", owner)):
        pass


async def look(db: Database, owner: object) -> None:
    async with db.snapshot(owner=cast("str", owner)) as then:
        await then.get(b"k")


REFUSED: dict[str, Callable[[Database], Awaitable[Any]]] = {
    "a limit of 1.5": lambda db: scan(db, 1.5),
    "a limit of nan": lambda db: scan(db, NOT_A_NUMBER),
    "a limit of True": lambda db: scan(db, True),
    "a limit of -1": lambda db: scan(db, -1),
    "a limit of 1.5 in a transaction": lambda db: scan_in_transaction(db, 1.5),
    "a limit of -1 in a transaction": lambda db: scan_in_transaction(db, -1),
    "a limit of 1.5 in a snapshot": lambda db: scan_past(db, 1.5),
    "a priority of nan": lambda db: run(db, priority=NOT_A_NUMBER),
    "a priority that is too large": lambda db: run(db, priority=TOO_LARGE),
    "a deadline of nan": lambda db: db.get(b"k", deadline_s=NOT_A_NUMBER),
    "a deadline of nan for a transaction": lambda db: run(db, deadline_s=NOT_A_NUMBER),
    "a time that is too large": lambda db: keep(db, TOO_LARGE, "a test"),
    "a time that is text": lambda db: keep(db, "now", "a test"),
    "an owner that is a number": lambda db: keep(db, 1, 3),
    "an owner that cannot be encoded": lambda db: keep(db, 1, "\udc80"),
    "an owner of a snapshot that is a number": lambda db: look(db, 3),
    "a node that is too large": lambda db: db.admin.transfer(RangeId(2), NodeId(TOO_LARGE)),
    "a node below 1": lambda db: db.admin.transfer(RangeId(2), NodeId(-1)),
    "a voter that is text": lambda db: db.admin.change_replicas(
        RangeId(2), (cast("NodeId", "n1"),)
    ),
    "a range that is too large": lambda db: db.admin.replica_status(RangeId(TOO_LARGE), NodeId(1)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_sent_is_refused_and_not_sent(what: str) -> None:
    async def main(bench: Bench) -> None:
        await bench.db.get(b"k")
        sent = len(bench.cluster.requests)
        with pytest.raises(errors.RequestError):
            await REFUSED[what](bench.db)
        assert bench.loop.time() < 0.01
        assert len(bench.cluster.requests) == sent
        assert bench.is_quiet()

    clients.run(main)


@pytest.mark.parametrize("deadline_s", [0, -1.0])
def test_a_deadline_that_has_passed_is_told_at_once(deadline_s: float) -> None:
    async def main(bench: Bench) -> None:
        for call in (
            bench.db.put(b"k", b"v", deadline_s=deadline_s),
            run(bench.db, deadline_s=deadline_s),
        ):
            with pytest.raises(errors.DeadlineExceededError, match="it had passed"):
                await call
        assert bench.cluster.requests == []

    clients.run(main)


def test_any_number_of_rows_and_seconds_may_be_asked_for() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"k", b"v")
        assert await bench.db.get(b"k", deadline_s=math.inf) == b"v"
        assert [row async for row in bench.db.scan(limit=TOO_LARGE)] == [(b"k", b"v")]
        assert [row async for row in bench.db.scan(limit=0)] == []

    clients.run(main)


def test_a_connection_is_not_made_with_a_deadline_that_makes_no_sense() -> None:
    for deadline_s in (0, -1.0, NOT_A_NUMBER):
        with pytest.raises(errors.ConfigError, match="deadline_s"):
            multiraft.connect("n1:7000", deadline_s=deadline_s)
