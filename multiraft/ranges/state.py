"""The replicated state of one range that is not keyed data, and where a replica keeps it.

Purpose
    What a replica must have besides versions and its log: descriptor, applied index, statistics and
    floors. It is written in the batch of the commands that changed it, so the applied index is
    atomic with its effects, and so is membership (rule S5).
Format
    In the data family, under `layout.range_key(range_id, suffix)`:

        d  the packed RangeDescriptor; the configuration is derived from it
        a  the packed AppliedState
        t  the packed Tombstone; what is left of a destroyed replica
        p  the packed Placeholder: a replica that has no data yet, only an ID and where it begins
"""

from collections.abc import Iterator

import msgspec

from multiraft import errors
from multiraft.ids import Index, RangeId, ReplicaId, Term, Timestamp
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor, ReplicaKind
from multiraft.mvcc.statistics import RangeStats
from multiraft.raft.messages import Configuration
from multiraft.storage import layout
from multiraft.storage.engine import Batch, Engine

DESCRIPTOR = b"d"
APPLIED = b"a"
TOMBSTONE = b"t"
PLACEHOLDER = b"p"

INITIAL_TERM = Term(5)
"""The term in which every range begins; nobody campaigns in it (rule S1)."""
INITIAL_INDEX = Index(10)
"""The log of every range begins after this index, as if everything before had been truncated."""


NOTHING_COLLECTED = Timestamp(0)


class AppliedState(msgspec.Struct, frozen=True, array_like=True):
    """What applying entries has led to, apart from data and descriptor."""

    index: Index
    term: Term
    """The term of the entry at `index`."""
    stats: RangeStats
    clock_floor: Timestamp
    """Every leader's clock, and its timestamp cache's low water, start at or above it (rule S2).

    No version is above it, so that a leader whose node has just restarted misses none (rule S13).
    """
    gc_threshold: Timestamp = NOTHING_COLLECTED
    """What reads at or below it would see may be gone, so they are refused, and so are requests
    issued at or below it (rule S12)."""
    meta_generation: int = 0
    """The descriptor generation that the addressing record is known to have (rule L6)."""


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """Forbids replicas of the range below `next_replica_id` on this store, for ever."""

    next_replica_id: ReplicaId
    descriptor: RangeDescriptor | None = None
    """The last one known: a hint to where the range went (rule L6)."""


class Placeholder(msgspec.Struct, frozen=True, array_like=True):
    """An uninitialised replica: it may vote and take a snapshot, but covers no keys yet."""

    replica_id: ReplicaId
    start: bytes = b""
    """Where the range begins, for ever: what to ask meta for when nobody calls any more."""


class RangeState(msgspec.Struct, frozen=True, array_like=True):
    """All of it, as it travels in a snapshot and as a replica holds it in memory."""

    descriptor: RangeDescriptor
    applied: AppliedState


_pack = msgspec.msgpack.Encoder().encode
_unpack_applied = msgspec.msgpack.Decoder(AppliedState).decode
_unpack_descriptor = msgspec.msgpack.Decoder(RangeDescriptor).decode
_unpack_tombstone = msgspec.msgpack.Decoder(Tombstone).decode
_unpack_placeholder = msgspec.msgpack.Decoder(Placeholder).decode


def initial_applied(
    stats: RangeStats, floor: Timestamp, gc_threshold: Timestamp = NOTHING_COLLECTED
) -> AppliedState:
    """Return the applied state with which a range begins."""
    return AppliedState(INITIAL_INDEX, INITIAL_TERM, stats, floor, gc_threshold)


def write_descriptor(batch: Batch, engine: Engine, descriptor: RangeDescriptor) -> None:
    """Put the descriptor into `batch`; the replica is initialised from then on."""
    range_id = descriptor.range_id
    batch.put(layout.range_key(range_id, DESCRIPTOR), _pack(descriptor), engine.data)


def write_applied(batch: Batch, engine: Engine, key: bytes, applied: AppliedState) -> None:
    """Put the applied state into `batch`. `key` is `applied_key(range_id)`."""
    batch.put(key, _pack(applied), engine.data)


def applied_key(range_id: RangeId) -> bytes:
    """Return where the applied state is kept."""
    return layout.range_key(range_id, APPLIED)


def write_placeholder(
    batch: Batch, engine: Engine, range_id: RangeId, placeholder: Placeholder
) -> None:
    """Put the mark of an uninitialised replica into `batch`."""
    batch.put(layout.range_key(range_id, PLACEHOLDER), _pack(placeholder), engine.data)


def read_placeholder(engine: Engine, range_id: RangeId) -> Placeholder | None:
    """Return the mark of an uninitialised replica of the range, or None."""
    value = engine.get(layout.range_key(range_id, PLACEHOLDER), engine.data)
    return None if value is None else _unpack_placeholder(value)


def clear_placeholder(batch: Batch, engine: Engine, range_id: RangeId) -> None:
    """The replica is initialised, or destroyed: remove the mark."""
    batch.delete(layout.range_key(range_id, PLACEHOLDER), engine.data)


def write_tombstone(batch: Batch, engine: Engine, range_id: RangeId, tombstone: Tombstone) -> None:
    """Replace everything of the range's own state by a tombstone; keyed data is the caller's."""
    for suffix in (DESCRIPTOR, APPLIED, PLACEHOLDER):
        batch.delete(layout.range_key(range_id, suffix), engine.data)
    batch.put(layout.range_key(range_id, TOMBSTONE), _pack(tombstone), engine.data)


def clear_span(batch: Batch, engine: Engine, start: bytes, end: bytes) -> None:
    """Remove everything keyed in `[start, end)`: versions, locks and records."""
    if start < end:
        for prefix in layout.BY_KEY:
            low, high = layout.span(prefix, start, end)
            batch.delete_range(low, high, engine.data)


def read_tombstone(engine: Engine, range_id: RangeId) -> Tombstone | None:
    """Return the tombstone of a destroyed replica of the range, or None."""
    value = engine.get(layout.range_key(range_id, TOMBSTONE), engine.data)
    return None if value is None else _unpack_tombstone(value)


class StoredReplica(msgspec.Struct, frozen=True):
    """A replica found at start: with `state`, or a placeholder without."""

    range_id: RangeId
    state: RangeState | None
    placeholder: ReplicaId | None


def stored_replicas(engine: Engine) -> Iterator[StoredReplica]:
    """Yield every replica of this store, by range ID.

    Raises CorruptionError if one has no applied state: that is written with the descriptor.
    """
    found: dict[RangeId, dict[bytes, bytes]] = {}
    end = bytes([layout.RANGE[0] + 1])
    for key, value in engine.scan(layout.RANGE, end, engine.data):
        range_id = RangeId(int.from_bytes(key[1:9], "big"))
        found.setdefault(range_id, {})[key[9:]] = value
    for range_id, values in found.items():
        placeholder = values.get(PLACEHOLDER)
        replica_id = None if placeholder is None else _unpack_placeholder(placeholder).replica_id
        if (DESCRIPTOR in values) != (APPLIED in values):
            raise errors.CorruptionError(
                reason=f"of r{range_id} only one of descriptor and applied state is stored"
            )
        if DESCRIPTOR in values:
            state = RangeState(
                _unpack_descriptor(values[DESCRIPTOR]), _unpack_applied(values[APPLIED])
            )
            yield StoredReplica(range_id, state, replica_id)
        elif replica_id is not None:
            yield StoredReplica(range_id, None, replica_id)


def configuration(descriptor: RangeDescriptor) -> Configuration:
    """Return the Raft configuration that a descriptor stands for (thesis 4.3)."""

    def of(*kinds: ReplicaKind) -> tuple[ReplicaId, ...]:
        return tuple(sorted(r.replica_id for r in descriptor.replicas if r.kind in kinds))

    voters = of(ReplicaKind.VOTER, ReplicaKind.INCOMING)
    learners = of(ReplicaKind.LEARNER)
    if not descriptor.is_joint:
        return Configuration(voters, (), learners)
    return Configuration(voters, of(ReplicaKind.VOTER, ReplicaKind.OUTGOING), learners)


def voters(descriptor: RangeDescriptor) -> tuple[ReplicaDescriptor, ...]:
    """Return the replicas that vote once any joint configuration is left."""
    kinds = (ReplicaKind.VOTER, ReplicaKind.INCOMING)
    return tuple(r for r in descriptor.replicas if r.kind in kinds)
