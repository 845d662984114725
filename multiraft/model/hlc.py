"""The hybrid logical clock of one node.

Purpose
    Give every event a `Timestamp` that is close to the wall clock, never goes back, and is above
    every timestamp that the node has heard of.
Invariants
    - `now()` is strictly greater than everything `now()` returned and `forward()` was given before.
    - A time more than the maximum offset ahead of the wall clock is never taken in.
    - A wall clock that is set back does not stop `now()`: it goes on as the monotonic clock does. A
      node whose lease ran out while its clock stood in the past would not notice it otherwise.
Format
    52 bits of microseconds since 1970, then 12 bits logical. When the logical part is used up it
    carries into the microseconds, which is harmless. Good until the year 2112.
Source
    Kulkarni et al., "Logical Physical Clocks" (2014); the packing is Kudu's.
"""

from multiraft import errors, ids
from multiraft.ids import Timestamp
from multiraft.runtime import Clock

LOGICAL_BITS = ids.LOGICAL_BITS
MAX = Timestamp((1 << 64) - 1)
ZERO = Timestamp(0)


def from_us(microseconds: int) -> Timestamp:
    """Return the first timestamp of that microsecond."""
    return Timestamp(microseconds << LOGICAL_BITS)


def from_ms(milliseconds: int) -> Timestamp:
    """Return a span or time of that many milliseconds, as a timestamp."""
    return from_us(milliseconds * 1_000)


def to_us(timestamp: Timestamp) -> int:
    """Return the microseconds part."""
    return timestamp >> LOGICAL_BITS


class HybridClock:
    """One per node. Not thread-safe: it belongs to the node's event loop."""

    __slots__ = ("_ahead_us", "_clock", "_last", "offset_max")

    def __init__(self, clock: Clock, offset_ms_max: int) -> None:
        self._clock = clock
        self._last = ZERO
        self._ahead_us = -(1 << 62)
        """The most that the wall clock was ever ahead of the monotonic one."""
        self.offset_max = from_ms(offset_ms_max)

    def now(self) -> Timestamp:
        """Return a timestamp above every one returned or taken in before."""
        clock = self._clock
        wall_us = clock.wall_us()
        monotonic_us = int(clock.monotonic() * 1e6)
        ahead_us = wall_us - monotonic_us
        if ahead_us > self._ahead_us:
            self._ahead_us = ahead_us
        else:
            wall_us = monotonic_us + self._ahead_us
        physical = wall_us << LOGICAL_BITS
        last = self._last + 1
        self._last = result = Timestamp(physical if physical > last else last)
        return result

    def wall(self) -> Timestamp:
        """Return the wall clock alone, as a timestamp; it may go back."""
        return from_us(self._clock.wall_us())

    @property
    def last(self) -> Timestamp:
        """The greatest timestamp returned or taken in so far."""
        return self._last

    def forward(self, timestamp: Timestamp) -> None:
        """Take in a time of this node's own state, such as a version applied; any is accepted."""
        if timestamp > self._last:  # noqa: PLR1730 - max() takes three times as long
            self._last = timestamp

    def forward_from_peer(self, timestamp: Timestamp) -> None:
        """Take in the clock of another node.

        Raises ClockOffsetError if it is more than the maximum offset ahead of the wall clock; the
        message that carried it must be dropped. One broken clock must not drag the others.
        """
        if timestamp <= self._last:
            return
        ahead = timestamp - self.wall()
        if ahead > self.offset_max:
            raise errors.ClockOffsetError(
                ahead_ms=to_us(Timestamp(ahead)) // 1_000,
                limit_ms=to_us(self.offset_max) // 1_000,
            )
        self._last = timestamp
