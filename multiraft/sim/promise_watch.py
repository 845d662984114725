"""Terms of one range follow each other in the clock's time, too: a lease ends before the next.

Purpose
    Compare the ends of leases that leaders have told themselves, and so may have served under, with
    where later terms begin. What `lease_watch` sees only while two serve at one instant, this sees
    from either side of it, and after the death of one.
Invariants
    - A leader begins to serve above every lease that was told in a lower term and not released, and
      counts every key as read until then (rules S3, S4, A6).
    - A lease that is told later lies below where a higher term began.
"""

from collections.abc import Callable

from multiraft.ids import RangeId, Term, Timestamp
from multiraft.raft import messages as raft
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.sim.inspection import Member

Report = Callable[[RangeId, str | None], None]


class PromiseWatch:
    """One per cluster."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._ends: dict[RangeId, dict[Term, Timestamp]] = {}
        """The latest end of a lease told in a term."""
        self._begins: dict[RangeId, dict[Term, Timestamp]] = {}
        """Where the keys of a term count as read until."""
        self._released: set[tuple[RangeId, Term]] = set()

    def hear(self, envelope: GroupEnvelope) -> None:
        """A release cuts a lease short."""
        message = envelope.message
        if type(message) is raft.TimeoutNow or type(message) is raft.ReleaseFortification:
            release = message.release
            if release.leader == envelope.source:
                self._released.add((envelope.range_id, release.term))
                self._ends.get(envelope.range_id, {}).pop(release.term, None)

    def forget_below(self, range_id: RangeId, term: Term) -> None:
        """Every replica is in `term` or a later one: the last lease to end stands for all before.

        A term begins above all of them if it begins above that one, and who tells of a lease from
        now on is in no term before `term`.
        """
        begins = self._begins.get(range_id, {})
        for past in [past for past in begins if past < term]:
            del begins[past]
        ends = self._ends.get(range_id, {})
        before = sorted((end, past) for past, end in ends.items() if past < term)
        for _, past in before[:-1]:
            del ends[past]
        self._released = {
            (where, past) for where, past in self._released if where != range_id or past >= term
        }

    @property
    def remembered(self) -> int:
        """How many terms are remembered."""
        return sum(map(len, self._ends.values())) + sum(map(len, self._begins.values()))

    def look_at_all(self, member: Member) -> None:
        """Look at all replicas of a node, as when it is about to die."""
        for replica in member.up.store.replicas.values():
            self.look(member, replica)

    def look(self, member: Member, replica: Replica) -> None:
        """Look at a replica."""
        core, range_id = replica.core, replica.range_id
        told = replica.lease.last_told
        if core.leadership is not None and told:
            self._told(member, range_id, core.term, told)
        holder = replica.leaseholder
        if holder is not None and holder.serving:
            begins = self._begins.setdefault(range_id, {})
            if holder.term not in begins:
                begins[holder.term] = holder.cache.low_water
                self._begun(member, range_id, holder.term, holder.cache.low_water)

    def _told(self, member: Member, range_id: RangeId, term: Term, end: Timestamp) -> None:
        if (range_id, term) in self._released:
            return
        ends = self._ends.setdefault(range_id, {})
        if ends.get(term, 0) >= end:
            return
        ends[term] = end
        for later, begin in self._begins.get(range_id, {}).items():
            if later > term and begin <= end:
                self._report(
                    range_id,
                    f"{member.name} leads term {term} with a lease until {end}, though term "
                    f"{later} began at {begin}",
                )

    def _begun(self, member: Member, range_id: RangeId, term: Term, begin: Timestamp) -> None:
        for earlier, end in self._ends.get(range_id, {}).items():
            if earlier < term and begin <= end:
                self._report(
                    range_id,
                    f"{member.name} begins term {term} at {begin}, though the lease of term "
                    f"{earlier} lasts until {end}",
                )
