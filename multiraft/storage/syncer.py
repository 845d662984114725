"""Group commit: many requests for durability, one sync at a time.

Purpose
    `Syncer` decides which requests one sync covers. What a sync is, it is told: `SyncThread` does
    it on a disk, the memory engine with a timer of the loop.
Invariants
    - A sync that starts after a request covers everything written before that request. So while
      one runs, later requests wait for the next, which starts at once when it ends.
    - Callbacks run on the loop, in the order of the requests, each exactly once; after `close`,
      none.
    - After one failed sync there is no other: every later request is answered with that error. A
      sync that is tried again may succeed without the data (safety rule S15).
Source
    Group commit as in raft-engine and Pebble: syncs side by side are slower, not faster.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable

LOOK_S_MAX = 1.0
"""So long the process of a store that failed may outlive its main thread."""

Done = Callable[[BaseException | None], None]
"""Told None when all is durable, or why that is unknown. Must not raise."""

StartSync = Callable[[Done], None]
"""Begins a sync of all that is written by now; calls back on the loop later, never within."""


class Syncer:
    """See the module. Belongs to one loop."""

    __slots__ = ("_closed", "_error", "_running", "_start", "_waiting", "sync_count")

    def __init__(self, start: StartSync) -> None:
        self._start = start
        self._running: list[Done] = []
        self._waiting: list[Done] = []
        self._error: BaseException | None = None
        self._closed = False
        self.sync_count = 0

    def request(self, done: Done) -> None:
        """Call `done` when everything written so far is durable, or when that cannot be."""
        if self._error is not None:
            asyncio.get_running_loop().call_soon(done, self._error)
        elif self._running:
            self._waiting.append(done)
        else:
            self._begin([done])

    def close(self) -> None:
        """Forget all requests; none of their callbacks will run."""
        self._closed = True

    def _begin(self, callbacks: list[Done]) -> None:
        self._running = callbacks
        self.sync_count += 1
        self._start(self._finished)

    def _finished(self, error: BaseException | None) -> None:
        if self._closed:
            return
        covered = self._running
        waiting = self._waiting
        self._running = []
        self._waiting = []
        if error is not None:
            self._error = error
            covered += waiting
        elif waiting:
            # Before the callbacks, so that the disk works while they do.
            self._begin(waiting)
        for done in covered:
            if self._closed:  # by an earlier callback
                return
            done(error)


class SyncThread:
    """The one thread that may wait for a disk.

    `work` runs once per `start`; `rest` runs after it and, with nothing to do, every
    `rest_interval_s`. The thread is no daemon: one that is inside RocksDB while the interpreter
    exits would abort the process. Instead it looks, each second at least, whether the main thread
    has ended.
    """

    def __init__(
        self, *, work: Callable[[], None], rest: Callable[[], None], rest_interval_s: float
    ) -> None:
        self._work = work
        self._rest = rest
        self._rest_interval_s = rest_interval_s
        self._requests: queue.SimpleQueue[tuple[asyncio.AbstractEventLoop, Done] | None] = (
            queue.SimpleQueue()
        )
        self._thread = threading.Thread(target=self._run, name="multiraft-sync")
        self._thread.start()

    def start(self, finished: Done) -> None:
        """Run `work` and then `finished(error)` on the running loop. A StartSync."""
        self._requests.put((asyncio.get_running_loop(), finished))

    def close(self) -> None:
        """Finish what was started, then end the thread and wait for it."""
        self._requests.put(None)
        self._thread.join()

    def _run(self) -> None:
        look_s = min(self._rest_interval_s, LOOK_S_MAX)
        idle_s = 0.0
        while True:
            try:
                request = self._requests.get(timeout=look_s)
            except queue.Empty:
                idle_s += look_s
                if idle_s >= self._rest_interval_s:
                    idle_s = 0.0
                    self._rest()
                if threading.main_thread().is_alive():
                    continue
                return
            if request is None:
                return
            loop, finished = request
            error = self._attempt()
            # A loop that has been closed has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(finished, error)
            idle_s = 0.0
            self._rest()

    def _attempt(self) -> BaseException | None:
        try:
            self._work()
        except BaseException as error:
            return error
        return None
