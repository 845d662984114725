"""Raft messages of other stores that this one has yet to look at.

Purpose
    When thousands of ranges elect leaders, messages arrive faster than they are handled. They wait
    here, so that the heartbeats behind them are read and answered meanwhile.
Invariants
    - Messages are handled in the order of their arrival.
    - What waits is bounded in bytes. What finds no room is dropped: Raft sends again.
"""

from collections.abc import Callable

import msgspec

from multiraft.ids import NodeId
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.slices import SLICE_MAX, Slices, Steps

WAITING_BYTES_MAX = 64 << 20


class InboxStatus(msgspec.Struct, frozen=True):
    """How much waits, as it came in frames, and how many messages there was no room for."""

    waiting_bytes: int
    dropped: int


class Inbox:
    """That of one store. `deliver` handles a message, `guard` runs what no caller waits for."""

    __slots__ = ("_deliver", "_dropped", "_slices", "_waiting_bytes", "handled_at_once")

    def __init__(
        self,
        deliver: Callable[[NodeId, GroupEnvelope], None],
        guard: Callable[[Callable[[], None]], None],
    ) -> None:
        self._deliver = deliver
        self._slices = Slices(guard)
        self.handled_at_once = 0
        """How many were handled as they came, since the last turn set this to 0."""
        self._waiting_bytes = 0
        self._dropped = 0

    def status(self) -> InboxStatus:
        """Return how it is filled."""
        return InboxStatus(self._waiting_bytes, self._dropped)

    def take(self, source: NodeId, envelopes: tuple[GroupEnvelope, ...], frame_bytes: int) -> None:
        """Handle the messages of a frame: at once if none wait, and few came since a turn."""
        if self.handled_at_once + len(envelopes) <= SLICE_MAX and not self._slices:
            self.handled_at_once += len(envelopes)
            deliver = self._deliver
            for envelope in envelopes:
                deliver(source, envelope)
        elif self._waiting_bytes + frame_bytes > WAITING_BYTES_MAX:
            self._dropped += len(envelopes)
        else:
            self._waiting_bytes += frame_bytes
            self._slices.later(self._deliver_all(source, envelopes, frame_bytes))

    def _deliver_all(
        self, source: NodeId, envelopes: tuple[GroupEnvelope, ...], frame_bytes: int
    ) -> Steps:
        for envelope in envelopes:
            self._deliver(source, envelope)
            yield
        self._waiting_bytes -= frame_bytes
