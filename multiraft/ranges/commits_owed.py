"""Which groups have members that lack only the newest commit index, and when those are told.

Purpose
    Under load the next append carries it; without load, a few milliseconds of waiting save two
    messages and their answers for every write. So it is told when no append came in time, or at
    once where somebody waits for followers to apply.
Invariants
    - A group that has more to say than an append has said is owed until a turn tells it (rule L2).
    - One timer for all groups, none while nothing is owed.
    - A turn tells a slice at most; what is left follows in the next ones.
"""

import asyncio
from collections.abc import Callable
from itertools import islice

from multiraft.ids import Index, RangeId
from multiraft.ranges.replica import Replica
from multiraft.ranges.slices import SLICE_MAX
from multiraft.ranges.turn import Turn

DELAY_S = 0.005


class CommitsOwed:
    """Those of one store. `schedule` asks for a turn, `guard` runs what no caller waits for."""

    __slots__ = ("_are_due", "_guard", "_owed", "_schedule", "_timer")

    def __init__(
        self,
        schedule: Callable[[], None],
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._schedule = schedule
        self._guard = guard
        self._owed: dict[RangeId, tuple[Replica, Index]] = {}
        """With the commit index at which that began."""
        self._are_due = False
        self._timer: asyncio.TimerHandle | None = None

    def add(self, replica: Replica) -> None:
        """Members of the group lack only the newest commit index: tell them soon."""
        self._owed.setdefault(replica.range_id, (replica, replica.core.commit_index))
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                DELAY_S, self._guard, self._delay_is_over
            )

    def tell_soon(self) -> None:
        """Somebody waits for followers to apply, as after a split: tell all in the next turn."""
        self._are_due = True
        self._schedule()

    def tell(self, turn: Turn) -> None:
        """Let a turn tell what is due."""
        if self._are_due:
            owed = self._owed
            for range_id in list(islice(owed, SLICE_MAX)):
                replica, _ = owed.pop(range_id)
                if not replica.destroyed:
                    replica.tell_commit(turn)
            self._are_due = bool(owed)
            if owed:
                self._schedule()

    def stop(self) -> None:
        """Let no timer tell anything any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _delay_is_over(self) -> None:
        """Tell them, unless all are newer than the timer: then an append may still come in time."""
        self._timer = None
        owing = [(r, since) for r, since in self._owed.values() if r.core.commit_untold]
        if any(replica.core.commit_index == since for replica, since in owing):
            self.tell_soon()
            return
        self._owed = {}
        for replica, _ in owing:
            self.add(replica)
