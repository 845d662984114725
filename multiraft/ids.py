"""Numbers that must not be mixed up, each with a type of its own.

A node has exactly one store, so `NodeId` names both. A `ReplicaId` is unique within its range for
ever: a store that is removed from a range and added again gets a higher one.
"""

from datetime import UTC, datetime
from typing import NewType

NodeId = NewType("NodeId", int)
RangeId = NewType("RangeId", int)
ReplicaId = NewType("ReplicaId", int)
Term = NewType("Term", int)
Index = NewType("Index", int)

# Unsigned 64-bit hybrid logical time: 52 bits of microseconds, 12 bits logical; see model/hlc.py.
Timestamp = NewType("Timestamp", int)
LOGICAL_BITS = 12

# Of one pair (asker, supporter) of stores; see liveness/support.py. 0 means "no support".
Epoch = NewType("Epoch", int)

# Raft writes "nobody" and "nothing" as zero; so do we, on disk and on the wire.
NO_NODE = NodeId(0)
NO_REPLICA = ReplicaId(0)
NO_EPOCH = Epoch(0)


def show_time(timestamp: int) -> str:
    """Return a timestamp as people read it: UTC, to the microsecond."""
    moment = datetime.fromtimestamp((timestamp >> LOGICAL_BITS) / 1e6, UTC)
    return moment.isoformat(sep=" ", timespec="microseconds").removesuffix("+00:00") + "Z"
