"""Clusters whose nodes can be frozen as SIGSTOP does it: between any two callbacks of the loop.

How
    All that a node does runs in a context of its own, in which `_NODE` is its number. The loop asks
    before each callback whose it is; those of a frozen node are put aside until it thaws. Frames to
    and from it wait in the network meanwhile, and its clock goes on.
"""

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVarTuple

from multiraft.client.database import Database
from multiraft.config import Config
from multiraft.net.inproc import InprocTransport
from multiraft.net.transport import (
    Acceptor,
    Connection,
    FrameKind,
    Handler,
    Hello,
    Listener,
    Transport,
    Welcome,
)
from tests.support.cluster import FAST, Cluster, Member
from tests.support.virtual_loop import VirtualLoop

_NODE: contextvars.ContextVar[int] = contextvars.ContextVar("node", default=0)

Ts = TypeVarTuple("Ts")
Condition = Callable[[], bool]


class FreezableLoop(VirtualLoop):
    """See the module."""

    def __init__(self) -> None:
        self._held: dict[int, list[_Guarded]] = {}
        self.triggers: dict[int, tuple[Condition, Callable[[], None]]] = {}
        super().__init__(limit_s=10_000)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio; what belongs to a node is guarded."""
        node = _NODE.get() if context is None else context.get(_NODE, 0)
        if not node:
            return super().call_soon(callback, *args, context=context)
        guarded = _Guarded(self, node, callback, args)
        guarded.handle = super().call_soon(guarded, context=context)
        return guarded.handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio; what belongs to a node is guarded."""
        node = _NODE.get() if context is None else context.get(_NODE, 0)
        if not node:
            return super().call_at(when, callback, *args, context=context)
        guarded = _Guarded(self, node, callback, args)
        guarded.handle = handle = super().call_at(when, guarded, context=context)
        return handle

    def is_frozen(self, node: int) -> bool:
        """Whether callbacks of the node are held, which this call may be the first to notice."""
        trigger = self.triggers.get(node)
        if trigger is not None and trigger[0]():
            del self.triggers[node]
            trigger[1]()
        return node in self._held

    def hold(self, node: int, guarded: "_Guarded") -> None:
        """Put a callback aside."""
        self._held[node].append(guarded)

    def freeze(self, node: int) -> None:
        """Hold the callbacks of a node from now on."""
        self._held.setdefault(node, [])

    def thaw(self, node: int) -> None:
        """Let the callbacks of a node run, those that were held first."""
        for guarded in self._held.pop(node):
            if not guarded.handle.cancelled():
                super().call_soon(guarded, context=guarded.context)


class _Guarded:
    """One callback of a node."""

    handle: asyncio.Handle
    context: contextvars.Context

    def __init__(
        self,
        loop: FreezableLoop,
        node: int,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
    ) -> None:
        self._loop = loop
        self._node = node
        self._callback = callback
        self._args = args

    def __call__(self) -> None:
        if self._loop.is_frozen(self._node):
            self.context = contextvars.copy_context()
            self._loop.hold(self._node, self)
        else:
            self._callback(*self._args)


class _InContext:
    """The handler of one end of a connection, which is the node's whoever delivers to it."""

    def __init__(self, inner: Handler, context: contextvars.Context) -> None:
        self._inner = inner
        self._context = context

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """See transport.Handler."""
        self._context.copy().run(self._inner.received, kind, payload)

    def closed(self, reason: str) -> None:
        """See transport.Handler."""
        self._context.copy().run(self._inner.closed, reason)


class _TransportInContext:
    """A transport whose handlers run in the context of their node."""

    def __init__(self, inner: Transport, context: contextvars.Context) -> None:
        self._inner = inner
        self._context = context

    def _wrapped(self, make: Callable[[Connection], Handler]) -> Callable[[Connection], Handler]:
        return lambda connection: _InContext(make(connection), self._context)

    async def listen(self, address: str, accept: Acceptor) -> Listener:
        """See transport.Transport."""

        def accept_in_context(hello: Hello) -> tuple[Welcome, Callable[[Connection], Handler]]:
            welcome, make = self._context.copy().run(accept, hello)
            return welcome, self._wrapped(make)

        return await self._inner.listen(address, accept_in_context)

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> Connection:
        """See transport.Transport."""
        return await self._inner.connect(address, hello, self._wrapped(make_handler))


class FreezableCluster(Cluster):
    """See the module."""

    loop: FreezableLoop

    def _context(self, member: Member) -> contextvars.Context:
        context = contextvars.copy_context()
        context.run(_NODE.set, member.number)
        return context

    def make_transport(self, member: Member) -> Transport:
        """Return a transport whose handlers are the node's."""
        inner = InprocTransport(self.network, member.name, self.errors.append)
        return _TransportInContext(inner, self._context(member))

    async def run_start(self, member: Member) -> None:
        """Start the node in its own context, which all that it does inherits."""
        start = member.up.start(member.address)
        await asyncio.get_running_loop().create_task(start, context=self._context(member))

    def freeze(self, number: int) -> None:
        """Stop a node between two callbacks."""
        self.loop.freeze(number)
        self.isolate(number)

    def freeze_when(self, number: int, condition: Condition) -> None:
        """Stop a node before its first callback at which `condition()` holds."""
        self.loop.triggers[number] = (condition, lambda: self.freeze(number))

    def is_frozen(self, number: int) -> bool:
        """Whether the node stands still."""
        return self.loop.is_frozen(number)

    def thaw(self, number: int) -> None:
        """Undo `freeze`: timers that became due run late, then what waits in the sockets comes."""
        self.loop.thaw(number)
        self.rejoin(number)


Test = Callable[[FreezableCluster, Database], Coroutine[Any, Any, None]]


def freezable_test(
    *, nodes: int = 3, config: Config = FAST, seed: int = 1
) -> Callable[[Test], Callable[[], None]]:
    """Make a test of an `async def test_...(cluster, db)` on a started cluster."""

    def wrap(main: Test) -> Callable[[], None]:
        async def on_loop(loop: FreezableLoop) -> None:
            cluster = FreezableCluster(loop, nodes=nodes, config=config, seed=seed)
            await cluster.start()
            async with cluster.connect() as db:
                await main(cluster, db)
            await cluster.stop()

        def test() -> None:
            loop = FreezableLoop()
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(on_loop(loop))

        test.__doc__ = main.__doc__
        return test

    return wrap
