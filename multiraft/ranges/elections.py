"""Which replicas of a store have their elections now, and which ones come after them.

Purpose
    When a node died, or all of them restarted, thousands of ranges have no leader at once. Each
    election takes a dozen messages and three syncs, and if all begin together, those that somebody
    waits for end when all end. So a store takes part on its own account in a few at a time, and
    begins another when one has ended: as fast as stores and disks allow, whatever they are.
Invariants
    - At most `UNDER_WAY_MAX` election timers run, and as many again for ranges that somebody asked
      for. All others are held: they cost nothing, answer their peers, and wait in line.
    - Who is asked for goes first. Of the others chance chooses, so that stores do not all begin
      with the same ones and get in each other's way.
    - Who takes long gives way to others and gets in line again; so those that cannot be won, for
      want of a peer, do not keep others from it. Who has no quorum of stores to support it does not
      wait in line, since their support coming back wakes it.
"""

import asyncio
from collections.abc import Callable

import msgspec

from multiraft.ids import RangeId
from multiraft.ranges.replica import Replica
from multiraft.ranges.slices import SLICE_MAX
from multiraft.runtime import Rng

UNDER_WAY_MAX = 64
STAY_TICKS_MAX = 10
"""Who has neither won nor found a leader after so many ticks lets others have their turn."""


class ElectionsStatus(msgspec.Struct, frozen=True):
    """How many ranges without a leader have their elections now, and how many wait for that."""

    under_way: int
    waiting: int


class Elections:
    """Those of one store. `guard` runs what no caller waits for."""

    __slots__ = (
        "_asked_for",
        "_drawn_from",
        "_guard",
        "_is_about_to_begin",
        "_rng",
        "under_way",
        "waiting",
    )

    def __init__(self, rng: Rng, guard: Callable[[Callable[[], None]], None]) -> None:
        self._rng = rng
        self._guard = guard
        self.under_way: dict[RangeId, int] = {}
        """For how many ticks."""
        self.waiting: dict[RangeId, Replica] = {}
        self._drawn_from: list[RangeId] = []
        """All that wait, and some that do not any more."""
        self._asked_for: dict[RangeId, None] = {}
        """Of those that wait, in the order in which they were asked for."""
        self._is_about_to_begin = False

    def status(self) -> ElectionsStatus:
        """Return how many there are."""
        return ElectionsStatus(len(self.under_way), len(self.waiting))

    def ask_for(self, replica: Replica) -> None:
        """Somebody wants the range to have a leader: if it waits in line, it goes first."""
        if replica.range_id in self.waiting:
            self._asked_for[replica.range_id] = None
            self._begin_soon()

    def tick(self, replica: Replica) -> None:
        """A tick passed: if it is electing let it go on, or have it wait for others."""
        range_id, under_way = replica.range_id, self.under_way
        ticks = under_way.get(range_id)
        if ticks is None:
            if not replica.core.waits_for_election:
                return
            if self.waiting or len(under_way) >= UNDER_WAY_MAX:
                self._wait(replica)
            else:
                under_way[range_id] = 0
        elif self.waiting and ticks >= STAY_TICKS_MAX:
            del under_way[range_id]
            if replica.core.waits_for_election:
                self._wait(replica)
            else:
                self._begin_soon()
        else:
            under_way[range_id] = ticks + 1

    def follow(self, replica: Replica) -> None:
        """Its core did or was told something: if its election is over, another one may begin."""
        range_id = replica.range_id
        if range_id in self.under_way:
            if _is_over(replica):
                del self.under_way[range_id]
                self._begin_soon()
        elif replica.core.election_held:
            if not replica.core.waits_for_election:
                replica.core.election_held = False
                self._forget_waiting(range_id)
            elif replica.core.election_urged:
                self.ask_for(replica)

    def forget(self, replica: Replica) -> None:
        """The replica is gone."""
        self._forget_waiting(replica.range_id)
        if self.under_way.pop(replica.range_id, None) is not None:
            self._begin_soon()

    def _wait(self, replica: Replica) -> None:
        replica.core.hold_election()
        self.waiting[replica.range_id] = replica
        self._drawn_from.append(replica.range_id)
        self._begin_soon()

    def _forget_waiting(self, range_id: RangeId) -> None:
        self.waiting.pop(range_id, None)
        self._asked_for.pop(range_id, None)

    def _begin_soon(self) -> None:
        if self.waiting and not self._is_about_to_begin and self._has_room():
            self._is_about_to_begin = True
            asyncio.get_running_loop().call_soon(self._guard, self._begin)

    def _has_room(self) -> bool:
        return len(self.under_way) < UNDER_WAY_MAX * (2 if self._asked_for else 1)

    def _begin(self) -> None:
        self._is_about_to_begin = False
        for _ in range(SLICE_MAX):
            if not self.waiting or not self._has_room():
                return
            replica = self._next()
            self.under_way[replica.range_id] = 0
            if not replica.resume_election():
                del self.under_way[replica.range_id]
        self._begin_soon()

    def _next(self) -> Replica:
        for range_id in self._asked_for:
            del self._asked_for[range_id]
            return self.waiting.pop(range_id)
        drawn_from = self._drawn_from
        while True:
            position = self._rng.below(len(drawn_from))
            drawn_from[position], drawn_from[-1] = drawn_from[-1], drawn_from[position]
            replica = self.waiting.pop(drawn_from.pop(), None)
            if replica is not None:
                return replica


def _is_over(replica: Replica) -> bool:
    """Whether the range has a leader that serves, if it is led here, or that it is bound to."""
    leaseholder = replica.leaseholder
    if leaseholder is not None:
        return leaseholder.serving
    return not replica.core.waits_for_election
