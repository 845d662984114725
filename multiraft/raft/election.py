"""Elections: timers, pre-votes, votes, and the changes of role they cause.

Purpose
    A replica without a leader asks whether it would win (pre-vote); if so it raises its term and
    asks for votes; with a quorum it leads and appends a no-op.
Invariants
    - At most one vote per term, durable before it leaves; a candidate's own included, and it counts
      only once it is synced (rule S14).
    - Whoever is bound by fortification neither campaigns nor votes nor pre-votes, and does not let
      a vote request raise its term (thesis 4.2.3: disruptive servers).
    - No campaign while a committed change of the configuration is not applied (rule S5), nor
      without the support of a quorum of stores (rule L3).
    - No replica becomes leader twice in one term (rule S1).
Source
    Raft paper 5.2, 5.4.1; thesis 3.4, 4.2.3, 9.6.
"""

from typing import TYPE_CHECKING

from multiraft.ids import NO_EPOCH, NO_REPLICA, Index, ReplicaId, Term, Timestamp
from multiraft.raft import fortification, membership, quorum, replication
from multiraft.raft.leadership import Leadership
from multiraft.raft.messages import (
    Entry,
    EntryKind,
    PreVote,
    PreVoteReply,
    Release,
    RequestVote,
    RequestVoteReply,
)
from multiraft.raft.role import Role

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


# --- Timers ------------------------------------------------------------------------------------


def timer_runs(core: "RaftCore") -> bool:
    """Return whether this replica, not a leader, waits for its election timeout."""
    return membership.is_voter(core) and not fortification.is_bound(core)


def tick(core: "RaftCore") -> None:
    """Count one tick of a replica that does not lead; campaign when the time is up."""
    if core.election_held or not timer_runs(core):
        return
    core.election_elapsed += 1
    if core.election_elapsed < core.election_timeout:
        return
    if not campaign(core):
        _shorten_timer(core)


def support_changed(core: "RaftCore") -> None:
    """Campaign soon, but not all groups at once, if this replica has just become free to.

    A replica that restarted bound may have been removed meanwhile, and nobody would tell it: a
    leader does not talk to what is no member, and whoever is bound asks nobody for votes.
    """
    if core.leader_unheard and fortification.is_bound(core):
        fortification.ask_still_leading(core)
    could = core.could_campaign
    core.could_campaign = (
        timer_runs(core) and has_lost_leader(core) and fortification.has_quorum_support(core)
    )
    if core.could_campaign and not could:
        _shorten_timer(core)


def resume(core: "RaftCore") -> bool:
    """Other groups have had their elections: it is this one's turn, unless nothing can be won.

    A leader that is only remembered from before a restart has had the time to show that it leads.
    """
    core.election_held = False
    core.election_urged = False
    if not fortification.has_quorum_support(core):
        return False
    if core.leader_unheard or has_lost_leader(core):
        campaign(core)
    return True


def has_lost_leader(core: "RaftCore") -> bool:
    """Return whether there is no leader as far as is known, or its store is taken for dead.

    A follower that never came to fortify its leader is free, but has no reason to campaign.
    """
    return (
        core.leader in (NO_REPLICA, core.replica_id)
        or core.support.support_for(core.leader) == NO_EPOCH
    )


def _shorten_timer(core: "RaftCore") -> None:
    core.election_elapsed = 0
    core.election_timeout = 1 + core.draw(core.config.support_loss_jitter_ticks)


def _start_retry_timer(core: "RaftCore") -> None:
    """Between two attempts: long enough for the others to have theirs first.

    Twice as long after every attempt that ended undecided, up to an election timeout: where votes
    take long to be synced and sent, elections would be cut short for ever.
    """
    config = core.config
    doublings = max(0, core.attempts_undecided - 1)
    jitter = min(config.support_loss_jitter_ticks << doublings, config.election_timeout_ticks)
    core.election_elapsed = 0
    core.election_timeout = 1 + jitter + core.draw(jitter)


# --- Changes of role ---------------------------------------------------------------------------


def become_follower(core: "RaftCore", term: Term, leader: ReplicaId) -> None:
    """Follow `leader`, or nobody yet, at `term`, which is never lower than the present one."""
    assert term >= core.term, "a term never goes back"
    was_leading = core.role is Role.LEADER
    if was_leading:
        step_down(core, Timestamp(0))
    if term > core.term:
        core.term = term
        core.vote = NO_REPLICA
        core.matched_index = Index(0)
        core.acknowledge_to = NO_REPLICA
        core.hard_state_changed()
    was_asking = core.role is not Role.FOLLOWER and not was_leading
    core.role = Role.FOLLOWER
    core.leader = leader
    core.votes = None
    core.release = None
    if was_asking and leader == NO_REPLICA:
        _start_retry_timer(core)  # A newer term is no leader yet, and perhaps nobody's attempt.
    else:
        core.restart_election_timer()
    if was_leading and core.releasing is not None:
        fortification.send_releases(core)


def step_down(core: "RaftCore", clock: Timestamp) -> None:
    """End this leadership for good in its term, and owe every member its release (rule L1)."""
    fortification.start_release(core, clock)
    core.leadership = None
    core.role = Role.FOLLOWER
    core.leader = NO_REPLICA
    core.replicate = False
    core.commit_untold = False
    core.lease_version += 1
    core.restart_election_timer()


def may_campaign(core: "RaftCore") -> bool:
    """Return whether rules allow this replica to ask for votes now."""
    return (
        core.role is not Role.LEADER
        and timer_runs(core)
        and fortification.has_quorum_support(core)
        and not membership.has_unapplied_configuration(core)
    )


def campaign(core: "RaftCore") -> bool:
    """Start a pre-vote; return False where `may_campaign` forbids it."""
    if not may_campaign(core):
        return False
    core.role = Role.PRE_CANDIDATE
    core.attempts_undecided += 1
    core.leader = NO_REPLICA
    core.votes = {core.replica_id: True}
    core.release = None
    _start_retry_timer(core)
    message = PreVote(Term(core.term + 1), core.log.last_index, core.log.last_term)
    for voter in membership.other_voters(core):
        core.send(voter, message)
    _count_pre_votes(core)
    return True


def become_candidate(core: "RaftCore", release: Release | None) -> None:
    """Raise the term, vote for itself and ask the others, all of it after the sync (rule S14)."""
    assert core.role is not Role.LEADER, "a leader does not campaign"
    core.term = Term(core.term + 1)
    core.vote = core.replica_id
    core.role = Role.CANDIDATE
    core.leader = NO_REPLICA
    core.votes = {}  # Its own vote is counted by vote_synced().
    core.release = release
    core.matched_index = Index(0)
    core.acknowledge_to = NO_REPLICA
    core.hard_state_changed()
    # Not a whole election timeout: when two candidates split the votes of those who are left,
    # nobody else will answer, and every range of a dead node may be waiting.
    _start_retry_timer(core)
    message = RequestVote(core.term, core.log.last_index, core.log.last_term, release)
    for voter in membership.other_voters(core):
        core.send_after_sync(voter, message)


def vote_synced(core: "RaftCore", term: Term, vote: ReplicaId) -> None:
    """The hard state with this vote is durable: a candidate's own vote counts from here on."""
    if core.role is Role.CANDIDATE and term == core.term and vote == core.replica_id:
        assert core.votes is not None
        core.votes[vote] = True
        _count_votes(core)


def become_leader(core: "RaftCore") -> None:
    """Lead this term: append the no-op, send it to everyone, ask for fortification."""
    assert core.vote == core.replica_id, "a leader has voted for itself in its term"
    assert core.led_term < core.term, "no replica becomes leader twice in one term (rule S1)"
    core.led_term = core.term
    core.attempts_undecided = 0
    core.role = Role.LEADER
    core.leader = core.replica_id
    core.votes = None
    core.release = None
    core.releasing = None  # A leader of a higher term fortifies everybody anew.
    noop_index = Index(core.log.last_index + 1)
    leadership = Leadership(noop_index)
    for member in core.configuration.members:
        leadership.progress[member] = replication.track(core, member, noop_index)
    core.leadership = leadership
    core.log.append(Entry(core.term, noop_index, EntryKind.NOOP, b""))
    core.replicate = True
    core.lease_version += 1
    for member in leadership.progress:
        fortification.request(core, member)


def check_quorum(core: "RaftCore") -> None:
    """Step down when no lease has been possible for an election timeout and no quorum is heard.

    All members are asked to fortify when that time begins. One that cannot, as it waits for its
    first snapshot, refuses, and so is heard: nothing else may be sent to it in that time.
    What was proposed here could never commit; clients are better served by "no leader".
    """
    leadership = core.leadership
    if leadership is None:
        return
    if fortification.has_lease_quorum(core):
        leadership.quorum_lost_ticks = 0
        return
    if leadership.quorum_lost_ticks == 0:
        for member, progress in leadership.progress.items():
            progress.heard = False
            fortification.request(core, member)
    leadership.quorum_lost_ticks += 1
    if leadership.quorum_lost_ticks < core.config.election_timeout_ticks:
        return
    leadership.quorum_lost_ticks = 0
    heard = {member: progress.heard for member, progress in leadership.progress.items()}
    heard[core.replica_id] = True
    if quorum.vote_result(core.configuration, heard) is not quorum.VoteResult.WON:
        core.step_down()


# --- Pre-votes ---------------------------------------------------------------------------------


def consider_pre_vote(core: "RaftCore", source: ReplicaId, message: PreVote) -> None:
    """Answer whether this replica would vote so; that changes neither term nor vote (thesis 9.6).

    But it tells a free replica whose log is better that the other is free, too, and cannot win: it
    is time to ask for itself, even if it did so a moment ago when the other was still bound.
    """
    is_up_to_date = core.log.is_up_to_date(message.last_index, message.last_term)
    granted = (
        message.term > core.term
        and not fortification.is_bound(core)
        and is_up_to_date
        and not _goes_first(core, source, message)
    )
    commit_term = core.log.term(core.commit_index)
    assert commit_term is not None, "the log is never truncated above the commit index"
    term = message.term if granted else core.term
    core.send(source, PreVoteReply(term, granted, core.commit_index, commit_term))
    may_ask = core.role in (Role.FOLLOWER, Role.PRE_CANDIDATE) and has_lost_leader(core)
    if may_ask and not is_up_to_date:
        core.election_timeout = min(core.election_timeout, core.election_elapsed + 1)
        core.election_urged = core.election_held


def learn_commit(core: "RaftCore", source: ReplicaId, message: PreVoteReply) -> None:
    """Commit what the sender knows to be committed, as far as it is in the log here.

    An old configuration may be in force here only because a commit index was lost: the leaders of
    the next one may be gone, and its learners refuse a log that is shorter than theirs for ever.
    What is committed stays so, hence the term of the answer does not matter.
    """
    if message.commit_index > core.commit_index and core.log.matches(
        message.commit_index, message.commit_term
    ):
        core.commit_to(message.commit_index)


def _goes_first(core: "RaftCore", source: ReplicaId, message: PreVote) -> bool:
    """Return whether this replica asks for the same term with as good a log and a lower ID.

    If both were granted, they would split the votes, and where the others are dead nobody would win
    that term. The one that is refused grants the other's request, so one of them goes on; unless it
    was refused already, as by one that was still bound: then it makes way.
    """
    return (
        core.role is Role.PRE_CANDIDATE
        and core.votes is not None
        and all(core.votes.values())
        and core.replica_id < source
        and message.term == core.term + 1
        and (core.log.last_index, core.log.last_term) == (message.last_index, message.last_term)
    )


def count_pre_vote(core: "RaftCore", source: ReplicaId, message: PreVoteReply) -> None:
    """Take in an answer about the next term, and what it says is committed."""
    learn_commit(core, source, message)
    assert core.votes is not None
    if message.granted and message.term != core.term + 1:
        return
    core.votes[source] = message.granted
    _count_pre_votes(core)


def _count_pre_votes(core: "RaftCore") -> None:
    assert core.votes is not None
    result = quorum.vote_result(core.configuration, core.votes)
    if result is quorum.VoteResult.WON:
        if may_campaign(core):
            become_candidate(core, None)
    elif result is quorum.VoteResult.LOST:
        _give_up(core)


# --- Votes -------------------------------------------------------------------------------------


def admits_vote_request(core: "RaftCore", source: ReplicaId, message: RequestVote) -> bool:
    """Return whether a vote request of a higher term may raise the term here.

    Not while bound to a leader, unless the request proves that this very leader released.
    """
    if message.release is not None:
        fortification.take_release(core, message.release)
    return not fortification.is_bound(core)


def consider_vote(core: "RaftCore", source: ReplicaId, message: RequestVote) -> None:
    """Vote, at most once in this term, for a candidate whose log is as good as ours."""
    granted = (
        core.vote in (NO_REPLICA, source)
        and core.leader == NO_REPLICA
        and not fortification.is_bound(core)
        and core.log.is_up_to_date(message.last_index, message.last_term)
    )
    if granted:
        if core.vote == NO_REPLICA:
            core.vote = source
            core.hard_state_changed()
        if core.role is Role.PRE_CANDIDATE:
            become_follower(core, core.term, NO_REPLICA)
        core.restart_election_timer()
    core.send_after_sync(source, RequestVoteReply(core.term, granted))


def count_vote(core: "RaftCore", source: ReplicaId, message: RequestVoteReply) -> None:
    """Take in a vote of this term."""
    assert core.votes is not None
    core.votes[source] = message.granted
    _count_votes(core)


def _count_votes(core: "RaftCore") -> None:
    assert core.votes is not None
    result = quorum.vote_result(core.configuration, core.votes)
    if result is quorum.VoteResult.WON:
        become_leader(core)
    elif result is quorum.VoteResult.LOST:
        _give_up(core)


def _give_up(core: "RaftCore") -> None:
    core.role = Role.FOLLOWER
    core.attempts_undecided = 0
    core.votes = None
    core.release = None
    _start_retry_timer(core)


# --- Meeting a leader --------------------------------------------------------------------------


def hear_leader(core: "RaftCore", source: ReplicaId) -> None:
    """Take `source` for the leader of the present term; its followers' timers start over.

    A leader of a higher term ends an older fortification: its electors have already denied the old
    leader a quorum.
    """
    assert core.role is not Role.LEADER, "two leaders in one term"
    core.election_elapsed = 0
    core.attempts_undecided = 0
    core.could_campaign = False
    core.leader_unheard = False
    if core.role is not Role.FOLLOWER:
        become_follower(core, core.term, source)
    if core.leader != source:
        assert core.leader == NO_REPLICA, "two leaders in one term"
        core.leader = source
    if core.fortified_leader != NO_REPLICA and core.fortified_term < core.term:
        fortification.clear(core)
