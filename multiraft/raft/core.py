"""One Raft group at one replica: messages and proposals in, Readys out.

Purpose
    The state of the replica and the interface to its host. What the messages do is in election,
    replication, membership, snapshot, fortification, transfer and read_index; which function takes
    which message is the table in dispatch.
Invariants
    - No I/O, clock or randomness: time is `tick`, the disk is Ready and `synced`, chance is `draw`.
    - `applied_index` <= `handed_index` <= `commit_index` <= `log.last_index`.
    - Messages made in a term that is not durable here wait for the sync (rule S14).
Ownership
    The host calls one method at a time, and reads the attributes without changing them; the
    modules named above are parts of this class that are kept in files of their own.
Source
    Raft paper, Figure 2.
"""

from collections.abc import Callable

from multiraft.config import RaftConfig
from multiraft.ids import NO_REPLICA, Index, ReplicaId, Term, Timestamp
from multiraft.raft import (
    dispatch,
    election,
    fortification,
    membership,
    read_index,
    replication,
    snapshot,
    steady,
    transfer,
)
from multiraft.raft.leadership import Leadership
from multiraft.raft.log import RaftLog
from multiraft.raft.membership import Refusal
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Configuration,
    Entry,
    EntryKind,
    Envelope,
    Message,
    Release,
)
from multiraft.raft.ready import HardState, ReadState, Ready, SnapshotMark
from multiraft.raft.role import Role
from multiraft.raft.status import Status, status_of
from multiraft.raft.storage import LogStorage, SupportView

NO_CLOCK = Timestamp(0)
REFUSED = Index(0)
"""What the propose methods return when nothing was appended; `refusal` says why."""


class RaftCore:
    """See the module."""

    __slots__ = (
        "acknowledge_to",
        "applied_index",
        "attempts_undecided",
        "commit_index",
        "commit_untold",
        "config",
        "configuration",
        "could_campaign",
        "draw",
        "durable_term",
        "election_elapsed",
        "election_held",
        "election_timeout",
        "election_urged",
        "electorate",
        "fortified_epoch",
        "fortified_leader",
        "fortified_term",
        "forward_clock",
        "handed_index",
        "hard_state_unwritten",
        "leader",
        "leader_unheard",
        "leadership",
        "lease_version",
        "led_term",
        "log",
        "matched_index",
        "messages",
        "messages_after_sync",
        "must_sync",
        "reads",
        "refusal",
        "release",
        "released_term",
        "releasing",
        "replica_id",
        "replicate",
        "role",
        "support",
        "term",
        "vote",
        "votes",
    )

    def __init__(
        self,
        replica_id: ReplicaId,
        config: RaftConfig,
        storage: LogStorage,
        support: SupportView,
        draw: Callable[[int], int],
        forward_clock: Callable[[Timestamp], None],
    ) -> None:
        """Resume from what `storage` holds, as a follower.

        `draw(n)` returns an integer in [0, n). `forward_clock` takes in the clock of a leader that
        released (rule S6) before anything depends on it.
        """
        hard_state, configuration, applied_index = storage.initial_state()
        self.replica_id = replica_id
        self.config = config
        self.support = support
        self.draw = draw
        self.forward_clock = forward_clock
        self.log = RaftLog(storage)

        self.term = hard_state.term
        self.vote = hard_state.vote
        self.commit_index = hard_state.commit_index
        self.fortified_leader = hard_state.fortified_leader
        self.fortified_term = hard_state.fortified_term
        self.fortified_epoch = hard_state.fortified_epoch
        self.applied_index = applied_index
        self.handed_index = applied_index
        assert applied_index <= self.commit_index, "the commit index is never below the applied"
        assert self.commit_index <= self.log.last_index, "what is committed is in the log"
        self.configuration = configuration
        self.electorate = membership.electorate(configuration)

        self.role = Role.FOLLOWER
        self.leader = NO_REPLICA
        self.leader_unheard = False
        """Whether `leader` is only what this replica knew before its restart."""
        self.leadership: Leadership | None = None
        self.led_term = Term(0)
        self.attempts_undecided = 0
        self.votes: dict[ReplicaId, bool] | None = None
        self.release: Release | None = None
        self.releasing: fortification.Releasing | None = None
        self.released_term = Term(0)
        self.matched_index = Index(0)
        self.acknowledge_to = NO_REPLICA
        self.replicate = False
        self.commit_untold = False
        self.refusal: Refusal | None = None
        self.lease_version = 0

        self.durable_term = self.term
        self.hard_state_unwritten = False
        self.must_sync = False
        self.messages: list[Envelope] = []
        self.messages_after_sync: list[Envelope] = []
        self.reads: list[ReadState] = []

        self.election_elapsed = 0
        self.election_timeout = 0
        self.election_held = False
        """Whether other groups of the store have their elections first; see `hold_election`."""
        self.election_urged = False
        """... although somebody who is free asked for votes that only this replica can win."""
        self.restart_election_timer()
        self.could_campaign = election.timer_runs(self) and fortification.has_quorum_support(self)
        if self.fortified_term == self.term and self.fortified_leader != replica_id:
            self.leader = self.fortified_leader
            self.leader_unheard = True

    # --- What the host reads ------------------------------------------------------------------

    @property
    def last_index(self) -> Index:
        """The end of the log, written or not."""
        return self.log.last_index

    @property
    def first_index(self) -> Index:
        """The first entry that the log still has."""
        return self.log.first_index

    @property
    def leads_and_applied_own_term(self) -> bool:
        """Whether this replica leads and has applied an entry of its own term."""
        return self.leadership is not None and self.applied_index >= self.leadership.noop_index

    @property
    def is_transferring(self) -> bool:
        """Whether a transfer away from this leader is under way."""
        return self.leadership is not None and self.leadership.transfer_target != NO_REPLICA

    @property
    def wants_to_leave_joint(self) -> bool:
        """Whether the host should now propose to leave the joint configuration it is in."""
        return (
            self.leads_and_applied_own_term
            and not self.is_transferring
            and self.configuration.is_joint
            and self.configuration_refusal(membership.leaving(self.configuration)) is None
        )

    def configuration_refusal(self, new: Configuration) -> Refusal | None:
        """Return why `propose_configuration` would refuse `new` at present, or None."""
        return membership.refusal(self, new)

    def lease_until(self) -> Timestamp:
        """Return the end of this leader's lease, 0 when it has none.

        The answer holds until support or `lease_version` changes, and is remembered as promised:
        changes of the configuration wait until they carry it over (rule S4).
        """
        if not self.leads_and_applied_own_term or self.is_transferring:
            return Timestamp(0)
        return fortification.lease_end(self)

    @property
    def needs_tick(self) -> bool:
        """Whether this replica waits for time to pass; an idle healthy group does not."""
        if self.role is Role.LEADER:
            return replication.needs_tick(self)
        if fortification.is_bound(self):
            return False  # Nothing is released, and nobody campaigns, while another leads.
        may_campaign = membership.is_voter(self) and not self.election_held
        return may_campaign or fortification.release_needs_tick(self)

    @property
    def waits_for_election(self) -> bool:
        """Whether this replica does not lead, is free to vote, and campaigns after its timeout."""
        return self.role is not Role.LEADER and election.timer_runs(self)

    def status(self) -> Status:
        """Return what there is to know, for people and metrics."""
        return status_of(self)

    # --- What the host feeds in ---------------------------------------------------------------

    def step(self, envelope: Envelope) -> None:
        """Feed one message in. What it causes is in the next take_ready()."""
        message = envelope.message
        message_type = type(message)
        if message.term != self.term:
            if message.term < self.term:
                dispatch.OLDER[message_type](self, envelope.source, message)
                return
            if not dispatch.NEWER[message_type](self, envelope.source, message):
                return
        dispatch.HANDLERS[self.role, message_type](self, envelope.source, message)

    def step_at_once(self, envelope: Envelope) -> Ready | None:
        """Feed one message in and take the Ready, if both are of the common kind; see steady.py.

        None, and nothing has changed, if they are not: then it is for `step`. Members that come to
        lack the commit index are not told, as by `take_ready` without `tell_commit`. The Ready may
        be carried out later, but before any that is taken later.
        """
        message = envelope.message
        if type(message) is AppendEntries:
            return steady.follow(self, envelope.source, message)
        if type(message) is AppendEntriesReply:
            return steady.count_answer(self, envelope.source, message)
        return None

    def tick(self) -> None:
        """Let one tick pass. To be called while `needs_tick`, and harmless otherwise."""
        fortification.release_tick(self)
        if self.leadership is None:
            election.tick(self)
            return
        if self.leadership.transfer_target:
            transfer.tick(self)
        replication.tick(self)
        election.check_quorum(self)

    def accepts(self, size_bytes: int, term: Term, *, ahead_bytes: int = 0) -> bool:
        """Return whether `propose` would take so many bytes at present; if not, see `refusal`.

        `ahead_bytes` is what the host is going to propose before.
        """
        leadership = self.leadership
        if leadership is None or term != self.term:
            self.refusal = Refusal.NOT_LEADER
            return False
        if leadership.transfer_target:
            self.refusal = Refusal.TRANSFERRING
            return False
        waiting = leadership.uncommitted_bytes + ahead_bytes
        if waiting and waiting + size_bytes > self.config.uncommitted_bytes_max:
            self.refusal = Refusal.OVERLOADED
            return False
        return True

    def propose(self, payload: bytes, term: Term) -> Index:
        """Append a command evaluated under `term`; return its index, or REFUSED.

        An accepted payload is never altered or dropped while the term lasts (rule S17): where its
        index is applied with the same term, it is this one.
        """
        return self._append(payload, term, EntryKind.COMMAND)

    def propose_configuration(self, payload: bytes, term: Term, new: Configuration) -> Index:
        """Append a command that changes the configuration to `new` when applied; or REFUSED."""
        refusal = membership.refusal(self, new)
        if refusal is not None:
            self.refusal = refusal
            return REFUSED
        index = self._append(payload, term, EntryKind.CONFIGURATION)
        if index != REFUSED:
            assert self.leadership is not None
            self.leadership.pending_configuration_index = index
        return index

    def _append(self, payload: bytes, term: Term, kind: EntryKind) -> Index:
        if not self.accepts(len(payload), term):
            return REFUSED
        assert self.leadership is not None, "only a leader accepts proposals"
        self.leadership.uncommitted_bytes += len(payload)
        index = Index(self.log.last_index + 1)
        self.log.append(Entry(term, index, kind, payload))
        self.replicate = True
        return index

    def hold_election(self) -> None:
        """Let other groups go first: the election timer stops, until `resume_election`.

        Messages are answered as ever, so that others may lead this group meanwhile.
        """
        self.election_held = True

    def resume_election(self) -> bool:
        """Let the timer run again, or campaign at once where there is no leader.

        False where no quorum of stores supports this one. Nothing can be won then, and support that
        comes back wakes the core (`support_changed`).
        """
        return election.resume(self)

    def campaign(self) -> bool:
        """Ask for votes now instead of after the timeout; False where a rule forbids it."""
        return election.campaign(self)

    def transfer(self, target: ReplicaId, clock: Timestamp) -> bool:
        """Hand leadership to `target`; `clock` is this node's HLC, read after it stopped serving.

        On True proposals are refused and no lease is held, until this replica has become a follower
        or has given up (`is_transferring` is False again). False: nothing changed.
        """
        return transfer.begin(self, target, clock)

    def step_down(self, clock: Timestamp = NO_CLOCK) -> None:
        """Stop leading for good in this term and release the members (rule L1).

        Before a replica is destroyed or stopped its host calls this and sends what the next Ready
        holds. `clock` may be left out where every frame carries the sender's HLC.
        """
        if self.leadership is not None:
            election.step_down(self, clock)
            if self.releasing is not None:
                fortification.send_releases(self)

    def ask_still_leading(self) -> bool:
        """Ask the leader this replica is bound to whether it leads; when requests to it fail."""
        return fortification.ask_still_leading(self)

    def read_index(self, context: int) -> bool:
        """Start a ReadIndex attempt; `context` is above all earlier ones. See read_index.py."""
        return read_index.request(self, context)

    def become_first_leader(self) -> None:
        """Lead the right half of a split in its first term, without an election (rule S1).

        Only in the process and term that proposed the split, when it was applied live. Nothing
        leaves in this term before the sync of the next Ready; its batch lies behind the trigger's.
        """
        assert self.role is Role.FOLLOWER, "a first leader is fresh"
        assert self.log.last_index == self.log.first_index - 1, "a first leader's log is empty"
        assert self.commit_index == self.log.last_index, "a first leader has nothing to apply"
        self.durable_term = Term(0)
        self.hard_state_changed()
        election.become_leader(self)

    def apply_configuration(self, configuration: Configuration, index: Index) -> None:
        """Put into force the configuration that the entry at `index` holds, as it is applied."""
        assert self.applied_index < index <= self.handed_index, "configurations apply in order"
        membership.apply(self, configuration)

    def applied(self, index: Index) -> None:
        """Note that everything handed out up to `index` is applied."""
        assert self.applied_index <= index <= self.handed_index, "applied what was handed out"
        leadership = self.leadership
        if leadership is None:
            self.applied_index = index
            self.log.trim(index, index)
            return
        if self.applied_index < leadership.noop_index <= index:
            self.lease_version += 1
        self.applied_index = index
        replication.trim_log(self)

    def replicated_index(self) -> Index:
        """Return the greatest index that every member is known to have; 0 unless leader."""
        if self.leadership is None:
            return Index(0)
        matches = [progress.match_index for progress in self.leadership.progress.values()]
        return min(matches, default=self.log.last_index)

    def report_snapshot(self, replica: ReplicaId, *, delivered: bool) -> None:
        """Tell how streaming a snapshot to one of `snapshot_targets` ended."""
        snapshot.report(self, replica, delivered=delivered)

    def report_unreachable(self, replica: ReplicaId) -> None:
        """Tell that messages to `replica` were dropped: probe instead of streaming."""
        replication.report_unreachable(self, replica)

    def support_changed(self) -> None:
        """Look again at support: it began, ended or changed its epoch for a store of this group.

        Also to be called when a member's store has restarted.
        """
        if self.releasing is not None:
            self.releasing.retry_ticks = self.config.retry_ticks
        if self.leadership is None:
            election.support_changed(self)
        else:
            replication.support_changed(self)

    # --- What the host takes out --------------------------------------------------------------

    def has_ready(self) -> bool:
        """Return whether take_ready() has anything."""
        return bool(
            self.replicate
            or self.acknowledge_to
            or self.hard_state_unwritten
            or self.handed_index < self.commit_index
            or self.messages
            or self.messages_after_sync
            or self.log.written_index < self.log.last_index
            or self.reads
        )

    def take_ready(self, *, tell_commit: bool = True) -> Ready:
        """Return what is to be done, in the order that Ready tells; each thing once.

        Without `tell_commit`, members that lack nothing but the newest commit index are not told of
        it: the next append carries it along. If there is none soon, the host asks for it with
        `tell_commit`, which `commit_untold` says is due.
        """
        if self.replicate or (tell_commit and self.commit_untold):
            replication.send_appends(self, tell_commit=tell_commit)
        if self.acknowledge_to:
            replication.acknowledge(self)
        mark, entries = self.log.take_unwritten()
        committed = self.hand_out() if self.handed_index < self.commit_index else ()
        messages, after_sync = self.messages, self.messages_after_sync
        if messages:
            self.messages = []
        if after_sync:
            self.messages_after_sync = []
        snapshot_targets: tuple[ReplicaId, ...] = ()
        if self.leadership is not None and self.leadership.snapshot_targets:
            snapshot_targets = self.leadership.take_snapshot_targets()
        ready = Ready(
            snapshot=mark,
            entries=entries,
            hard_state=self.hard_state() if self.hard_state_unwritten else None,
            messages=tuple(messages),
            messages_after_sync=tuple(after_sync),
            committed=committed,
            snapshot_targets=snapshot_targets,
            reads=tuple(self.reads),
            must_sync=bool(self.must_sync or entries or after_sync or mark is not None),
        )
        self.must_sync = False
        self.hard_state_unwritten = False
        self.reads.clear()
        return ready

    def synced(self, ready: Ready) -> None:
        """Note that what `ready` told to write is durable; in order, for each with `must_sync`."""
        if ready.snapshot is not None:
            self.log.synced(ready.snapshot.term, ready.snapshot.index)
        if ready.entries:
            last = ready.entries[-1]
            self.log.synced(last.term, last.index)
        hard_state = ready.hard_state
        if hard_state is not None:
            self.durable_term = max(self.durable_term, hard_state.term)
            if self.role is not Role.FOLLOWER:  # Which waits for no vote or promise of its own.
                election.vote_synced(self, hard_state.term, hard_state.vote)
                fortification.own_synced(self, hard_state)
        if self.leadership is not None:
            replication.own_sync(self)

    def hand_out(self) -> tuple[Entry, ...]:
        """Return what is committed and was not handed out yet, as much of it as one Ready takes."""
        low = Index(self.handed_index + 1)
        high = Index(self.commit_index + 1)
        committed, size = self.log.slice(low, high, self.config.committed_bytes_max)
        self.handed_index = committed[-1].index
        leadership = self.leadership
        if leadership is not None and self.handed_index > leadership.noop_index:
            if low < leadership.noop_index:
                own = [entry for entry in committed if entry.index >= leadership.noop_index]
                size = sum([len(entry.payload) for entry in own])
            leadership.uncommitted_bytes -= size
        return committed

    def hard_state(self) -> HardState:
        """Return what this replica must not forget, as of now."""
        return HardState(
            term=self.term,
            vote=self.vote,
            commit_index=self.commit_index,
            fortified_leader=self.fortified_leader,
            fortified_term=self.fortified_term,
            fortified_epoch=self.fortified_epoch,
        )

    # --- What the parts use -------------------------------------------------------------------

    def send(self, target: ReplicaId, message: Message) -> None:
        """Send at once, or after the sync while the present term is not durable (rule S14)."""
        envelope = Envelope(self.replica_id, target, message)
        if self.durable_term == self.term:
            self.messages.append(envelope)
        else:
            self.messages_after_sync.append(envelope)

    def send_after_sync(self, target: ReplicaId, message: Message) -> None:
        """Send once everything written up to the next Ready is durable."""
        self.messages_after_sync.append(Envelope(self.replica_id, target, message))

    def hard_state_changed(self) -> None:
        """Note a change of term, vote or fortification: it is to be synced."""
        self.hard_state_unwritten = True
        self.must_sync = True

    def commit_to(self, index: Index) -> None:
        """Raise the commit index; written with the next batch, and for itself worth no sync."""
        assert self.commit_index < index <= self.log.last_index, "commit goes up, within the log"
        self.commit_index = index
        self.hard_state_unwritten = True

    def set_configuration(self, configuration: Configuration) -> None:
        """Take `configuration` as the one in force."""
        self.configuration = configuration
        self.electorate = membership.electorate(configuration)

    def restore(self, mark: SnapshotMark) -> None:
        """Start over from a snapshot: log, commit and applied index, and configuration."""
        self.log.restore(mark)
        self.commit_index = mark.index
        self.handed_index = mark.index
        self.applied_index = mark.index
        self.set_configuration(mark.configuration)
        self.hard_state_changed()

    def restart_election_timer(self) -> None:
        """Wait a full election timeout, of random length, from now."""
        timeout = self.config.election_timeout_ticks
        self.election_elapsed = 0
        self.election_timeout = timeout + self.draw(timeout)
