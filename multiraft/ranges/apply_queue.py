"""When replicas apply what is committed: leaders at once, followers behind their syncs.

Purpose
    Clients wait for a leader to apply, and for followers to acknowledge; nobody waits for a
    follower to apply. So a follower that has something to acknowledge applies afterwards: the
    processor, and in one process the interpreter, are for the sync first.
Invariants
    - A replica applies in the log's order: what was put off goes before what is newly committed.
    - Nothing is put off for longer than until the next sync of the store ends.
"""

from itertools import islice

from multiraft.ids import RangeId
from multiraft.ranges.replica import Replica
from multiraft.ranges.turn import Turn


class ApplyQueue:
    """The queue of one store."""

    __slots__ = ("_later",)

    def __init__(self) -> None:
        self._later: dict[RangeId, Replica] = {}

    def admit(self, turn: Turn) -> list[Replica]:
        """Take in what `turn` found committed, and return the replicas that apply it now."""
        later = self._later
        put_off = turn.is_to_be_synced or bool(later)
        now: list[Replica] = []
        for replica in turn.committed:
            if put_off and replica.leaseholder is None:
                later[replica.range_id] = replica
            else:
                now.append(replica)
        return now

    def take(self, count_max: int) -> dict[RangeId, Replica]:
        """Remove and return so many replicas that apply now that a sync is done."""
        later = self._later
        if len(later) <= count_max:
            self._later = {}
            return later
        return {range_id: later.pop(range_id) for range_id in list(islice(later, count_max))}

    def forget(self, range_id: RangeId) -> None:
        """The replica is gone."""
        self._later.pop(range_id, None)

    def __bool__(self) -> bool:
        return bool(self._later)
