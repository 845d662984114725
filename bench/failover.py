"""How long writes stall when a leader is killed, or told to stop: `python bench/failover.py`.

Three durable nodes with default settings, four callers that write without a pause, or with
`--ranges` one caller in each of so many ranges, with a pause between writes. A stall is the longest
time that one caller waited for an answer around the event; a restart is from the start of the
process to its first promise to serve.
"""

import argparse
import asyncio
import statistics
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))

from rich.console import Console
from rich.table import Table

from multiraft import runtime
from multiraft.cli import cluster_process
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.client.database import Database, connect

CALLERS = 4
SETTLED_S = 0.5
PAUSE_S = 0.25
"""Of callers in many ranges: so that what is measured is not how busy they are."""


class Target(Protocol):
    """What is written to: a `Database`, or what stands for one of another kind."""

    async def put(self, key: bytes, value: bytes) -> object:
        """Set one key; return when it is durable, however many nodes have to be asked."""


class Stalls:
    """Callers that write, and the longest wait of any of them since it was last asked."""

    def __init__(self, db: Target, callers: int, pause_s: float) -> None:
        self._db = db
        self._callers = callers
        self._pause_s = pause_s
        self._longest_s = 0.0
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(callers)]

    async def around(self, event: Callable[[], Awaitable[None]]) -> float:
        """Return the longest wait from right before `event` to well after writes go on."""
        self._longest_s = 0.0
        await event()
        await asyncio.gather(*(self._db.put(b"key%d" % n, b"") for n in range(self._callers)))
        await asyncio.sleep(SETTLED_S)
        return self._longest_s

    async def stop(self) -> None:
        """End the callers."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _write(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            await self._db.put(b"key%d" % number, b"value")
            self._longest_s = max(self._longest_s, loop.time() - began)
            await asyncio.sleep(self._pause_s)


async def leader_of(db: Database, cluster: LocalCluster) -> NodeProcess:
    """Return the node that leads most ranges of the users."""
    while True:
        leader = statistics.mode([r.leader for r in (await db.admin.ranges())[1:]])
        for node in cluster.nodes:
            if node.node_id == leader and node.is_running:
                return node
        await asyncio.sleep(0.05)


async def measure(rounds: int, ranges: int) -> dict[str, list[float]]:
    """Kill, restart, and stop leaders in good order, so many times each."""
    loop = asyncio.get_running_loop()
    found: dict[str, list[float]] = {"SIGKILL": [], "SIGTERM": [], "restart": []}
    async with cluster_process.temporary() as cluster, connect(*cluster.addresses) as db:
        for number in range(1, ranges):
            await db.admin.split(b"key%d" % number)
        stalls = Stalls(db, max(CALLERS, ranges), PAUSE_S if ranges > 1 else 0.0)
        for end, name in ((cluster.kill_node, "SIGKILL"), (cluster.stop_node, "SIGTERM")):
            for _ in range(rounds):
                await asyncio.sleep(SETTLED_S)
                victim = await leader_of(db, cluster)
                found[name].append(await stalls.around(partial(end, victim)))
                began = loop.time()
                await cluster.start_node(victim)
                found["restart"].append(loop.time() - began)
        await stalls.stop()
    return found


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--ranges", type=int, default=1)
    arguments = parser.parse_args()
    found = runtime.run(measure(arguments.rounds, arguments.ranges))
    table = Table("milliseconds", "least", "median", "most", "times")
    for name, values in found.items():
        shown = (min(values), statistics.median(values), max(values))
        table.add_row(name, *(f"{value * 1_000:,.0f}" for value in shown), str(len(values)))
    Console().print(table)


if __name__ == "__main__":
    main()
