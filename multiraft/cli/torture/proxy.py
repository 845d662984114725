"""A TCP proxy in front of one node, which can hold bytes and break connections.

Purpose
    Partitions of real processes on one machine, without privileges: nodes tell each other, and
    clients, the addresses of their proxies. Decision 0005 says why.
Invariants
    - Who connects is known from the Hello before a byte is passed on; whoever does not say that it
      is a node is a client.
    - While a way is cut nothing passes it, not even the news that a connection has ended. What was
      read is held and passes, in order, when the way is open again; the rest waits in the sockets.
    - Bytes are passed on as they came, never made or changed.
    - `close` leaves no task and no socket.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Sequence
from typing import cast

from multiraft import errors
from multiraft.cli.torture.cuts import CLIENT, Cuts
from multiraft.net import addresses, frames, handshake
from multiraft.net.transport import FrameKind

_CHUNK_BYTES = 1 << 16
_HELLO_BYTES_MAX = 1 << 16
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER on, for no time: what is not sent is lost and the peer sees a reset."""


@contextlib.asynccontextmanager
async def in_front_of(
    nodes: Sequence[str], advertised: Sequence[str], cuts: Cuts
) -> AsyncIterator[tuple["Proxy", ...]]:
    """Run one proxy before each node, at the addresses that the nodes advertise."""
    async with contextlib.AsyncExitStack() as stack:
        proxies = []
        for number, (node, address) in enumerate(zip(nodes, advertised, strict=True), start=1):
            proxy = Proxy(number, node, cuts)
            stack.push_async_callback(proxy.close)
            await proxy.listen(address)
            proxies.append(proxy)
        yield tuple(proxies)


class Proxy:
    """See the module. It stands before the node `number`, which listens at `node_address`."""

    def __init__(self, number: int, node_address: str, cuts: Cuts) -> None:
        self.number = number
        self._node = addresses.split(node_address)
        self._cuts = cuts
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._pipes: dict[_Pipe, None] = {}

    async def listen(self, address: str) -> None:
        """Begin. Raises OSError if the port is taken."""
        host, port = addresses.split(address)
        self._server = await asyncio.start_server(self._accepted, host, port)

    async def close(self) -> None:
        """Break everything."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self, source: int) -> None:
        """Break the connections that `source` has opened, losing what travels."""
        for pipe in tuple(self._pipes):
            if pipe.source == source:
                pipe.reset()

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pipe = _Pipe(self.number, self._cuts)
        pipe.add(writer)
        self._pipes[pipe] = None
        try:
            beginning = await pipe.identify(reader)
            await self._cuts.until_open(pipe.source, self.number)
            node_reader, node_writer = await asyncio.open_connection(*self._node)
            pipe.add(node_writer)
            node_writer.write(beginning)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(pipe.pump(reader, node_writer, pipe.source, self.number))
                pumps.create_task(pipe.pump(node_reader, writer, self.number, pipe.source))
            await pipe.end()
        except* OSError:
            pass  # one side broke, so the other does
        finally:
            del self._pipes[pipe]
            await pipe.gone()


class _Pipe:
    """One connection through the proxy. `source` has opened it."""

    def __init__(self, target: int, cuts: Cuts) -> None:
        self.source = CLIENT
        self._target = target
        self._cuts = cuts
        self._writers: list[asyncio.StreamWriter] = []

    def add(self, writer: asyncio.StreamWriter) -> None:
        """Take a socket, to be closed in the end."""
        self._writers.append(writer)

    async def identify(self, reader: asyncio.StreamReader) -> bytes:
        """Learn from the first frame who connects; return what was read."""
        parser = frames.FrameParser(_HELLO_BYTES_MAX)
        beginning = b""
        while data := await reader.read(_CHUNK_BYTES):
            beginning += data
            try:
                for kind, payload in parser.feed(data):
                    if kind is FrameKind.HELLO:
                        self.source = int(handshake.decode_hello(payload).node_id)
                    return beginning
            except errors.ProtocolError:
                return beginning  # the node will say what it thinks of that
        return beginning

    async def pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        source: int,
        target: int,
    ) -> None:
        """Pass on what one end sends, and its end, while the way is open."""
        try:
            while True:
                await self._cuts.until_open(source, target)
                data = await reader.read(_CHUNK_BYTES)
                await self._cuts.until_open(source, target)
                if writer.is_closing():
                    raise ConnectionResetError("it broke while bytes were held")
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.write_eof()
        except OSError:
            # Either socket may have broken, and the other end hears of it only by an open way.
            await self._cuts.until_open(source, target)
            await self._cuts.until_open(target, source)
            raise

    async def end(self) -> None:
        """Close both sockets after what was written has left them."""
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            await writer.wait_closed()

    def reset(self) -> None:
        """Close both sockets at once."""
        for writer in self._writers:
            if not writer.is_closing():
                sock = cast("socket.socket", writer.get_extra_info("socket"))
                with contextlib.suppress(OSError):
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    async def gone(self) -> None:
        """Close both sockets at once, and return when nothing is left of them."""
        self.reset()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()
