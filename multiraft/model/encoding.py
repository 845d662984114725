"""Packed forms that several packages share: descriptors, frames of requests, counters.

One encoder and one decoder per type for the whole process; msgspec's are reusable and stateless.
"""

import msgspec

from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import ReplyFrame, RequestFrame

_encoder = msgspec.msgpack.Encoder()
pack = _encoder.encode
"""Pack any wire struct."""

unpack_descriptor = msgspec.msgpack.Decoder(RangeDescriptor).decode
unpack_request_frame = msgspec.msgpack.Decoder(RequestFrame).decode
unpack_reply_frame = msgspec.msgpack.Decoder(ReplyFrame).decode

COUNTER_BYTES = 8
COUNTER_MIN = -(1 << 63)
COUNTER_MAX = (1 << 63) - 1


def pack_counter(number: int) -> bytes:
    """Return the stored form of a counter: eight bytes, big-endian, signed."""
    return number.to_bytes(COUNTER_BYTES, "big", signed=True)


def unpack_counter(value: bytes) -> int | None:
    """Return the counter stored as `value`, or None if it is not one."""
    if len(value) != COUNTER_BYTES:
        return None
    return int.from_bytes(value, "big", signed=True)
