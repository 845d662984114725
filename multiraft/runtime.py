"""The seams to the outside world that are not storage or network: time, randomness, the loop.

Everything above `raft/` gets a `Clock` and an `Rng` from the composition root and uses the running
asyncio loop for timers and tasks. Only this file names uvloop.

Invariants
    - Nothing else in the package reads a clock or draws a random number.
    - A task started with `spawn` never fails silently: its exception reaches `on_error`.
"""

import asyncio
import os
import random
import resource
import sys
import time
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Protocol, TypeVar

import uvloop

T = TypeVar("T")


class Clock(Protocol):
    """Two ways to read time. Neither may be cached: see safety rule A2."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary start; never goes back. For durations."""
        ...

    def wall_us(self) -> int:
        """Return microseconds since 1970; may jump either way. Only the HLC reads it."""
        ...


class Rng(Protocol):
    """Random numbers: from the operating system in production, from a seed in simulation."""

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        ...

    def unique_id(self) -> bytes:
        """Return 16 bytes that no other caller gets, in this process or its forks (rule A10)."""
        ...


class SystemClock:
    """The machine's own clocks."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def wall_us(self) -> int:
        """Return the wall clock in microseconds."""
        return time.time_ns() // 1_000


UNIQUE_ID_BYTES = 16


class SystemRng:
    """The operating system's randomness; IDs come from it in blocks, redrawn after a fork."""

    __slots__ = ("__weakref__", "_pool", "_position", "_random")

    _BLOCK_BYTES = 4_096

    def __init__(self) -> None:
        self._random = random.SystemRandom()
        self._pool = b""
        self._position = 0
        _system_rngs.add(self)

    def below(self, limit: int) -> int:
        """Return an integer in [0, limit)."""
        return self._random.randrange(limit)

    def unique_id(self) -> bytes:
        """Return 16 fresh bytes."""
        start = self._position
        if start == len(self._pool):
            self._pool = os.urandom(self._BLOCK_BYTES)
            start = 0
        self._position = end = start + UNIQUE_ID_BYTES
        return self._pool[start:end]

    def forget(self) -> None:
        """Draw anew from now on: another process goes on with the block."""
        self._pool = b""
        self._position = 0


_system_rngs: weakref.WeakSet[SystemRng] = weakref.WeakSet()


def _forget_after_fork() -> None:
    for rng in list(_system_rngs):
        rng.forget()


os.register_at_fork(after_in_child=_forget_after_fork)


def memory_bytes() -> int:
    """Return how much memory this process has resident, or had at most where only that is told."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024
    return pages * resource.getpagesize()


def thread_cpu_s() -> float:
    """Return the processor time that the calling thread has used, in seconds."""
    return time.thread_time()


def process_cpu_s() -> float:
    """Return the processor time that all threads of this process have used, in seconds."""
    return time.process_time()


def spawn(
    coroutine: Coroutine[Any, Any, None],
    *,
    name: str,
    on_error: Callable[[BaseException], None],
) -> asyncio.Task[None]:
    """Run `coroutine` as a task of the running loop and return the task; the caller keeps it.

    If it ends with an exception other than cancellation, `on_error` is called with it on the loop.
    """
    task = asyncio.get_running_loop().create_task(coroutine, name=name)

    def finished(done: asyncio.Task[None]) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if error is not None:
            on_error(error)

    task.add_done_callback(finished)
    return task


def allow_open_files(wanted: int) -> int:
    """Let this process open that many files, as far as the system lets it; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return wanted
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if allowed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return allowed


def run(main: Coroutine[Any, Any, T], *, switch_interval_s: float = 0.0005) -> T:
    """Run `main` to its end on a fresh uvloop event loop and return what it returns.

    A small `switch_interval_s` lets the sync thread get the interpreter lock from a busy loop.
    """
    sys.setswitchinterval(switch_interval_s)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
