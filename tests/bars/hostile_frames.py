"""Mutated frames by the million on a node's port: a stranger's, a client's, another node's.

Purpose
    One real node. Each connection begins well, and brings frames that are mutated until one of them
    must end it: one that no longer fits its checksum, or cannot be decoded. A client's frames that
    decode all the same, with absurd values in them, are answered, and the next one follows. Another
    node's are left out: members of a cluster are believed, so what decodes is no damage but a lie.
Invariants
    - The node goes on: no crash, nothing escapes a handler, a client in between is served.
    - Whoever is through is closed: no connection hangs.
    - The node's memory stays where it was after the first frames.
"""

import asyncio
import contextlib
import random
import socket
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from multiraft import errors
from multiraft.cli import cluster_process, process_usage
from multiraft.cli.cluster_process import NodeProcess
from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.net import frames, handshake
from multiraft.net.frames import FrameParser
from multiraft.net.transport import PROTOCOL_VERSION, ConnectionClass, FrameKind, Hello
from multiraft.runtime import SystemClock
from tests.bars import hostile_corpus
from tests.bars.bar import Bar, Case, Tell
from tests.bars.hostile_corpus import Sound
from tests.bars.mutations import MUTATIONS
from tests.support import processes

FRAMES_EACH_MAX = 60
CONNECTIONS_AT_ONCE = 64
SHARES = (0.05, 0.45, 0.4, 0.1)
"""Of all frames: strangers, clients, nodes, nodes with snapshots."""
PEER = NodeId(2)
"""Which node the other side says it is."""
FRAME_BYTES_MAX = 32 << 20
MEMORY_GROWTH_MAX = 50 << 20
WARM_UP = 0.05
"""After this share of the frames, when what the node keeps of anybody is full, memory counts."""
SETTINGS = """
[ranges]
log_keep_bytes = 65536
log_bytes_max = 262144
recent_writes_max = 1000
timestamp_cache_entries_max = 1000
newest_versions_max = 1000
locks_max = 1000

[storage]
raft_write_buffer_bytes = 1048576
data_write_buffer_bytes = 1048576
block_cache_bytes = 1048576
"""


class Side(NamedTuple):
    """Who connects, and what they send before it is mutated."""

    name: str
    hello: bytes
    """The frame that begins each connection; empty for who mutates that."""
    sound: tuple[Sound, ...]
    is_believed: bool = False
    """Whether what decodes is left out."""


class Mutated(NamedTuple):
    """One mutated frame."""

    name: str
    data: bytes
    ends: bool
    """Whether the connection must end with it."""


def mutated(side: Side, dice: random.Random) -> Mutated:
    """Return a frame of this side, mutated somehow."""
    while True:
        name = dice.choices(list(MUTATIONS), [weight for _, weight in MUTATIONS.values()])[0]
        kind, payload, decode = dice.choice(side.sound)
        data = MUTATIONS[name][0](kind, payload, dice)
        ends = not _is_sound(data, kind, decode)
        if ends or not side.is_believed:
            return Mutated(name, data, ends)


def _is_sound(data: bytes, kind: FrameKind, decode: Callable[[bytes], object]) -> bool:
    try:
        found = list(FrameParser(FRAME_BYTES_MAX).feed(data))
        for _, payload in found:
            decode(payload)
    except (errors.ProtocolError, ValueError, RecursionError):
        return False
    return [each for each, _ in found] == [kind]


def stream(side: Side, dice: random.Random) -> list[Mutated]:
    """Return what one connection brings: the last frame may end it, the others do not."""
    found: list[Mutated] = []
    most = FRAMES_EACH_MAX if side.hello else 1
    while len(found) < most and not (found and found[-1].ends):
        found.append(mutated(side, dice))
    return found


async def deliver(where: tuple[str, int], side: Side, data: bytes) -> str:
    """Bring a stream to the node; return what is wrong with how it ended, if anything is."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        try:
            async with asyncio.timeout(processes.PATIENCE_S):
                await loop.sock_connect(sock, where)
                reading = asyncio.ensure_future(_read_all(sock))
                with contextlib.suppress(OSError):  # It may be closed before all has left.
                    await loop.sock_sendall(sock, side.hello + data)
                    sock.shutdown(socket.SHUT_WR)
                await reading
        except TimeoutError:
            return f"a connection was not closed within {processes.PATIENCE_S:g} s: {data.hex()}"
        except OSError as error:
            return f"the node cannot be connected to: {error}"
    return ""


async def _read_all(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while await loop.sock_recv(sock, 1 << 16):
            pass


class Siege:
    """A node, whoever attacks it, and a client beside."""

    def __init__(self, node: NodeProcess, db: Database, dice: random.Random, tell: Tell) -> None:
        self._node = node
        self._db = db
        self._dice = dice
        self._tell = tell
        host, _, port = node.address.rpartition(":")
        self._where = (host, int(port))
        self._served_count = 0

    async def attack(self, side: Side, count: int) -> None:
        """Bring so many frames at least, many connections at once."""
        left = count
        warm_at = count - round(count * WARM_UP)
        warm_bytes = process_usage.resident_bytes(self._node.pid)
        while left > 0 and self._node.is_running:
            is_cold = left > warm_at
            left -= await self._wave(side)
            if is_cold and self._node.is_running:
                warm_bytes = process_usage.resident_bytes(self._node.pid)
        if not self._node.is_running:
            self._tell(Case(side.name, "FAILED", f"the node ended: {self._node.last_words()}", 0))
            return
        grown = process_usage.resident_bytes(self._node.pid) - warm_bytes
        told = f"the node's memory grew by {grown / (1 << 20):.1f} MiB"
        if abs(grown) > MEMORY_GROWTH_MAX:
            self._tell(Case(side.name, "FAILED", told, 0))
        else:
            self._tell(Case(side.name, "", count=0, note=told))

    async def _wave(self, side: Side) -> int:
        """Bring some connections at once; return how many frames."""
        waves = [stream(side, self._dice) for _ in range(CONNECTIONS_AT_ONCE)]
        data = [b"".join(each.data for each in wave) for wave in waves]
        ends = await asyncio.gather(*(deliver(self._where, side, each) for each in data))
        brought = Counter((each.name, each.ends) for wave in waves for each in wave)
        for (name, must_end), count in brought.items():
            outcome = "unreadable" if must_end else "readable"
            self._tell(Case(f"{side.name}: {name}", outcome, count=count))
        for problem in filter(None, ends):
            self._tell(Case(side.name, "FAILED", problem, 0))
        await self._serve(side)
        return brought.total()

    async def _serve(self, side: Side) -> None:
        """The client beside is served."""
        if not self._node.is_running:
            return
        self._served_count += 1
        value = str(self._served_count).encode()
        problem = ""
        try:
            await self._db.put(b"beside", value)
            found = await self._db.get(b"beside")
        except errors.MultiraftError as error:
            problem = f"a client beside: {error}"
        else:
            if found != value:
                problem = f"{found!r} was read after {value!r} was written"
        if problem:
            self._tell(Case(side.name, "FAILED", problem, 0))


def sides(cluster_id: str) -> tuple[Side, ...]:
    """Return everybody who connects."""
    now = hlc.from_us(SystemClock().wall_us())

    def packed(hello: Hello) -> bytes:
        return handshake.encode_hello(hello)

    def node(connection_class: ConnectionClass) -> bytes:
        hello = Hello(PROTOCOL_VERSION, connection_class, cluster_id, PEER)
        return frames.encode(FrameKind.HELLO, packed(hello))

    client = packed(Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS))
    greeting = Sound(FrameKind.HELLO, client, handshake.decode_hello)
    return (
        Side("stranger", b"", (greeting,)),
        Side("client", frames.encode(FrameKind.HELLO, client), hostile_corpus.of_clients(now)),
        Side("node", node(ConnectionClass.RAFT), hostile_corpus.of_nodes(now), True),
        Side("node, bulk", node(ConnectionClass.BULK), hostile_corpus.of_snapshots(now), True),
    )


def run(count: int, seed: int, tell: Tell) -> None:
    """Bring so many frames: half of them as a client or stranger, the others as a node."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as name:
            directory = Path(name) / "cluster"
            async with (
                processes.running(directory, nodes=1, settings=SETTINGS) as cluster,
                processes.connect(cluster) as db,
            ):
                manifest = cluster_process.read_manifest(directory)
                assert manifest is not None, "the cluster was just made"
                node = cluster.nodes[0]
                siege = Siege(node, db, random.Random(seed), tell)
                for side, share in zip(sides(manifest.cluster_id), SHARES, strict=True):
                    await siege.attack(side, round(count * share))
                for line in node.log_file.read_text().splitlines():
                    if "because of an error here" in line or "Traceback" in line:
                        tell(Case("the node's log", "FAILED", line, 0))

    processes.run(main())


BAR = Bar("hostile-frames", "Mutated frames on a node's port.", 2_000_000, run)
