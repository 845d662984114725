"""A client's estimate of the cluster's clock, from which requests get their `issued_at`.

Purpose
    Give a lower bound of the time on the nodes' hybrid clocks, without a clock of the client's own:
    the greatest time any reply carried, moved on by the time that has passed here since.
Invariants
    - It only reads the cluster's clocks, it never moves them (rule S12).
    - It may be too low, which costs a longer search for earlier attempts. It should not be too
      high, which costs a wait at the leaseholder; so it lies `margin_ms` below the estimate (nodes
      differ by as much) and runs a little slow (so do some clocks).
Source
    Safety rule S12.
"""

from multiraft.ids import Timestamp
from multiraft.model import hlc

_MICROSECONDS_PER_SECOND = 999_000
"""So much of the cluster's a second of ours counts as: no crystal is wrong by a thousandth."""


class ClusterClock:
    """See the module. `now_s` is always the client's monotonic time."""

    __slots__ = ("_base_us", "_margin_us", "_seen_s", "latest")

    def __init__(self, margin_ms: int) -> None:
        self._margin_us = margin_ms * 1_000
        self._base_us = 0
        self._seen_s = 0.0
        self.latest = Timestamp(0)
        """The greatest time any reply carried: above everything this client has been told."""

    def observe(self, clock: Timestamp, now_s: float) -> None:
        """Take in the clock that a reply carried."""
        self.latest = max(self.latest, clock)
        seen_us = clock >> hlc.LOGICAL_BITS
        if seen_us > self._estimate_us(now_s):
            self._base_us = seen_us
            self._seen_s = now_s

    def reset(self, clock: Timestamp, now_s: float) -> None:
        """Believe `clock` instead of anything seen before: a node refused us as too far ahead."""
        self.latest = clock
        self._base_us = clock >> hlc.LOGICAL_BITS
        self._seen_s = now_s

    def issued_at(self, now_s: float) -> Timestamp:
        """Return a lower bound of every node's clock; 0 before the first reply."""
        bound_us = self._estimate_us(now_s) - self._margin_us
        return hlc.from_us(bound_us) if bound_us > 0 else hlc.ZERO

    def estimate(self, now_s: float) -> Timestamp:
        """Return what the most advanced node's clock may show: where to begin looking for a time.

        Only for what is moved up when it turns out too low.
        """
        return max(self.latest, hlc.from_us(self._estimate_us(now_s)))

    def _estimate_us(self, now_s: float) -> int:
        if not self._base_us:
            return 0
        return self._base_us + int((now_s - self._seen_s) * _MICROSECONDS_PER_SECOND)
