"""What a replica knows of itself and of its range, as the admin API shows it."""

from typing import TYPE_CHECKING

import msgspec

from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.raft.status import MemberStatus

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica


class ReplicaStatus(msgspec.Struct, frozen=True):
    """See the module."""

    range_id: int
    node_id: int
    replica_id: int
    role: str
    term: int
    leader: int
    """The node of the leader as far as is known; 0 when it is not."""
    lease_ms: int
    """Milliseconds left of the lease; 0 when this replica does not hold one."""
    commit_index: int
    applied_index: int
    log_first_index: int
    log_last_index: int
    log_bytes: int
    generation: int
    live_keys: int
    live_bytes: int
    versions: int
    gc_threshold: int
    """Reads at or below this time are refused; 0 while nothing was collected."""
    requests_served: int
    """By this leader, in its term."""
    proposals_in_flight: int
    snapshots_sent: int
    snapshots_installed: int
    members: tuple[MemberStatus, ...]
    """What a leader knows of each other member; empty elsewhere."""


def status_of(replica: "Replica") -> ReplicaStatus:
    """Return the status of `replica`."""
    core, stats, leaseholder = replica.core, replica.applied.stats, replica.leaseholder
    ahead = replica.lease.end() - replica.context.hlc.wall()
    return ReplicaStatus(
        range_id=replica.range_id,
        node_id=replica.context.node_id,
        replica_id=replica.replica_id,
        role=core.role.name.lower(),
        term=core.term,
        leader=replica.leader_node or 0,
        lease_ms=max(0, hlc.to_us(Timestamp(ahead)) // 1_000),
        commit_index=core.commit_index,
        applied_index=replica.applied.index,
        log_first_index=replica.log.first_index(),
        log_last_index=replica.log.last_index(),
        log_bytes=replica.log.size_bytes,
        generation=0 if replica.descriptor is None else replica.descriptor.generation,
        live_keys=stats.live_keys,
        live_bytes=stats.live_bytes,
        versions=stats.versions,
        gc_threshold=replica.applied.gc_threshold,
        requests_served=0 if leaseholder is None else leaseholder.requests_served,
        proposals_in_flight=0 if leaseholder is None else len(leaseholder.proposals),
        snapshots_sent=replica.snapshots_sent,
        snapshots_installed=replica.snapshots_installed,
        members=core.status().members,
    )
