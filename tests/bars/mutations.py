"""What a faulty network, or a hostile program, makes of a sound frame.

Mutations of the frame's bytes leave its checksum as it was; those of the payload, and of the values
in it, are given a checksum that fits, so they reach whoever decodes them.
"""

import copy
import math
import random
from collections.abc import Callable
from typing import Any

import msgspec

from multiraft.net import frames
from multiraft.net.transport import FrameKind

LENGTHS = (1 << 31, (1 << 32) - 1, 1 << 25, 33 << 20)
"""Announced by a frame's header, of four bytes, without any of it to come."""
PACKED_LENGTHS = (b"\xc6", b"\xdd", b"\xdf", b"\xdb")
"""How msgpack begins bytes, an array, a map, a text with a length of four bytes."""
_EXTREMES = (0, 1, -1, 127, 255, 1 << 15, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, (1 << 64) - 1)
ABSURD: dict[type, tuple[Any, ...]] = {
    int: (*_EXTREMES, *(-number for number in _EXTREMES[:-1])),
    bytes: (b"", b"\x00", b"\xff" * 20, b"\x10key", bytes(9_000)),
    str: ("", "text", "\x00", "x" * 9_000),
    bool: (True, False),
    type(None): (None, 0, b""),
    float: (0.5, math.nan, math.inf),
    list: ([], [[]], [1, 2, 3], [b"", b""]),
    dict: ({}, {"a": 1}),
}
"""By type: most of what takes a value's place is of its type, or nobody would look at it."""
OTHER_TYPE_CHANCE = 0.15

Mutation = Callable[[FrameKind, bytes, random.Random], bytes]


def flipped_bit(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return the frame with one bit flipped."""
    data = bytearray(frames.encode(kind, payload))
    bit = dice.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    return bytes(data)


def cut_short(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return the beginning of the frame."""
    data = frames.encode(kind, payload)
    return data[: dice.randrange(1, len(data))]


def announced(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return the frame with a length that nobody will send."""
    return dice.choice(LENGTHS).to_bytes(4, "big") + frames.encode(kind, payload)[4:]


def other_kind(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return the payload as a frame of another kind."""
    return frames.encode(dice.choice(list(FrameKind)), payload)


def changed_bytes(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return a frame whose payload has bytes changed, cut out, doubled, or swapped."""
    data = bytearray(payload)
    for _ in range(dice.randint(1, 3)):
        start = dice.randrange(len(data) + 1)
        end = min(len(data), start + dice.randint(1, 12))
        match dice.randrange(4):
            case 0:
                data[start:end] = dice.randbytes(end - start)
            case 1:
                del data[start:end]
            case 2:
                data[start:start] = data[start:end]
            case _:
                data[start:end] = data[start:end][::-1]
    return frames.encode(kind, bytes(data))


def packed_length(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return a frame in which an inner length is enormous."""
    at = dice.randrange(len(payload) + 1)
    length = dice.choice((0x7FFFFFFF, 0xFFFFFFFF, 0x00FFFFFF)).to_bytes(4, "big")
    return frames.encode(kind, payload[:at] + dice.choice(PACKED_LENGTHS) + length + payload[at:])


def nested(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return a frame in which arrays of one lie within each other."""
    at = dice.randrange(len(payload) + 1)
    deep = b"\x91" * dice.choice((10, 1_000, 100_000))
    return frames.encode(kind, payload[:at] + deep + payload[at:])


def absurd_value(kind: FrameKind, payload: bytes, dice: random.Random) -> bytes:
    """Return a frame in which a value is absurd, or two have changed places, or one is doubled."""
    value = msgspec.msgpack.decode(payload)
    for _ in range(dice.randint(1, 2)):
        inner = dice.choice(_arrays(value))
        at = dice.randrange(len(inner))
        match dice.randrange(12):
            case 0:
                other = dice.randrange(len(inner))
                inner[at], inner[other] = inner[other], inner[at]
            case 1:
                inner.insert(at, inner[at])
            case 2:
                del inner[at]
            case _:
                is_other = dice.random() < OTHER_TYPE_CHANCE
                kind_of = dice.choice(list(ABSURD)) if is_other else type(inner[at])
                inner[at] = copy.deepcopy(dice.choice(ABSURD[kind_of]))
        if not _arrays(value):
            break
    return frames.encode(kind, msgspec.msgpack.encode(value))


def _arrays(value: Any) -> list[list[Any]]:  # noqa: ANN401
    """Return all arrays in a decoded payload that hold something."""
    if not isinstance(value, list):
        return []
    found = [value] if value else []
    for each in value:
        found += _arrays(each)
    return found


MUTATIONS: dict[str, tuple[Mutation, int]] = {
    "a bit": (flipped_bit, 5),
    "cut short": (cut_short, 2),
    "length": (announced, 1),
    "other kind": (other_kind, 2),
    "bytes": (changed_bytes, 20),
    "inner length": (packed_length, 3),
    "nesting": (nested, 1),
    "values": (absurd_value, 66),
}
"""By name, with how often of a hundred."""
