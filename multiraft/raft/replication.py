"""Log replication: appends, their answers, and the commit index.

Purpose
    Leader: stream entries to every member, several Readys ahead of the answers, and commit what a
    quorum holds durably. Follower: take what fits, refuse what does not with a hint.
Invariants
    - Only entries of the leader's own term are committed by counting (paper 5.4.2, Figure 8).
    - An accepting answer vouches for entries that are durable when it leaves (rules S14, A1).
    - A follower commits no further than it knows its log to agree with this leader's (T7).
    - A member is *behind* until it is known to have the last entry, the commit index, and
      fortification at its store's present epoch; meanwhile the leader repeats (rule L2).
Source
    Raft paper 5.3, 5.4; thesis 3.5, 10.2.1.
"""

from typing import TYPE_CHECKING

from multiraft.ids import NO_EPOCH, NO_REPLICA, Index, ReplicaId
from multiraft.raft import election, fortification, quorum, transfer
from multiraft.raft.messages import AppendEntries, AppendEntriesReply, Entry
from multiraft.raft.progress import Progress, ProgressState

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore

Appends = dict[Index, tuple[AppendEntries, int]]
"""What was made for one Ready, by the first index in it, and its payload bytes."""


# --- The leader sends --------------------------------------------------------------------------


def send_appends(core: "RaftCore", *, tell_commit: bool) -> None:
    """Send every member what it lacks, as far as its window allows.

    Members that lack only the commit index are left for later unless `tell_commit`.
    """
    assert core.leadership is not None
    core.replicate = False
    core.commit_untold = False
    made: Appends = {}
    last_index, commit_index, config = core.log.last_index, core.commit_index, core.config
    for member, progress in core.leadership.progress.items():
        if member == core.replica_id:
            continue
        while progress.next_index <= last_index and progress.may_send(config):
            if not _send_append(core, member, progress, made):
                break
        if progress.next_index <= last_index:
            continue
        is_probed = progress.state is ProgressState.PROBE
        if (is_probed or progress.commit_sent < commit_index) and progress.may_send(config):
            if is_probed or tell_commit:
                _send_append(core, member, progress, made)
            else:
                core.commit_untold = True


def _send_append(core: "RaftCore", member: ReplicaId, progress: Progress, made: Appends) -> bool:
    """Send one append, or ask the host for a snapshot when the log begins too late."""
    low = progress.next_index
    append = made.get(low)
    if append is None:
        append = _append_from(core, low)
        if append is None:
            _request_snapshot(core, member, progress)
            return False
        made[low] = append
    message, size = append
    core.send(member, message)
    progress.sent(Index(message.prev_index + len(message.entries)), size, message.commit_index)
    return True


def _append_from(core: "RaftCore", low: Index) -> tuple[AppendEntries, int] | None:
    """Return an append that begins at `low`, and its payload bytes; None if the log does not."""
    log = core.log
    prev_index = Index(low - 1)
    prev_term = log.term(prev_index)
    if prev_term is None:
        return None
    entries: tuple[Entry, ...] = ()
    size = 0
    if low <= log.last_index:
        entries, size = log.slice(low, Index(log.last_index + 1), core.config.append_bytes_max)
    return AppendEntries(core.term, prev_index, prev_term, entries, core.commit_index), size


def _request_snapshot(core: "RaftCore", member: ReplicaId, progress: Progress) -> None:
    """Have the host stream a snapshot, unless the member's store is gone."""
    assert core.leadership is not None
    if fortification.is_in_touch(core, member):
        progress.become_snapshot()
        core.leadership.snapshot_targets.append(member)
    else:
        progress.become_probe(progress.next_index)
        progress.probe_sent = True


def track(core: "RaftCore", member: ReplicaId, next_index: Index) -> Progress:
    """Return what a leader knows of a member at first: nothing, except of itself."""
    progress = Progress(next_index, core.config)
    progress.store_epoch = core.support.support_for(member)
    if member == core.replica_id:
        progress.match_index = core.log.durable_index
        progress.become_replicate()
    return progress


# --- The leader hears --------------------------------------------------------------------------


def accept_reply(core: "RaftCore", source: ReplicaId, message: AppendEntriesReply) -> None:
    """Take in what a member has, or where its log may meet ours."""
    leadership = core.leadership
    assert leadership is not None
    progress = leadership.progress.get(source)
    if progress is None:
        return
    progress.answered()
    if not message.accepted:
        _back_track(core, progress, message)
        return
    if (
        message.commit_index > progress.commit_known
        and message.epoch == core.support.support_for(source) != NO_EPOCH
    ):
        progress.commit_known = message.commit_index
    assert message.match_index <= core.log.last_index, "a member has what its leader has not"
    if progress.acknowledge(message.match_index) and message.match_index > core.commit_index:
        advance_commit(core)
    if progress.state is not ProgressState.REPLICATE:
        _leave_probe(core, progress)
    if progress.next_index <= core.log.last_index:
        core.replicate = True
    elif message.commit_index == core.applied_index == core.log.last_index:
        trim_log(core)  # Nothing more may come for a long time: do not hold on to the end.
        if progress.fortified_epoch == NO_EPOCH:
            fortification.request(core, source)  # It may have learned only now that we are members.
    if source == leadership.transfer_target:
        transfer.finish_if_caught_up(core)


def _leave_probe(core: "RaftCore", progress: Progress) -> None:
    """The logs meet at the match: stream, unless what follows is only in a snapshot."""
    if core.log.term(progress.match_index) is not None:
        progress.become_replicate()
        core.replicate = True


def _back_track(core: "RaftCore", progress: Progress, message: AppendEntriesReply) -> None:
    """Move the next probe down, over whole terms that conflict (paper 5.3)."""
    rejected = message.rejected_index
    if progress.state is ProgressState.REPLICATE:
        if rejected <= progress.match_index:
            return  # An old answer: it has been overtaken.
        progress.become_probe(Index(progress.match_index + 1))
    elif progress.state is ProgressState.PROBE and rejected == progress.next_index - 1:
        meeting, _ = core.log.last_with_term_at_most(message.hint_index, message.hint_term)
        progress.become_probe(min(rejected, Index(meeting + 1)))
    else:
        return
    core.replicate = True


def advance_commit(core: "RaftCore") -> None:
    """Commit what a quorum has durably, if it is of this term (Figure 8)."""
    leadership = core.leadership
    assert leadership is not None
    ahead = 0
    for progress in leadership.progress.values():
        if progress.match_index > core.commit_index:
            ahead += 1
    if ahead <= len(core.configuration.voters) // 2:
        return  # Most answers come before there can be a quorum: no need to ask which index it has.
    matches = {member: progress.match_index for member, progress in leadership.progress.items()}
    index = quorum.reached(core.configuration, matches)
    if index > core.commit_index and index >= leadership.noop_index:
        core.commit_to(Index(index))
        core.commit_untold = True


def trim_log(core: "RaftCore") -> None:
    """Give back the memory of applied entries, but keep what a member being streamed to lacks."""
    assert core.leadership is not None
    needed_after = core.applied_index
    for progress in core.leadership.progress.values():
        if progress.state is ProgressState.REPLICATE and progress.match_index < needed_after:
            needed_after = progress.match_index
    core.log.trim(needed_after, core.applied_index)


def own_sync(core: "RaftCore") -> None:
    """The leader's own log became durable further: that counts like a member's answer."""
    assert core.leadership is not None
    progress = core.leadership.progress[core.replica_id]
    progress.match_index = core.log.durable_index
    if progress.match_index > core.commit_index:
        advance_commit(core)


def report_unreachable(core: "RaftCore", member: ReplicaId) -> None:
    """Messages to `member` were dropped: probe from the match, with the next retry."""
    if core.leadership is None:
        return
    progress = core.leadership.progress.get(member)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe(Index(progress.match_index + 1))
        progress.probe_sent = progress.match_index < core.log.last_index


# --- The leader waits --------------------------------------------------------------------------


def is_behind(core: "RaftCore", member: ReplicaId, progress: Progress) -> bool:
    """Return whether anything is owed to `member` (rule L2); to itself only fortification."""
    if member != core.replica_id and (
        progress.match_index != core.log.last_index or progress.commit_known != core.commit_index
    ):
        return True
    return not fortification.is_fortified_by(core, member)


def needs_tick(core: "RaftCore") -> bool:
    """Return whether a leader has something to repeat or to give up.

    A member that never answered and whose store is gone is left alone, once its retries have backed
    off; support coming back wakes the core.
    """
    leadership = core.leadership
    assert leadership is not None
    if leadership.transfer_target:
        return True
    given_up = False
    for member, progress in leadership.progress.items():
        if is_behind(core, member, progress):
            if not progress.backed_off or fortification.is_in_touch(core, member):
                return True
            given_up = True
    return given_up and not fortification.has_lease_quorum(core)


def support_changed(core: "RaftCore") -> None:
    """Fortify anew where support began or changed its epoch (rule L3).

    A member whose store restarted may have forgotten the commit index it confirmed, which is
    written without a sync: it is told again.
    """
    assert core.leadership is not None
    for member, progress in core.leadership.progress.items():
        store_epoch = core.support.support_for(member)
        if store_epoch != progress.store_epoch and member != core.replica_id:
            progress.store_epoch = store_epoch
            progress.commit_known = Index(0)
        if is_behind(core, member, progress):
            progress.answered()
            repeat(core, member, progress)


def tick(core: "RaftCore") -> None:
    """Repeat to each member that is behind and silent.

    The request for fortification also to one that talks: under load a member never falls silent,
    and what it answers says nothing about a request that was lost, or came before it could agree.
    """
    assert core.leadership is not None
    for member, progress in core.leadership.progress.items():
        if not is_behind(core, member, progress):
            continue
        if progress.retry_due():
            repeat(core, member, progress)
        elif progress.fortification_due() and not fortification.is_fortified_by(core, member):
            fortification.request(core, member)


def repeat(core: "RaftCore", member: ReplicaId, progress: Progress) -> None:
    """Owe `member` everything again that it has not confirmed."""
    if not fortification.is_fortified_by(core, member):
        fortification.request(core, member)
    if member == core.replica_id or progress.state is ProgressState.SNAPSHOT:
        return
    if progress.state is ProgressState.PROBE:
        progress.probe_sent = False
    elif progress.match_index < core.log.last_index:
        progress.become_probe(Index(progress.match_index + 1))
    else:
        progress.become_replicate()
    progress.commit_sent = progress.commit_known
    core.replicate = True


# --- The follower ------------------------------------------------------------------------------


def accept_entries(core: "RaftCore", source: ReplicaId, message: AppendEntries) -> None:
    """Append what follows our log, or refuse; the answer is made with the next Ready."""
    election.hear_leader(core, source)
    prev_index = message.prev_index
    entries = message.entries
    if prev_index < core.commit_index:
        # An old message, or the log before is compacted. What is committed agrees anyway (T6).
        entries = tuple([entry for entry in entries if entry.index > core.commit_index])
        prev_index = core.commit_index
    elif core.log.term(prev_index) != message.prev_term:
        _refuse(core, source, message)
        return
    if entries:
        core.log.accept(entries, core.commit_index)
    core.matched_index = max(core.matched_index, Index(prev_index + len(entries)))
    commit_index = min(message.commit_index, core.matched_index)
    if commit_index > core.commit_index:
        core.commit_to(commit_index)
    core.acknowledge_to = source


def _refuse(core: "RaftCore", source: ReplicaId, message: AppendEntries) -> None:
    hint_index, hint_term = core.log.last_with_term_at_most(message.prev_index, message.prev_term)
    reply = AppendEntriesReply(
        term=core.term,
        accepted=False,
        match_index=Index(0),
        commit_index=core.commit_index,
        rejected_index=message.prev_index,
        hint_index=hint_index,
        hint_term=hint_term,
    )
    core.send(source, reply)


def acknowledge(core: "RaftCore") -> None:
    """Answer all appends taken since the last Ready at once.

    Where everything vouched for is durable already, as after a message that carried only a commit
    index, no sync is owed.
    """
    leader = core.acknowledge_to
    core.acknowledge_to = NO_REPLICA
    reply = AppendEntriesReply(
        core.term,
        True,
        core.matched_index,
        core.commit_index,
        epoch=core.support.support_from(leader)[0],
    )
    if core.log.durable_index >= core.matched_index:
        core.send(leader, reply)
    else:
        core.send_after_sync(leader, reply)
