"""Connections over TCP and TLS, on any asyncio event loop.

Purpose
    Implement transport.Transport with the fewest system calls and copies that Python allows.
Invariants
    - A frame leaves when it is sent, in one write. Who has several for one peer in one iteration of
      the loop makes one of them: the event loop would otherwise have to come round once more.
    - What waits to be sent is bounded: a peer that lets `send_buffer_bytes_max` pile up is closed.
    - A stranger costs at most one partial Hello and one timer, for `handshake_timeout_ms`.
    - Every socket is closed in the end, however `connect` and `close` are interrupted: a goodbye
      that the peer does not take is cut short after `goodbye_timeout_ms`.
"""

import asyncio
import ssl
from collections.abc import Callable
from typing import cast

import msgspec

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import addresses, frames, listening, tls
from multiraft.net.connection import ConnectionEnd, OnError, Side
from multiraft.net.sides import AcceptingSide, Admissions, ConnectingSide
from multiraft.net.transport import Acceptor, Connection, FrameKind, Handler, Hello


class TcpConnection(ConnectionEnd, asyncio.Protocol):
    """One end of a TCP connection."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: NetConfig,
        side: Side,
        greeting_bytes_max: int,
    ) -> None:
        super().__init__(loop, config, side)
        self._parser = frames.FrameParser(greeting_bytes_max)
        self._transport: asyncio.Transport | None = None

    @property
    def buffered_bytes(self) -> int:
        """See transport.Connection."""
        if self._transport is None:
            return 0
        return self._transport.get_write_buffer_size()

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """See transport.Connection."""
        transport, config = self._transport, self._config
        if self.ended or transport is None:
            return
        assert len(payload) <= config.frame_bytes_max, "a frame is over the limit of every receiver"
        transport.write(frames.encode(kind, payload))
        if transport.get_write_buffer_size() > config.send_buffer_bytes_max:
            self.end(
                f"slow reader: {transport.get_write_buffer_size()} bytes wait to be sent, at most "
                f"{config.send_buffer_bytes_max} may"
            )
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Deliver the frames that `data` completes."""
        if self.ended:
            return  # the peer has not read our goodbye yet
        try:
            for kind, payload in self._parser.feed(data):
                self.take(kind, payload)
                if self.ended:
                    return
        except Exception as error:
            self.took(error)

    def pause_reading(self) -> None:
        """See transport.Connection."""
        if self._transport is not None and not self.ended:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """See transport.Connection."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let the side begin its handshake."""
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if peer:
            self.peer_address = addresses.join(peer[0], peer[1])
        listening.tune(transport.get_extra_info("socket"), self._config.dead_peer_ms)
        self.come_up()

    def eof_received(self) -> None:
        """The peer sends no more: let the transport close, and `connection_lost` follow."""
        reason = "the other end closed the connection"
        if self._parser.partial_bytes:
            reason += f" {self._parser.partial_bytes} bytes into a frame"
        if not self.is_open:
            reason += " during the handshake; is the TLS setting the same on both ends?"
        self.end(reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._transport = None
        reason = "the connection was closed" if exc is None else f"the connection broke: {exc}"
        # With TLS 1.3 a certificate that is refused shows only here, after the TLS handshake.
        error = errors.ProtocolError(reason=reason) if isinstance(exc, ssl.SSLError) else None
        self._lost(reason, error)

    def abort(self) -> None:
        """Close the socket at once."""
        if self._transport is not None:
            self._transport.abort()

    def _hang_up(self) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        self._start_timer(self._config.goodbye_timeout_ms, self.abort)
        if self.is_open and transport.can_write_eof():
            # Closing a socket that holds unread bytes resets it, and the reset may overtake our
            # goodbye. So only our half is closed; the peer reads the reason and closes its own.
            try:
                transport.write_eof()
                transport.resume_reading()
            except OSError:  # reset by the peer, and not noticed while reading was paused
                transport.abort()
        else:
            transport.close()

    def _opened(self) -> None:
        self._parser.limit_bytes = self._config.frame_bytes_max


class TransportStatus(msgspec.Struct, frozen=True):
    """What a transport accepted, for metrics and the console."""

    listening: tuple[str, ...]
    accepted_connections: int
    accepted_connections_max: int
    refused_connections: int
    """Attempts that ended before the handshake did."""
    last_refusal: str


class TcpListener:
    """Implements transport.Listener."""

    def __init__(
        self,
        address: str,
        server: asyncio.Server,
        side: AcceptingSide,
        on_close: Callable[["TcpListener"], None],
    ) -> None:
        self.address = address
        self._server = server
        self._side = side
        self._on_close = on_close

    async def close(self) -> None:
        """See transport.Listener. Peers are given `goodbye_timeout_ms` to take the goodbye."""
        self._server.close()
        self._on_close(self)
        await self._side.close_all("the node is stopping")


class TcpTransport:
    """Implements transport.Transport. TLS is on when the configuration names certificates."""

    def __init__(self, config: NetConfig, on_error: OnError) -> None:
        self._config = config
        self._on_error = on_error
        self._admissions = Admissions(config.connections_max)
        self._listeners: dict[TcpListener, None] = {}

    def status(self) -> TransportStatus:
        """Return what was accepted so far."""
        return TransportStatus(
            listening=tuple(listener.address for listener in self._listeners),
            accepted_connections=self._admissions.present,
            accepted_connections_max=self._admissions.limit,
            refused_connections=self._admissions.refused,
            last_refusal=self._admissions.last_refusal,
        )

    async def listen(self, address: str, accept: Acceptor) -> TcpListener:
        """See transport.Transport."""
        loop = asyncio.get_running_loop()
        context = tls.server_context(self._config)
        host, _ = addresses.split(address)
        sock = await listening.bind(loop, address)
        side = AcceptingSide(accept, self._admissions, self._on_error)

        def accepted() -> TcpConnection:
            return TcpConnection(loop, self._config, side, self._config.hello_bytes_max)

        try:
            server = await loop.create_server(
                accepted,
                sock=sock,
                backlog=listening.BACKLOG,
                ssl=context,
                ssl_handshake_timeout=self._tls_timeout(context),
            )
        except BaseException:
            sock.close()
            raise
        where = addresses.join(host, sock.getsockname()[1])
        listener = TcpListener(where, server, side, self._forget)
        self._listeners[listener] = None
        return listener

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> TcpConnection:
        """See transport.Transport."""
        loop = asyncio.get_running_loop()
        host, port = addresses.split(address)
        context = tls.client_context(self._config)
        side = ConnectingSide(loop, address, hello, make_handler, self._on_error)
        connection = TcpConnection(loop, self._config, side, self._config.welcome_bytes_max)
        connection.peer_address = address
        try:
            async with asyncio.timeout(self._config.connect_timeout_ms / 1_000):
                await loop.create_connection(lambda: connection, host, port, ssl=context)
            await self._shake_hands(connection, side)
        except TimeoutError as error:
            raise errors.NodeUnavailableError(target=address, reason="no answer in time") from error
        except ssl.SSLError as error:
            raise errors.ProtocolError(reason=f"TLS with {address} failed: {error}") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise errors.NodeUnavailableError(target=address, reason=reason) from error
        finally:
            side.abandon()
        return connection

    async def _shake_hands(self, connection: TcpConnection, side: ConnectingSide) -> None:
        try:
            async with asyncio.timeout(self._config.handshake_timeout_ms / 1_000):
                await side.opened
        except BaseException:
            connection.abort()
            await connection.wait_closed()
            raise

    def _forget(self, listener: TcpListener) -> None:
        self._listeners.pop(listener, None)

    def _tls_timeout(self, context: ssl.SSLContext | None) -> float | None:
        return None if context is None else self._config.handshake_timeout_ms / 1_000
