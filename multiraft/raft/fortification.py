"""Fortification: followers bind themselves to a leader for as long as its store lives.

Purpose
    Replace heartbeats per group by support between stores. A follower that fortified its leader
    neither campaigns nor votes nor pre-votes for others while its store supports the leader's store
    at the epoch it recorded. The leader's lease is what a quorum of them promises.
Invariants
    - A follower binds itself only at the epoch that the leader names: a delayed Fortify of a leader
      that has restarted since names an older one.
    - (leader, term, epoch) is part of the hard state; FortifyReply leaves after its sync.
    - A follower binds itself only to a member of the configuration in force here. After a restart
      nothing else tells on which store that replica is, so it could not keep the promise.
    - It ends by withdrawal of support, by the leader's own release, or by a leader of a higher
      term; never by a mere higher term number, a split or a snapshot (rule S16).
    - A leader that steps down owes its members a release until each confirmed, or it leads again
      (rule L1); a released term is never fortified again.
    - A Release is matched by leader and term. An epoch in it narrows it; the core sends none,
      since the leader gives up its whole term and cannot know the newest epoch recorded elsewhere.
Source
    Design §7; safety rules S4, S6, S16, L1, L2, L3. CockroachDB's leader leases have the idea.
"""

from typing import TYPE_CHECKING

from multiraft.ids import NO_EPOCH, NO_REPLICA, Epoch, ReplicaId, Term, Timestamp
from multiraft.raft import quorum
from multiraft.raft.messages import (
    Fortify,
    FortifyReply,
    Release,
    ReleaseFortification,
    ReleaseReply,
    StillLeading,
)
from multiraft.raft.progress import BACK_OFF_FACTOR_MAX
from multiraft.raft.ready import HardState
from multiraft.raft.role import Role

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


class Releasing:
    """A leadership that ended here, and who has not confirmed yet that it knows."""

    __slots__ = ("clock", "elapsed_ticks", "pending", "retry_ticks", "term")

    def __init__(
        self, term: Term, clock: Timestamp, pending: dict[ReplicaId, None], retry_ticks: int
    ) -> None:
        self.term = term
        self.clock = clock
        self.pending = pending
        self.retry_ticks = retry_ticks
        self.elapsed_ticks = 0


# --- The follower's side -----------------------------------------------------------------------


def is_bound(core: "RaftCore") -> bool:
    """Return whether this replica may not vote, pre-vote or campaign now.

    A leader is bound by its own live lease only: once that has ended it answers like a follower
    (rule L3).
    """
    if core.role is Role.LEADER:
        return has_lease_quorum(core)
    leader = core.fortified_leader
    return leader != NO_REPLICA and core.support.support_for(leader) == core.fortified_epoch


def accept_fortify(core: "RaftCore", source: ReplicaId, message: Fortify) -> None:
    """Bind to the leader if this store supports its store so, and tell once that is durable."""
    epoch = core.support.support_for(source)
    is_known = source in core.configuration.members
    if is_known and epoch == message.epoch != NO_EPOCH and core.term > core.released_term:
        record(core, source, epoch)
        core.send_after_sync(source, FortifyReply(core.term, epoch))
    else:
        core.send(source, FortifyReply(core.term, NO_EPOCH))


def record(core: "RaftCore", leader: ReplicaId, epoch: Epoch) -> None:
    """Write (leader, present term, epoch) into the hard state."""
    fortified = (core.fortified_leader, core.fortified_term, core.fortified_epoch)
    if fortified == (leader, core.term, epoch):
        return
    core.fortified_leader = leader
    core.fortified_term = core.term
    core.fortified_epoch = epoch
    core.could_campaign = False
    core.hard_state_changed()


def clear(core: "RaftCore") -> None:
    """Bind to nobody."""
    core.fortified_leader = NO_REPLICA
    core.fortified_term = Term(0)
    core.fortified_epoch = NO_EPOCH
    core.hard_state_changed()


def take_release(core: "RaftCore", release: Release) -> None:
    """Let go of a leader that gave up: its clock first, then the fortification (rule S6).

    A release is also the word of a leader of its term, so it ends what is older than that.
    """
    core.forward_clock(release.clock)
    if core.fortified_leader == NO_REPLICA:
        return
    given_up = (
        release.leader == core.fortified_leader
        and release.term == core.fortified_term
        and release.epoch in (NO_EPOCH, core.fortified_epoch)
    )
    if given_up or release.term > core.fortified_term:
        clear(core)


def accept_release(core: "RaftCore", source: ReplicaId, message: ReleaseFortification) -> None:
    """A leader stepped down and tells so; confirm once it is durable here."""
    release = message.release
    take_release(core, release)
    core.released_term = max(core.released_term, release.term)
    if core.leader == release.leader and core.term == release.term and core.role is Role.FOLLOWER:
        core.leader = NO_REPLICA
        core.restart_election_timer()
    core.send_after_sync(source, ReleaseReply(core.term, release.term))


def ask_still_leading(core: "RaftCore") -> bool:
    """Ask the leader this replica is fortified to whether it still leads; see rule L1."""
    if core.fortified_leader in (NO_REPLICA, core.replica_id):
        return False
    core.send(core.fortified_leader, StillLeading(core.fortified_term))
    return True


# --- The leader's side -------------------------------------------------------------------------


def request(core: "RaftCore", member: ReplicaId) -> None:
    """Ask one member to fortify this leader; a leader fortifies itself by the same rule.

    Where there is no support now, its beginning will ask (`support_changed`).
    """
    epoch, _ = core.support.support_from(member)
    if epoch == NO_EPOCH:
        return
    if member == core.replica_id:
        record(core, member, epoch)
    else:
        core.send(member, Fortify(core.term, epoch))


def accept_fortify_reply(core: "RaftCore", source: ReplicaId, message: FortifyReply) -> None:
    """Count a member's promise at the epoch it recorded."""
    assert core.leadership is not None
    progress = core.leadership.progress.get(source)
    if progress is None:
        return
    if message.epoch == NO_EPOCH:
        progress.was_heard()  # It may refuse so often that no append would ever be repeated.
    else:
        progress.answered()
    if message.epoch > progress.fortified_epoch:
        progress.fortified_epoch = message.epoch
        core.lease_version += 1


def own_synced(core: "RaftCore", hard_state: HardState) -> None:
    """The leader's own fortification is durable: it counts from here on."""
    if core.leadership is None or hard_state.fortified_leader != core.replica_id:
        return
    own = core.leadership.progress[core.replica_id]
    if hard_state.fortified_term == core.term and hard_state.fortified_epoch > own.fortified_epoch:
        own.fortified_epoch = hard_state.fortified_epoch
        core.lease_version += 1


def is_fortified_by(core: "RaftCore", member: ReplicaId) -> bool:
    """Return whether `member` is fortified to this leader at its store's present epoch."""
    assert core.leadership is not None
    progress = core.leadership.progress.get(member)
    return (
        progress is not None
        and progress.fortified_epoch != NO_EPOCH
        and core.support.support_from(member)[0] == progress.fortified_epoch
    )


def has_lease_quorum(core: "RaftCore") -> bool:
    """Return whether a quorum is fortified to this leader at present epochs."""
    votes = {voter: is_fortified_by(core, voter) for voter in core.electorate}
    return quorum.vote_result(core.configuration, votes) is quorum.VoteResult.WON


def has_quorum_support(core: "RaftCore") -> bool:
    """Return whether a quorum of stores supports this store, fortified or not (rule L3)."""
    support_from = core.support.support_from
    votes = {voter: support_from(voter)[0] != NO_EPOCH for voter in core.electorate}
    return quorum.vote_result(core.configuration, votes) is quorum.VoteResult.WON


def lease_end(core: "RaftCore") -> Timestamp:
    """Return how far the present quorum's support reaches, and remember it as promised (S4)."""
    leadership = core.leadership
    assert leadership is not None
    ends: dict[ReplicaId, int] = {}
    for member, progress in leadership.progress.items():
        epoch, until = core.support.support_from(member)
        if epoch == progress.fortified_epoch and epoch != NO_EPOCH:
            ends[member] = until
    end = Timestamp(quorum.reached(core.configuration, ends))
    leadership.lease_promised = max(leadership.lease_promised, end)
    return end


def answer_still_leading(core: "RaftCore", source: ReplicaId, message: StillLeading) -> None:
    """The leader asked leads: fortify anew."""
    request(core, source)


def deny_still_leading(core: "RaftCore", source: ReplicaId, message: StillLeading) -> None:
    """Release the asker: this replica does not lead that term, nor ever will again."""
    release = Release(core.replica_id, message.term, NO_EPOCH, Timestamp(0))
    core.send(source, ReleaseFortification(core.term, release))


# --- Releasing ---------------------------------------------------------------------------------


def start_release(core: "RaftCore", clock: Timestamp) -> None:
    """Tell every member that this leadership, which ends now, binds nobody any more."""
    assert core.leadership is not None
    if core.fortified_leader == core.replica_id:
        clear(core)  # It is free to vote at once: its own clock is above all it served.
    pending = {member: None for member in core.leadership.progress if member != core.replica_id}
    if pending:
        core.releasing = Releasing(core.term, clock, pending, core.config.retry_ticks)


def send_releases(core: "RaftCore") -> None:
    """Send, or repeat, what is not confirmed."""
    assert core.releasing is not None
    release = Release(core.replica_id, core.releasing.term, NO_EPOCH, core.releasing.clock)
    for member in core.releasing.pending:
        core.send(member, ReleaseFortification(core.term, release))


def accept_release_reply(core: "RaftCore", source: ReplicaId, message: ReleaseReply) -> None:
    """A member is free."""
    releasing = core.releasing
    if releasing is None or message.released_term != releasing.term:
        return
    releasing.pending.pop(source, None)
    if not releasing.pending:
        core.releasing = None


def release_needs_tick(core: "RaftCore") -> bool:
    """Return whether releases are to be repeated.

    Not while this replica is bound to a later leader, which reaches the others itself; but should
    that leader die before it has, the releases are still owed. Not for ever to stores that are
    gone: their support coming back wakes the core (`support_changed`).
    """
    releasing = core.releasing
    if releasing is None or is_bound(core):
        return False
    if releasing.retry_ticks < core.config.retry_ticks * BACK_OFF_FACTOR_MAX:
        return True
    return any(is_in_touch(core, member) for member in releasing.pending)


def is_in_touch(core: "RaftCore", member: ReplicaId) -> bool:
    """Return whether support exists between the two stores in either direction."""
    support = core.support
    return support.support_from(member)[0] != NO_EPOCH or support.support_for(member) != NO_EPOCH


def release_tick(core: "RaftCore") -> None:
    """Count one tick; repeat the releases when due, at intervals that double."""
    releasing = core.releasing
    if releasing is None or is_bound(core):
        return
    releasing.elapsed_ticks += 1
    if releasing.elapsed_ticks < releasing.retry_ticks:
        return
    releasing.elapsed_ticks = 0
    longest = core.config.retry_ticks * BACK_OFF_FACTOR_MAX
    releasing.retry_ticks = min(releasing.retry_ticks * 2, longest)
    send_releases(core)
