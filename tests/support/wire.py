"""A socket's transport without the socket: what is written is kept, and the test is the peer.

With it a TCP connection runs on virtual time, and a test decides what is read, and when.
"""

import asyncio
from typing import Any

from multiraft.net import frames, handshake
from multiraft.net.handshake import Goodbye
from multiraft.net.tcp import TcpConnection
from multiraft.net.transport import FrameKind

PARSE_LIMIT = 1 << 30


class Wire(asyncio.Transport):
    """What `connection` sees as its socket. `takes` False: the peer's machine accepts no bytes."""

    def __init__(self, connection: TcpConnection, *, can_half_close: bool = True) -> None:
        super().__init__({"peername": ("192.0.2.1", 5_000)})
        self.writes: list[bytes] = []
        self.takes = True
        self.reads = True
        self.is_half_closed = False
        self.is_lost = False
        self._connection = connection
        self._can_half_close = can_half_close
        self._buffered = 0
        self._is_closing = False
        connection.connection_made(self)

    def frames(self) -> list[tuple[FrameKind, bytes]]:
        """What was written so far, as frames."""
        return list(frames.FrameParser(PARSE_LIMIT).feed(b"".join(self.writes)))

    def goodbye(self) -> Goodbye:
        """The last frame, which must be a goodbye."""
        kind, payload = self.frames()[-1]
        assert kind is FrameKind.GOODBYE
        return handshake.decode_goodbye(payload)

    def feed(self, data: bytes) -> None:
        """Let the connection read."""
        assert not self.is_lost, "nothing can be read from a closed socket"
        self._connection.data_received(data)

    def feed_frame(self, kind: FrameKind, payload: bytes) -> None:
        """Let the connection read one frame."""
        self.feed(frames.encode(kind, payload))

    def hang_up(self) -> None:
        """End the stream to the connection, as a peer's close does."""
        self._connection.eof_received()
        self.close()

    def lose(self, error: Exception | None) -> None:
        """Close the socket, now."""
        if not self.is_lost:
            self.is_lost = True
            self._is_closing = True
            self._connection.connection_lost(error)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        self.writes.append(bytes(data))
        if not self.takes:
            self._buffered += len(data)

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def can_write_eof(self) -> bool:
        return self._can_half_close

    def write_eof(self) -> None:
        assert self._can_half_close
        self.is_half_closed = True

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True
        if not self._buffered:
            asyncio.get_running_loop().call_soon(self.lose, None)

    def abort(self) -> None:
        self._is_closing = True
        asyncio.get_running_loop().call_soon(self.lose, None)

    def get_extra_info(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        return super().get_extra_info(name, default)
