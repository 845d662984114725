"""Who a store is: made with its directory, and never again (safety rule A7).

Purpose
    A store that came back empty under its old identity would vote twice. So the identity lives
    where the votes live: whoever loses the one loses the other.
Format
    In `data`, at 0x00 "identity": a msgpack array [cluster_id, node_id]. Fields are only appended.
"""

import msgspec

from multiraft import errors
from multiraft.ids import NodeId
from multiraft.storage import layout
from multiraft.storage.engine import Batch, Engine

KEY = layout.STORE + b"identity"


class Identity(msgspec.Struct, frozen=True, array_like=True):
    """Which node of which cluster this store is."""

    cluster_id: str
    node_id: NodeId


_DECODER = msgspec.msgpack.Decoder(Identity)


def load(engine: Engine) -> Identity | None:
    """Return the identity of the store, or None for one that has none yet."""
    packed = engine.get(KEY, engine.data)
    if packed is None:
        return None
    try:
        return _DECODER.decode(packed)
    except msgspec.MsgspecError as error:
        raise errors.CorruptionError(
            reason=f"the store's identity is unreadable: {error}"
        ) from error


def create(engine: Engine, batch: Batch, identity: Identity) -> None:
    """Put the identity of a new store into `batch`.

    It must be synced before the store says or promises anything under that name.
    """
    assert engine.get(KEY, engine.data) is None, "a store's identity never changes"
    batch.put(KEY, msgspec.msgpack.encode(identity), engine.data)
