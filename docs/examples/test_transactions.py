"""The examples of transactions, on a cluster that is being hurt: `cd docs/examples; pytest`."""

import asyncio
from contextlib import suppress

import bank
import pytest
import users
import work_queue
from test_jobs import trouble

import multiraft
from multiraft.errors import ConditionFailedError, DeadlineExceededError, OutcomeUnknownError
from multiraft.testing import Cluster, simulated


@simulated(seeds=5)
async def test_a_transfer_is_all_or_nothing(cluster: Cluster, db: multiraft.Database) -> None:
    """Money neither comes nor goes, whatever happens to the nodes."""
    names = ["ann", "bob", "cem", "dan"]
    for name in names:
        await bank.open_account(db, name, 100)
    await cluster.split(bank.account("bob"))
    await cluster.split(bank.account("dan"))
    storm = asyncio.create_task(trouble(cluster))

    async def customer(number: int) -> None:
        async with cluster.connect(name=f"customer{number}") as mine:
            for _ in range(15):
                source, target = cluster.random.sample(names, 2)
                with suppress(bank.NotEnoughError, DeadlineExceededError, OutcomeUnknownError):
                    await bank.transfer(mine, source, target, cluster.random.randint(1, 60))
                assert await bank.total(mine) == 400

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(customer(number))
    storm.cancel()


@simulated()
async def test_a_transfer_that_cannot_be_paid(db: multiraft.Database) -> None:
    """The application's own error ends the transaction."""
    await bank.open_account(db, "ann", 5)
    with pytest.raises(ConditionFailedError):
        await bank.open_account(db, "ann", 500)
    with pytest.raises(bank.NotEnoughError):
        await bank.transfer(db, "ann", "bob", 6)
    assert await bank.transfer(db, "ann", "bob", 5) == 0
    assert await bank.total(db) == 5


@simulated(seeds=5)
async def test_no_two_users_share_an_address(cluster: Cluster, db: multiraft.Database) -> None:
    """Everybody wants the same few addresses while nodes crash."""
    await cluster.split(b"f")
    storm = asyncio.create_task(trouble(cluster))

    async def person(number: int) -> None:
        async with cluster.connect(name=f"person{number}") as mine:
            with suppress(users.TakenError):
                await users.register(mine, f"{number}", f"address{number % 3}@example.org")
            for _ in range(10):
                email = f"address{cluster.random.randint(0, 5)}@example.org"
                with suppress(users.TakenError, KeyError, DeadlineExceededError):
                    await users.change_email(mine, f"{number}", email)

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(person(number))
    storm.cancel()
    await users.check(db)


@simulated()
async def test_an_address_is_free_again_after_a_change(db: multiraft.Database) -> None:
    """What was given up can be had by others."""
    await users.register(db, "1", "ann@example.org")
    with pytest.raises(users.TakenError):
        await users.register(db, "2", "ann@example.org")
    await users.change_email(db, "1", "ann@example.com")
    await users.register(db, "2", "ann@example.org")
    assert await users.find(db, "ann@example.org") == "2"
    assert await users.find(db, "ann@example.com") == "1"
    assert await users.find(db, "nobody") is None
    await users.check(db)


@simulated(seeds=5)
async def test_several_workers_empty_a_queue(cluster: Cluster, db: multiraft.Database) -> None:
    """Every job is done by exactly one worker, in spite of crashes and pauses."""
    for number in range(20):
        await work_queue.add(db, f"job {number}")
    await cluster.split(work_queue.DONE)
    await cluster.split(work_queue.WAITING)
    storm = asyncio.create_task(trouble(cluster))

    async def worker(name: str) -> None:
        async with cluster.connect(name=name, deadline_s=30.0) as mine:
            await work_queue.work(mine, name, 20)

    async with asyncio.TaskGroup() as group:
        for name in ("ann", "bob", "cem"):
            group.create_task(worker(name))
    storm.cancel()
    left = [key async for key, _ in db.scan() if key.startswith((b"waiting/", b"claimed/"))]
    assert left == []
