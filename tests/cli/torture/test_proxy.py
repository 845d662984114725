import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from multiraft import runtime
from multiraft.cli.cluster_process import free_addresses
from multiraft.cli.torture import proxy
from multiraft.cli.torture.cuts import CLIENT, Cuts
from multiraft.cli.torture.proxy import Proxy
from multiraft.ids import NodeId
from multiraft.net import addresses, frames, handshake
from multiraft.net.transport import PROTOCOL_VERSION, ConnectionClass, FrameKind, Hello

pytestmark = pytest.mark.integration

PATIENCE_S = 30.0

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def hello(node_id: int) -> bytes:
    """Return the first frame that a node, or with 0 a client, sends."""
    said = Hello(PROTOCOL_VERSION, ConnectionClass.RAFT, "c", NodeId(node_id))
    return frames.encode(FrameKind.HELLO, handshake.encode_hello(said))


class World:
    """A node, number 2, that takes connections and does nothing by itself, behind a proxy."""

    def __init__(self) -> None:
        self.cuts = Cuts()
        self.listening, self.advertised = free_addresses(2)
        self.accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.proxy: Proxy
        self.writers: list[asyncio.StreamWriter] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.writers.append(writer)
            self.accepted.put_nowait((reader, writer))

        server = await asyncio.start_server(accept, *addresses.split(self.listening))
        self.proxy = Proxy(2, self.listening, self.cuts)
        await self.proxy.listen(self.advertised)
        try:
            yield
        finally:
            await self.proxy.close()
            server.close()
            for writer in self.writers:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def open(self, address: str) -> Peer:
        """Return a connection to `address`."""
        peer = await asyncio.open_connection(*addresses.split(address))
        self.writers.append(peer[1])
        return peer

    async def connect(self, node_id: int) -> tuple[Peer, Peer]:
        """Return both ends of a connection that `node_id` opened, the Hello passed."""
        peer = await self.open(self.advertised)
        peer[1].write(hello(node_id))
        node = await self.accepted.get()
        assert await node[0].readexactly(len(hello(node_id))) == hello(node_id)
        return peer, node


def run(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(PATIENCE_S):
            world = World()
            async with world.running():
                await scenario(world)

    runtime.run(main())


async def passes(source: Peer, target: Peer, what: bytes) -> None:
    source[1].write(what)
    assert await target[0].readexactly(len(what)) == what


def test_bytes_pass_both_ways_as_they_are() -> None:
    async def scenario(world: World) -> None:
        peer, node = await world.connect(1)
        await passes(peer, node, b"x" * 300_000)
        await passes(node, peer, b"y" * 300_000)

    run(scenario)


def test_a_cut_way_holds_bytes_until_it_is_healed_and_the_other_way_works() -> None:
    async def scenario(world: World) -> None:
        peer, node = await world.connect(1)
        world.cuts.cut(1, 2)
        peer[1].write(b"held")
        reading = asyncio.create_task(node[0].readexactly(4))
        for number in range(20):
            await passes(node, peer, b"%02d" % number)
        assert not reading.done()
        world.cuts.heal(1, 2)
        assert await reading == b"held"

    run(scenario)


def test_a_cut_between_two_nodes_does_not_touch_clients_and_others() -> None:
    async def scenario(world: World) -> None:
        client, at_client = await world.connect(CLIENT)
        other, at_other = await world.connect(3)
        world.cuts.cut(1, 2)
        await passes(client, at_client, b"a")
        await passes(other, at_other, b"b")

    run(scenario)


def test_who_connects_over_a_cut_way_arrives_when_it_is_healed() -> None:
    async def scenario(world: World) -> None:
        world.cuts.cut(1, 2)
        connecting = asyncio.create_task(world.connect(1))
        other = await world.connect(3)
        assert not connecting.done()
        world.cuts.heal(1, 2)
        await passes(*await connecting, b"a")
        await passes(*other, b"b")

    run(scenario)


def test_the_end_of_a_connection_passes_after_what_was_sent_before() -> None:
    async def scenario(world: World) -> None:
        peer, node = await world.connect(1)
        peer[1].write(b"last words")
        peer[1].write_eof()
        assert await node[0].read() == b"last words"
        await passes(node, peer, b"heard")
        node[1].close()
        assert await peer[0].read() == b""

    run(scenario)


def test_nobody_hears_of_an_end_while_the_way_is_cut() -> None:
    async def scenario(world: World) -> None:
        peer, node = await world.connect(1)
        world.cuts.cut(1, 2)
        peer[1].close()
        reading = asyncio.create_task(node[0].read())
        other = await world.connect(3)
        for number in range(20):
            await passes(*other, b"%02d" % number)
        assert not reading.done()
        world.cuts.heal(1, 2)
        assert await reading == b""

    run(scenario)


def test_a_reset_breaks_the_connections_of_one_node_only() -> None:
    async def scenario(world: World) -> None:
        peer, node = await world.connect(1)
        other = await world.connect(3)
        world.proxy.reset(1)
        for end in (peer, node):
            with pytest.raises(ConnectionError):
                await end[0].readexactly(1)
        await passes(*other, b"a")

    run(scenario)


def test_a_node_that_does_not_listen_is_a_broken_connection() -> None:
    async def scenario(world: World) -> None:
        (nobody,) = free_addresses(1)
        (advertised,) = free_addresses(1)
        async with proxy.in_front_of([nobody], [advertised], world.cuts):
            reader, writer = await world.open(advertised)
            writer.write(hello(1))
            with pytest.raises(ConnectionError):
                await reader.readexactly(1)

    run(scenario)


def test_closing_breaks_what_is_held() -> None:
    async def scenario(world: World) -> None:
        peer, _ = await world.connect(1)
        world.cuts.isolate(2)
        peer[1].write(b"held")
        await world.proxy.close()
        with pytest.raises(ConnectionError):
            await peer[0].readexactly(1)

    run(scenario)
