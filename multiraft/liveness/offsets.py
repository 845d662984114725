"""How far this node's wall clock is from its peers', and whether it is the one that is wrong.

Purpose
    Reads are fresh only while clocks keep within the maximum offset. A node that finds itself more
    than 80 % of that away from the majority must stop before it breaks the promise.
Invariants
    - Only evidence that no delay can fake counts. A reading that arrives shows that the sender's
      clock was at least `sent - received` ahead, since the way took some time; what the peer says
      of our own readings bounds it from the other side. So slow networks, stalled disks and paused
      processes weaken the evidence and never make it up.
    - Wall clocks are compared, not HLCs: one fast clock pulls every HLC along, so an HLC says
      nothing about the clock of the node that sent it.
    - Both ends decide alone, and only a node that differs from a majority stops; of two, none.

No clock and no I/O; `end_round` is called once per heartbeat interval.
"""

from collections.abc import Sequence

import msgspec

from multiraft.ids import NodeId

_SHARE_PERCENT = 80
_ROUNDS_MAX = 5
"""So many rounds in a row must agree before the node stops."""
_ROUNDS_FRESH = 3
"""What a peer said counts for so many rounds."""


class OffsetBounds(msgspec.Struct, frozen=True):
    """A peer's clock is at least `low_us` ahead of ours and at most `high_us`; None: unknown."""

    low_us: int
    high_us: int | None


class ClockOffsets:
    """See the module."""

    __slots__ = ("_bounds", "_limit_us", "_rounds_far")

    def __init__(self, offset_ms_max: int) -> None:
        self._limit_us = offset_ms_max * 1_000 * _SHARE_PERCENT // 100
        self._bounds: dict[NodeId, tuple[OffsetBounds, int]] = {}
        self._rounds_far = 0

    def note(
        self, node: NodeId, *, sent_us: int, received_us: int, ahead_us_min: int | None
    ) -> None:
        """Take in a reading of the peer's clock, made at `sent_us`, and what it says of ours."""
        high_us = None if ahead_us_min is None else -ahead_us_min
        self._bounds[node] = (OffsetBounds(sent_us - received_us, high_us), _ROUNDS_FRESH)

    def bounds(self, node: NodeId) -> OffsetBounds | None:
        """Return what is known; None when nothing was heard lately."""
        known = self._bounds.get(node)
        return None if known is None else known[0]

    def ahead_us_min(self, node: NodeId) -> int | None:
        """Return by how much the peer's clock is ahead at least, to be told to it."""
        known = self._bounds.get(node)
        return None if known is None else known[0].low_us

    def end_round(self, nodes: Sequence[NodeId]) -> bool:
        """Return whether this node must stop. `nodes` are its peers and itself; no others count."""
        known = [self._bounds[node][0] for node in nodes if node in self._bounds]
        ahead = sum(each.low_us > self._limit_us for each in known)
        behind = sum(each.high_us is not None and each.high_us < -self._limit_us for each in known)
        is_far = 2 * max(ahead, behind) > len(nodes)
        self._rounds_far = self._rounds_far + 1 if is_far else 0
        self._bounds = {
            node: (bounds, rounds - 1)
            for node, (bounds, rounds) in self._bounds.items()
            if rounds > 1
        }
        return self._rounds_far >= _ROUNDS_MAX
