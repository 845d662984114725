"""What one store has to say to the others, until the end of the turn.

Invariants
    - One frame per peer and turn, whatever the number of groups; heartbeats leave before anything
      else (rule L4), and frames stay within a bounded size.
    - Each frame carries the HLC as of when it is made, so it is above everything the messages in it
      were decided on (rule S3).
"""

from collections import defaultdict
from collections.abc import Callable

from multiraft.ids import NodeId
from multiraft.liveness.messages import LivenessMessage
from multiraft.model.hlc import HybridClock
from multiraft.ranges import messages
from multiraft.ranges.messages import GroupEnvelope, PeerFrame, ReplicaRemoved

SendFrame = Callable[[NodeId, bytes], None]


class Outbox:
    """See the module."""

    __slots__ = ("_clock", "_liveness", "_removals", "envelopes", "send_frame")

    def __init__(self, clock: HybridClock, send_frame: SendFrame) -> None:
        self._clock = clock
        self.send_frame = send_frame
        self.envelopes: defaultdict[NodeId, list[GroupEnvelope]] = defaultdict(list)
        """Raft messages queued, by the node to send to."""
        self._liveness: dict[NodeId, list[LivenessMessage]] = {}
        self._removals: dict[NodeId, list[ReplicaRemoved]] = {}

    def add_liveness(self, node: NodeId, message: LivenessMessage) -> None:
        """Queue a heartbeat or its answer."""
        self._liveness.setdefault(node, []).append(message)

    def add_removal(self, node: NodeId, removal: ReplicaRemoved) -> None:
        """Queue word of a replica that is no member any more."""
        self._removals.setdefault(node, []).append(removal)

    def flush(self) -> None:
        """Send everything queued."""
        if self._liveness or self._removals:
            liveness, self._liveness = self._liveness, {}
            removals, self._removals = self._removals, {}
            for node in dict.fromkeys((*liveness, *removals)):
                said = tuple(liveness.get(node, ()))
                gone = tuple(removals.get(node, ()))
                self._send(node, PeerFrame(self._clock.now(), said, (), gone))
        if self.envelopes:
            envelopes, self.envelopes = self.envelopes, defaultdict(list)
            for node, queue in envelopes.items():
                for part in messages.frames_of(queue):
                    self._send(node, PeerFrame(self._clock.now(), (), part))

    def _send(self, node: NodeId, frame: PeerFrame) -> None:
        self.send_frame(node, messages.encode(frame))
