"""One end of a connection, whatever carries its frames: handshake, dispatch, and a single end.

Purpose
    Hold once what TCP and in-process connections have in common. A carrier (tcp.py, inproc.py)
    brings frames to `take` and implements sending and hanging up; a *side* (sides.py) knows how to
    open the connection from its end.
Invariants
    - The handler exists from the handshake on. It gets `closed` exactly once, last, and never from
      within a call that it made itself.
    - After `ended` is set, no frame is delivered and none is sent.
    - Whatever a peer or a handler does, the damage ends with this one connection: an exception is
      reported and closes it.
"""

import abc
import asyncio
from collections.abc import Callable

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import handshake
from multiraft.net.transport import Connection, FrameKind, Handler, Hello, Welcome

OnError = Callable[[Exception], None]
"""Told of every exception that escapes a handler or an acceptor: our own mistakes."""

OPEN_KIND_MIN = 10
"""Frames of lower kinds belong to the handshake and the end; handlers never see them."""


class Side(abc.ABC):
    """What differs between the end that connected and the end that accepted."""

    __slots__ = ("on_error",)

    def __init__(self, on_error: OnError) -> None:
        self.on_error = on_error

    @abc.abstractmethod
    def connected(self, end: "ConnectionEnd") -> None:
        """The carrier is up: frames can be sent."""

    @abc.abstractmethod
    def greeted(self, end: "ConnectionEnd", kind: FrameKind, payload: bytes) -> None:
        """Judge the peer's first frame: open the end, or raise the error to refuse with."""

    @abc.abstractmethod
    def failed(self, end: "ConnectionEnd", error: errors.MultiraftError) -> None:
        """The connection ended before it was open. Called at most once."""

    @abc.abstractmethod
    def lost(self, end: "ConnectionEnd") -> None:
        """The carrier is gone, and with it the descriptor. Called once if `connected` was."""


class ConnectionEnd(abc.ABC):
    """Implements transport.Connection but for what a carrier must do."""

    hello: Hello
    welcome: Welcome

    def __init__(self, loop: asyncio.AbstractEventLoop, config: NetConfig, side: Side) -> None:
        self.ended = False
        self.peer_address = ""
        self._loop = loop
        self._config = config
        self._side = side
        self._handler: Handler | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._gone = asyncio.Event()
        self._gone.set()  # there is no carrier yet

    @property
    def is_open(self) -> bool:
        """Whether the handshake succeeded (perhaps the connection has ended since)."""
        return self._handler is not None

    @property
    @abc.abstractmethod
    def buffered_bytes(self) -> int:
        """See transport.Connection."""

    @abc.abstractmethod
    def send(self, kind: FrameKind, payload: bytes) -> None:
        """See transport.Connection."""

    @abc.abstractmethod
    def pause_reading(self) -> None:
        """See transport.Connection."""

    @abc.abstractmethod
    def resume_reading(self) -> None:
        """See transport.Connection."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Drop the carrier at once, with everything that was queued."""

    @abc.abstractmethod
    def _hang_up(self) -> None:
        """Send what is queued, then close the carrier; within `goodbye_timeout_ms` in any case."""

    @abc.abstractmethod
    def _opened(self) -> None:
        """The handshake is over: lift the limits that hold for strangers."""

    def come_up(self) -> None:
        """The carrier is there: begin the handshake."""
        self._gone.clear()
        self._side.connected(self)

    def expect_greeting(self) -> None:
        """Start the time that the peer has for its part of the handshake."""
        timeout_ms = self._config.handshake_timeout_ms
        self._start_timer(timeout_ms, lambda: self.close(f"no handshake within {timeout_ms} ms"))

    def open(
        self, hello: Hello, welcome: Welcome, make_handler: Callable[[Connection], Handler]
    ) -> None:
        """Finish the handshake: frames go to a handler from now on."""
        assert self._handler is None, "a connection is opened once"
        self._stop_timer()
        self.hello = hello
        self.welcome = welcome
        self._opened()
        self._handler = make_handler(self)
        assert not self.ended, "make_handler may send, but not close"

    def take(self, kind: FrameKind, payload: bytes) -> None:
        """Deliver one frame from the peer. A carrier passes what this raises to `took`."""
        handler = self._handler
        if handler is None:
            self._side.greeted(self, kind, payload)
        elif kind >= OPEN_KIND_MIN:
            handler.received(kind, payload)
        elif kind is FrameKind.GOODBYE:
            self.end(handshake.decode_goodbye(payload).reason)
            self._hang_up()
        else:
            raise errors.ProtocolError(reason=f"{kind.name} came after the handshake")

    def took(self, error: Exception) -> None:
        """Close because of what `take` (or the parser before it) raised."""
        if isinstance(error, errors.ProtocolError):
            self._part(error.reason, error)
        elif isinstance(error, errors.MultiraftError) and self._handler is None:
            self._part(error.message, error)
        else:
            # Handlers answer errors of requests themselves: one that escapes is our mistake.
            self._side.on_error(error)
            self._part(f"internal error: {type(error).__name__}")

    def close(self, reason: str = "") -> None:
        """See transport.Connection."""
        self._part(reason)

    async def wait_closed(self) -> None:
        """See transport.Connection."""
        await self._gone.wait()

    def end(self, reason: str, error: errors.MultiraftError | None = None) -> None:
        """Set `ended` and tell the handler, or the side if there is none; only the first counts."""
        if self.ended:
            return
        self.ended = True
        self._stop_timer()
        if self._handler is not None:
            self._loop.call_soon(self._tell_handler, reason)
        else:
            self._side.failed(
                self, error or errors.NodeUnavailableError(target=self.peer_address, reason=reason)
            )

    def _part(self, reason: str, error: errors.MultiraftError | None = None) -> None:
        if self.ended:
            return
        code = "" if error is None else error.code
        self.send(FrameKind.GOODBYE, handshake.encode_goodbye(reason, code))
        self.end(reason, error)
        self._hang_up()

    def _lost(self, reason: str, error: errors.MultiraftError | None = None) -> None:
        """The carrier is gone, expected or not."""
        self.end(reason, error)
        self._stop_timer()
        self._gone.set()
        self._side.lost(self)

    def _tell_handler(self, reason: str) -> None:
        assert self._handler is not None, "only handlers are told"
        try:
            self._handler.closed(reason)
        except Exception as error:
            self._side.on_error(error)

    def _start_timer(self, timeout_ms: int, action: Callable[[], None]) -> None:
        """Start the one timer: the handshake's, later the goodbye's."""
        self._stop_timer()
        self._timer = self._loop.call_later(timeout_ms / 1_000, action)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
