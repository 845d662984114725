"""What is decoded as a number of some kind is one."""

import msgspec
import pytest

from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term, Timestamp

COUNTED = (NodeId, RangeId, ReplicaId, Term, Index, Epoch)


def decode(kind: object, number: int) -> object:
    return msgspec.msgpack.decode(msgspec.msgpack.encode(number), type=kind)


@pytest.mark.parametrize("kind", [*COUNTED, Timestamp])
def test_a_negative_number_is_none(kind: object) -> None:
    assert decode(kind, 0) == 0
    with pytest.raises(msgspec.ValidationError):
        decode(kind, -1)


@pytest.mark.parametrize("kind", COUNTED)
def test_what_is_counted_up_has_room_for_one_more(kind: object) -> None:
    largest = (1 << 63) - 2
    assert decode(kind, largest) == largest
    for number in (largest + 1, (1 << 64) - 1):
        with pytest.raises(msgspec.ValidationError):
            decode(kind, number)


def test_a_timestamp_has_64_bits() -> None:
    assert decode(Timestamp, (1 << 64) - 1) == (1 << 64) - 1
