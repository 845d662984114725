"""Logical keys: what requests, descriptors and errors speak of.

Format
    One byte names the keyspace, then come the layer's own bytes, any of them, none included. Keys
    compare as bytes. A span is `[start, end)`.

        0x01  meta      the range addressing records, by start key of the range
        0x02  system    node registry, counters, protected times
        0x10  plain     what `Database.put` writes
        0x20 etcd, 0x30 catalog, 0x40 SQL: reserved for the gateways

The first range holds `[MIN, FIRST_RANGE_END)`, that is meta and system, and is never split (rule
L6), so that whoever knows its members can find everything else.
"""

from multiraft.ids import NodeId

META = b"\x01"
SYSTEM = b"\x02"
PLAIN = b"\x10"

MIN = b""
END = b"\xff"
"""Above every legal key; the end of the last range."""

FIRST_RANGE_END = PLAIN
"""Where the first range ends and user data begins."""

RANGE_ID_COUNTER = SYSTEM + b"range-id"
NODE_ID_COUNTER = SYSTEM + b"node-id"
NODE_PREFIX = SYSTEM + b"node/"
PROTECTION_PREFIX = SYSTEM + b"protected/"


def meta_key(start: bytes) -> bytes:
    """Return the key of the addressing record of the range that starts at `start`."""
    return META + start


def node_key(node_id: NodeId) -> bytes:
    """Return the key of a node's entry in the node registry."""
    return NODE_PREFIX + node_id.to_bytes(8, "big")


def protection_key(protection_id: bytes) -> bytes:
    """Return the key of a protected time; see model/protection.py."""
    return PROTECTION_PREFIX + protection_id


def prefix_end(prefix: bytes) -> bytes:
    """Return the first key above every key that starts with `prefix`.

    `END` when there is none below it.
    """
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return END
    return stripped[:-1] + bytes([stripped[-1] + 1])


def next_key(key: bytes) -> bytes:
    """Return the key right after `key`."""
    return key + b"\x00"


def pretty(key: bytes) -> str:
    r"""Return a logical key as people read it in tables and errors: `/plain/a\x00`."""
    if key == MIN:
        return "/min"
    if key >= END:
        return "/max"
    name = {META: "/meta", SYSTEM: "/system", PLAIN: "/plain"}.get(key[:1], f"/0x{key[0]:02x}")
    rest = key[1:]
    if not rest:
        return name
    return f"{name}/{repr(rest)[2:-1]}"
