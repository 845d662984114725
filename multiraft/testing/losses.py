"""Which nodes a cluster can be without: those that leave a majority of every group.

Purpose
    A cluster that recovers when everybody is back may still owe its progress to somebody whom it
    must be able to do without. So when the faults are over some nodes stay away for a while.
"""

import random

from multiraft.ids import Index, RangeId
from multiraft.raft.messages import EntryKind
from multiraft.ranges.replica import Replica
from multiraft.sim.cluster import Cluster

_BYTES_MAX = 1 << 20


def draw(cluster: Cluster, rng: random.Random) -> list[int]:
    """Return nodes that may die now, all at once, and every group can go on. Often there is one."""
    lost: list[int] = []
    numbers = [member.number for member in cluster.running()]
    for number in rng.sample(numbers, len(numbers)):
        alive = [n for n in numbers if n not in (*lost, number)]
        if all(_can_go_on(cluster, range_id, alive) for range_id in cluster.range_ids()):
            lost.append(number)
    return lost


def _can_go_on(cluster: Cluster, range_id: RangeId, alive: list[int]) -> bool:
    """Whether a majority lives in every configuration that a replica of the range may be in.

    A replica with a change in its log that it has not applied may soon be in one that is not known
    here: then nobody who has a replica may go.
    """
    replicas = cluster.replicas(range_id)
    if any(_is_about_to_change(replica) for replica in replicas):
        return all(replica.context.node_id in alive for replica in replicas)
    return all(_has_majority(replica, alive) for replica in replicas)


def _is_about_to_change(replica: Replica) -> bool:
    core = replica.core
    low = max(core.applied_index + 1, core.first_index)
    while low <= core.last_index:
        entries, _ = core.log.slice(Index(low), Index(core.last_index + 1), _BYTES_MAX)
        if any(entry.kind is EntryKind.CONFIGURATION for entry in entries):
            return True
        low += len(entries)
    return False


def _has_majority(replica: Replica, alive: list[int]) -> bool:
    configuration = replica.core.configuration
    for voters in (configuration.voters, configuration.outgoing):
        living = sum(replica.node_of(voter) in alive for voter in voters)
        if voters and living <= len(voters) // 2:
            return False
    return True
