"""What stores say to each other, and the commands that their logs carry.

Format
    msgpack arrays: fields are only ever appended, tags never reused. `Command` is what a log
    entry's payload holds, so its form is on disk too; docs/formats.md describes it.
"""

from collections.abc import Iterator

import msgspec

from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.liveness.messages import LivenessMessage
from multiraft.model.descriptor import RangeDescriptor
from multiraft.mvcc.statistics import RangeStats
from multiraft.raft.messages import AppendEntries, Message
from multiraft.ranges.state import RangeState


class SplitTrigger(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """One range becomes two."""

    left: RangeDescriptor
    right: RangeDescriptor
    right_stats: RangeStats
    floor: Timestamp
    """The leader's HLC after the latches were granted: right leaders start above it (rule S2)."""
    leader: NodeId
    """Whose replica leads the right range first, without an election (rule S1)."""


class DescriptorTrigger(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The range's membership changes: `descriptor` replaces the one of the generation before."""

    descriptor: RangeDescriptor


class TruncateTrigger(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Entries up to `index` may be dropped by every replica that has applied them."""

    index: Index


class MetaKnownTrigger(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The addressing record in meta has this generation or a later one (rule L6)."""

    generation: int


class GcTrigger(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """Reads at or below `threshold` are refused from now on; it is only ever raised."""

    threshold: Timestamp


Trigger = SplitTrigger | DescriptorTrigger | TruncateTrigger | MetaKnownTrigger | GcTrigger


class Command(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The effects of one evaluated request, or of several, applied by every replica alike.

    `puts` alternates physical key and value, all within the range's span. `timestamp` is the
    greatest time of any version or intent in it (0: none): applying forwards the store's clock past
    it. `id` is that of the versions that the only request in it writes; empty if there are several
    requests, or if it writes none, or those of others.
    """

    id: bytes = b""
    timestamp: Timestamp = Timestamp(0)
    puts: tuple[bytes, ...] = ()
    stats: RangeStats | None = None
    """What applying adds to the range's statistics; None for nothing."""
    trigger: Trigger | None = None
    deletes: tuple[bytes, ...] = ()
    """Physical keys within the range's span."""
    also: tuple[tuple[bytes, Timestamp], ...] = ()
    """IDs beyond `id` of which there are versions in `puts`, with their times."""


class GroupEnvelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A Raft message of one group on its way between two stores.

    `start` is the start of the sender's span, so that a store without the range can tell whether a
    split that it has not applied yet will bring it.
    """

    range_id: RangeId
    source: ReplicaId
    target: ReplicaId
    message: Message
    start: bytes = b""


class ReplicaRemoved(msgspec.Struct, frozen=True, array_like=True):
    """Your replica is no member any more, as of `descriptor`; destroy it."""

    descriptor: RangeDescriptor


class PeerFrame(msgspec.Struct, frozen=True, array_like=True):
    """Everything one store has for another in one turn: heartbeats first (rule L4).

    `clock` is the sender's HLC when the frame was made; it is taken in before anything else.
    """

    clock: Timestamp
    liveness: tuple[LivenessMessage, ...] = ()
    envelopes: tuple[GroupEnvelope, ...] = ()
    removals: tuple[ReplicaRemoved, ...] = ()


class SnapshotHeader(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first frame of a snapshot: what it stands for."""

    source: ReplicaId
    target: ReplicaId
    term: Term
    state: RangeState
    """As of `index`."""
    clock: Timestamp
    """The sender's HLC, which is above every version sent."""


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """Rows in key order, as zstd-compressed msgpack of (key, value, key, value, ...)."""

    data: bytes
    checksum: int
    """xxh3_64 over `data`."""


class SnapshotEnd(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """All rows were sent, in so many chunks."""

    chunks: int


SnapshotFrame = SnapshotHeader | SnapshotChunk | SnapshotEnd


class SnapshotReply(msgspec.Struct, frozen=True, array_like=True):
    """How the receiver fared: empty `refusal` means staged and handed to Raft."""

    refusal: str = ""


_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
decode_command = msgspec.msgpack.Decoder(Command).decode
decode_peer_frame = msgspec.msgpack.Decoder(PeerFrame).decode
decode_snapshot_frame = msgspec.msgpack.Decoder(SnapshotFrame).decode
decode_snapshot_reply = msgspec.msgpack.Decoder(SnapshotReply).decode

FRAME_PAYLOAD_BYTES_MAX = 8 << 20


def frames_of(envelopes: list[GroupEnvelope]) -> Iterator[tuple[GroupEnvelope, ...]]:
    """Yield the envelopes in order, cut where a frame has as many bytes of entries as it may."""
    start = size = 0
    for position, envelope in enumerate(envelopes):
        message = envelope.message
        if type(message) is AppendEntries:
            for entry in message.entries:
                size += len(entry.payload)
            if size > FRAME_PAYLOAD_BYTES_MAX and position > start:
                yield tuple(envelopes[start:position])
                start, size = position, 0
    yield tuple(envelopes[start:])
