"""The messages of one Raft group, named after the paper and thesis, and what they carry.

Format
    msgpack arrays with integer tags: fields are only ever appended, tags never reused.
"""

import enum

import msgspec

from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp


class EntryKind(enum.IntEnum):
    """What an entry is for. Raft reads only this, never the payload."""

    NOOP = 0
    """Appended by a new leader (thesis 6.4); empty payload."""
    COMMAND = 1
    CONFIGURATION = 2
    """A command that also changes the configuration; it takes effect when applied (rule S5)."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One slot of the log. The payload is opaque: encoded once by the proposer."""

    term: Term
    index: Index
    kind: EntryKind
    payload: bytes


class Release(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Proof that a leader gave up its lease for a transfer (rule S6).

    A voter fortified to exactly this (leader, term, epoch) is free to vote; `clock` is the old
    leader's HLC when it stopped serving, to be taken in first.
    """

    leader: ReplicaId
    term: Term
    epoch: Epoch
    clock: Timestamp


class PreVote(msgspec.Struct, frozen=True, array_like=True, tag=1, gc=False):
    """Would you vote for me at `term`? Changes nothing at the receiver. Thesis 9.6."""

    term: Term
    last_index: Index
    last_term: Term


class PreVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=2, gc=False):
    """`term` is the one asked about when granted, the sender's own when refused.

    (commit_index, commit_term) is the last entry that the sender knows to be committed. A candidate
    that has it learns so: its configuration may be an older one, under which it could never win.
    """

    term: Term
    granted: bool
    commit_index: Index = Index(0)
    commit_term: Term = Term(0)


class RequestVote(msgspec.Struct, frozen=True, array_like=True, tag=3, gc=False):
    """Candidate -> voters. Thesis 3.4. `release` comes with a leadership transfer."""

    term: Term
    last_index: Index
    last_term: Term
    release: Release | None = None


class RequestVoteReply(msgspec.Struct, frozen=True, array_like=True, tag=4, gc=False):
    """A vote, or its refusal with the voter's term."""

    term: Term
    granted: bool


class AppendEntries(msgspec.Struct, frozen=True, array_like=True, tag=5, gc=False):
    """Leader -> follower: append `entries` right after (prev_index, prev_term).

    An empty `entries` is a probe or carries a new commit index. Thesis 3.5.
    """

    term: Term
    prev_index: Index
    prev_term: Term
    entries: tuple[Entry, ...]
    commit_index: Index


class AppendEntriesReply(msgspec.Struct, frozen=True, array_like=True, tag=6, gc=False):
    """Success: `match_index` is durable here and equal to the leader's log up to there.

    Refusal: the entry at `rejected_index` (the probe's prev_index) is missing or differs;
    (hint_index, hint_term) is where the logs may agree, for skipping conflicting terms at once.
    `commit_index` is what is known as committed here (rule L2). It need not be durable, so a
    restart may forget it: `epoch`, at which the sender's store has the receiver's support, tells
    a confirmation from before a restart; 0 in a refusal.
    """

    term: Term
    accepted: bool
    match_index: Index
    commit_index: Index
    rejected_index: Index = Index(0)
    hint_index: Index = Index(0)
    hint_term: Term = Term(0)
    epoch: Epoch = NO_EPOCH


class Fortify(msgspec.Struct, frozen=True, array_like=True, tag=7, gc=False):
    """Leader -> follower: while your store supports mine, do not vote for others.

    `epoch` is the one at which the sender has that support. A message from before a restart of its
    sender names one that is over, so nobody binds itself to a leader that no longer is one.
    """

    term: Term
    epoch: Epoch


class FortifyReply(msgspec.Struct, frozen=True, array_like=True, tag=8, gc=False):
    """`epoch` is the support epoch recorded durably for the leader; 0 when refused."""

    term: Term
    epoch: Epoch


class ReleaseFortification(msgspec.Struct, frozen=True, array_like=True, tag=9, gc=False):
    """A leader that stepped down -> members, repeated until confirmed (rule L1)."""

    term: Term
    release: Release


class ReleaseReply(msgspec.Struct, frozen=True, array_like=True, tag=10, gc=False):
    """Confirms a ReleaseFortification: nothing here is fortified to that (leader, term, epoch)."""

    term: Term
    released_term: Term


class TimeoutNow(msgspec.Struct, frozen=True, array_like=True, tag=11, gc=False):
    """Old leader -> transfer target: campaign at once. Thesis 3.10, rule S6."""

    term: Term
    release: Release


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=12, gc=False):
    """The data up to (last_index, last_term) lies ready at the receiver; install it.

    The host streams the data first and then steps this message locally. Thesis 5.
    """

    term: Term
    last_index: Index
    last_term: Term
    configuration: "Configuration"


class StillLeading(msgspec.Struct, frozen=True, array_like=True, tag=13, gc=False):
    """Fortified follower -> leader: do you still lead `term`? Rule L1.

    Answered by Fortify when it does, by ReleaseFortification when it does not.
    """

    term: Term


class ReadIndex(msgspec.Struct, frozen=True, array_like=True, tag=14, gc=False):
    """Leader -> voters: am I still leader? `context` is fresh for each attempt. Thesis 6.4."""

    term: Term
    context: int


class ReadIndexReply(msgspec.Struct, frozen=True, array_like=True, tag=15, gc=False):
    """Confirms that the sender has seen no higher term, for this very `context`."""

    term: Term
    context: int


class Configuration(msgspec.Struct, frozen=True, array_like=True):
    """Who votes. Joint while `outgoing` is not empty: both halves must agree (thesis 4.3).

    Tuples are sorted. A replica leaving the voters is in `outgoing` and, after the joint
    configuration, among `learners` (demotion first).
    """

    voters: tuple[ReplicaId, ...]
    outgoing: tuple[ReplicaId, ...] = ()
    learners: tuple[ReplicaId, ...] = ()

    @property
    def is_joint(self) -> bool:
        """Whether two majorities are needed."""
        return bool(self.outgoing)

    @property
    def members(self) -> tuple[ReplicaId, ...]:
        """Every replica that gets the log, sorted."""
        return tuple(sorted({*self.voters, *self.outgoing, *self.learners}))


Message = (
    PreVote
    | PreVoteReply
    | RequestVote
    | RequestVoteReply
    | AppendEntries
    | AppendEntriesReply
    | Fortify
    | FortifyReply
    | ReleaseFortification
    | ReleaseReply
    | TimeoutNow
    | InstallSnapshot
    | StillLeading
    | ReadIndex
    | ReadIndexReply
)


class Envelope(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A message on its way between two replicas of one range."""

    source: ReplicaId
    target: ReplicaId
    message: Message
