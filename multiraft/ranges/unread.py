"""Replies that a client has not read.

Purpose
    Nothing more is evaluated for a client that leaves more unread than it may, so neither one
    small frame of many large reads nor hundreds of clients that never read fill the memory.
Invariants
    - What a client leaves counts for the limit that all share as soon as it is more than
      `EACH_BYTES_MIN`, give or take what it reads in `POLL_S_MAX`.
    - Who has read nothing for `SILENT_S_MAX` while it was waited for is closed.
"""

import asyncio
from collections.abc import Callable

from multiraft.net.transport import Connection
from multiraft.ranges.shared_limit import SharedLimit

EACH_BYTES_MIN = 64 << 10
EACH_BYTES_MAX = 4 << 20
ALL_BYTES_MAX = 64 << 20
SILENT_S_MAX = 5.0
POLL_S_MIN = 0.005
POLL_S_MAX = 0.08
"""Transports do not tell when their buffers empty: it is looked less and less often."""


def limit_of_all() -> SharedLimit:
    """Return the limit that the clients of a node share."""
    return SharedLimit(ALL_BYTES_MAX, EACH_BYTES_MAX, EACH_BYTES_MIN)


class Reader:
    """What one client leaves unread. `caught_up` is called at the end of each wait."""

    __slots__ = (
        "_all",
        "_caught_up",
        "_connection",
        "_counted_bytes",
        "_poll_s",
        "_silent_s",
        "_timer",
        "is_waited_for",
    )

    def __init__(
        self, connection: Connection, unread: SharedLimit, caught_up: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._all = unread
        self._caught_up = caught_up
        self._counted_bytes = 0
        """As the limit of all counts it."""
        self._poll_s = POLL_S_MIN
        self._silent_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.is_waited_for = False

    @property
    def is_behind(self) -> bool:
        """Whether it leaves more unread than it may."""
        unread = self._connection.buffered_bytes
        return unread > EACH_BYTES_MIN and unread > self._all.each_now

    def sent(self) -> None:
        """More was sent: look how much of it is unread, until it is little."""
        unread = self._connection.buffered_bytes
        if self._timer is not None:
            self._count(unread)
        elif unread > EACH_BYTES_MIN:
            self._count(unread)
            self._poll_s = POLL_S_MIN
            self._look_later()

    def wait(self) -> None:
        """Call `caught_up` when it has; close the connection when it does not read at all.

        To be called when it is behind.
        """
        assert not self.is_waited_for, "once at a time"
        self.is_waited_for = True
        self._silent_s = 0.0
        self.sent()

    def gone(self) -> None:
        """The connection has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.is_waited_for = False
        self._count(0)

    def _count(self, unread: int) -> None:
        self._all.held += unread - self._counted_bytes
        self._counted_bytes = unread

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._poll_s, self._look)

    def _look(self) -> None:
        self._timer = None
        unread = self._connection.buffered_bytes
        if unread < self._counted_bytes:
            self._poll_s, self._silent_s = POLL_S_MIN, 0.0
        else:
            self._silent_s += self._poll_s
            self._poll_s = min(2 * self._poll_s, POLL_S_MAX)
        if self.is_waited_for and self._silent_s > SILENT_S_MAX:
            self._connection.close(f"slow reader: {unread} bytes of replies wait to be read")
            return
        if unread > EACH_BYTES_MIN:
            self._count(unread)
            self._look_later()
        else:
            self._count(0)
        if self.is_waited_for and not self.is_behind:
            self.is_waited_for = False
            self._caught_up()
