"""An asyncio event loop whose time is a number: waiting costs nothing, and every run is the same.

Purpose
    Run unchanged production code without sleeping and without the machine's clocks. When nothing is
    ready to run, time jumps to the next timer. The loop knows which simulated process a callback
    belongs to, so that a process can be frozen or killed between any two of its callbacks.
Invariants
    - Time moves only when no callback is ready, or by `skip`.
    - A loop on which nothing will ever happen again raises StuckError instead of hanging.
    - Callbacks of one process run in the order asyncio promises. How those of different processes
      interleave is drawn from `scheduling`; without it, they run in the order they were made ready.
    - Timers of one moment run in the order they were set.
    - No file descriptor is ever polled: sockets, threads and subprocesses do not work here.
Source
    FoundationDB's simulator: one thread, one seed, many machines.
"""

import asyncio
import contextvars
import heapq
import itertools
import random
import selectors
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, TypeVar
from weakref import WeakSet

from multiraft.sim.process import CURRENT, Process

T = TypeVar("T")

_CANCELLED_TIMERS_KEPT = 100


class StuckError(Exception):
    """Nothing is ready and no timer is set: what is waited for cannot happen any more."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. Time starts at 0; going past `limit_s` raises StuckError."""

    # Of asyncio.BaseEventLoop, and the same from Python 3.11 to 3.14.
    _ready: deque[asyncio.Handle]
    _timer_cancelled_count: int
    _asyncgens: WeakSet[AsyncGenerator[Any, Any]]

    def __init__(
        self,
        *,
        limit_s: float = 1e6,
        scheduling: random.Random | None = None,
    ) -> None:
        self._now_s = 0.0
        self._limit_s = limit_s
        self._scheduling = scheduling
        self.callbacks = 0
        """How many have run."""
        super().__init__(_NothingToPoll())
        self._timers: list[tuple[float, int, _Timer]] = []
        """A heap, instead of the base's: numbered, so that no two are ever compared themselves."""
        self._timer_numbers = itertools.count()
        self._processes: dict[Process, None] = {}
        self._owners: dict[int, Process | None] = {}
        """Whose an asynchronous generator is, by its identity."""
        self.set_task_factory(self._make_task)  # type: ignore[arg-type]

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def skip(self, seconds: float) -> None:
        """Let time pass while nothing runs, as if every process had been stopped that long.

        Timers that became due run afterwards, late.
        """
        assert seconds >= 0, "time does not go back"
        self._now_s += seconds

    def thaw(self, process: Process) -> None:
        """Let a frozen process run again: what it missed is ready, in its old order."""
        self._ready.extend(process.thaw())

    def forget_the_dead(self) -> None:
        """Let go of all killed processes, and of everything else that only its past has to tell.

        Their tasks are closed: to be called by the world around the processes, between two phases
        of a run, when it does not matter that a `finally` of theirs is run after all.
        """
        self._bury()
        self._processes = {each: None for each in self._processes if each.has_tasks}
        begun = {id(generator) for generator in self._asyncgens}
        self._owners = {each: owner for each, owner in self._owners.items() if each in begun}

    def close(self) -> None:
        """See asyncio."""
        self._bury()
        super().close()

    def _bury(self) -> None:
        for process in self._processes:
            process.bury()

    # -- asynchronous generators: nothing closes those of the dead -------------------------------

    def _asyncgen_firstiter_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        super()._asyncgen_firstiter_hook(generator)  # type: ignore[misc]
        self._owners[id(generator)] = CURRENT.get()

    def _asyncgen_finalizer_hook(self, generator: AsyncGenerator[Any, Any]) -> None:
        owner = self._owners.pop(id(generator), None)
        if owner is None or not owner.is_dead:
            super()._asyncgen_finalizer_hook(generator)  # type: ignore[misc]

    async def shutdown_asyncgens(self) -> None:
        """See asyncio."""
        for generator in tuple(self._asyncgens):
            owner = self._owners.get(id(generator))
            if owner is not None and owner.is_dead:
                self._asyncgens.discard(generator)
        self._bury()  # Here, since a `finally` may start tasks, which needs a running loop.
        await super().shutdown_asyncgens()

    def _make_task(
        self,
        loop: asyncio.AbstractEventLoop,
        coroutine: Coroutine[Any, Any, T],
        **options: Any,  # noqa: ANN401
    ) -> asyncio.Task[T]:
        """Make a task, and let its process know of it."""
        context: contextvars.Context | None = options.get("context")
        process = CURRENT.get() if context is None else context.get(CURRENT)
        task = asyncio.Task(coroutine, loop=loop, **options)
        if process is not None:
            self._processes[process] = None
            process.remember(task)
        return task

    # What follows is done for every callback of every run, so it does no more than it must.

    def call_soon(  # type: ignore[override]
        self,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        """See asyncio."""
        handle = _Callback(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        when = self._now_s + delay
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,  # noqa: ANN401
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._timer_numbers), timer))
        return timer

    def _run_once(self) -> None:
        """Run what is ready; if nothing is, first let time pass. Called by `run_forever`."""
        timers = self._timers
        if timers and timers[0][0] <= self._now_s:
            self._make_due_timers_ready()
        if not self._ready:
            if self._stopping:  # type: ignore[attr-defined]
                return
            self._let_time_pass()
        handles, self._ready = self._ready, deque()
        if self._scheduling is not None and len(handles) > 1:
            handles = _interleaved(handles, self._scheduling)
        try:
            while handles:
                handle = handles.popleft()
                if handle._cancelled:
                    continue
                context = handle._context  # type: ignore[attr-defined]
                process = context.get(CURRENT)
                if process is not None and process.is_hindered and not process.admits(handle):
                    continue
                self.callbacks += 1
                try:
                    context.run(handle._callback, *handle._args)  # type: ignore[attr-defined]
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self._escaped(handle, error)
        except BaseException:
            handles.extend(self._ready)
            self._ready = handles
            raise

    def _escaped(self, handle: asyncio.Handle, error: BaseException) -> None:
        """A callback has raised: tell of it, as asyncio does."""
        message = f"Exception in callback {handle!r}"
        self.call_exception_handler({"message": message, "exception": error, "handle": handle})

    def _let_time_pass(self) -> None:
        """Go on to the next timers, which become ready, unless they were cancelled.

        None is due by now.
        """
        if not self._timers:
            raise StuckError("nothing is ready and no timer is set")
        when = self._timers[0][0]
        if when > self._limit_s:
            raise StuckError(f"still running after {self._limit_s:g} virtual seconds")
        self._now_s = when
        self._make_due_timers_ready()

    def _make_due_timers_ready(self) -> None:
        timers, now_s, ready = self._timers, self._now_s, self._ready
        while timers and timers[0][0] <= now_s:
            timer = heapq.heappop(timers)[2]
            timer._scheduled = False
            if timer._cancelled:
                self._timer_cancelled_count -= 1
            else:
                ready.append(timer)
        cancelled_count = self._timer_cancelled_count
        if cancelled_count > _CANCELLED_TIMERS_KEPT and cancelled_count > len(timers) // 2:
            self._forget_cancelled_timers()

    def _forget_cancelled_timers(self) -> None:
        kept = []
        for place in self._timers:
            if place[2]._cancelled:
                place[2]._scheduled = False
            else:
                kept.append(place)
        heapq.heapify(kept)
        self._timers = kept
        self._timer_cancelled_count = 0


class _Callback(asyncio.Handle):
    """As its base, which asks its loop for its debug mode each time."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class _Timer(asyncio.TimerHandle):
    """As its base; see _Callback."""

    __slots__ = ()

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None
        self._when = when
        self._scheduled = True


def _interleaved(handles: deque[asyncio.Handle], rng: random.Random) -> deque[asyncio.Handle]:
    """Return the same callbacks; those of one process keep their order, the rest is drawn."""
    queues: dict[Process | None, deque[asyncio.Handle]] = {}
    for handle in handles:
        queues.setdefault(handle._context.get(CURRENT), deque()).append(handle)  # type: ignore[attr-defined]
    if len(queues) == 1:
        return handles
    merged: deque[asyncio.Handle] = deque()
    waiting = list(queues.values())
    while waiting:
        chosen = int(rng.random() * len(waiting))
        queue = waiting[chosen]
        merged.append(queue.popleft())
        if not queue:
            del waiting[chosen]
    return merged


class _NothingToPoll(selectors.SelectSelector):
    """Knows no events."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return []


def run(
    main: Callable[[VirtualLoop], Coroutine[Any, Any, T]],
    *,
    limit_s: float = 1e6,
    scheduling: random.Random | None = None,
) -> T:
    """Run `main(loop)` to its end on a fresh virtual loop, and return what it returns."""
    loop = VirtualLoop(limit_s=limit_s, scheduling=scheduling)
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(main(loop))
