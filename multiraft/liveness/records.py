"""What a store must not forget about support, and where it is kept.

Format
    In the `data` family, msgpack arrays, fields only ever appended:

        0x00 "liveness/asked"                Asked
        0x00 "liveness/granted/" node(8)     Granted, to that node; big-endian
"""

from typing import NamedTuple

import msgspec

from multiraft.ids import NO_EPOCH, Epoch, NodeId, Timestamp
from multiraft.model import hlc, keys
from multiraft.storage import layout
from multiraft.storage.engine import Batch, Engine, Family

ASKED_KEY = layout.STORE + b"liveness/asked"
GRANTED_PREFIX = layout.STORE + b"liveness/granted/"


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """As asker: the latest time asked for from anybody, and the epoch used with each store."""

    until: Timestamp = hlc.ZERO
    epochs: tuple[tuple[NodeId, Epoch], ...] = ()


class Granted(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """As supporter, to one store: supported at `epoch` until `until`; 0 for "not supported".

    `ended_at` is the HLC when an epoch with support last ended. It stays when support is given
    again: the clock of this store must never again show less (rule S3).
    """

    epoch: Epoch = NO_EPOCH
    until: Timestamp = hlc.ZERO
    ended_at: Timestamp = hlc.ZERO


class Stored(NamedTuple):
    """Everything that was found at start."""

    asked: Asked
    granted: tuple[tuple[NodeId, Granted], ...]

    @property
    def clock_floor(self) -> Timestamp:
        """The time that the wall clock must have passed before this store may speak (rule S3)."""
        return max((self.asked.until, *(grant.ended_at for _, grant in self.granted)))


NOTHING = Stored(Asked(), ())

_encode = msgspec.msgpack.encode
_decode_asked = msgspec.msgpack.Decoder(Asked).decode
_decode_granted = msgspec.msgpack.Decoder(Granted).decode


def load(engine: Engine) -> Stored:
    """Return what the engine holds; NOTHING for a fresh store."""
    asked = engine.get(ASKED_KEY, engine.data)
    rows = engine.scan(GRANTED_PREFIX, keys.prefix_end(GRANTED_PREFIX), engine.data)
    granted = tuple(
        (NodeId(int.from_bytes(key[len(GRANTED_PREFIX) :], "big")), _decode_granted(value))
        for key, value in rows
    )
    return Stored(Asked() if asked is None else _decode_asked(asked), granted)


def put_asked(batch: Batch, family: Family, asked: Asked) -> None:
    """Add the record to `batch`."""
    batch.put(ASKED_KEY, _encode(asked), family)


def put_granted(batch: Batch, family: Family, node: NodeId, granted: Granted) -> None:
    """Add the record of what `node` was granted to `batch`."""
    batch.put(GRANTED_PREFIX + node.to_bytes(8, "big"), _encode(granted), family)
