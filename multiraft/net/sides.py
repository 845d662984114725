"""The two sides of a connection: who accepted it, and who made it.

Purpose
    Run each side's part of the handshake over any carrier, count what was accepted, and give the
    caller of `connect` one definite outcome.
Invariants
    - No more connections than the limit are kept; one above it is told so and closed, unread.
    - `ConnectingSide.opened` is always decided once the connection is open or has ended.
"""

import asyncio
from collections.abc import Callable

from multiraft import errors
from multiraft.net import handshake
from multiraft.net.connection import ConnectionEnd, OnError, Side
from multiraft.net.transport import Acceptor, Connection, FrameKind, Handler, Hello

RETRY_WHEN_FULL_MS = 1_000


class Admissions:
    """How many connections a transport accepted, and may accept, over all its listeners."""

    __slots__ = ("last_refusal", "limit", "present", "refused")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.present = 0
        self.refused = 0
        self.last_refusal = ""

    def enter(self) -> bool:
        """Count one more if there is room, and return whether there was."""
        if self.present >= self.limit:
            return False
        self.present += 1
        return True

    def leave(self) -> None:
        """Count one less."""
        assert self.present > 0, "more connections left than entered"
        self.present -= 1


class AcceptingSide(Side):
    """The connections that one listener accepted."""

    __slots__ = ("_accept", "_admissions", "_connections", "_empty", "_is_stopped")

    def __init__(self, accept: Acceptor, admissions: Admissions, on_error: OnError) -> None:
        super().__init__(on_error)
        self._accept = accept
        self._admissions = admissions
        self._empty = asyncio.Event()
        self._empty.set()
        self._connections: dict[ConnectionEnd, None] = {}
        self._is_stopped = False

    def connected(self, end: ConnectionEnd) -> None:
        """Start waiting for a Hello, or refuse if there are too many connections."""
        if self._is_stopped:
            end.took(errors.StoppedError(what="this listener"))
            return
        if not self._admissions.enter():
            what = f"a node that accepts {self._admissions.limit} connections"
            end.took(errors.OverloadedError(what=what, retry_after_ms=RETRY_WHEN_FULL_MS))
            return
        self._connections[end] = None
        self._empty.clear()
        end.expect_greeting()

    def greeted(self, end: ConnectionEnd, kind: FrameKind, payload: bytes) -> None:
        """Answer the Hello."""
        hello, welcome, make_handler = handshake.answer(kind, payload, self._accept)
        end.send(FrameKind.WELCOME, handshake.encode_welcome(welcome))
        end.open(hello, welcome, make_handler)

    def failed(self, end: ConnectionEnd, error: errors.MultiraftError) -> None:
        """Note the refusal; there is nobody else to tell."""
        self._admissions.refused += 1
        self._admissions.last_refusal = f"{end.peer_address}: {error.message}"

    def lost(self, end: ConnectionEnd) -> None:
        """Forget the connection."""
        if end in self._connections:
            del self._connections[end]
            self._admissions.leave()
        if not self._connections:
            self._empty.set()

    def stop(self) -> None:
        """Accept nothing more, not even what is on its way already."""
        self._is_stopped = True

    async def close_all(self, reason: str) -> None:
        """Stop, say goodbye on every connection, and return when all carriers are gone."""
        self.stop()
        for end in tuple(self._connections):
            end.close(reason)
        await self._empty.wait()


class ConnectingSide(Side):
    """One attempt to connect to `address`."""

    __slots__ = ("_address", "_hello", "_make_handler", "opened")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        address: str,
        hello: Hello,
        make_handler: Callable[[Connection], Handler],
        on_error: OnError,
    ) -> None:
        super().__init__(on_error)
        self._address = address
        self._hello = hello
        self._make_handler = make_handler
        self.opened: asyncio.Future[None] = loop.create_future()

    def connected(self, end: ConnectionEnd) -> None:
        """Say Hello."""
        end.send(FrameKind.HELLO, handshake.encode_hello(self._hello))

    def greeted(self, end: ConnectionEnd, kind: FrameKind, payload: bytes) -> None:
        """Take the Welcome, or the refusal."""
        welcome = handshake.accepted(kind, payload, self._hello, self._address)
        end.open(self._hello, welcome, self._make_handler)
        if not self.opened.done():
            self.opened.set_result(None)

    def failed(self, end: ConnectionEnd, error: errors.MultiraftError) -> None:
        """Tell the caller of `connect`."""
        if not self.opened.done():
            self.opened.set_exception(error)

    def abandon(self) -> None:
        """Nobody waits for the outcome any more."""
        if not self.opened.cancel() and not self.opened.cancelled():
            self.opened.exception()  # marks it as seen, so that asyncio does not report it

    def lost(self, end: ConnectionEnd) -> None:
        """Nothing: the owner holds the connection, nobody counts it."""
