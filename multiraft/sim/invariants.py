"""What must hold at every moment of every run, whatever clients and faults do.

Purpose
    Look at each message that leaves a store, each batch that a disk takes, and each turn of a
    store, and collect what should not be, as sentences, in `violations`. Costs follow what happens:
    nothing here looks at an idle range.
Invariants, kept by
    - group_facts: election safety, log matching, leader completeness, state machine safety, votes;
    - disk_watch: what was durable, said or acknowledged is still there after a crash;
    - lease_watch: one leaseholder for a key, none after its release;
    - promise_watch: no term begins within a lease of another one;
    - read_watch: nothing is read that is written otherwise, before or afterwards;
    - durability_watch: what is acknowledged, and what is committed, is durable;
    - start_watch: what a started node finds is whole;
    - snapshot_watch: no snapshot is sent in vain;
    - here: no node drags another one's clock along;
    - contents_watch: replicas at one applied index hold the same.
    What of all this is over between the rounds of a long run, forgetting drops.
Ownership
    Everything here only looks. One per simulated cluster, which attaches every life of its nodes.
"""

from collections.abc import Callable
from functools import partial

from multiraft.ids import RangeId, ReplicaId, Term, Timestamp
from multiraft.model import hlc
from multiraft.node import Node
from multiraft.raft import messages as raft
from multiraft.raft.role import Role
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.ranges.store import Store
from multiraft.sim import lease_watch, newest_watch
from multiraft.sim.contents_watch import ContentsWatch
from multiraft.sim.disk_watch import DiskWatch
from multiraft.sim.forgetting import Forgetting
from multiraft.sim.group_facts import GroupFacts
from multiraft.sim.inspection import Member
from multiraft.sim.lease_watch import LeaseWatch
from multiraft.sim.promise_watch import PromiseWatch
from multiraft.sim.read_watch import ReadWatch
from multiraft.sim.snapshot_watch import SnapshotWatch

SAMPLE_INTERVAL_S = 0.25
VIOLATIONS_MAX = 100


class Invariants:
    """See the module. `now` is the true time in seconds; `tell` hears of each violation."""

    def __init__(
        self,
        running: Callable[[], list[Member]],
        now: Callable[[], float],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._tell = tell
        self.violations: list[str] = []
        self._running = running
        self._now = now
        self._sample_at = now() + SAMPLE_INTERVAL_S
        self._facts: dict[RangeId, GroupFacts] = {}
        self._stores: dict[int, Store] = {}
        """Of the nodes that live: a node that is being stopped still writes and says things."""
        self._led: dict[tuple[int, RangeId], tuple[int, Term]] = {}
        self.reads = ReadWatch(self.report)
        self.disks = DiskWatch(self.facts, self.report, self.reads)
        self.promises = PromiseWatch(self.report)
        self.snapshots = SnapshotWatch(running, now, self.report)
        self.leases = LeaseWatch(running, self.report)
        self.contents = ContentsWatch(running, self.report)
        self.forgetting = Forgetting(self.facts, self.disks, self.reads, self.promises)

    def facts(self, range_id: RangeId) -> GroupFacts:
        """Return what is known of a group."""
        facts = self._facts.get(range_id)
        if facts is None:
            facts = self._facts[range_id] = GroupFacts()
        return facts

    def report(self, range_id: RangeId, problem: str | None) -> None:
        """Add a violation, if it is one."""
        if problem is not None and len(self.violations) < VIOLATIONS_MAX:
            self.violations.append(f"{self._now():.3f}s r{range_id}: {problem}")
            self._tell(f"r{range_id}: {problem}")

    # -- what is looked at -----------------------------------------------------------------------

    def attach_disk(self, member: Member) -> None:
        """A node is about to start on its engine."""
        self.disks.watch(
            member.number,
            member.engine,
            lambda: self._stores.get(member.number),
        )

    def attach(self, member: Member, node: Node) -> None:
        """See every turn of a node that was just made, its snapshots, and what it answers."""
        store = self._stores[member.number] = node.store
        turns = store.turns
        take_turn, next_dirty = turns._take_turn, turns._next_dirty
        dirty: dict[RangeId, Replica] = {}

        def note_dirty() -> dict[RangeId, Replica]:
            nonlocal dirty
            dirty = next_dirty()
            return dirty

        def turn() -> None:
            take_turn()
            if member.node is not node:
                return  # A turn that a test's own call led to outlives the node.
            for replica in dirty.values():
                self.look(member, replica)
            if self._now() >= self._sample_at:
                self._sample()

        turns._next_dirty = note_dirty  # type: ignore[method-assign]
        turns._take_turn = turn  # type: ignore[method-assign]
        self.snapshots.watch(store)
        newest_watch.watch(store, self.report)
        submit = self.reads.watch(member.name, partial(lease_watch.covers, store), store.submit)
        store.submit = submit  # type: ignore[method-assign,assignment]

    def detach(self, number: int) -> None:
        """The node has died: what is left of it counts for nothing."""
        self._stores.pop(number, None)

    def hear(self, source: int, incarnation: int, _target: int, envelope: GroupEnvelope) -> None:
        """Take in a message that leaves a store; `incarnation` is its sender's."""
        self.disks.hear(source, envelope)
        self.leases.hear(envelope)
        self.promises.hear(envelope)
        message = envelope.message
        if type(message) is raft.AppendEntries:
            facts = self.facts(envelope.range_id)
            self.report(envelope.range_id, facts.leads(message.term, (source, incarnation)))
        elif type(message) is raft.RequestVote:
            self._votes(envelope.range_id, envelope.source, message.term, envelope.source)
        elif type(message) is raft.RequestVoteReply and message.granted:
            self._votes(envelope.range_id, envelope.source, message.term, envelope.target)

    def look(self, member: Member, replica: Replica) -> None:
        """Look at a replica after a turn."""
        core = replica.core
        if core.role is not Role.LEADER:
            return
        range_id = replica.range_id
        life = (member.incarnation, core.term)
        if self._led.get((member.number, range_id)) != life:
            self._led[member.number, range_id] = life
            facts = self.facts(range_id)
            self.report(range_id, facts.leads(core.term, (member.number, member.incarnation)))
            log = core.log
            self.report(range_id, facts.is_complete(core.term, log.first_index, log.term))
        self.leases.look(member, replica)
        self.promises.look(member, replica)
        self.snapshots.look(member.up.store, replica)

    def check(self) -> None:
        """Look at everything at once: contents and leases. For quiet points and the end."""
        self.leases.look_at_all()
        self.contents.compare_all()

    @property
    def remembered(self) -> int:
        """How many single things are remembered of the past."""
        of_groups = sum(facts.remembered for facts in self._facts.values())
        return of_groups + self.disks.remembered + self.reads.remembered + self.promises.remembered

    # -- its parts -------------------------------------------------------------------------------

    def _sample(self) -> None:
        self._sample_at = self._now() + SAMPLE_INTERVAL_S
        self.leases.look_at_all()
        for member in self._running():
            self.promises.look_at_all(member)
            for range_id, problem in newest_watch.wrong(member.up.store):
                self.report(range_id, problem)
        self._look_at_clocks()
        self.contents.sample()

    def _look_at_clocks(self) -> None:
        """No HLC runs ahead of a wall clock by more than clocks may differ (trap T24)."""
        for member in self._running():
            clock = member.up.store.context.hlc
            if not member.clock_is_wrong and clock.last - clock.wall() > clock.offset_max:
                ahead_us = hlc.to_us(Timestamp(clock.last - clock.wall()))
                self.report(RangeId(0), f"the HLC of {member.name} is {ahead_us} us ahead")

    def _votes(self, range_id: RangeId, voter: ReplicaId, term: Term, candidate: ReplicaId) -> None:
        self.report(range_id, self.facts(range_id).votes(voter, term, candidate))
