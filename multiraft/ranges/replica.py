"""One range on this store: the host of its Raft core.

Purpose
    Feed the core, carry out its Readys as part of the store's turn, apply what is committed, and
    keep a `Leaseholder` while the core leads.
Invariants
    - `descriptor` and `applied` in memory are what the engine holds, or will hold at the end of
      the turn under way.
    - A replica ID is fixed for the life of the object; a new ID is a new object.
    - An uninitialised replica (no descriptor) covers no keys: it votes and waits for a snapshot.
    - After `destroyed` nothing is served or sent.
Life of a command on every replica
    Ready.committed -> decode (the proposer keeps it decoded) -> effects into the batch of the turn
    -> trigger, if any -> applied state into the same batch -> after the write: the core is told,
    the proposer's waiter is told.
"""

from collections.abc import Collection, Iterable
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from multiraft import errors
from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model import encoding
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import BatchRequest
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import Version
from multiraft.raft.core import RaftCore
from multiraft.raft.messages import (
    Entry,
    EntryKind,
    Envelope,
    PreVote,
    ReleaseFortification,
    StillLeading,
)
from multiraft.raft.ready import Ready, SnapshotMark
from multiraft.raft.role import Role
from multiraft.raft.steady import NOTHING
from multiraft.ranges import apply, messages, replica_status, state, triggers
from multiraft.ranges.group_support import GroupSupport
from multiraft.ranges.lease import Lease
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command, GroupEnvelope, SplitTrigger
from multiraft.ranges.pending import Pending, PendingWrite, Reply
from multiraft.ranges.proposals import Proposal
from multiraft.ranges.put_group import PutGroup
from multiraft.ranges.replica_status import ReplicaStatus
from multiraft.ranges.snapshot import StagedSnapshot
from multiraft.ranges.state import AppliedState, RangeState, Tombstone
from multiraft.ranges.turn import Turn
from multiraft.storage.raft_log import RangeLog

if TYPE_CHECKING:
    from multiraft.ranges.store import Store

DOUBT_INTERVAL_S = 0.2
"""A replica that sends clients away asks its leader this often at most whether it still leads."""
DOUBT_MEMORY_S = 5.0
"""After this long without a client to send away the next one is the first again."""

_ASKED_IN_VAIN = (PreVote, StillLeading)
"""What a replica says that was removed and does not know it."""

_ANSWERED_BEFORE_WRITE = (PendingWrite, PutGroup)
"""Who waits for a command that nobody waits for once it is certain to be written."""

UNINITIALISED = AppliedState(Index(0), Term(0), RangeStats(), Timestamp(0))


class Replica:
    """See the module. Owned by the store, which is the only map from range ID to replica."""

    __slots__ = (
        "_applied_key",
        "_redirected_at",
        "_span",
        "_store",
        "_support",
        "applied",
        "context",
        "core",
        "descriptor",
        "destroyed",
        "lacks_members",
        "lease",
        "leaseholder",
        "log",
        "range_id",
        "replica_id",
        "snapshots_installed",
        "snapshots_sent",
        "staged",
        "unapplied",
        "voter_nodes",
    )

    def __init__(
        self,
        store: "Store",
        range_id: RangeId,
        replica_id: ReplicaId,
        log: RangeLog,
        range_state: RangeState | None,
    ) -> None:
        self._store = store
        self.context = store.context
        self.range_id = range_id
        self.replica_id = replica_id
        self.log = log
        self.destroyed = False
        self.leaseholder: Leaseholder | None = None
        self.staged: StagedSnapshot | None = None
        self.unapplied: list[Entry] = []
        """Committed entries of Readys that were carried out, until they are applied, in order."""
        self.snapshots_sent = 0
        self.snapshots_installed = 0
        self._redirected_at = -DOUBT_MEMORY_S
        self._applied_key = state.applied_key(range_id)
        self._support = GroupSupport(self.context.liveness)
        self.descriptor: RangeDescriptor | None = None
        self.voter_nodes: tuple[NodeId, ...] = ()
        """The nodes that vote once any joint configuration is left, sorted."""
        self.lacks_members = False
        """Whether the range has fewer voters than it should have, or learners."""
        self.applied = UNINITIALISED
        self._span: apply.PhysicalSpan | None = None
        if range_state is not None:
            self.applied = range_state.applied
            self._set_descriptor(range_state.descriptor)
        self.core = self._new_core()
        self.lease = Lease(self.core, self.context.liveness)

    def _new_core(self) -> RaftCore:
        return RaftCore(
            self.replica_id,
            self.context.config.raft,
            self.log,
            self._support,
            self.context.rng.below,
            self.context.hlc.forward,
        )

    def _set_descriptor(self, descriptor: RangeDescriptor) -> None:
        self.descriptor = descriptor
        self._span = apply.PhysicalSpan(descriptor)
        self.voter_nodes = tuple(sorted(r.node_id for r in state.voters(descriptor)))
        voters = len(self.voter_nodes)
        wanted = self.context.config.ranges.replication_factor
        self.lacks_members = voters < wanted or voters < len(descriptor.replicas)
        for replica in descriptor.replicas:
            self._support.nodes[replica.replica_id] = replica.node_id

    # -- what others ask -------------------------------------------------------------------------

    @property
    def leader_node(self) -> NodeId | None:
        """The node whose replica leads, as far as this one knows."""
        return self._support.nodes.get(self.core.leader)

    @property
    def leader_hint(self) -> NodeId | None:
        """Where to send clients: the leader's node, but not ourselves, which would be a circle."""
        leader = self.leader_node
        return None if leader == self.context.node_id else leader

    def node_of(self, replica_id: ReplicaId) -> NodeId | None:
        """Return the node of a replica of this range."""
        return self._support.nodes.get(replica_id)

    def depends_on(self, node: NodeId) -> bool:
        """Return whether support between this store and `node` matters to the group now.

        It does if the leader is there, or whoever this replica is bound to, itself included: after
        a restart a former leader knows no leader. And a leader, or one that still has to release
        its followers, waits for each of them; one that is free to campaign, for a quorum of them.
        """
        core, nodes = self.core, self._support.nodes
        if node in (nodes.get(core.leader), nodes.get(core.fortified_leader)):
            return True
        waits_for_all = core.role is Role.LEADER or core.releasing is not None
        return (waits_for_all or core.waits_for_election) and node in nodes.values()

    def submit(self, request: BatchRequest, reply: Reply) -> None:
        """Serve a client's part, or say where it should go. `reply` is called once."""
        leaseholder = self.leaseholder
        if leaseholder is None:
            self._doubt_leader()
            error = errors.NotLeaseholderError(range_id=self.range_id, leaseholder=self.leader_hint)
            reply(self.context.refusal(error))
            return
        leaseholder.submit(request, reply)

    def _doubt_leader(self) -> None:
        """A client came here though it should know better: ask whether the leader still leads.

        A leader whose replica is gone while its store lives would bind its followers for ever (rule
        L1). One redirection says nothing, so only those that keep coming make this replica ask.
        """
        now = self.context.clock.monotonic()
        since_s = now - self._redirected_at
        if since_s < DOUBT_INTERVAL_S:
            return
        self._redirected_at = now
        if since_s < DOUBT_MEMORY_S and self.core.ask_still_leading():
            self.context.mark_dirty(self)

    def mismatch(self, start: bytes, end: bytes | None) -> errors.RangeMismatchError | None:
        """Return an error with better descriptors if the key, or span, lies outside the range."""
        descriptor = self.descriptor
        if descriptor is not None:
            if end is None:
                if descriptor.start <= start < descriptor.end:
                    return None
            elif descriptor.covers(start, end):
                return None
        known = self._store.map.descriptors_between(start, end)
        return errors.RangeMismatchError(
            range_id=self.range_id, descriptors=[encoding.pack(d) for d in known]
        )

    def status(self) -> ReplicaStatus:
        """Return what this replica knows of itself."""
        return replica_status.status_of(self)

    # -- messages and time -----------------------------------------------------------------------

    def step(self, source_node: NodeId, envelope: Envelope) -> None:
        """Take a Raft message of this group."""
        self._support.nodes[envelope.source] = source_node
        core = self.core
        ready = core.step_at_once(envelope)
        if ready is None:
            if type(envelope.message) in _ASKED_IN_VAIN:
                self._tell_if_removed(source_node, envelope.source)
            core.step(envelope)
            if core.has_ready():
                self.context.mark_dirty(self)
        elif ready is not NOTHING:
            self._store.turns.carry_out_soon(self, ready)

    def _tell_if_removed(self, node: NodeId, replica_id: ReplicaId) -> None:
        """If the asker was removed while it was away, let it end at once."""
        descriptor = self.descriptor
        if (
            self.leaseholder is not None
            and descriptor is not None
            and replica_id < descriptor.next_replica_id
            and descriptor.replica(replica_id) is None
        ):
            self._store.post_removal(node, descriptor)

    def peer_unreachable(self, node: NodeId) -> None:
        """Messages of this leader to `node` may be lost: probe before sending more."""
        for replica_id, at in self._support.nodes.items():
            if at == node:
                self.core.report_unreachable(replica_id)
        self._note_work()

    def tick(self) -> None:
        """One tick passed and the core said that it waits for something."""
        self.core.tick()
        if self.core.has_ready() or self._has_lost_role():
            self.context.mark_dirty(self)

    def support_changed(self) -> None:
        """Support between this store and one of the group's stores changed."""
        self.core.support_changed()
        self._note_work()

    def resume_election(self) -> bool:
        """It is this range's turn to elect; see RaftCore.resume_election."""
        may_win = self.core.resume_election()
        if may_win:
            self._note_work()
        return may_win

    def _note_work(self) -> None:
        """Have the turn do what the core wants done, if anything, and time pass if it waits."""
        if self.core.has_ready():
            self.context.mark_dirty(self)
        else:
            self._store.ticking.follow(self)

    def _has_lost_role(self) -> bool:
        return self.leaseholder is not None and self.core.role is not Role.LEADER

    # -- the turn --------------------------------------------------------------------------------

    def collect(self, turn: Turn) -> None:
        """Put what the core wants done into the turn; what is committed, for `apply`."""
        core = self.core
        if self.leaseholder is not None:
            self.leaseholder.propose_all()
        self.carry_out(turn, core.take_ready(tell_commit=False))
        self.staged = None

    def follow_core(self) -> None:
        """Begin or end to serve as the core begins or ends to lead, what is committed applied."""
        core, leaseholder = self.core, self.leaseholder
        leads = core.role is Role.LEADER
        if leaseholder is not None and not (leads and leaseholder.term == core.term):
            self.leaseholder = None
            leaseholder.end(self.leader_node)
        if leads and self.leaseholder is None and not self.destroyed:
            self.leaseholder = Leaseholder(self, core.term)
            self._begin_serving()

    def tell_commit(self, turn: Turn) -> None:
        """Tell the members the newest commit index, no append having carried it along."""
        if self.core.commit_untold:
            self.carry_out(turn, self.core.take_ready())

    def carry_out(self, turn: Turn, ready: Ready) -> None:
        """Do what the core wants done as part of `turn`."""
        batch = turn.batch
        if ready.snapshot is not None:
            self._install(turn, ready.snapshot)
        if ready.entries:
            self.log.append(batch, ready.entries)
            turn.writes = True
        if ready.hard_state is not None:
            self.log.set_hard_state(batch, ready.hard_state)
            turn.writes = True
        if ready.committed:
            self.unapplied += ready.committed
            turn.committed.append(self)
        if ready.must_sync or ready.messages_after_sync:
            turn.to_sync.append((self, self.core, ready))
        if ready.messages:
            self.post(ready.messages)
        for target in ready.snapshot_targets:
            self._store.send_snapshot(self, target)
        if self.core.commit_untold:
            self._store.turns.commits_owed.add(self)

    def post(self, envelopes: Iterable[Envelope]) -> None:
        """Queue messages of the core; they leave at the end of the turn."""
        nodes, queues, range_id = self._support.nodes, self._store.outbox.envelopes, self.range_id
        start = b"" if self.descriptor is None else self.descriptor.start
        for each in envelopes:
            node = nodes.get(each.target)
            if node is not None:
                queues[node].append(
                    GroupEnvelope(range_id, each.source, each.target, each.message, start)
                )

    def _begin_serving(self) -> None:
        leaseholder = self.leaseholder
        if (
            leaseholder is not None
            and not leaseholder.serving
            and self.core.leads_and_applied_own_term
        ):
            leaseholder.begin_serving()
            self._store.descriptor_changed(self)

    # -- applying --------------------------------------------------------------------------------

    def apply(self, turn: Turn) -> None:
        """Put the effects of all that is committed and not applied into the batch of `turn`."""
        entries, self.unapplied = self.unapplied, []
        if self.destroyed or not entries:
            return
        if self.core.applied_index > self.applied.index:
            return  # The next turn installs a snapshot that stands for them.
        leaseholder = self.leaseholder
        for entry in entries:
            proposal = None
            if leaseholder is not None:
                proposal = leaseholder.proposals.take(entry.index)
            if proposal is not None:
                self.context.inflight_bytes -= proposal.size_bytes
                if proposal.term != entry.term:
                    self._settle(turn, proposal, applied=False)
                    proposal = None
            if entry.kind is EntryKind.NOOP:
                self._advance(entry, self.applied.stats, self.applied.clock_floor)
            elif proposal is not None:
                self._apply_command(turn, entry, proposal.command, live=True)
                self._note_parts(proposal)
                self._settle(turn, proposal, applied=True)
            else:
                command = messages.decode_command(entry.payload)
                self._apply_command(turn, entry, command, live=False)
                if self.leaseholder is not None:
                    self.leaseholder.reader.forget(command.puts, command.deletes)
            if self.destroyed:
                return
        state.write_applied(turn.batch, self.context.engine, self._applied_key, self.applied)
        turn.writes = True
        turn.after_write.append(self._applied)

    def _apply_command(self, turn: Turn, entry: Entry, command: Command, *, live: bool) -> None:
        stats = self.applied.stats
        floor = self.applied.clock_floor
        if command.puts or command.deletes:
            assert self._span is not None, "an uninitialised replica applies nothing"
            if command.timestamp > floor:  # noqa: PLR1730 - max() takes three times as long
                floor = command.timestamp
            data = self.context.engine.data
            apply.put_effects(turn.batch, data, self._span, command.puts)
            if command.deletes:
                apply.delete_effects(turn.batch, data, self._span, command.deletes)
            self.context.hlc.forward(command.timestamp)
            if command.stats is not None:
                stats = stats.plus(command.stats)
        self._advance(entry, stats, floor)
        if command.trigger is not None:
            turn.after_write.append(self._store.turns.commits_owed.tell_soon)
            self.context.mark_dirty(self)  # The next turn follows what the core makes of it.
            triggers.PULL[type(command.trigger)](self, turn, entry, command.trigger, live)

    def _note_parts(self, proposal: Proposal) -> None:
        """Remember what was written just now in this leader's own term, and under which IDs."""
        if self.leaseholder is not None:
            note, reader = self.leaseholder.recent.note, self.leaseholder.reader
            for command, waiter in proposal.parts:
                if command.id:
                    note(command.id, command.timestamp)
                for write_id, timestamp in command.also:
                    note(write_id, timestamp)
                newest: Collection[Version] = ()
                if isinstance(waiter, PutGroup):
                    newest = waiter.newest
                    for version in newest:
                        note(version.id, version.timestamp)
                elif isinstance(waiter, Pending):
                    newest = waiter.newest
                if newest:
                    reader.wrote(command.puts, newest)
                else:
                    reader.forget(command.puts, command.deletes)

    def _advance(self, entry: Entry, stats: RangeStats, clock_floor: Timestamp) -> None:
        applied = self.applied
        assert entry.index == applied.index + 1, (
            f"r{self.range_id} applies {entry.index} after {applied.index}"
        )
        self.applied = AppliedState(
            entry.index,
            entry.term,
            stats,
            clock_floor,
            applied.gc_threshold,
            applied.meta_generation,
        )

    def _settle(self, turn: Turn, proposal: Proposal, *, applied: bool) -> None:
        if applied:
            for _, waiter in proposal.parts:
                if isinstance(waiter, _ANSWERED_BEFORE_WRITE):
                    turn.before_write.append(waiter.committed)
                turn.after_write.append(waiter.applied)
        else:
            error = errors.NotLeaseholderError(range_id=self.range_id, leaseholder=None)
            turn.after_write.append(partial(proposal.fail, error))

    def _applied(self) -> None:
        core, holder = self.core, self.leaseholder
        core.applied(self.applied.index)
        if core.handed_index < core.commit_index:  # A Ready hands out so much at a time.
            self.context.mark_dirty(self)
        if holder is not None:
            if not holder.serving:
                self._begin_serving()
            holder.truncation.look_at(self, holder, self._store.snapshots)

    def set_descriptor(self, turn: Turn, descriptor: RangeDescriptor) -> None:
        """Replace the descriptor as part of applying a command or installing a snapshot."""
        self._set_descriptor(descriptor)
        state.write_descriptor(turn.batch, self.context.engine, descriptor)
        turn.writes = True

    def apply_split(self, turn: Turn, trigger: SplitTrigger, *, live: bool) -> None:
        """Shrink to the left half, and have the store see to the right one."""
        old = self.descriptor
        assert old is not None, "an uninitialised replica applies nothing"
        assert trigger.left.generation == old.generation + 1, "descriptor changes come one by one"
        self.set_descriptor(turn, trigger.left)
        applied = self.applied
        self.applied = msgspec.structs.replace(
            applied, stats=applied.stats.minus(trigger.right_stats)
        )
        if self.leaseholder is not None:
            split_off = self.leaseholder.split_off
            turn.after_write.append(
                partial(split_off, trigger.right.start, trigger.right_stats.locks)
            )
        # The term may have ended with the very message that brought the commit (rule S1).
        live = live and self.core.role is Role.LEADER
        self._store.create_right(turn, trigger, applied.gc_threshold, live=live)
        turn.after_write.append(self.note_descriptor_change)

    def remove(self, turn: Turn, descriptor: RangeDescriptor) -> None:
        """The command being applied leaves this replica out of the range."""
        self._store.remove(turn, self, descriptor)

    def note_meta_generation(self, generation: int) -> None:
        """Meta is known to have this generation of the descriptor, or a later one."""
        applied = self.applied
        if generation > applied.meta_generation:
            self.applied = msgspec.structs.replace(applied, meta_generation=generation)

    def raise_gc_threshold(self, threshold: Timestamp) -> None:
        """What reads at or below `threshold` would see may be gone from now on.

        No leader's clock is below it, so no read of the present is ever refused.
        """
        applied = self.applied
        if threshold > applied.gc_threshold:
            floor = max(applied.clock_floor, threshold)
            self.applied = msgspec.structs.replace(
                applied, gc_threshold=threshold, clock_floor=floor
            )
            self.context.hlc.forward(threshold)

    def note_descriptor_change(self) -> None:
        """The store looks whether the new descriptor obliges it to anything."""
        self._store.descriptor_changed(self)

    def initialise(self, range_state: RangeState) -> None:
        """A split gave this uninitialised replica its state, which the turn under way writes.

        The core starts anew from the log, which has what the old one promised.
        """
        assert self.descriptor is None, "only an uninitialised replica is initialised"
        self.applied = range_state.applied
        self._set_descriptor(range_state.descriptor)
        self.core = self._new_core()
        self.lease = Lease(self.core, self.context.liveness)

    # -- snapshots and the end -------------------------------------------------------------------

    def _install(self, turn: Turn, mark: SnapshotMark) -> None:
        """Replace all data by the staged snapshot, atomically with the rest of the turn.

        What the old descriptor covered and the new one does not is cleared too (rule A4).
        """
        staged = self.staged
        assert staged is not None, "the core accepted a snapshot that was not staged"
        assert staged.state.applied.index == mark.index, "another snapshot was staged"
        engine, batch = self.context.engine, turn.batch
        old = self.descriptor
        new = staged.state.descriptor
        if old is not None:
            state.clear_span(batch, engine, old.start, old.end)
        state.clear_span(batch, engine, new.start, new.end)
        staged.put_rows(batch, engine.data)
        self.applied = staged.state.applied
        self.set_descriptor(turn, new)
        state.write_applied(batch, engine, self._applied_key, self.applied)
        state.clear_placeholder(batch, engine, self.range_id)
        self.log.reset(batch, mark.index, mark.term)
        self.unapplied.clear()
        self.snapshots_installed += 1
        turn.writes = True
        self._store.map.span_changed(self, old)
        self.context.hlc.forward(staged.clock)

    def stop_serving(self) -> None:
        """The store stops: whoever waits here is told to go elsewhere."""
        if self.leaseholder is not None:
            leaseholder, self.leaseholder = self.leaseholder, None
            leaseholder.end(None)

    def _release_followers(self) -> None:
        """A leader that goes must not leave its followers bound to it (rule L1).

        The releases are sent once; a follower that they do not reach asks, see `_doubt_leader`.
        """
        self.core.step_down(self.context.hlc.now())
        said = self.core.take_ready().messages
        self.post([each for each in said if type(each.message) is ReleaseFortification])

    def destroy(self, turn: Turn, tombstone: Tombstone) -> None:
        """Remove this replica for ever: only the tombstone stays. One batch."""
        assert tombstone.next_replica_id > self.replica_id, "a tombstone covers its replica"
        self.destroyed = True
        self.stop_serving()
        self._release_followers()
        if self.descriptor is not None:
            state.clear_span(
                turn.batch, self.context.engine, self.descriptor.start, self.descriptor.end
            )
        self.log.destroy(turn.batch)
        state.write_tombstone(turn.batch, self.context.engine, self.range_id, tombstone)
        turn.writes = True
