"""What the clients of a node share, so that any number of them leaves room for one more.

Purpose
    Each client has bounds of its own (service.py); these are of all clients together: requests
    under way, replies that nobody has read, and what is begun before the loop gets to run.
Invariants
    - The more all have, the less each may, down to a little that is always allowed.
    - Those with more to begin than fits into one iteration of the loop take turns, in the order in
      which they came; whoever comes anew queues behind them.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from multiraft.ranges import unread
from multiraft.ranges.shared_limit import SharedLimit

PENDING_MAX = 10_000
PENDING_MIN = 256
PENDING_OF_ALL_MAX = 100_000
BEGUN_BY_ALL_MAX = 256
"""So many requests of all clients are begun before the loop gets to run."""


class Admission:
    """See the module. One per node."""

    __slots__ = ("_is_scheduled", "_left", "_queue", "pending", "unread")

    def __init__(self) -> None:
        self.pending = SharedLimit(PENDING_OF_ALL_MAX, PENDING_MAX, PENDING_MIN)
        """Requests that were decoded and not answered."""
        self.unread = unread.limit_of_all()
        self._left = float(BEGUN_BY_ALL_MAX)
        self._queue: deque[Callable[[], None]] = deque()
        self._is_scheduled = False

    @property
    def is_crowded(self) -> bool:
        """Whether somebody who has something to begin must queue for it."""
        return self._left <= 0.0 or bool(self._queue)

    @property
    def has_queued(self) -> bool:
        """Whether anybody waits for a turn."""
        return bool(self._queue)

    def begun(self, requests: float) -> None:
        """So much was begun in this iteration."""
        self._left -= requests
        if not self._is_scheduled:
            self._schedule()

    def queue(self, begin: Callable[[], None]) -> None:
        """Call `begin` in a later iteration, behind those that came before."""
        self._queue.append(begin)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        self._is_scheduled = False
        self._left = float(BEGUN_BY_ALL_MAX)
        queue = self._queue
        try:
            for _ in range(len(queue)):
                if self._left <= 0.0:
                    break
                queue.popleft()()
        finally:
            if queue:  # Also if one of them failed, which is no concern of the others.
                self._schedule()
