"""Physical keys of the `data` family, and the escape that keeps logical keys in order.

Format
    The first byte says what a key addresses:

        0x00 name                         the store itself: identity, liveness, watermark
        0x01 range-id(8) suffix(1)        a range's own state here; see ranges/state.py
        0x02 escaped-key txn-id(16)       transaction records, at their anchor
        0x03 escaped-key                  locks
        0x04 escaped-key inverted-ts(8)   versions, newest first

    Escaped key: every 0x00 becomes 0x00 0xff, then 0x00 0x01 ends it. So keys keep their order,
    none is a prefix of another, and any bytes are legal. Inverted timestamp: 2^64-1 minus it,
    big-endian.

    What is addressed by key (0x02 to 0x04) lies inside the span of its range, three physical spans
    per logical one; so a split moves nothing.
"""

from multiraft.ids import RangeId, Timestamp

STORE = b"\x00"
RANGE = b"\x01"
RECORD = b"\x02"
LOCK = b"\x03"
VERSION = b"\x04"

BY_KEY = (RECORD, LOCK, VERSION)
"""The prefixes of everything that belongs to a span of keys."""

_TERMINATOR = b"\x00\x01"
TIMESTAMP_BYTES = 8
_INVERT = (1 << 64) - 1


def escape(key: bytes) -> bytes:
    """Return the order-preserving, prefix-free form of a logical key."""
    return key.replace(b"\x00", b"\x00\xff") + _TERMINATOR


def unescape(escaped: bytes) -> bytes:
    """Return the logical key of an escaped one."""
    return escaped[: -len(_TERMINATOR)].replace(b"\x00\xff", b"\x00")


def version_key(key: bytes, timestamp: Timestamp) -> bytes:
    """Return where the version of `key` at `timestamp` is kept."""
    return version_of(version_prefix(key), timestamp)


def version_of(prefix: bytes, timestamp: Timestamp) -> bytes:
    """Return what `version_key` does, for the key with that `version_prefix`."""
    return prefix + (_INVERT - timestamp).to_bytes(TIMESTAMP_BYTES, "big")


def version_prefix(key: bytes) -> bytes:
    """Return what all versions of `key`, and no other keys, start with."""
    return b"\x04%b\x00\x01" % key.replace(b"\x00", b"\x00\xff")


def split_version_key(physical: bytes) -> tuple[bytes, Timestamp]:
    """Return the logical key and the timestamp of a version."""
    timestamp = Timestamp(_INVERT - int.from_bytes(physical[-TIMESTAMP_BYTES:], "big"))
    return unescape(physical[1:-TIMESTAMP_BYTES]), timestamp


def lock_key(key: bytes) -> bytes:
    """Return where the lock on `key` is kept."""
    return LOCK + escape(key)


def record_key(anchor: bytes, transaction_id: bytes) -> bytes:
    """Return where the record of a transaction anchored at `anchor` is kept."""
    return RECORD + escape(anchor) + transaction_id


def span(prefix: bytes, start: bytes, end: bytes) -> tuple[bytes, bytes]:
    """Return the physical span, under one prefix of BY_KEY, of the logical span [start, end)."""
    return prefix + _bound(start), prefix + _bound(end)


def _bound(key: bytes) -> bytes:
    # Without the terminator: below every escaped key that is >= `key`, above all others.
    return key.replace(b"\x00", b"\x00\xff")


def range_key(range_id: RangeId, suffix: bytes) -> bytes:
    """Return where a range's own state named by the one-byte `suffix` is kept."""
    return RANGE + range_id.to_bytes(8, "big") + suffix
