"""The IDs of recent writes of a range: most requests need no search for an earlier attempt.

Purpose
    Before a write is evaluated, the leaseholder must know whether an earlier attempt of the same
    request was applied. On a hot key the search among its versions is long; here it is one look-up.
Invariants
    - Every write applied above `complete_since` is remembered. So a request issued at or after it,
      whose ID is not here, has left no version: what it writes lies above `issued_at` (rule S12).
    - What is forgotten to stay within the bound raises `complete_since` to cover it.
Source
    Design §12, rule L7.
"""

from collections import OrderedDict

import msgspec

from multiraft.ids import Timestamp


class RecentWritesStatus(msgspec.Struct, frozen=True):
    """How many writes are remembered, and since when all of them."""

    writes: int
    complete_since: Timestamp


class RecentWrites:
    """The recent writes of one range, at its leaseholder. Belongs to one event loop.

    `complete_since` is a time that no write applied so far lies above: the clock of the leaseholder
    when its lease starts.
    """

    __slots__ = ("_complete_since", "_maximum", "_timestamps")

    def __init__(self, maximum: int, complete_since: Timestamp) -> None:
        assert maximum >= 1, "a bound of zero remembers nothing"
        self._maximum = maximum
        self._complete_since = complete_since
        # Not a plain dict: taking out its first key again and again costs ever more.
        self._timestamps: OrderedDict[bytes, Timestamp] = OrderedDict()

    def note(self, write_id: bytes, timestamp: Timestamp) -> None:
        """Remember a write that was applied at `timestamp`, an outcome included."""
        timestamps = self._timestamps
        known = timestamps.get(write_id)
        timestamps[write_id] = timestamp if known is None else max(known, timestamp)
        if len(timestamps) > self._maximum:
            _, forgotten = timestamps.popitem(last=False)
            self._complete_since = max(self._complete_since, forgotten)

    def knows_absence(self, write_id: bytes, issued_at: Timestamp) -> bool:
        """Return whether a request issued at `issued_at` under that ID certainly left no trace.

        False means that its keys must be searched. Ask under the latches of the request: another
        attempt in flight would be noted only when it is applied.
        """
        return issued_at >= self._complete_since and write_id not in self._timestamps

    def timestamp_of(self, write_id: bytes) -> Timestamp | None:
        """Return when that write was applied, if it is remembered: no search is needed then either.

        All that the request has left in the range is there at this time, the latest of several: a
        part never grows, and leaves its trace on every key that it could change.
        """
        return self._timestamps.get(write_id)

    def reset(self, complete_since: Timestamp) -> None:
        """Forget everything, at the start of a lease."""
        self._timestamps.clear()
        self._complete_since = complete_since

    def status(self) -> RecentWritesStatus:
        """Return how much is remembered."""
        return RecentWritesStatus(len(self._timestamps), self._complete_since)
