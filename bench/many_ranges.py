"""Puts with many ranges beside puts with one: `python -m bench.many_ranges`.

Two durable clusters of three nodes, one with a single range of users, one with many, run in turn,
never both at once. In each round both are started, measured and stopped; what counts is the ratio
of the two within a round. `--ranges` is how many ranges the second one has, and `--busy` how many
of them get puts (all of them if they are few); the callers and the number of keys are the same.

    python -m bench.many_ranges --ranges 64                    # all busy, leaders on one node
    python -m bench.many_ranges --ranges 64 --leaders spread   # ... each node leads a third
    python -m bench.many_ranges --ranges 10000 --busy 1        # mostly idle

Besides puts it tells how long it took to make the ranges, the processor time of nodes to which
nobody speaks, their memory, and how long a node takes from the start of its process to its promise
to serve. With `--leaders one` all busy ranges are led by the same node, as they are after splits;
that is set anew after each start, since a restart leaves leaders where chance has it.
"""

import argparse
import asyncio
import contextlib
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from multiraft import runtime
from multiraft.cli import cluster_process, machine, process_usage
from multiraft.cli.bench_run import PREFIX, Bench, Shape
from multiraft.cli.cluster_process import LocalCluster
from multiraft.cli.workload import Mix
from multiraft.client.database import Database, connect
from multiraft.ids import NodeId

IDLE_PREFIX = b"multiraft-idle/"
SPLITS_CONCURRENT = 8
SERVED_S_MAX = 600.0
LOOK_S = 0.1
QUIET_S = 3.0
"""After elections, before it counts how busy nodes are that have nothing to do."""
IDLE_S = 5.0
MIB = 1 << 20


class Settings(msgspec.Struct, frozen=True):
    """What is run."""

    ranges: int
    busy: int
    spread: bool
    callers: int
    rounds: int
    seconds: float
    keys: int


class Round(msgspec.Struct, frozen=True):
    """What was measured of one cluster in one round."""

    puts_per_second: float
    p50_ms: float
    p99_ms: float
    node_cpu_us: float
    """Per put, of all nodes together."""
    client_cpu_us: float
    idle_cores: float
    """Of the node that used most while nobody spoke to it."""
    memory_bytes: int
    """Of the node that has most, before puts."""
    restart_s: float
    """Of the slowest node."""
    answer_s: float
    """From then until a busy range answers."""
    elections_s: float
    """From then, too, until every range has a leader that serves."""


def bisected(count: int) -> Iterator[int]:
    """Yield 0 to `count` - 1, halving what is left again and again: neighbours far apart in time.

    Splits in this order are of different ranges, so that several at a time do not queue up.
    """
    spans = [(0, count)]
    for first, end in spans:
        if first < end:
            middle = (first + end) // 2
            yield middle
            spans += [(first, middle), (middle + 1, end)]


async def make_idle(db: Database, count: int) -> float:
    """Split until there are `count` ranges more, without keys, and return how long it took."""
    began = time.monotonic()
    numbers = bisected(count)

    async def split() -> None:
        for number in numbers:
            await db.admin.split(IDLE_PREFIX + b"%08d" % number)

    async with asyncio.TaskGroup() as group:
        for _ in range(SPLITS_CONCURRENT):
            group.create_task(split())
    return time.monotonic() - began


async def until_served(db: Database, ranges: int) -> float:
    """Return how long it took until nodes lead so many ranges and serve them."""
    began = time.monotonic()
    while time.monotonic() < began + SERVED_S_MAX:
        statuses = [info.status for info in await db.admin.nodes() if info.status is not None]
        if sum(status["store"]["leaders"] for status in statuses) >= ranges:
            return time.monotonic() - began
        await asyncio.sleep(LOOK_S)
    raise TimeoutError(f"not all of {ranges:,} ranges were served within {SERVED_S_MAX:g} s")


def leaders_for(ranges: int, nodes: Sequence[NodeId], *, spread: bool) -> list[NodeId]:
    """Return who should lead each of the busy ranges."""
    return [nodes[number % len(nodes)] if spread else nodes[0] for number in range(ranges)]


async def place_leaders(db: Database, *, spread: bool) -> None:
    """Have the busy ranges led as asked for."""
    found = await db.admin.ranges(with_status=False)
    busy = [info for info in found if PREFIX.encode() in info.descriptor.start]
    nodes = sorted(NodeId(replica.node_id) for replica in busy[0].descriptor.replicas)
    for info, wanted in zip(busy, leaders_for(len(busy), nodes, spread=spread), strict=True):
        range_id = info.descriptor.range_id
        status = await db.admin.replica_status(range_id, wanted)
        if status is None or status["leader"] != wanted:
            await db.admin.transfer(range_id, wanted)


class Side:
    """One of the two clusters."""

    def __init__(self, directory: Path, settings: Settings, busy: int, idle: int) -> None:
        self._directory = directory
        self._settings = settings
        self._idle = idle
        self._shape = Shape(
            ranges=busy,
            callers=(settings.callers,),
            value_bytes=256,
            mix=Mix(),
            seconds=settings.seconds,
            split_at=None,
            keys=settings.keys,
        )
        self._addresses = cluster_process.free_addresses(3)

    async def prepare(self) -> float:
        """Make the cluster, its keys and ranges; return how long the idle ones took."""
        cluster_process.create(self._directory, self._addresses)
        async with self._running() as (cluster, db):
            await self._bench(cluster, db).prepare()
            return await make_idle(db, self._idle)

    async def round(self) -> Round:
        """Start the cluster, measure, and stop it."""
        async with self._running() as (cluster, db):
            restart_s = self._restart_s
            began = time.monotonic()
            await db.get(PREFIX.encode())
            answer_s = time.monotonic() - began
            elections_s = answer_s + await until_served(db, self._shape.ranges + self._idle)
            await asyncio.sleep(QUIET_S)
            idle_cores = await _idle_cores(cluster)
            memory = max(process_usage.resident_bytes(node.pid) for node in cluster.nodes)
            await place_leaders(db, spread=self._settings.spread)
            found = await self._bench(cluster, db).round(self._settings.callers, split_at=None)
        return Round(
            puts_per_second=found.total.per_second,
            p50_ms=found.total.latency_ms.p50,
            p99_ms=found.total.latency_ms.p99,
            node_cpu_us=found.node_cpu_us_per_request or 0.0,
            client_cpu_us=found.client_cpu_us_per_request,
            idle_cores=idle_cores,
            memory_bytes=memory,
            restart_s=restart_s,
            answer_s=answer_s,
            elections_s=elections_s,
        )

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[tuple[LocalCluster, Database]]:
        cluster = LocalCluster(self._directory, self._addresses)
        began = time.monotonic()
        async with cluster, connect(*cluster.addresses) as db:
            self._restart_s = time.monotonic() - began
            yield cluster, db

    def _bench(self, cluster: LocalCluster, db: Database) -> Bench:
        return Bench(db, self._shape, cluster.nodes, time.monotonic)


async def _idle_cores(cluster: LocalCluster) -> float:
    before = [node.cpu_seconds() for node in cluster.nodes]
    await asyncio.sleep(IDLE_S)
    used = zip(cluster.nodes, before, strict=True)
    return max(node.cpu_seconds() - earlier for node, earlier in used) / IDLE_S


async def measure(
    settings: Settings, directory: Path, told: Callable[[str], None]
) -> tuple[list[Round], list[Round]]:
    """Return the rounds of the cluster with one range, and of that with many."""
    one = Side(directory / "one", settings, busy=1, idle=0)
    many = Side(directory / "many", settings, settings.busy, settings.ranges - settings.busy)
    await one.prepare()
    took_s = await many.prepare()
    told(f"{settings.ranges - settings.busy:,} idle ranges were made in {took_s:.1f} s")
    rounds: tuple[list[Round], list[Round]] = ([], [])
    for number in range(settings.rounds):
        for side, found in zip((one, many), rounds, strict=True):
            found.append(await side.round())
        first, second = (found[-1].puts_per_second for found in rounds)
        told(f"round {number + 1}: {first:,.0f} and {second:,.0f} puts/s")
    return rounds


def ratio(one: Sequence[Round], many: Sequence[Round]) -> float:
    """Return the median of what many ranges reach of the throughput of one, round by round."""
    pairs = zip(one, many, strict=True)
    return statistics.median(b.puts_per_second / a.puts_per_second for a, b in pairs)


def table(settings: Settings, one: Sequence[Round], many: Sequence[Round]) -> Table:
    """Return medians of all that was measured, with least and most."""
    shown = Table("", "1 range", f"{settings.ranges:,} ranges, {settings.busy} busy")

    def row(name: str, value: Callable[[Round], float], form: str) -> None:
        cells = []
        for rounds in (one, many):
            values = [value(each) for each in rounds]
            middle, least, most = (f(values) for f in (statistics.median, min, max))
            cells.append(f"{middle:{form}} ({least:{form}} to {most:{form}})")
        shown.add_row(name, *cells)

    row("puts/s", lambda each: each.puts_per_second, ",.0f")
    row("p50 ms", lambda each: each.p50_ms, ".1f")
    row("p99 ms", lambda each: each.p99_ms, ".1f")
    row("CPU µs per put, nodes", lambda each: each.node_cpu_us, ".0f")
    row("CPU µs per put, client", lambda each: each.client_cpu_us, ".0f")
    row("idle, % of a core, busiest node", lambda each: 100 * each.idle_cores, ".1f")
    row("memory MiB, largest node", lambda each: each.memory_bytes / MIB, ",.0f")
    row("all nodes restarted in s", lambda each: each.restart_s, ".1f")
    row("... a busy range answers after s", lambda each: each.answer_s, ".1f")
    row("... all ranges served after s", lambda each: each.elections_s, ".1f")
    return shown


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.many_ranges",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ranges", type=int, default=64)
    parser.add_argument("--busy", type=int, help="how many of them get puts; default: up to 64")
    parser.add_argument("--leaders", choices=("one", "spread"), default="one")
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--data", type=Path, help="where to make the clusters; default: /tmp")
    options = parser.parse_args()
    settings = Settings(
        ranges=options.ranges,
        busy=options.busy or min(options.ranges, 64),
        spread=options.leaders == "spread",
        callers=options.callers,
        rounds=options.rounds,
        seconds=options.seconds,
        keys=options.keys,
    )
    notes, out = Console(stderr=True, style="dim"), Console()
    with tempfile.TemporaryDirectory(prefix="multiraft-", dir=options.data) as directory:
        one, many = runtime.run(measure(settings, Path(directory), notes.print))
        here = machine.one_line(machine.describe(Path(directory)))
    out.print(here, style="dim")
    out.print(table(settings, one, many))
    out.print(f"many ÷ one: {ratio(one, many):.2f}")


if __name__ == "__main__":
    main()
