"""Ends of connections for tests: a handler that remembers, and an acceptor that makes them."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Hello,
    Welcome,
)

CLUSTER = "cluster-1"
SERVER = NodeId(2)
TEST_TIMEOUT_S = 60

Frame = tuple[FrameKind, bytes]


def client_hello() -> Hello:
    """What a client says."""
    return Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS)


def server_welcome() -> Welcome:
    """What `Door` answers."""
    return Welcome(PROTOCOL_VERSION, CLUSTER, SERVER, hlc.from_us(7), None, ())


class Recorder:
    """A handler that keeps what it gets, and can be waited for.

    `fails_on` makes it raise when such a payload arrives; `echoes` makes it send frames back.
    """

    def __init__(
        self, connection: Connection, *, fails_on: bytes | None = None, echoes: bool = False
    ) -> None:
        self.connection = connection
        self.frames: list[Frame] = []
        self.reasons: list[str] = []
        self._fails_on = fails_on
        self._echoes = echoes
        self._changed = asyncio.Event()

    def received(self, kind: FrameKind, payload: bytes) -> None:
        assert not self.reasons, "a frame came after the end"
        if payload == self._fails_on:
            raise ZeroDivisionError("the handler fails")
        self.frames.append((kind, payload))
        self._changed.set()
        if self._echoes:
            self.connection.send(FrameKind.REPLIES, payload)

    def closed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._changed.set()

    async def got(self, count: int) -> list[Frame]:
        """Wait for that many frames in total, and return all."""
        while len(self.frames) < count:
            assert not self.reasons, f"closed after {len(self.frames)} frames: {self.reasons}"
            self._changed.clear()
            await self._changed.wait()
        return self.frames

    async def end(self) -> str:
        """Wait for the end, and return its reason."""
        while not self.reasons:
            self._changed.clear()
            await self._changed.wait()
        return self.reasons[0]


class Door:
    """An acceptor: remembers Hellos and the handlers it made, and can refuse."""

    def __init__(
        self,
        welcome: Welcome | None = None,
        *,
        refusal: Exception | None = None,
        fails_on: bytes | None = None,
        echoes: bool = False,
    ) -> None:
        self.hellos: list[Hello] = []
        self.handlers: list[Recorder] = []
        self.errors: list[Exception] = []
        self._opened = asyncio.Event()
        self._welcome = welcome or server_welcome()
        self._refusal = refusal
        self._fails_on = fails_on
        self._echoes = echoes

    def accept(self, hello: Hello) -> tuple[Welcome, "Door"]:
        self.hellos.append(hello)
        if self._refusal is not None:
            raise self._refusal
        return self._welcome, self

    def __call__(self, connection: Connection) -> Recorder:
        recorder = Recorder(connection, fails_on=self._fails_on, echoes=self._echoes)
        self.handlers.append(recorder)
        self._opened.set()
        return recorder

    async def opened(self) -> Recorder:
        """Wait for the first connection, and return its handler."""
        await self._opened.wait()
        return self.handlers[0]

    def on_error(self, error: Exception) -> None:
        """Remember what a transport reports."""
        self.errors.append(error)


def run_on(loop_name: str, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` on that kind of loop; waiting in vain fails the test, whatever the loop blocks."""

    async def limited() -> None:
        async with asyncio.timeout(TEST_TIMEOUT_S):
            await main()

    factory = uvloop.new_event_loop if loop_name == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(limited())


def unexpected(error: Exception) -> None:
    """An `on_error` for tests in which nothing may be reported."""
    raise AssertionError(f"{type(error).__name__} was reported") from error
