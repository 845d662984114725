"""Numbers that must not be mixed up, each with a type of its own.

A node has exactly one store, so `NodeId` names both. A `ReplicaId` is unique within its range for
ever: a store that is removed from a range and added again gets a higher one.

What a message or a record says is a number of its type is checked where it is decoded: none is
negative, and those that are counted up leave room for it.
"""

from datetime import UTC, datetime
from typing import Annotated, NewType

from msgspec import Meta

_Counted = Annotated[int, Meta(ge=0, lt=(1 << 63) - 1)]

NodeId = NewType("NodeId", _Counted)
RangeId = NewType("RangeId", _Counted)
ReplicaId = NewType("ReplicaId", _Counted)
Term = NewType("Term", _Counted)
Index = NewType("Index", _Counted)

Timestamp = NewType("Timestamp", Annotated[int, Meta(ge=0)])
"""Unsigned 64-bit hybrid logical time: 52 bits of microseconds, 12 bits logical (model/hlc.py)."""
LOGICAL_BITS = 12

Epoch = NewType("Epoch", _Counted)
"""Of one pair (asker, supporter) of stores; see liveness/support.py. 0 means "no support"."""

# Raft writes "nobody" and "nothing" as zero; so do we, on disk and on the wire.
NO_NODE = NodeId(0)
NO_REPLICA = ReplicaId(0)
NO_EPOCH = Epoch(0)


def show_time(timestamp: int) -> str:
    """Return a timestamp as people read it: UTC, to the microsecond."""
    moment = datetime.fromtimestamp((timestamp >> LOGICAL_BITS) / 1e6, UTC)
    return moment.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00") + "Z"
