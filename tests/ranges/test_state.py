"""What a replica keeps of itself on the engine, and how it is found again."""

import msgspec
import pytest

from multiraft import errors
from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor, ReplicaKind
from multiraft.mvcc.statistics import RangeStats
from multiraft.raft.messages import Configuration
from multiraft.ranges import state
from multiraft.ranges.state import AppliedState, Placeholder, RangeState, StoredReplica, Tombstone
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine

RANGE_ID = RangeId(7)
APPLIED = AppliedState(
    Index(300), Term(6), RangeStats(1, 2, 3, 4, 5), Timestamp(9_000), Timestamp(12), 4
)


def descriptor(*kinds: ReplicaKind, range_id: RangeId = RANGE_ID) -> RangeDescriptor:
    replicas = tuple(
        ReplicaDescriptor(NodeId(number), ReplicaId(number + 10), kind)
        for number, kind in enumerate(kinds, 1)
    )
    return RangeDescriptor(range_id, b"a", b"m", 4, replicas, ReplicaId(20))


THREE = descriptor(ReplicaKind.VOTER, ReplicaKind.VOTER, ReplicaKind.VOTER)


def write(engine: MemoryEngine, given: RangeDescriptor, applied: AppliedState) -> None:
    batch = engine.new_batch()
    state.write_descriptor(batch, engine, given)
    state.write_applied(batch, engine, state.applied_key(given.range_id), applied)
    engine.write(batch)


def test_an_initialised_replica_is_found_as_it_was_written() -> None:
    engine = MemoryEngine()
    write(engine, THREE, APPLIED)
    assert list(state.stored_replicas(engine)) == [
        StoredReplica(RANGE_ID, RangeState(THREE, APPLIED), None)
    ]


@pytest.mark.parametrize("lost", [state.DESCRIPTOR, state.APPLIED])
def test_half_a_replica_is_corruption(lost: bytes) -> None:
    engine = MemoryEngine()
    write(engine, THREE, APPLIED)
    batch = engine.new_batch()
    batch.delete(layout.range_key(RANGE_ID, lost), engine.data)
    engine.write(batch)
    with pytest.raises(errors.CorruptionError, match="only one of descriptor and applied state"):
        list(state.stored_replicas(engine))


def test_a_placeholder_is_found_until_it_is_cleared() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    placeholder = Placeholder(ReplicaId(13), b"m")
    state.write_placeholder(batch, engine, RANGE_ID, placeholder)
    engine.write(batch)
    assert list(state.stored_replicas(engine)) == [StoredReplica(RANGE_ID, None, ReplicaId(13))]
    assert state.read_placeholder(engine, RANGE_ID) == placeholder
    batch = engine.new_batch()
    state.clear_placeholder(batch, engine, RANGE_ID)
    engine.write(batch)
    assert list(state.stored_replicas(engine)) == []
    assert state.read_placeholder(engine, RANGE_ID) is None


def test_replicas_are_found_by_range_id_also_beyond_one_byte() -> None:
    engine = MemoryEngine()
    ids = [RangeId(n) for n in (1, 255, 256, 70_000, 1 << 40)]
    for range_id in reversed(ids):
        write(engine, descriptor(ReplicaKind.VOTER, range_id=range_id), APPLIED)
    assert [found.range_id for found in state.stored_replicas(engine)] == ids


def test_a_tombstone_replaces_all_other_state_of_the_range_and_is_no_replica() -> None:
    engine = MemoryEngine()
    write(engine, THREE, APPLIED)
    batch = engine.new_batch()
    state.write_placeholder(batch, engine, RANGE_ID, Placeholder(ReplicaId(13)))
    tombstone = Tombstone(ReplicaId(14), THREE)
    state.write_tombstone(batch, engine, RANGE_ID, tombstone)
    engine.write(batch)
    assert state.read_tombstone(engine, RANGE_ID) == tombstone
    assert list(state.stored_replicas(engine)) == []
    assert state.read_tombstone(engine, RangeId(8)) is None


def test_a_replica_with_a_tombstone_of_an_earlier_one_is_found() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    state.write_tombstone(batch, engine, RANGE_ID, Tombstone(ReplicaId(5)))
    engine.write(batch)
    write(engine, THREE, APPLIED)
    assert [found.state for found in state.stored_replicas(engine)] == [RangeState(THREE, APPLIED)]


def test_clearing_a_span_removes_versions_locks_and_records_in_it_and_nothing_else() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()

    def of(key: bytes) -> list[bytes]:
        return [
            layout.version_key(key, Timestamp(5)),
            layout.lock_key(key),
            layout.record_key(key, bytes(16)),
        ]

    inside, outside = (b"a", b"a\x00", b"l\xff\xff"), (b"", b"Z", b"m", b"m\x00")
    for key in (*inside, *outside):
        for physical in of(key):
            batch.put(physical, b"v", engine.data)
    engine.write(batch)
    batch = engine.new_batch()
    state.clear_span(batch, engine, b"a", b"m")
    state.clear_span(batch, engine, b"z", b"z")
    engine.write(batch)
    left = {key for key, _ in engine.scan(b"", b"\xff", engine.data)}
    assert left == {physical for key in outside for physical in of(key)}


def test_the_configuration_of_plain_voters_and_learners() -> None:
    given = descriptor(ReplicaKind.VOTER, ReplicaKind.LEARNER, ReplicaKind.VOTER)
    expected = Configuration((ReplicaId(11), ReplicaId(13)), (), (ReplicaId(12),))
    assert state.configuration(given) == expected


def test_a_joint_configuration_has_incoming_and_outgoing_voters_in_their_halves() -> None:
    given = descriptor(
        ReplicaKind.VOTER, ReplicaKind.OUTGOING, ReplicaKind.INCOMING, ReplicaKind.LEARNER
    )
    voters, outgoing = (ReplicaId(11), ReplicaId(13)), (ReplicaId(11), ReplicaId(12))
    assert state.configuration(given) == Configuration(voters, outgoing, (ReplicaId(14),))
    assert [r.replica_id for r in state.voters(given)] == [11, 13]


def test_configurations_are_sorted_whatever_the_order_of_the_replicas() -> None:
    shuffled = msgspec.structs.replace(THREE, replicas=THREE.replicas[::-1])
    assert state.configuration(shuffled) == state.configuration(THREE)


def test_state_on_disk_has_the_documented_bytes() -> None:
    """Golden bytes: fields are only ever appended."""
    engine = MemoryEngine()
    write(engine, THREE, APPLIED)
    key = b"\x01" + (7).to_bytes(8, "big")
    stored = dict(engine.scan(b"", b"\xff", engine.data))
    assert sorted(stored) == [key + b"a", key + b"d"]
    assert msgspec.msgpack.decode(stored[key + b"a"]) == [300, 6, [1, 2, 3, 4, 5], 9_000, 12, 4]
    assert msgspec.msgpack.decode(stored[key + b"d"]) == [
        7,
        b"a",
        b"m",
        4,
        [[1, 11, 1], [2, 12, 1], [3, 13, 1]],
        20,
    ]
    old = msgspec.msgpack.encode([300, 6, [1, 2, 3, 4, 5], 9_000])
    batch = engine.new_batch()
    batch.put(key + b"a", old, engine.data)
    engine.write(batch)
    (found,) = state.stored_replicas(engine)
    assert found.state is not None
    assert found.state.applied.meta_generation == 0, "what was appended later has its default"
