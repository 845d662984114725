"""How long the keys of clients that die stay locked: `python bench/abandoned.py`.

Three durable nodes with default settings. Processes hold one open transaction for each of
`--clients` clients, half of which have only locked a key, half of which have laid intents in two
ranges; beside these, some commit one transaction over two ranges after the other. All processes are
killed at one instant, and every key is written at once by a client that lives. A key is free when
that write is acknowledged. Exit status 1 if one took longer than the documented time.
"""

import argparse
import asyncio
import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
from rich.console import Console
from rich.table import Table

from multiraft import config, runtime
from multiraft.cli import cluster_process
from multiraft.client.database import Database, connect
from multiraft.client.transaction import Transaction

BOUND_S = 3.0
"""docs/operations.md: 2.5 s after the last sign of life, and half a second more."""
PER_PROCESS = 100
COMMITTERS = 4
"""In each process, beside those whose transactions stay open."""
RANGES = 4
WITHIN_S = 60.0
READY = "ready"

SETTINGS = config.Config(client=config.ClientConfig(transaction_buffer_bytes_max=1))
"""What is written is laid at once."""


def key_of(space: str, number: int) -> bytes:
    """Return a key; those of one space are spread over all ranges."""
    return f"{number % RANGES}/{space}/{number:05}".encode()


async def hold(addresses: list[str], numbers: range) -> None:
    """Be clients with an open transaction each, and some that commit, until death."""
    clients = [connect(*addresses, settings=SETTINGS) for _ in range(len(numbers) + COMMITTERS)]
    await asyncio.gather(*(client.open() for client in clients))
    ready = asyncio.Barrier(len(numbers) + 1)
    tasks = [
        asyncio.create_task(_leave_open(client, number, ready))
        for number, client in zip(numbers, clients, strict=False)
    ]
    await ready.wait()
    for number, client in enumerate(clients[len(numbers) :]):
        tasks.append(asyncio.create_task(_commit(client, numbers.start + number)))
    print(READY, flush=True)
    await asyncio.gather(*tasks)


async def _leave_open(client: Database, number: int, ready: asyncio.Barrier) -> None:
    async with client.transaction(deadline_s=WITHIN_S) as transaction:
        if number % 2:
            await transaction.get(key_of("open", number), for_update=True)
        else:
            await transaction.put(key_of("open", number), b"never seen")
            await transaction.put(key_of("also", number + 1), b"never seen")
            await asyncio.sleep(0.5)  # They are on their way.
        await ready.wait()
        await asyncio.sleep(WITHIN_S)


async def _commit(client: Database, number: int) -> None:
    async def both(transaction: Transaction) -> None:
        await transaction.increment(key_of("commit", number))
        await transaction.increment(key_of("commit", number + 1))

    while True:
        await client.run(both, deadline_s=WITHIN_S)


async def measure(clients: int) -> dict[str, list[float]]:
    """Return for each kind of key how long it was not free."""
    loop = asyncio.get_running_loop()
    chunks = [
        range(first, min(first + PER_PROCESS, clients)) for first in range(0, clients, PER_PROCESS)
    ]
    kinds = {
        "a lock": [key_of("open", n) for n in range(1, clients, 2)],
        "an intent": [key_of("open", n) for n in range(0, clients, 2)],
        "an intent elsewhere": [key_of("also", n + 1) for n in range(0, clients, 2)],
        "a commit": [
            key_of("commit", chunk.start + n) for chunk in chunks for n in range(COMMITTERS + 1)
        ],
    }
    async with cluster_process.temporary() as cluster, connect(*cluster.addresses) as db:
        for number in range(1, RANGES):
            await db.admin.split(b"%d" % number)
        dying = [await _start(cluster.addresses, chunk) for chunk in chunks]
        for process in dying:
            assert process.stdout is not None, "it is piped"
            assert (await process.stdout.readline()).strip() == READY.encode(), "it said so"
        for process in dying:
            process.kill()
        began = loop.time()

        async def free(key: bytes) -> float:
            await db.put(key, b"", deadline_s=WITHIN_S)
            return loop.time() - began

        found = await asyncio.gather(*(free(key) for keys in kinds.values() for key in keys))
        for process in dying:
            await process.wait()
    times = iter(found)
    return {kind: [next(times) for _ in keys] for kind, keys in kinds.items()}


async def _start(addresses: list[str], numbers: range) -> asyncio.subprocess.Process:
    told = msgspec.json.encode([addresses, numbers.start, numbers.stop]).decode()
    return await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--hold", told, stdout=asyncio.subprocess.PIPE
    )


def main() -> int:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--clients", type=int, default=1_000)
    parser.add_argument("--hold", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.hold:
        addresses, first, last = msgspec.json.decode(arguments.hold)
        runtime.run(hold(addresses, range(first, last)))
        return 0
    found = runtime.run(measure(arguments.clients))
    table = Table("seconds until a key with ... was free", "keys", "median", "most")
    for kind, values in found.items():
        most = max(values)
        table.add_row(kind, str(len(values)), f"{statistics.median(values):.2f}", f"{most:.2f}")
    Console().print(table)
    return int(max(map(max, found.values())) > BOUND_S)


if __name__ == "__main__":
    sys.exit(main())
