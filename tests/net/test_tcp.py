"""What is particular to sockets: strangers, garbage, resets, descriptors."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import addresses, frames, handshake, listening
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import FrameKind
from tests.support.peers import Door, Recorder, client_hello, run_on, unexpected

pytestmark = pytest.mark.integration

HELLO_FRAME = frames.encode(FrameKind.HELLO, handshake.encode_hello(client_hello()))
DESCRIPTORS = Path("/proc/self/fd")

Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    name: str = request.param
    return lambda main: run_on(name, main)


class Server:
    """A listening transport; strangers talk to it over plain streams."""

    def __init__(self, config: NetConfig | None = None, door: Door | None = None) -> None:
        self.door = door or Door()
        self.transport = TcpTransport(config or NetConfig(), self.door.on_error)

    async def __aenter__(self) -> "Server":
        self.listener = await self.transport.listen("127.0.0.1:0", self.door.accept)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.listener.close()

    async def stranger(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect without saying anything."""
        return await asyncio.open_connection(*addresses.split(self.listener.address))


async def goodbye(reader: asyncio.StreamReader) -> handshake.Goodbye:
    """Read to the end of the stream; its last frame must be a goodbye."""
    parsed = list(frames.FrameParser(1 << 20).feed(await reader.read()))
    kind, payload = parsed[-1]
    assert kind is FrameKind.GOODBYE
    return handshake.decode_goodbye(payload)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        bytes.fromhex("ffffffff"),
        frames.encode(FrameKind.RAFT, b"no hello before"),
        frames.encode(FrameKind.HELLO, b"not a hello"),
        frames.encode(FrameKind.HELLO, b"\x93\x01\x02\xa1\xff"),
    ],
)
def test_garbage_is_answered_with_a_reason_and_the_listener_lives_on(
    run: Run, garbage: bytes
) -> None:
    async def main() -> None:
        async with Server() as server:
            reader, writer = await server.stranger()
            writer.write(garbage)
            assert (await goodbye(reader)).code == "protocol"
            await hang_up(writer)
            reader, writer = await server.stranger()
            writer.write(HELLO_FRAME)
            await reader.readexactly(frames.HEADER_BYTES)
            assert len(server.door.handlers) == 1
            assert server.transport.status().refused_connections == 1
            assert "protocol error" in server.transport.status().last_refusal
            await hang_up(writer)
        assert server.door.errors == []

    run(main)


def test_a_stranger_that_says_nothing_is_closed_in_time(run: Run) -> None:
    async def main() -> None:
        async with Server(NetConfig(handshake_timeout_ms=20)) as server:
            reader, writer = await server.stranger()
            assert (await goodbye(reader)).reason == "no handshake within 20 ms"
            await hang_up(writer)

    run(main)


def test_a_server_that_accepts_and_says_nothing_is_given_up(run: Run) -> None:
    async def main() -> None:
        silent = await listening.bind(asyncio.get_running_loop(), "127.0.0.1:0")
        address = addresses.join(*silent.getsockname())
        transport = TcpTransport(NetConfig(handshake_timeout_ms=20), unexpected)
        with pytest.raises(errors.NodeUnavailableError, match="no answer in time"):
            await transport.connect(address, client_hello(), Door())
        loop = asyncio.get_running_loop()
        accepted, _ = await loop.sock_accept(silent)
        with silent, accepted, contextlib.suppress(ConnectionResetError):
            while await loop.sock_recv(accepted, 1_000):
                pass  # the Hello, then the end: the socket was closed

    run(main)


def test_a_connection_that_is_cut_inside_a_frame_tells_the_handler(run: Run) -> None:
    async def main() -> None:
        async with Server() as server:
            _, writer = await server.stranger()
            writer.write(HELLO_FRAME + frames.encode(FrameKind.REQUESTS, b"abc")[:-1])
            await hang_up(writer)
            reason = await (await server.door.opened()).end()
            # The Welcome may be unread when the stranger closes, which resets the connection.
            assert "15 bytes into a frame" in reason or "broke" in reason
            assert server.door.handlers[0].frames == []

    run(main)


def test_a_reset_tells_the_handler(run: Run) -> None:
    async def main() -> None:
        async with Server() as server:
            reader, writer = await server.stranger()
            writer.write(HELLO_FRAME)
            await reader.readexactly(frames.HEADER_BYTES)
            sock = writer.get_extra_info("socket")
            # Linger of zero seconds: closing sends a reset.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await hang_up(writer)
            assert await server.door.handlers[0].end()

    run(main)


def test_listening_does_not_tell_another_machines_address_from_a_mistake(run: Run) -> None:
    async def main() -> None:
        transport = TcpTransport(NetConfig(), unexpected)
        with pytest.raises(errors.ConfigError, match="does not have that address"):
            await transport.listen("192.0.2.1:0", Door().accept)
        with pytest.raises(errors.ConfigError, match=r"nowhere\.invalid is not known"):
            await transport.listen("nowhere.invalid:0", Door().accept)
        with pytest.raises(errors.NodeUnavailableError, match=r"nowhere\.invalid:1"):
            await transport.connect("nowhere.invalid:1", client_hello(), Door())

    run(main)


def test_a_name_that_no_resolver_takes_is_told_as_such(run: Run) -> None:
    """Whoever dials expects our errors: any other would stop the node that another's name hurt."""

    async def main() -> None:
        transport = TcpTransport(NetConfig(), Door().on_error)
        for host in ("a..example", "n" * 64):
            with pytest.raises(errors.ConfigError, match="is not an address"):
                await transport.connect(f"{host}:7000", client_hello(), Door())

    run(main)


def test_a_name_and_ipv6_can_be_listened_at(run: Run) -> None:
    async def main() -> None:
        hosts = ["localhost", "[::1]"] if socket.has_dualstack_ipv6() else ["localhost"]
        for host in hosts:
            server, client = Door(), Door()
            transport = TcpTransport(NetConfig(), unexpected)
            listener = await transport.listen(f"{host}:0", server.accept)
            assert listener.address.startswith(f"{host}:")
            assert transport.status().listening == (listener.address,)
            await transport.connect(listener.address, client_hello(), client)
            await listener.close()
            assert transport.status().listening == ()
            await client.handlers[0].connection.wait_closed()

    run(main)


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="descriptors cannot be counted here")
def test_no_descriptor_is_left_by_any_way_a_connection_ends(run: Run) -> None:
    async def main() -> None:
        config = NetConfig(connections_max=3, goodbye_timeout_ms=20)
        client = TcpTransport(config, unexpected)
        before = 0
        for rounds in (1, 10):
            async with Server(config, Door(fails_on=b"poison")) as server:
                for _ in range(rounds):
                    await one_of_each_end(server, client)
            for _ in range(3):
                await asyncio.sleep(0)
            # The first round opens what a loop opens once.
            before = before or len(os.listdir(DESCRIPTORS))
        assert len(os.listdir(DESCRIPTORS)) == before

    run(main)


async def one_of_each_end(server: Server, client: TcpTransport) -> None:
    """Closed by us, by them, by a failing handler, refused, cancelled, and never opened."""

    async def connect() -> Recorder:
        door = Door()
        while True:
            with contextlib.suppress(errors.NodeUnavailableError):
                await client.connect(server.listener.address, client_hello(), door)
                return door.handlers[0]

    ours = await connect()
    ours.connection.close("done")
    await ours.connection.wait_closed()
    poisoned = await connect()
    poisoned.connection.send(FrameKind.REQUESTS, b"poison")
    await poisoned.connection.wait_closed()
    theirs = await connect()
    server.door.handlers[-1].connection.close("go away")
    await theirs.connection.wait_closed()
    attempt = asyncio.ensure_future(client.connect(server.listener.address, client_hello(), Door()))
    await asyncio.sleep(0)
    attempt.cancel()
    await asyncio.gather(attempt, return_exceptions=True)
    many = await asyncio.gather(
        *(client.connect(server.listener.address, client_hello(), Door()) for _ in range(6)),
        return_exceptions=True,
    )
    for one in many:
        if isinstance(one, BaseException):
            assert isinstance(one, errors.NodeUnavailableError)
        else:
            one.close()
            await one.wait_closed()
