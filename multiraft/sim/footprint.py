"""How much a simulated cluster holds, in counts that are the same in every run of a seed.

Purpose
    What grows from round to round of a long run, while clients do the same in each, is a leak. A
    size in bytes would depend on the machine; the number of what is held does not.
Invariants
    - Of what each node has, the count is that of the node that has most.
"""

import asyncio
from collections.abc import Callable

from multiraft.model import keys
from multiraft.ranges.replica import Replica
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.storage import layout

Count = Callable[[Member], int]


def _of_replicas(count: Callable[[Replica], int]) -> Count:
    return lambda member: sum(count(each) for each in member.up.store.replicas.values())


def _rows(prefix: bytes) -> Count:
    low, high = layout.span(prefix, keys.MIN, keys.END)
    return lambda member: sum(1 for _ in member.engine.scan(low, high, member.engine.data))


def _reads_remembered(replica: Replica) -> int:
    if replica.leaseholder is None:
        return 0
    cache = replica.leaseholder.cache.status()
    return cache.points + cache.span_pieces


def _writes_remembered(replica: Replica) -> int:
    return 0 if replica.leaseholder is None else replica.leaseholder.recent.status().writes


def _locks_in_table(replica: Replica) -> int:
    return 0 if replica.leaseholder is None else replica.leaseholder.locks.locks


BY_NODE: dict[str, Count] = {
    "replicas": lambda member: len(member.up.store.replicas),
    "log_entries": _of_replicas(lambda each: each.log.last_index() - each.log.first_index() + 1),
    "log_bytes": _of_replicas(lambda each: each.log.size_bytes),
    "versions": _rows(layout.VERSION),
    "locks": _rows(layout.LOCK),
    "records": _rows(layout.RECORD),
    "lock_table": _of_replicas(_locks_in_table),
    "timestamp_cache": _of_replicas(_reads_remembered),
    "recent_writes": _of_replicas(_writes_remembered),
    "newest_versions": lambda member: len(member.up.store.context.newest.entries),
    "unsynced": lambda member: member.engine.unsynced_count,
    "views": lambda member: member.engine.views,
}
NAMES = (*BY_NODE, "tasks", "connections", "watched")


def of(cluster: Cluster) -> dict[str, int]:
    """Return all counts, by name; to be called on the cluster's loop."""
    members = cluster.running()
    counts = {name: max(map(count, members)) for name, count in BY_NODE.items()}
    counts["tasks"] = len(asyncio.all_tasks())
    counts["connections"] = cluster.network.connections
    counts["watched"] = cluster.invariants.remembered
    return counts
