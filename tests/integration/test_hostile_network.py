"""Strangers, vandals and sleepers on a node's port; everybody else is served meanwhile."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import multiraft
from multiraft import errors
from multiraft.cli.cluster_process import NodeProcess
from multiraft.client.database import Database
from multiraft.ids import RangeId
from multiraft.model import encoding
from multiraft.model.requests import BatchRequest, Get, RequestFrame
from multiraft.net import frames, handshake
from multiraft.net.transport import PROTOCOL_VERSION, ConnectionClass, FrameKind, Hello
from tests.support import processes
from tests.support.histories import Register

pytestmark = pytest.mark.integration

CONNECTIONS_MAX = 400
SEND_BUFFER_BYTES = 8 << 20
SETTINGS = f"""
[net]
connections_max = {CONNECTIONS_MAX}
handshake_timeout_ms = 1000
send_buffer_bytes_max = {SEND_BUFFER_BYTES}
"""
HELLO = frames.encode(
    FrameKind.HELLO, handshake.encode_hello(Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS))
)
MEMORY_GROWTH_MAX = 128 << 20


class Target:
    """One node, a client that must not be disturbed, and sockets to disturb it with."""

    def __init__(self, node: NodeProcess, db: Database, register: Register) -> None:
        self.node = node
        self.db = db
        self.register = register
        host, _, port = node.address.rpartition(":")
        self.where = (host, int(port))

    async def open(self) -> socket.socket:
        """Return a connected socket."""
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        sock.setblocking(False)
        await loop.sock_connect(sock, self.where)
        return sock

    async def ends(self, sock: socket.socket) -> bytes:
        """Read until the node closes the connection; return what it said."""
        said = b""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(processes.PATIENCE_S):
            with contextlib.suppress(OSError):
                while part := await loop.sock_recv(sock, 1 << 16):
                    said += part
        sock.close()
        return said

    async def all_closed(self, files_before: int) -> None:
        """Return when the node has no more descriptors than before, give or take a log file."""
        node = self.node
        await processes.until(
            lambda: processes.open_files(node) <= files_before + 3,
            f"descriptors of closed connections are gone ({files_before} before)",
        )


@contextlib.asynccontextmanager
async def target(directory: Path) -> AsyncIterator[Target]:
    async with (
        processes.running(directory, nodes=1, settings=SETTINGS) as cluster,
        processes.connect(cluster) as db,
        Register(db) as register,
    ):
        await register.more()
        node = cluster.nodes[0]
        files, memory = processes.open_files(node), processes.peak_bytes(node)
        found = Target(node, db, register)
        yield found
        await register.more()
        await found.all_closed(files)
        grown = processes.peak_bytes(node) - memory
        assert grown < MEMORY_GROWTH_MAX, f"the node grew by {grown} bytes"
        assert node.is_running
        assert "Traceback" not in node.log_file.read_text()


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Return `data` with a few bytes changed, removed or added."""
    changed = bytearray(data)
    for _ in range(dice.randint(1, 4)):
        position = dice.randrange(len(changed))
        match dice.randrange(3):
            case 0:
                changed[position] = dice.randrange(256)
            case 1:
                del changed[position:]
                changed += dice.randbytes(8)
            case _:
                changed[position:position] = dice.randbytes(dice.randint(1, 20))
    return bytes(changed)


def test_garbage_and_damaged_frames_cost_their_sender_the_connection(tmp_path: Path) -> None:
    async def main() -> None:
        dice = random.Random(3)
        get = RequestFrame(((1, BatchRequest(RangeId(2), (Get(b"\x10k"),))),))
        request = frames.encode(FrameKind.REQUESTS, encoding.pack(get))
        oversized = (2**32 - 1).to_bytes(4, "big") + bytes(9)
        async with target(tmp_path / "cluster") as node:
            loop = asyncio.get_running_loop()

            async def offend(data: bytes) -> None:
                sock = await node.open()
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(sock, data)
                    sock.shutdown(socket.SHUT_WR)
                await node.ends(sock)

            insults = [oversized, HELLO + oversized, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01"]
            insults += [dice.randbytes(dice.randint(1, 3_000)) for _ in range(300)]
            insults += [mutated(HELLO, dice) for _ in range(300)]
            insults += [HELLO + mutated(request, dice) for _ in range(600)]
            # Sound frames, nonsense inside.
            insults += [
                HELLO + frames.encode(kind, dice.randbytes(dice.randint(0, 200)))
                for kind in FrameKind
                for _ in range(20)
            ]
            for start in range(0, len(insults), 100):
                await asyncio.gather(*(offend(each) for each in insults[start : start + 100]))

    processes.run(main())


def test_clients_that_never_read_are_closed_and_cost_bounded_memory(tmp_path: Path) -> None:
    async def main() -> None:
        async with target(tmp_path / "cluster") as node:
            await node.db.put(b"big", bytes(500_000))
            range_id = await processes.user_range(node.db)
            get = BatchRequest(range_id, (Get(b"\x10big"),))
            calls = RequestFrame(tuple((number, get) for number in range(1, 33)))
            request = frames.encode(FrameKind.REQUESTS, encoding.pack(calls))

            def never_read() -> None:
                with socket.create_connection(node.where, processes.PATIENCE_S) as sock:
                    sock.sendall(HELLO)
                    with contextlib.suppress(ConnectionError):
                        while True:
                            sock.sendall(request)

            await asyncio.gather(*(asyncio.to_thread(never_read) for _ in range(5)))

    processes.run(main())


def test_strangers_that_dawdle_are_sent_away(tmp_path: Path) -> None:
    async def main() -> None:
        async with target(tmp_path / "cluster") as node:
            loop = asyncio.get_running_loop()

            async def dawdle() -> bytes:
                sock = await node.open()
                with contextlib.suppress(OSError):
                    for byte in HELLO[:-1]:
                        await loop.sock_sendall(sock, bytes([byte]))
                        await asyncio.sleep(0.1)
                return await node.ends(sock)

            began = node.register.done
            said = await asyncio.gather(*(dawdle() for _ in range(200)))
            assert all(b"no handshake within" in each for each in said)
            assert node.register.done > began + 50

    processes.run(main())


def test_connections_above_the_limit_are_refused_with_the_reason(tmp_path: Path) -> None:
    async def main() -> None:
        async with target(tmp_path / "cluster") as node:
            loop = asyncio.get_running_loop()
            crowd = [await node.open() for _ in range(CONNECTIONS_MAX)]
            for sock in crowd:
                with contextlib.suppress(OSError):
                    await loop.sock_sendall(sock, HELLO)
            latecomer = multiraft.connect(node.node.address)
            with pytest.raises(errors.NodeUnavailableError, match=str(CONNECTIONS_MAX)):
                await latecomer.open()
            await node.register.more()
            for sock in crowd:
                sock.close()

            async def is_admitted() -> bool:
                try:
                    async with multiraft.connect(node.node.address) as db:
                        await db.get(b"k")
                except errors.NodeUnavailableError:
                    return False
                return True

            await processes.until_async(is_admitted, "there is room again")

    processes.run(main())


def test_connecting_and_leaving_over_and_over_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with target(tmp_path / "cluster") as node:
            loop = asyncio.get_running_loop()

            async def come_and_go(number: int) -> None:
                sock = await node.open()
                if number % 2:
                    await loop.sock_sendall(sock, HELLO[: number % len(HELLO)])
                sock.close()

            for start in range(0, 2_000, 100):
                await asyncio.gather(*(come_and_go(start + number) for number in range(100)))

    processes.run(main())
