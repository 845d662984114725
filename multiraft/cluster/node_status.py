"""What a node tells of itself: the statuses of everything that lives as long as it does.

Asked of any node by the request NodeStatus, and shown by `multiraft status`. Fields are only ever
added, since nodes and clients of different versions meet here.
"""

import functools
import importlib.metadata

import msgspec

from multiraft.client.router import RouterStatus
from multiraft.cluster.garbage_queue import GarbageQueueStatus
from multiraft.cluster.replicate_queue import ReplicateQueueStatus
from multiraft.ids import NodeId
from multiraft.net.tcp import TransportStatus
from multiraft.ranges.peers import LinksStatus
from multiraft.ranges.store_status import StoreStatus
from multiraft.storage.rocks import EngineStatus


class NodeStatus(msgspec.Struct, frozen=True):
    """See the module. `engine` and `transport` are None where others stand in for the real ones."""

    node_id: NodeId
    cluster_id: str
    address: str
    version: str
    uptime_s: float
    memory_bytes: int
    """Resident in this process."""
    free_disk_bytes: int
    clock_offset_us_max: int
    """How far clocks may differ; `store.liveness` tells how far they do."""
    engine: EngineStatus | None
    transport: TransportStatus | None
    store: StoreStatus
    links: LinksStatus
    router: RouterStatus
    replication: ReplicateQueueStatus
    garbage: GarbageQueueStatus
    locality: str
    """Where the node is, as its operator has told; empty if nobody has."""


@functools.cache
def version() -> str:
    """Return the version of the package that runs."""
    return importlib.metadata.version("multiraft")
