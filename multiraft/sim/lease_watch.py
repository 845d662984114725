"""Who may serve at one instant of true time, over all nodes.

Purpose
    Find two leaseholders of overlapping spans, and leases that outlive their release. Looks without
    asking: `Lease.end` makes promises, so the end is computed here.
Invariants
    - While clocks are within the maximum offset of each other, at most one replica may serve a key.
    - Who released a term neither leads nor serves in it again (rules S6, L1).
"""

from collections.abc import Callable, Iterable

from multiraft.ids import NO_EPOCH, RangeId, ReplicaId, Term, Timestamp
from multiraft.raft import messages as raft
from multiraft.raft import quorum
from multiraft.raft.role import Role
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.sim.inspection import Member

Report = Callable[[RangeId, str | None], None]


class LeaseWatch:
    """One per cluster."""

    def __init__(self, running: Callable[[], list[Member]], report: Report) -> None:
        self._running = running
        self._report = report
        self._holders: dict[RangeId, tuple[Leaseholder, int]] = {}
        self._released: dict[tuple[RangeId, ReplicaId], Term] = {}

    def hear(self, envelope: GroupEnvelope) -> None:
        """Remember what is released."""
        message = envelope.message
        if type(message) is raft.TimeoutNow or type(message) is raft.ReleaseFortification:
            release = message.release
            if release.leader == envelope.source:
                who = (envelope.range_id, envelope.source)
                self._released[who] = max(release.term, self._released.get(who, Term(0)))

    def look(self, member: Member, replica: Replica) -> None:
        """Look at a replica after a turn."""
        holder, descriptor = replica.leaseholder, replica.descriptor
        if holder is None or descriptor is None:
            return
        range_id = replica.range_id
        released = self._released.get((range_id, replica.replica_id))
        if released is not None and holder.term <= released and replica.core.role is Role.LEADER:
            self._report(range_id, f"{member.name} leads term {holder.term}, which it released")
        known = self._holders.get(range_id)
        if known is not None and known[0] is holder and known[1] == descriptor.generation:
            return
        if may_serve(member, replica):
            self._holders[range_id] = (holder, descriptor.generation)
            self._check(member, replica, self._running())

    def look_at_all(self) -> None:
        """Look at all leaseholders of all nodes."""
        members = self._running()
        for member in members:
            for replica in list(member.up.store.replicas.values()):
                if replica.leaseholder is not None and may_serve(member, replica):
                    self._check(member, replica, members)

    def _check(self, member: Member, replica: Replica, members: Iterable[Member]) -> None:
        assert replica.descriptor is not None, "who may serve is initialised"
        start, end = replica.descriptor.start, replica.descriptor.end
        for other in members:
            if other is member:
                continue
            for rival in other.up.store.replicas.values():
                if rival.leaseholder is None or rival.descriptor is None:
                    continue
                overlap = rival.descriptor.start < end and start < rival.descriptor.end
                if overlap and may_serve(other, rival) and clocks_agree(self._running()):
                    self._report(
                        replica.range_id,
                        f"two leaseholders: {member.name} in term {replica.core.term}, "
                        f"{other.name} for r{rival.range_id} in term {rival.core.term}",
                    )


def covers(store: Store, range_id: RangeId, timestamp: Timestamp) -> bool:
    """Whether the store's lease on the range covers a request at `timestamp`."""
    replica = store.replicas.get(range_id)
    if replica is None:
        return False
    return timestamp + store.context.hlc.offset_max < lease_end(replica)


def may_serve(member: Member, replica: Replica) -> bool:
    """Whether the replica would serve a request that came now, were its node to run."""
    holder = replica.leaseholder
    if holder is None or not holder.serving or replica.destroyed:
        return False
    clock = member.up.store.context.hlc
    now = max(clock.wall(), clock.last + 1)
    return now + clock.offset_max < lease_end(replica)


def lease_end(replica: Replica) -> Timestamp:
    """Return the end of the lease that `Lease.end` would return, promising nothing."""
    core = replica.core
    leadership = core.leadership
    if leadership is None or not core.leads_and_applied_own_term or core.is_transferring:
        return Timestamp(0)
    ends: dict[ReplicaId, int] = {}
    for member, progress in leadership.progress.items():
        epoch, until = core.support.support_from(member)
        if epoch == progress.fortified_epoch and epoch != NO_EPOCH:
            ends[member] = until
    return Timestamp(quorum.reached(core.configuration, ends))


def clocks_agree(members: list[Member]) -> bool:
    """Whether all clocks, and what they have taken in, are within the maximum offset."""
    clocks = [member.up.store.context.hlc for member in members]
    latest = max(max(clock.wall(), clock.last) for clock in clocks)
    return latest - min(clock.wall() for clock in clocks) <= clocks[0].offset_max
