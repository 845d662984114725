"""For which replicas time passes, and the one timer of the store.

Purpose
    A replica whose core waits for something is ticked until it does not; the timer runs while
    there is such a replica, or somebody who asked for a tick.
Invariants
    - An idle range of a healthy group is not looked at.
    - Elections begin when it is their turn (ranges/elections.py).
    - Ticks come in slices. With so many replicas that a pass takes longer than a tick, the next
      one begins after it: time passes more slowly for all of them.
"""

import asyncio
from collections.abc import Callable

from multiraft.ids import RangeId
from multiraft.ranges.elections import Elections
from multiraft.ranges.replica import Replica
from multiraft.ranges.slices import Slices, Steps
from multiraft.runtime import Rng


class Ticking:
    """That of one store. `ticked` is called at every tick; `guard` runs what nobody waits for."""

    __slots__ = ("_guard", "_interval_s", "_passes", "_replicas", "_ticked", "_timer", "elections")

    def __init__(
        self,
        interval_s: float,
        rng: Rng,
        ticked: Callable[[], None],
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._interval_s = interval_s
        self._ticked = ticked
        self._guard = guard
        self._replicas: dict[RangeId, Replica] = {}
        self._passes = Slices(guard)
        self._timer: asyncio.TimerHandle | None = None
        self.elections = Elections(rng, guard)

    def __len__(self) -> int:
        return len(self._replicas)

    @property
    def timer_runs(self) -> bool:
        """Whether there is going to be a tick."""
        return self._timer is not None

    def follow(self, replica: Replica) -> None:
        """Let time pass for the replica, whose core did or was told something, if it needs that."""
        elections = self.elections
        if elections.under_way or elections.waiting:
            elections.follow(replica)
        replicas, range_id = self._replicas, replica.range_id
        if range_id not in replicas and not replica.destroyed and replica.core.needs_tick:
            replicas[range_id] = replica
            self.start()

    def forget(self, replica: Replica) -> None:
        """The replica is gone."""
        self._replicas.pop(replica.range_id, None)
        self.elections.forget(replica)

    def start(self) -> None:
        """Have the next tick come, an interval from now at the latest."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(
                self._interval_s, self._guard, self._pass
            )

    def stop(self) -> None:
        """Let no tick come any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _pass(self) -> None:
        self._timer = None
        if not self._passes:
            self._passes.add(self._tick_all())
        self._ticked()
        if self._replicas:
            self.start()

    def _tick_all(self) -> Steps:
        for range_id, replica in list(self._replicas.items()):
            if self._replicas.get(range_id) is replica:
                self.elections.tick(replica)
                if replica.core.needs_tick:
                    replica.tick()
                else:
                    del self._replicas[range_id]
            yield
