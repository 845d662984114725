"""Many clients, idle, rude or too fast, beside those that behave: `python -m bench.crowds NAME`.

Three durable nodes, and what somebody else feels of a crowd:

connections   1,000 clients that only hold their connection to each node; 10,000 that come and go
rude          200 that never read a reply, 200 whose request arrives at one byte per second
overload      three times as many writes as the cluster can do, for `--seconds`

The first two compare 100 callers alone with the same callers beside the crowd, in turn, in windows
of `WINDOW_S`; what counts is the ratio. The third is an open loop: writes of `BATCH` keys begin at
a fixed rate, whether others have ended or not, and have `DEADLINE_S` to be answered. They are sent
past the client library, whose work for them would take the processors from the nodes.
"""

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import socket
import statistics
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import msgspec
from rich.console import Console

from multiraft import runtime
from multiraft.cli import cluster_process, process_usage
from multiraft.cli.cluster_process import LocalCluster
from multiraft.cli.measure import Latency, Recorder, Samples, Window
from multiraft.client.database import Database, connect
from multiraft.config import ClientConfig
from multiraft.ids import RangeId, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.requests import BatchReply, BatchRequest, Get, Put, RequestFrame
from multiraft.net import frames, handshake
from multiraft.net.transport import PROTOCOL_VERSION, ConnectionClass, FrameKind, Hello

NAMES = ("connections", "rude", "overload")
CALLERS = 100
IDLE_EACH = 1_000
COMING_AND_GOING = 10_000
AT_ONCE = 100
SILENT = DRIPPING = 200
BIG_BYTES = 100_000
WINDOW_S = 5.0
ROUNDS = 3
VALUE = os.urandom(256)
BATCH = 100
PEAK_S = 10.0
OVERLOAD_FACTOR = 3.0
DEADLINE_S = 2.0
AFTERWARDS_S_MAX = 30.0
TICK_S = 0.01
_CLOCK = runtime.SystemClock()
_MARGIN = hlc.from_ms(ClientConfig().issued_at_margin_ms)
_HELLO = frames.encode(
    FrameKind.HELLO, handshake.encode_hello(Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS))
)

Crowd = Callable[[LocalCluster, Database], "contextlib.AbstractAsyncContextManager[None]"]


class Compared(msgspec.Struct, frozen=True):
    """The callers alone and beside a crowd, window by window."""

    alone: tuple[Latency, ...]
    beside: tuple[Latency, ...]
    memory_grew: int
    """By how many bytes the node that grew most did, at its peak."""

    @property
    def ratio(self) -> float:
        """How many times as long as alone the slowest of a hundred requests took: a median."""
        pairs = zip(self.alone, self.beside, strict=True)
        return statistics.median(beside.p99 / alone.p99 for alone, beside in pairs)


class Overload(msgspec.Struct, frozen=True):
    """What a cluster did with more writes than it can do. Rates count writes of `BATCH` keys."""

    peak: float
    """What it does for `CALLERS` that wait for each other."""
    peak_ms: Latency
    offered: float
    done: float
    ended: dict[str, int]
    """How the writes ended, by the code of the error."""
    elections: int
    """How many terms began meanwhile, over all ranges."""
    memory_grew: int
    normal_after_s: float
    """When after the last of them a write first took no longer than at the peak."""


# -- those that behave -----------------------------------------------------------------------------


class Callers:
    """`CALLERS` clients with a connection each, which get and put in turn."""

    def __init__(self, clients: list[Database]) -> None:
        self._clients = clients

    async def window(self) -> Latency:
        """Return how long their requests took in the next `WINDOW_S`."""
        recorder = Recorder(1)
        window = Window(began := _CLOCK.monotonic(), began + WINDOW_S)
        jobs = (
            self._call(db, b"caller/%04d" % number, recorder, window.end)
            for number, db in enumerate(self._clients)
        )
        await asyncio.gather(*jobs)
        return recorder.summary(window).latency_ms

    async def _call(self, db: Database, key: bytes, recorder: Recorder, until: float) -> None:
        while (began := _CLOCK.monotonic()) < until:
            await db.put(key, VALUE)
            recorder.writes[0].add(began, put := _CLOCK.monotonic())
            await db.get(key)
            recorder.reads[0].add(put, _CLOCK.monotonic())


@contextlib.asynccontextmanager
async def callers(cluster: LocalCluster) -> AsyncIterator[Callers]:
    """Connect them."""
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(connect(*cluster.addresses)) for _ in range(CALLERS)
        ]
        yield Callers(clients)


async def compare(crowd: Crowd) -> Compared:
    """Measure the callers alone and beside the crowd, in turn."""
    alone: list[Latency] = []
    beside: list[Latency] = []
    async with (
        cluster_process.temporary() as cluster,
        callers(cluster) as callers_,
        connect(*cluster.addresses) as db,
    ):
        await callers_.window()
        memory = [process_usage.resident_bytes(node.pid) for node in cluster.nodes]
        grew = 0
        for _ in range(ROUNDS):
            alone.append(await callers_.window())
            async with crowd(cluster, db):
                beside.append(await callers_.window())
                now = [process_usage.resident_bytes(node.pid) for node in cluster.nodes]
                grew = max(grew, *(b - a for a, b in zip(memory, now, strict=True)))
    return Compared(tuple(alone), tuple(beside), grew)


# -- crowds ----------------------------------------------------------------------------------------


async def _open(address: str) -> socket.socket:
    """Return a socket that has shaken hands as a client, but for reading the answer."""
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (host, int(port)))
    await loop.sock_sendall(sock, _HELLO)
    return sock


async def _in_groups(jobs: Iterator[Awaitable[None]]) -> None:
    while group := list(itertools.islice(jobs, AT_ONCE)):
        await asyncio.gather(*group)


async def _leader(cluster: LocalCluster, db: Database, key: bytes) -> tuple[RangeId, str]:
    """Return the range of a key, and the address of the node that leads it."""
    await db.get(key[1:])  # Which ends when somebody leads.
    found = next(r for r in await db.admin.ranges() if r.descriptor.contains(key))
    leader = next(n.address for n in cluster.nodes if n.node_id == found.leader)
    return found.descriptor.range_id, leader


@contextlib.asynccontextmanager
async def idle(cluster: LocalCluster, _: Database) -> AsyncIterator[None]:
    """Hold `IDLE_EACH` connections to each node."""
    with contextlib.ExitStack() as stack:

        async def enter(address: str) -> None:
            sock = stack.enter_context(await _open(address))
            await asyncio.get_running_loop().sock_recv(sock, 1 << 16)  # The welcome.

        await _in_groups(enter(each) for each in cluster.addresses for _ in range(IDLE_EACH))
        yield


@contextlib.asynccontextmanager
async def rude(cluster: LocalCluster, db: Database) -> AsyncIterator[None]:
    """Ask and never read, or ask one byte at a time, on the node that leads."""
    await db.put(b"big", os.urandom(BIG_BYTES))
    key = keys.PLAIN + b"big"
    range_id, leader = await _leader(cluster, db, key)
    get = BatchRequest(range_id, (Get(key),))
    ask = RequestFrame(tuple((number, get) for number in range(1, 33)))
    request = frames.encode(FrameKind.REQUESTS, encoding.pack(ask))
    loop = asyncio.get_running_loop()

    async def never_read() -> None:
        while True:
            with contextlib.suppress(OSError), contextlib.closing(await _open(leader)) as sock:
                while True:
                    await loop.sock_sendall(sock, request)

    async def drip() -> None:
        with contextlib.closing(await _open(leader)) as sock:
            for byte in request:
                await loop.sock_sendall(sock, bytes([byte]))
                await asyncio.sleep(1.0)

    tasks = [asyncio.create_task(never_read()) for _ in range(SILENT)]
    tasks += [asyncio.create_task(drip()) for _ in range(DRIPPING)]
    await asyncio.sleep(1.0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def come_and_go() -> tuple[int, int]:
    """Return how many descriptors a node had before `COMING_AND_GOING` clients, and after."""
    async with cluster_process.temporary() as cluster, connect(*cluster.addresses) as db:
        await db.put(b"k", VALUE)
        node = cluster.nodes[0]
        before = process_usage.open_files(node.pid)

        async def visit() -> None:
            with await _open(node.address) as sock:
                await asyncio.get_running_loop().sock_recv(sock, 1 << 16)

        await _in_groups(visit() for _ in range(COMING_AND_GOING))
        await asyncio.sleep(1.0)
        return before, process_usage.open_files(node.pid)


# -- too much --------------------------------------------------------------------------------------


class Writer:
    """A connection that writes batches, with next to nothing of a client's work.

    A batch that has waited for its turn until its deadline is not sent any more.
    """

    def __init__(self, sock: socket.socket, range_id: RangeId, ended: Counter[str]) -> None:
        self._sock = sock
        self._range_id = range_id
        self.ended = ended
        self._asked: asyncio.Queue[tuple[float, asyncio.Future[None]]] = asyncio.Queue()
        self._under_way: dict[int, tuple[float, asyncio.Future[None]]] = {}
        self._clock = Timestamp(0)
        self._batches = itertools.cycle(random.sample(_BATCHES, len(_BATCHES)))
        self.samples = Samples()

    async def write(self) -> None:
        """Return when a batch that is asked for now has ended, well or not."""
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._asked.put_nowait((_CLOCK.monotonic(), ended))
        await ended

    async def send(self) -> None:
        """Send what is asked for, in order, for ever."""
        loop = asyncio.get_running_loop()
        for call_id in itertools.count(1):
            began, ended = await self._asked.get()
            if _CLOCK.monotonic() > began + DEADLINE_S:
                self.ended["never sent"] += 1
                ended.set_result(None)
                continue
            puts = next(self._batches)
            issued_at = Timestamp(max(self._clock - _MARGIN, 0))
            batch = BatchRequest(self._range_id, puts, os.urandom(16), issued_at=issued_at)
            self._under_way[call_id] = began, ended
            payload = encoding.pack(RequestFrame(((call_id, batch),)))
            await loop.sock_sendall(self._sock, frames.encode(FrameKind.REQUESTS, payload))

    async def receive(self) -> None:
        """Take answers, for ever."""
        loop, parser = asyncio.get_running_loop(), frames.FrameParser(1 << 20)
        while data := await loop.sock_recv(self._sock, 1 << 16):
            for kind, payload in parser.feed(data):
                if kind is FrameKind.REPLIES:
                    for call_id, reply in encoding.unpack_reply_frame(payload).replies:
                        self._clock = max(self._clock, reply.clock)
                        self._answered(*self._under_way.pop(call_id), reply)

    def _answered(self, began: float, ended: asyncio.Future[None], reply: BatchReply) -> None:
        now = _CLOCK.monotonic()
        if reply.error is not None:
            self.ended[reply.error.code] += 1
        elif now > began + DEADLINE_S:
            self.ended["too late"] += 1
        else:
            self.ended["done"] += 1
            self.samples.add(began, now)
        ended.set_result(None)


_BATCHES = [
    tuple(Put(keys.PLAIN + b"batch/%03d/%03d" % (number, row), VALUE) for row in range(BATCH))
    for number in range(1_000)
]


@contextlib.asynccontextmanager
async def writers(cluster: LocalCluster, db: Database) -> AsyncIterator[list[Writer]]:
    """Connect `CALLERS` to the node that leads."""
    range_id, leader = await _leader(cluster, db, keys.PLAIN + b"batch")
    ended: Counter[str] = Counter()
    async with contextlib.AsyncExitStack() as stack:
        made = [
            Writer(stack.enter_context(await _open(leader)), range_id, ended)
            for _ in range(CALLERS)
        ]
        tasks = [asyncio.create_task(job) for each in made for job in (each.send(), each.receive())]
        try:
            yield made
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _terms(db: Database) -> int:
    infos = await db.admin.ranges()
    return sum(info.status["term"] for info in infos if info.status is not None)


async def _peak(found: list[Writer]) -> tuple[float, Latency]:
    """Return how many batches a second writers do that wait for each other, and how fast."""
    until = _CLOCK.monotonic() + PEAK_S

    async def call(writer: Writer) -> None:
        while _CLOCK.monotonic() < until:
            await writer.write()

    await asyncio.gather(*(call(writer) for writer in found))
    recorder = Recorder(len(found))
    recorder.writes = [writer.samples for writer in found]
    summary = recorder.summary(Window(until - PEAK_S / 2, until))
    return summary.per_second, summary.latency_ms


async def overload(seconds: float, told: Callable[[str], None]) -> Overload:
    """Offer `OVERLOAD_FACTOR` times what a cluster can do."""
    async with (
        cluster_process.temporary() as cluster,
        connect(*cluster.addresses) as db,
        writers(cluster, db) as made,
    ):
        peak, peak_ms = await _peak(made)
        told(f"{peak:,.0f} writes of {BATCH} keys a second, p50 {peak_ms.p50:.1f} ms")
        memory = [process_usage.resident_bytes(node.pid) for node in cluster.nodes]
        terms = await _terms(db)
        made[0].ended.clear()
        under_way: dict[asyncio.Task[None], None] = {}
        rate, begun, grew = OVERLOAD_FACTOR * peak, 0, 0
        began = _CLOCK.monotonic()
        while (elapsed := _CLOCK.monotonic() - began) < seconds:
            while begun < elapsed * rate:
                task = asyncio.create_task(made[begun % len(made)].write())
                under_way[task] = None
                task.add_done_callback(under_way.pop)
                begun += 1
            await asyncio.sleep(TICK_S)
            now = [process_usage.resident_bytes(node.pid) for node in cluster.nodes]
            grew = max(grew, *(b - a for a, b in zip(memory, now, strict=True)))
        took, ended = _CLOCK.monotonic() - began, dict(made[0].ended)
        normal_after_s = await _until_normal(made[0], peak_ms.p99)
        await asyncio.gather(*under_way)
        elections = await _terms(db) - terms
    return Overload(
        peak=peak,
        peak_ms=peak_ms,
        offered=begun / took,
        done=ended["done"] / took,
        ended=ended,
        elections=elections,
        memory_grew=grew,
        normal_after_s=normal_after_s,
    )


async def _until_normal(writer: Writer, normal_ms: float) -> float:
    """Return after how long a write first takes no longer than `normal_ms`."""
    began = _CLOCK.monotonic()
    while (asked := _CLOCK.monotonic()) < began + AFTERWARDS_S_MAX:
        await writer.write()
        if _CLOCK.monotonic() - asked <= normal_ms / 1_000:
            break
    return _CLOCK.monotonic() - began


# -- what is printed -------------------------------------------------------------------------------


def show_compared(name: str, found: Compared, out: Console) -> None:
    """Print the windows and their ratio."""
    for word, windows in (("alone", found.alone), (f"beside {name}", found.beside)):
        p50s = ", ".join(f"{each.p50:.1f}" for each in windows)
        p99s = ", ".join(f"{each.p99:.1f}" for each in windows)
        out.print(f"{CALLERS} callers {word}: p50 {p50s} ms; p99 {p99s} ms")
    out.print(
        f"p99 beside {name} ÷ alone: {found.ratio:.2f}; memory of a node "
        f"{found.memory_grew / (1 << 20):+.0f} MiB"
    )


def show_overload(found: Overload, out: Console) -> None:
    """Print what became of the load."""
    out.print(
        f"peak {found.peak:,.0f} writes of {BATCH} keys a second (p50 {found.peak_ms.p50:.1f}, p99 "
        f"{found.peak_ms.p99:.1f} ms); offered {found.offered:,.0f}, done {found.done:,.0f}: "
        f"{found.done / found.peak:.0%} of the peak"
    )
    out.print("they ended: " + ", ".join(f"{n:,} {code}" for code, n in found.ended.items()))
    out.print(
        f"{found.elections} elections; memory of a node {found.memory_grew / (1 << 20):+.0f} MiB; "
        f"normal again after {found.normal_after_s:.1f} s"
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.crowds", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--seconds", type=float, default=300.0, help="of overload")
    options = parser.parse_args()
    out, notes = Console(), Console(stderr=True, style="dim")
    runtime.allow_open_files(3 * IDLE_EACH + 1_000)
    names = options.names or NAMES
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"no crowd is called {', '.join(unknown)}")
    if "connections" in names:
        show_compared("idle connections", runtime.run(compare(idle)), out)
        before, after = runtime.run(come_and_go())
        out.print(f"{COMING_AND_GOING:,} came and went: descriptors {before} before, {after} after")
    if "rude" in names:
        show_compared("rude clients", runtime.run(compare(rude)), out)
    if "overload" in names:
        show_overload(runtime.run(overload(options.seconds, notes.print)), out)


if __name__ == "__main__":
    main()
