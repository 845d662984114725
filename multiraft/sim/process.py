"""Simulated processes: whose a callback is, and what SIGSTOP and SIGKILL do to them.

Purpose
    All that a process does runs in contexts in which `CURRENT` is the process. The loop asks before
    each callback whether its process may run it.
Invariants
    - A frozen process runs nothing until it was thawed as often as frozen. Then what it missed runs
      in the old order, and its timers that became due meanwhile run late, as after SIGSTOP.
    - A killed process never runs anything again: no `finally`, no `except`, no callback. What its
      tasks hold stays alive until the process object goes, so that no destructor acts for it.
"""

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

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

Condition = Callable[[], bool]


class Process:
    """One life of a node or a client: a restart makes a new one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_dead = False
        self.is_hindered = False
        """Whether it is dead or frozen, or something is to happen before its next callback: only
        then `admits` has to be asked."""
        self.death = asyncio.Event()
        """Set when it is killed."""
        self._freezes = 0
        self._triggers: list[tuple[Condition, Callable[[], None]]] = []
        self._missed: deque[asyncio.Handle] = deque()
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def admits(self, handle: asyncio.Handle) -> bool:
        """Whether the process may run this callback now; if it is frozen, it will run later."""
        if self._triggers:
            self._pull_triggers()
        if self.is_dead:
            _forsake_callback(handle)
            return False
        if self._freezes:
            self._missed.append(handle)
            return False
        return True

    @property
    def is_frozen(self) -> bool:
        """Whether the process stands still."""
        return self._freezes > 0

    def freeze(self) -> None:
        """Run no callback from now on."""
        self._freezes += 1
        self.is_hindered = True

    def thaw(self) -> deque[asyncio.Handle]:
        """Undo one `freeze`, and return what may run now. VirtualLoop.thaw is for callers."""
        self._freezes = max(0, self._freezes - 1)
        self._see_hindrances()
        if self._freezes:
            return deque()
        missed, self._missed = self._missed, deque()
        return missed

    def when(self, condition: Condition, action: Callable[[], None]) -> None:
        """Call `action` once, before the first callback of this process at which `condition()`."""
        self._triggers.append((condition, action))
        self.is_hindered = True

    def forget(self, condition: Condition) -> None:
        """Undo `when`, if that has not come."""
        self._triggers = [each for each in self._triggers if each[0] is not condition]
        self._see_hindrances()

    def _see_hindrances(self) -> None:
        self.is_hindered = self.is_dead or self._freezes > 0 or bool(self._triggers)

    def _pull_triggers(self) -> None:
        for trigger in tuple(self._triggers):
            if self.is_dead:
                return  # Of an earlier one: then there are no others any more.
            if trigger[0]():
                self._triggers.remove(trigger)
                self._see_hindrances()
                trigger[1]()

    def kill(self) -> None:
        """Never run anything again."""
        self.is_dead = self.is_hindered = True
        self.death.set()
        self._triggers.clear()
        for handle in self._missed:
            _forsake_callback(handle)
        self._missed.clear()
        for task in self._tasks:
            _forsake(task)

    def bury(self) -> None:
        """Let go of what a killed process held. Whoever does this has the loop in hand."""
        while self.is_dead and self._tasks:
            task, _ = self._tasks.popitem()
            coroutine = task.get_coro()
            assert coroutine is not None, "tasks here are never eager"
            with contextlib.suppress(BaseException):
                self.run(coroutine.close)

    @property
    def has_tasks(self) -> bool:
        """Whether there is a task of it that is not done."""
        return bool(self._tasks)

    def remember(self, task: asyncio.Task[Any]) -> None:
        """Keep a task of this process until it is done."""
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        if self.is_dead:  # It is being buried, and a `finally` has made this task.
            _forsake(task)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        if not self.is_dead:
            del self._tasks[task]

    def context(self) -> contextvars.Context:
        """Return a context in which everything belongs to this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return context

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:  # noqa: ANN401
        """Call `function` as this process."""
        return self.context().run(function, *arguments)

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run `coroutine` as a task of this process."""
        return asyncio.get_running_loop().create_task(coroutine, context=self.context())

    async def outlives(self, task: asyncio.Task[Any]) -> bool:
        """Wait until a task of this process has ended, or the process; return whether it lives."""
        death = asyncio.ensure_future(self.death.wait())
        try:
            await asyncio.wait((task, death), return_when=asyncio.FIRST_COMPLETED)
        finally:
            death.cancel()
        return not self.is_dead


def _forsake(task: asyncio.Task[Any]) -> None:
    """A task never ends: nobody is to wait for that, nor to report it when the objects go.

    Nor is what it waits for: it will never hear of an error that has come already.
    """
    asyncio.tasks._unregister_task(task)
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    waited_for: asyncio.Future[Any] | None = task._fut_waiter  # type: ignore[attr-defined]
    if waited_for is not None:
        _forget_error(waited_for)


def _forsake_callback(handle: asyncio.Handle) -> None:
    """A callback never runs: if it was to hear how a future has ended, nobody ever does."""
    for argument in handle._args or ():
        if asyncio.isfuture(argument):
            _forget_error(argument)


def _forget_error(future: asyncio.Future[Any]) -> None:
    if future.done():
        future._log_traceback = False


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""The process that runs; None: the world around them."""


class _HandlerOf:
    """The handler of one end of a connection, which is the process's whoever delivers to it."""

    __slots__ = ("_context", "_inner", "_process")

    def __init__(self, inner: Handler, process: Process) -> None:
        self._inner = inner
        self._process = process
        self._context = process.context()

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """See transport.Handler."""
        if not self._process.is_dead:
            self._context.copy().run(self._inner.received, kind, payload)

    def closed(self, reason: str) -> None:
        """See transport.Handler."""
        if not self._process.is_dead:
            self._context.copy().run(self._inner.closed, reason)


class TransportOf:
    """A transport whose handlers run as their process."""

    def __init__(self, inner: Transport, process: Process) -> None:
        self._inner = inner
        self._process = process

    def _wrapped(self, make: Callable[[Connection], Handler]) -> Callable[[Connection], Handler]:
        return lambda connection: _HandlerOf(self._process.run(make, connection), self._process)

    async def listen(self, address: str, accept: Acceptor) -> Listener:
        """See transport.Transport."""

        def accept_as_process(hello: Hello) -> tuple[Welcome, Callable[[Connection], Handler]]:
            welcome, make = self._process.run(accept, hello)
            return welcome, self._wrapped(make)

        return await self._inner.listen(address, accept_as_process)

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> Connection:
        """See transport.Transport."""
        return await self._inner.connect(address, hello, self._wrapped(make_handler))
