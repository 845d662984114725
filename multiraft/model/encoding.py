"""Packed forms that several packages share: descriptors, frames of requests, counters.

One encoder and one decoder per type for the whole process; msgspec's are reusable and stateless.
"""

import msgspec

from multiraft import errors
from multiraft.model import keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import ReplyFrame, RequestFrame

_encoder = msgspec.msgpack.Encoder()
pack = _encoder.encode
"""Pack any wire struct."""

unpack_descriptor = msgspec.msgpack.Decoder(RangeDescriptor).decode
unpack_request_frame = msgspec.msgpack.Decoder(RequestFrame).decode
unpack_reply_frame = msgspec.msgpack.Decoder(ReplyFrame).decode

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoders raise for bytes that are none of their type, hold text that is not UTF-8, or nest
too deeply."""


class _Calls(msgspec.Struct, array_like=True):
    """A request frame, its requests as they came."""

    calls: tuple[tuple[int, msgspec.Raw], ...]


_unpack_calls = msgspec.msgpack.Decoder(_Calls).decode


def unpack_call_ids(payload: bytes) -> list[int]:
    """Return the call IDs of a request frame whose requests nobody wants to know.

    Raises UNREADABLE; what is wrong with a request itself is not seen.
    """
    return [call_id for call_id, _ in _unpack_calls(payload).calls]


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


def add_to_counter(key: bytes, value: bytes | None, delta: int) -> int:
    """Return the sum of what `key` holds (None: 0) and `delta`. Raises NotAnIntegerError."""
    number = 0 if value is None else unpack_counter(value)
    if number is None:
        raise errors.NotAnIntegerError(
            key=keys.pretty(key), reason="the value is not an eight-byte counter"
        )
    number += delta
    if not COUNTER_MIN <= number <= COUNTER_MAX:
        raise errors.NotAnIntegerError(
            key=keys.pretty(key), reason=f"{number} does not fit into 64 signed bits"
        )
    return number
