"""One version of one key, as it is stored.

Format
    The value at `layout.version_key(key, timestamp)`:

        0x01 write-id(16) value            a value
        0x02 write-id(16)                  a tombstone: the key was removed
        0x03 write-id(16)                  an outcome: the write `write-id` changed nothing

    With 0x80 added to the first byte, a stored result follows the write ID: length(4, big-endian),
    then that many bytes. That is room in the format: what a write came to is evaluated again when
    it is asked for, and no writer stores it (docs/decisions/0003).

    The timestamp is in the key only, so it cannot disagree with itself.
Invariants
    - Readers of data never see an outcome; only the search for a write does (rule S7).
    - A write ID has 16 bytes and is the same in all versions that one write made.
"""

from typing import Final

import msgspec

from multiraft import errors
from multiraft.ids import Timestamp

VALUE: Final = 1
TOMBSTONE: Final = 2
OUTCOME: Final = 3

ID_BYTES: Final = 16
HEADER_BYTES: Final = 1 + ID_BYTES
KIND_MASK: Final = 0x7F
"""Takes the mark "has a stored result" off the first byte."""

_HAS_RESULT = 0x80
_LENGTH_BYTES = 4
_BODY_AFTER_LENGTH = HEADER_BYTES + _LENGTH_BYTES
_FIRST_BYTE = {kind: bytes([kind]) for kind in (VALUE, TOMBSTONE, OUTCOME)}
_FIRST_BYTE_WITH_RESULT = {kind: bytes([kind | _HAS_RESULT]) for kind in _FIRST_BYTE}


class Version(msgspec.Struct, frozen=True, gc=False):
    """A version of some key. `result` is empty, and so is `value` unless `kind` is VALUE."""

    timestamp: Timestamp
    kind: int
    id: bytes
    result: bytes = b""
    value: bytes = b""


def encode(version: Version) -> bytes:
    """Return what is stored for `version`."""
    if not version.result:
        return _FIRST_BYTE[version.kind] + version.id + version.value
    length = len(version.result).to_bytes(_LENGTH_BYTES, "big")
    return b"".join(
        (_FIRST_BYTE_WITH_RESULT[version.kind], version.id, length, version.result, version.value)
    )


def decode(timestamp: Timestamp, stored: bytes) -> Version:
    """Return the version kept as `stored` at `timestamp`."""
    kind = stored[0]
    if kind == VALUE:
        return Version(timestamp, VALUE, stored[1:HEADER_BYTES], b"", stored[HEADER_BYTES:])
    if kind & KIND_MASK not in _FIRST_BYTE:
        raise errors.CorruptionError(reason=f"a version of unknown kind 0x{kind:02x}")
    id_ = stored[1:HEADER_BYTES]
    if kind < _HAS_RESULT:
        return Version(timestamp, kind, id_, b"", stored[HEADER_BYTES:])
    body = _BODY_AFTER_LENGTH + int.from_bytes(stored[HEADER_BYTES:_BODY_AFTER_LENGTH], "big")
    return Version(timestamp, kind & KIND_MASK, id_, stored[_BODY_AFTER_LENGTH:body], stored[body:])
