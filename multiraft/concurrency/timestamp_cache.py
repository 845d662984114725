"""The timestamp cache: at which times keys of a range were read, and by whom.

Purpose
    A write must not change what somebody has read already. The leaseholder asks for the smallest
    timestamp that a write may take.
Invariants
    - The answer for a key is never below the greatest timestamp at which it was read, as far as
      reads were added, nor below the low-water mark.
    - What is forgotten to stay within the bound raises the low-water mark to cover it.
    - Timestamps of two readers may be equal, so an entry also says who read: one transaction, or
      SHARED. A write may take the very timestamp of an entry only if the entry is its own
      (rule S11). The low-water mark is SHARED.
How
    Entries live in two generations. When the younger one is full, the older one is forgotten and
    the younger takes its place: constant work, and only what is old is lost. In a generation points
    are a dict; spans are cut into pieces that do not overlap, each with one entry, kept in order.
Source
    CockroachDB's tscache and its rotating pages; rules S2, S3, S11.
"""

from bisect import bisect_left, bisect_right
from typing import Final

import msgspec

from multiraft.ids import Timestamp

SHARED: Final = b""
"""The owner of a read by more than one transaction, or by none."""

Read = tuple[Timestamp, bytes]
"""When something was read, and by which transaction."""

_NEVER: Read = (Timestamp(0), SHARED)


def later(one: Read, other: Read) -> Read:
    """Return what is remembered of two reads of the same key."""
    if one[0] != other[0]:
        return one if one[0] > other[0] else other
    return one if one[1] == other[1] else (one[0], SHARED)


class TimestampCacheStatus(msgspec.Struct, frozen=True):
    """How much is remembered, and since when completely."""

    low_water: Timestamp
    points: int
    span_pieces: int


class TimestampCache:
    """The reads of one range, at its leaseholder. Belongs to one event loop."""

    __slots__ = ("_entries_max", "_low_water", "_older", "_younger")

    def __init__(self, low_water: Timestamp, entries_max: int) -> None:
        assert entries_max >= 2, "each generation needs room"
        self._low_water = low_water
        self._entries_max = entries_max
        self._younger = _Generation()
        self._older = _Generation()

    @property
    def low_water(self) -> Timestamp:
        """Every key counts as read at this time."""
        return self._low_water

    @property
    def latest(self) -> Timestamp:
        """No key was read later than this."""
        return max(self._low_water, self._younger.latest, self._older.latest)

    def add_point(self, key: bytes, timestamp: Timestamp, owner: bytes = SHARED) -> None:
        """Remember that `owner` read `key` at `timestamp`."""
        if timestamp > self._low_water:
            self._younger.add_point(key, (timestamp, owner))
            self._keep_within_bound()

    def add_span(
        self, start: bytes, end: bytes, timestamp: Timestamp, owner: bytes = SHARED
    ) -> None:
        """Remember that `owner` read `[start, end)` at `timestamp`, absent keys included."""
        if timestamp > self._low_water and start < end:
            self._younger.add_span(start, end, (timestamp, owner))
            self._keep_within_bound()

    def max_read(self, key: bytes) -> Read:
        """Return the latest read of `key` and its owner."""
        read = (self._low_water, SHARED)
        for generation in (self._younger, self._older):
            if generation.latest > self._low_water:
                read = later(read, generation.read(key))
        return read

    def write_floor(self, key: bytes, owner: bytes = SHARED) -> Timestamp:
        """Return the smallest timestamp that a write of `key` by `owner` may take."""
        timestamp, reader = self.max_read(key)
        if reader == owner and owner != SHARED:
            return timestamp
        return Timestamp(timestamp + 1)

    def raise_low_water(self, timestamp: Timestamp) -> None:
        """Count every key as read at `timestamp`, by everybody."""
        self._low_water = max(self._low_water, timestamp)

    def status(self) -> TimestampCacheStatus:
        """Return how much is remembered."""
        both = (self._younger, self._older)
        return TimestampCacheStatus(
            low_water=self._low_water,
            points=sum(len(generation.points) for generation in both),
            span_pieces=sum(len(generation.bounds) for generation in both),
        )

    def _keep_within_bound(self) -> None:
        younger = self._younger
        if len(younger.points) + len(younger.bounds) > self._entries_max // 2:
            self.raise_low_water(self._older.latest)
            self._older = younger
            self._younger = _Generation()


class _Generation:
    """Reads added during some stretch of time."""

    __slots__ = ("bounds", "latest", "pieces", "points")

    def __init__(self) -> None:
        self.latest = _NEVER[0]
        """No read here has a greater timestamp."""
        self.points: dict[bytes, Read] = {}
        self.bounds: list[bytes] = []
        """Where a piece begins, ascending; the last bound begins a piece without reads."""
        self.pieces: list[Read] = []
        """The read of the keys from the bound with the same number to the next one."""

    def add_point(self, key: bytes, read: Read) -> None:
        known = self.points.get(key)
        self.points[key] = read if known is None else later(known, read)
        if read[0] > self.latest:  # noqa: PLR1730  half the cost of max()
            self.latest = read[0]

    def add_span(self, start: bytes, end: bytes, read: Read) -> None:
        self.latest = max(self.latest, read[0])
        first = self._cut(start)
        last = self._cut(end)
        # Neighbours that become equal are joined, so that repeated scans do not add up.
        low, high = max(first - 1, 0), last + 1
        bounds: list[bytes] = []
        pieces: list[Read] = []
        for number in range(low, high):
            piece = self.pieces[number]
            if first <= number < last:
                piece = later(piece, read)
            if not pieces or pieces[-1] != piece:
                bounds.append(self.bounds[number])
                pieces.append(piece)
        self.bounds[low:high] = bounds
        self.pieces[low:high] = pieces

    def read(self, key: bytes) -> Read:
        read = self.points.get(key, _NEVER)
        if self.bounds:
            number = bisect_right(self.bounds, key) - 1
            if number >= 0:
                return later(read, self.pieces[number])
        return read

    def _cut(self, key: bytes) -> int:
        """Make `key` a bound, and return its number."""
        number = bisect_left(self.bounds, key)
        if number == len(self.bounds) or self.bounds[number] != key:
            self.bounds.insert(number, key)
            self.pieces.insert(number, self.pieces[number - 1] if number else _NEVER)
        return number
