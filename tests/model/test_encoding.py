import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import NodeId, RangeId
from multiraft.model import encoding
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Get,
    Put,
    PutResult,
    ReplyFrame,
    RequestFrame,
)


def test_what_is_packed_is_unpacked_to_the_same() -> None:
    descriptor = initial_descriptor(RangeId(3), b"a", b"b", (NodeId(1),))
    assert encoding.unpack_descriptor(encoding.pack(descriptor)) == descriptor
    asked = RequestFrame(((1, BatchRequest(RangeId(3), (Get(b"a"), Put(b"b", b"c")))),))
    assert encoding.unpack_request_frame(encoding.pack(asked)) == asked
    told = ReplyFrame(((1, BatchReply((PutResult(),))),))
    assert encoding.unpack_reply_frame(encoding.pack(told)) == told


def test_fields_of_a_later_version_are_passed_over() -> None:
    later = msgspec.msgpack.encode([3, b"a", b"b", 1, [[1, 1, 1, "new"]], 2, "new"])
    assert encoding.unpack_descriptor(later).replicas[0].node_id == 1


def test_fields_that_an_earlier_version_did_not_send_get_their_defaults() -> None:
    earlier = msgspec.msgpack.encode([[[1, [3, [[1, b"a"]]]]]])
    [(call_id, request)] = encoding.unpack_request_frame(earlier).calls
    assert (call_id, request) == (1, BatchRequest(RangeId(3), (Get(b"a"),)))
    assert (request.attempt, request.id) == (1, b"")


@pytest.mark.parametrize("packed", [b"", b"\xc1", b"\x90", encoding.pack(Get(b"a"))[:-1]])
def test_what_is_no_struct_is_refused(packed: bytes) -> None:
    for unpack in (
        encoding.unpack_descriptor,
        encoding.unpack_request_frame,
        encoding.unpack_reply_frame,
    ):
        with pytest.raises(msgspec.MsgspecError):
            unpack(packed)


@pytest.mark.parametrize(
    ("number", "stored"),
    [
        (0, "0000000000000000"),
        (1, "0000000000000001"),
        (-1, "ffffffffffffffff"),
        (encoding.COUNTER_MAX, "7fffffffffffffff"),
        (encoding.COUNTER_MIN, "8000000000000000"),
    ],
)
def test_the_bytes_of_a_counter(number: int, stored: str) -> None:
    assert encoding.pack_counter(number).hex() == stored


@given(st.integers(encoding.COUNTER_MIN, encoding.COUNTER_MAX))
def test_every_counter_survives(number: int) -> None:
    assert encoding.unpack_counter(encoding.pack_counter(number)) == number


@pytest.mark.parametrize("value", [b"", b"1", bytes(7), bytes(9)])
def test_a_value_of_another_length_is_no_counter(value: bytes) -> None:
    assert encoding.unpack_counter(value) is None


@pytest.mark.parametrize("number", [encoding.COUNTER_MAX + 1, encoding.COUNTER_MIN - 1])
def test_a_number_outside_64_signed_bits_is_our_mistake(number: int) -> None:
    with pytest.raises(OverflowError):
        encoding.pack_counter(number)
