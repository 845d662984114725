"""What a store tells of itself: counters since its start, and what it waits for now."""

from typing import TYPE_CHECKING

import msgspec

from multiraft.ids import NodeId, Timestamp
from multiraft.liveness.heartbeats import LivenessStatus
from multiraft.ranges.elections import ElectionsStatus
from multiraft.ranges.held import HeldStatus
from multiraft.ranges.inbox import InboxStatus
from multiraft.ranges.pushes import PushesStatus
from multiraft.ranges.resolver import ResolverStatus
from multiraft.ranges.snapshot import SnapshotSenderStatus

if TYPE_CHECKING:
    from multiraft.ranges.store import Store


class StoreStatus(msgspec.Struct, frozen=True):
    """See the module; the whole is a part of a node's status (cluster/node_status.py)."""

    node_id: NodeId
    takes_part: bool
    """False until the clock allows it after a start (rule S3)."""
    failed: bool
    clock: Timestamp
    """The HLC; support that `liveness` tells of is over when it has passed its end."""
    replicas: int
    leaders: int
    """Of those replicas, the ones that serve requests as leaders."""
    ticking: int
    """... and those that wait for something, so that a timer runs for them."""
    requests: int
    turns: int
    syncs: int
    inflight_bytes: int
    """Proposed here and not applied yet."""
    write_refusal: str
    """Why client writes are refused; empty when they are not."""
    receiving: int
    """Snapshots on their way in."""
    snapshots: SnapshotSenderStatus
    held: HeldStatus
    inbox: InboxStatus
    elections: ElectionsStatus
    liveness: LivenessStatus
    pushes: PushesStatus
    resolver: ResolverStatus


def status_of(store: "Store") -> StoreStatus:
    """Return the status of `store`; a look at every replica, so not for a hot path."""
    context = store.context
    refusal = context.write_refusal
    holders = [replica.leaseholder for replica in store.replicas.values()]
    return StoreStatus(
        node_id=context.node_id,
        takes_part=store._takes_part,
        failed=store._failed,
        clock=context.hlc.last,
        replicas=len(holders),
        leaders=sum(holder is not None and holder.serving for holder in holders),
        ticking=len(store.ticking),
        requests=store.requests,
        turns=store.turns.taken,
        syncs=store.turns.syncs,
        inflight_bytes=context.inflight_bytes,
        write_refusal="" if refusal is None else refusal.message,
        receiving=len(store.intake.receiving),
        snapshots=store.snapshots.status(),
        held=store._held.status(),
        inbox=store.inbox.status(),
        elections=store.ticking.elections.status(),
        liveness=store.liveness.status(),
        pushes=context.pushes.status(),
        resolver=context.resolver.status(),
    )
