"""What the watches need not remember between two rounds of a long run.

Purpose
    A run of hours would end with everything it ever saw: each entry, each version, each read. This
    finds what cannot matter any more, so that a round costs the same at the end as at the start.
Invariants
    - Between rounds nothing is under way: links and nodes are healed, clients and their
      transactions have ended, every replica of a range has applied the same.
    - Forgotten is only what was over between the two rounds before: so what was not synced then is
      by now, and what travelled then, also late and in old messages, has arrived.
    - Nothing that could be found goes unnoticed for that. Behind the floor of a group no replica
      has, or will have, an entry, and to see one is a violation (group_facts). A key that is gone
      counts as read until the end of the round before, so a version of it that comes at an earlier
      time is a violation, whether or not somebody had read the key (read_watch). Of the leases of
      terms that every replica has left, the last to end is kept (promise_watch).
    - A replica that lags, a learner that has nothing yet, and a removed one that does not know so
      hold the floor down: all that a store has count. While any lock is on a disk, its transaction
      may still be decided at an earlier time, and no key is forgotten.
"""

from collections.abc import Callable
from typing import NamedTuple

from multiraft.ids import Index, RangeId, Term, Timestamp
from multiraft.model import hlc, keys
from multiraft.sim.disk_watch import DiskWatch
from multiraft.sim.group_facts import GroupFacts
from multiraft.sim.inspection import Member
from multiraft.sim.promise_watch import PromiseWatch
from multiraft.sim.read_watch import ReadWatch
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine


class Floor(NamedTuple):
    """Of one range: where even the longest log is cut, and the lowest term of a replica."""

    cut_at: Index
    term: Term

    def least(self, other: "Floor") -> "Floor":
        """Return the lower of both, of either."""
        return Floor(min(self.cut_at, other.cut_at), min(self.term, other.term))


NOTHING_OVER = Floor(Index(0), Term(0))


class Forgetting:
    """One per cluster."""

    def __init__(
        self,
        facts: Callable[[RangeId], GroupFacts],
        disks: DiskWatch,
        reads: ReadWatch,
        promises: PromiseWatch,
    ) -> None:
        self._facts = facts
        self._disks = disks
        self._reads = reads
        self._promises = promises
        self._floors: dict[RangeId, Floor] = {}
        self._ended_at = Timestamp(0)

    def between_rounds(self, members: list[Member]) -> None:
        """Forget what was over at the last call; `members` are all there are, and up."""
        floors = _floors(members)
        for range_id, floor in floors.items():
            sure = floor.least(self._floors.get(range_id, NOTHING_OVER))
            self._facts(range_id).forget_below(sure.cut_at)
            self._disks.forget_below(range_id, sure.cut_at)
            self._promises.forget_below(range_id, sure.term)
        self._floors = floors
        engines = [member.engine for member in members]
        if not any(_has_locks(engine) for engine in engines):
            self._reads.forget(self._ended_at, lambda key: any(_has(e, key) for e in engines))
        self._ended_at = min(hlc.from_us(member.clock.wall_us()) for member in members)


def _floors(members: list[Member]) -> dict[RangeId, Floor]:
    floors: dict[RangeId, Floor] = {}
    for member in members:
        for range_id, replica in member.up.store.replicas.items():
            floor = Floor(Index(replica.log.first_index() - 1), replica.core.term)
            floors[range_id] = floor.least(floors.get(range_id, floor))
    return floors


def _has_locks(engine: MemoryEngine) -> bool:
    low, high = layout.span(layout.LOCK, keys.MIN, keys.END)
    return engine.first(low, high, engine.data) is not None


def _has(engine: MemoryEngine, key: bytes) -> bool:
    low, high = layout.span(layout.VERSION, key, key + b"\0")
    return engine.first(low, high, engine.data) is not None
