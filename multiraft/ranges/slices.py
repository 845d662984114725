"""Work on many replicas, cut into slices with the event loop in between.

Purpose
    A store has thousands of replicas, and some things concern all of them: a peer died, a tick
    passed, thousands of messages came. Done in one go, heartbeats would wait for it, support would
    run out, and that concerns all of them again.
Invariants
    - One run of the loop takes `SLICE_MAX` steps at most; what is left follows in its next ones.
    - Work is done in the order in which it was added.
    - Little work is done at once, as if there were no slices; `later` is for what is little, but
      may be added many times in one run of the loop.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

SLICE_MAX = 128
"""Replicas, or messages, each of which takes some 10 to 50 microseconds."""

Item = TypeVar("Item")
Steps = Iterator[None]
"""Work that makes a step whenever it is asked for the next item."""


async def unhurried(items: Iterable[Item]) -> AsyncIterator[Item]:
    """Yield `items` with the loop in between slices: for who looks at all replicas now and then."""
    for number, item in enumerate(list(items), start=1):
        yield item
        if number % SLICE_MAX == 0:
            await asyncio.sleep(0)


class Slices:
    """One queue of work. `guard` runs a slice that no caller waits for."""

    __slots__ = ("_guard", "_waiting")

    def __init__(self, guard: Callable[[Callable[[], None]], None]) -> None:
        self._guard = guard
        self._waiting: deque[Steps] = deque()

    def add(self, steps: Steps) -> None:
        """Take `steps` behind all that were added before; the first of them at once."""
        self._waiting.append(steps)
        if len(self._waiting) == 1:
            self._take_slice()

    def later(self, steps: Steps) -> None:
        """Take `steps` behind all that were added before, and not in this run of the loop."""
        self._waiting.append(steps)
        if len(self._waiting) == 1:
            self._take_slice_soon()

    def _take_slice_soon(self) -> None:
        asyncio.get_running_loop().call_soon(self._guard, self._take_slice)

    def _take_slice(self) -> None:
        left = SLICE_MAX
        while self._waiting:
            for _ in islice(self._waiting[0], left):
                left -= 1
            if not left:
                self._take_slice_soon()
                return
            self._waiting.popleft()

    def __bool__(self) -> bool:
        return bool(self._waiting)
