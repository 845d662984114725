"""Sound frames of clients and of nodes: what is mutated."""

from collections.abc import Callable
from typing import NamedTuple

from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.liveness.messages import ClockReading, SupportReply, SupportRequest
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import (
    BatchRequest,
    ConditionalPut,
    Delete,
    Get,
    Increment,
    Operation,
    Put,
    RangeLocks,
    RangeStatus,
    RequestFrame,
    Scan,
)
from multiraft.mvcc.statistics import RangeStats
from multiraft.net.transport import FrameKind
from multiraft.raft import messages as raft
from multiraft.ranges import messages, state
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import GroupEnvelope, PeerFrame

UNKNOWN_RANGE = RangeId(77)


class Sound(NamedTuple):
    """A frame, and how its receiver decodes it."""

    kind: FrameKind
    payload: bytes
    decode: Callable[[bytes], object]


def of_clients(now: Timestamp) -> tuple[Sound, ...]:
    """Return requests."""
    key = keys.PLAIN + b"key"
    writes: tuple[tuple[Operation, ...], ...] = (
        (Put(key, b"value"), Put(key + b"2", b"value")),
        (Delete(key),),
        (ConditionalPut(key, b"new", b"old"),),
        (Increment(keys.PLAIN + b"counter", 3),),
    )
    reads: tuple[tuple[Operation, ...], ...] = (
        (Get(key), Get(key + b"2")),
        (Scan(keys.PLAIN, keys.PLAIN + b"\xff", limit_keys=5, limit_bytes=1_000),),
        (RangeStatus(),),
        (RangeLocks(),),
    )
    requests = [
        *(BatchRequest(USER_RANGE_ID, each, bytes(16), 1, now, now) for each in writes),
        *(BatchRequest(USER_RANGE_ID, each, issued_at=now) for each in reads),
    ]
    return tuple(
        Sound(
            FrameKind.REQUESTS,
            encoding.pack(RequestFrame(((7, request),))),
            encoding.unpack_request_frame,
        )
        for request in requests
    )


def of_nodes(now: Timestamp) -> tuple[Sound, ...]:
    """Return what another store sends: about support, about groups, and that a replica has gone."""
    entry = raft.Entry(Term(1), Index(11), raft.EntryKind.NOOP, b"")
    sent: tuple[raft.Message, ...] = (
        raft.PreVote(Term(1), Index(10), Term(1)),
        raft.RequestVote(Term(1), Index(10), Term(1)),
        raft.RequestVoteReply(Term(1), True),
        raft.AppendEntries(Term(1), Index(10), Term(1), (entry,), Index(10)),
    )
    envelopes = [
        GroupEnvelope(range_id, ReplicaId(2), ReplicaId(1), message, keys.FIRST_RANGE_END)
        for range_id in (USER_RANGE_ID, UNKNOWN_RANGE)
        for message in sent
    ]
    liveness = (
        SupportRequest(Epoch(1), Timestamp(now + hlc.from_ms(1_000))),
        SupportReply(Epoch(1), Timestamp(now + hlc.from_ms(1_000))),
        ClockReading(hlc.to_us(now), 0),
    )
    gone = initial_descriptor(UNKNOWN_RANGE, b"\x10a", b"\x10b", (NodeId(1), NodeId(2)))
    found = [
        *(PeerFrame(now, envelopes=(each,)) for each in envelopes),
        *(PeerFrame(now, liveness=(each,)) for each in liveness),
        PeerFrame(now, removals=(messages.ReplicaRemoved(gone),)),
    ]
    return tuple(
        Sound(FrameKind.RAFT, messages.encode(each), messages.decode_peer_frame) for each in found
    )


def of_snapshots(now: Timestamp) -> tuple[Sound, ...]:
    """Return what comes on a bulk connection."""
    descriptor = initial_descriptor(UNKNOWN_RANGE, b"\x10a", b"\x10b", (NodeId(1), NodeId(2)))
    header = messages.SnapshotHeader(
        ReplicaId(2),
        ReplicaId(1),
        Term(1),
        state.RangeState(descriptor, state.initial_applied(RangeStats(), now)),
        now,
    )
    found = (header, messages.SnapshotChunk(b"rows", 5), messages.SnapshotEnd(1))
    return tuple(
        Sound(FrameKind.SNAPSHOT, messages.encode(each), messages.decode_snapshot_frame)
        for each in found
    )
