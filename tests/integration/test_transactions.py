"""Transactions against real processes: nodes and clients are killed in the middle of them."""

import asyncio
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.model import encoding
from tests.support import processes

pytestmark = pytest.mark.integration

ACCOUNTS = [b"account/%d" % number for number in range(8)]
TRANSFERS_MIN = 50
"""However slow the machine is."""
BLOCKED_S_MAX = 15.0
"""How long a killed client may block others: its 2.5 s, on the slowest machine."""

CLIENT = """
import asyncio, sys, multiraft

async def main():
    async with multiraft.connect(*sys.argv[1:]) as db:
        async def work(txn):
            await txn.get_many([b"account/0", b"account/7"], for_update=True)
            await txn.increment(b"account/0", 5)
            await txn.increment(b"account/7", -5)
            print("locked", flush=True)
        while True:
            await db.run(work)

asyncio.run(main())
"""


async def move(txn: Transaction, source: bytes, target: bytes, mark: bytes) -> None:
    await txn.increment(source, -1)
    await txn.increment(target, 1)
    await txn.put(mark, b"done", expected=None)


async def total(db: Database) -> int:
    rows = [value async for _, value in db.scan(prefix=b"account/")]
    return sum(encoding.unpack_counter(value) or 0 for value in rows)


def test_transfers_happen_once_while_nodes_are_killed_and_ranges_split(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes.running(tmp_path / "c") as cluster, processes.connect(cluster) as db:
            draw = random.Random(1)
            stop = asyncio.Event()
            marks: list[bytes] = []

            async def customer(number: int) -> None:
                while not stop.is_set() or len(marks) < TRANSFERS_MIN:
                    source, target = draw.sample(ACCOUNTS, 2)
                    mark = b"mark/%d/%d" % (number, len(marks))
                    await db.run(partial(move, source=source, target=target, mark=mark))
                    marks.append(mark)

            customers = [asyncio.create_task(customer(number)) for number in range(4)]
            for victim in cluster.nodes:
                await asyncio.sleep(0.3)
                await db.admin.split(draw.choice(ACCOUNTS))
                await processes.kill(cluster, [victim])
                await asyncio.sleep(0.3)
                await processes.restart(cluster, [victim])
            stop.set()
            await asyncio.gather(*customers)
            assert await total(db) == 0
            found = [key async for key, _ in db.scan(prefix=b"mark/")]
            assert sorted(found) == sorted(marks)

    processes.run(main())


def test_a_client_that_is_killed_blocks_others_for_a_bounded_time(tmp_path: Path) -> None:
    async def main() -> None:
        async with processes.running(tmp_path / "c") as cluster, processes.connect(cluster) as db:
            await db.admin.split(b"account/4")
            for delay_s in (0.0, 0.003, 0.02):
                client = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-c",
                    CLIENT,
                    *cluster.addresses,
                    stdout=asyncio.subprocess.PIPE,
                )
                assert client.stdout is not None
                for _ in range(3):
                    assert await client.stdout.readline() == b"locked\n"
                await asyncio.sleep(delay_s)
                os.kill(client.pid, signal.SIGKILL)
                await client.wait()
                async with asyncio.timeout(BLOCKED_S_MAX):
                    work = partial(
                        move, source=b"account/0", target=b"account/7", mark=b"m%f" % delay_s
                    )
                    await db.run(work, deadline_s=BLOCKED_S_MAX)
                assert await total(db) == 0

    processes.run(main())
