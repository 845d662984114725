"""What stores say to each other, seen from the wire: counted, dropped on request, and checked.

Purpose
    Let a test lose single Raft messages, and hold every run to what must be true of all messages.
Invariants, checked on every append
    - No two different entries have one range, term and index (rule S1, log matching).
    - Only one incarnation of one node ever leads a term of a range: no replica becomes leader
      twice in one term, nor do two in the same one.
"""

from collections import Counter
from collections.abc import Callable

import msgspec

from multiraft.ids import NodeId
from multiraft.raft.messages import AppendEntries
from multiraft.ranges import messages
from multiraft.ranges.messages import GroupEnvelope, PeerFrame

SendFrame = Callable[[NodeId, bytes], None]
Drop = Callable[[int, int, GroupEnvelope], bool]


class Wiretap:
    """One per cluster; every store's outgoing frames pass through `splice`."""

    def __init__(self) -> None:
        self.frames: Counter[tuple[int, int]] = Counter()
        """Sent, by (source, target)."""
        self.envelopes = 0
        self.drop: Drop | None = None
        """Called with (source, target, envelope); True loses the message."""
        self.dropped = 0
        self.violations: list[str] = []
        self._entries: dict[tuple[int, int, int], bytes] = {}
        self._leaders: dict[tuple[int, int], tuple[int, int]] = {}

    def splice(self, node: int, incarnation: int, send: SendFrame) -> SendFrame:
        """Return what the store of that node is to send with instead of `send`."""

        def tapped(target: NodeId, payload: bytes) -> None:
            self.frames[node, target] += 1
            frame = messages.decode_peer_frame(payload)
            if frame.envelopes:
                kept = tuple(e for e in frame.envelopes if self._passes(node, target, e))
                for envelope in kept:
                    self._check(node, incarnation, envelope)
                self.envelopes += len(kept)
                if len(kept) < len(frame.envelopes):
                    payload = _packed(frame, kept)
            send(target, payload)

        return tapped

    def _passes(self, source: int, target: int, envelope: GroupEnvelope) -> bool:
        if self.drop is None or not self.drop(source, target, envelope):
            return True
        self.dropped += 1
        return False

    def _check(self, node: int, incarnation: int, envelope: GroupEnvelope) -> None:
        message = envelope.message
        if type(message) is not AppendEntries:
            return
        range_id = envelope.range_id
        leader = (node, incarnation)
        known = self._leaders.setdefault((range_id, message.term), leader)
        if known != leader:
            self.violations.append(f"r{range_id} term {message.term}: {known} led, and {leader}")
        for entry in message.entries:
            slot = (range_id, entry.term, entry.index)
            if self._entries.setdefault(slot, entry.payload) != entry.payload:
                self.violations.append(f"two entries at (range, term, index) {slot}")


def _packed(frame: PeerFrame, envelopes: tuple[GroupEnvelope, ...]) -> bytes:
    return messages.encode(msgspec.structs.replace(frame, envelopes=envelopes))
