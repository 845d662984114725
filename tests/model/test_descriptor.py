import pytest

from multiraft.ids import NodeId, RangeId, ReplicaId
from multiraft.model import encoding
from multiraft.model.descriptor import (
    RangeDescriptor,
    ReplicaDescriptor,
    ReplicaKind,
    initial_descriptor,
)

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)


def descriptor(*replicas: ReplicaDescriptor) -> RangeDescriptor:
    return RangeDescriptor(RangeId(7), b"c", b"m", 4, replicas, ReplicaId(9))


def replica(node: int, replica_id: int, kind: ReplicaKind = ReplicaKind.VOTER) -> ReplicaDescriptor:
    return ReplicaDescriptor(NodeId(node), ReplicaId(replica_id), kind)


@pytest.mark.parametrize(
    ("key", "inside"),
    [(b"", False), (b"b\xff", False), (b"c", True), (b"l\xff", True), (b"m", False)],
)
def test_a_range_holds_its_start_and_not_its_end(key: bytes, inside: bool) -> None:
    assert descriptor().contains(key) is inside


@pytest.mark.parametrize(
    ("start", "end", "covers", "overlaps"),
    [
        (b"c", b"m", True, True),
        (b"d", b"e", True, True),
        (b"b", b"m", False, True),
        (b"c", b"m\x00", False, True),
        (b"a", b"z", False, True),
        (b"a", b"c", False, False),
        (b"m", b"z", False, False),
        (b"a", b"c\x00", False, True),
    ],
)
def test_spans_are_covered_whole_or_overlap_in_a_key(
    start: bytes, end: bytes, covers: bool, overlaps: bool
) -> None:
    assert descriptor().covers(start, end) is covers
    assert descriptor().overlaps(start, end) is overlaps


def test_replicas_are_found_by_node_and_by_their_own_id() -> None:
    found = descriptor(replica(1, 5), replica(2, 8))
    assert found.replica_on(N2) == found.replica(ReplicaId(8)) == replica(2, 8)
    assert found.replica_on(N3) is None
    assert found.replica(ReplicaId(2)) is None, "node 2 is no replica ID"


@pytest.mark.parametrize(
    ("kind", "is_joint"),
    [
        (ReplicaKind.VOTER, False),
        (ReplicaKind.LEARNER, False),
        (ReplicaKind.INCOMING, True),
        (ReplicaKind.OUTGOING, True),
    ],
)
def test_who_votes_in_one_half_only_makes_it_joint(kind: ReplicaKind, is_joint: bool) -> None:
    assert descriptor(replica(1, 1), replica(2, 2, kind)).is_joint is is_joint


def test_a_range_begins_with_a_voter_on_each_node_and_ids_that_are_free() -> None:
    assert initial_descriptor(RangeId(2), b"a", b"b", (N2, N3, N1)) == RangeDescriptor(
        RangeId(2), b"a", b"b", 1, (replica(2, 1), replica(3, 2), replica(1, 3)), ReplicaId(4)
    )


def test_the_bytes_of_a_descriptor() -> None:
    packed = encoding.pack(descriptor(replica(1, 5), replica(2, 8, ReplicaKind.LEARNER)))
    assert packed.hex(" ") == "96 07 c4 01 63 c4 01 6d 04 92 93 01 05 01 93 02 08 02 09"
    assert encoding.unpack_descriptor(packed).replicas[1].kind is ReplicaKind.LEARNER
