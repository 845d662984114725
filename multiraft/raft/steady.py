"""The common case of a message, done at once: nothing is pending, and nobody was mistaken.

Purpose
    A range that gets one write at a time pays for each of them with a message and an answer per
    follower. The general way asks in a dozen places what might be different; here that is asked
    once, and where nothing is, message and Ready are one step.
Invariants
    - What is done, and the Ready, are what `RaftCore.step` and `RaftCore.take_ready` would have
      come to. Where that is not certain, nothing is changed, and the general way is left to do it.
Source
    test_steady.py compares the two.
"""

from typing import TYPE_CHECKING

from multiraft.ids import NO_EPOCH, ReplicaId
from multiraft.raft import election, replication
from multiraft.raft.messages import AppendEntries, AppendEntriesReply, Entry, Envelope
from multiraft.raft.progress import ProgressState
from multiraft.raft.ready import Ready
from multiraft.raft.role import Role

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore

NOTHING = Ready()
"""The message was taken, and there is nothing to carry out."""


def follow(core: "RaftCore", source: ReplicaId, message: AppendEntries) -> Ready | None:
    """Append what comes next from the leader that this follower is fortified to."""
    log, entries = core.log, message.entries
    if (
        not entries
        or message.term != core.term
        or message.prev_index != log.last_index
        or message.prev_term != log.last_term
        or core.role is not Role.FOLLOWER
        or core.leader != source
        or core.fortified_leader != source
        or core.fortified_term != core.term
        or core.has_ready()
    ):
        return None
    election.hear_leader(core, source)
    log.extend_written(entries)
    core.matched_index = match_index = log.last_index
    hard_state = None
    committed: tuple[Entry, ...] = ()
    if message.commit_index > core.commit_index:
        core.commit_index = min(message.commit_index, match_index)
        hard_state = core.hard_state()
        committed = core.hand_out()
    epoch, _ = core.support.support_from(source)
    reply = AppendEntriesReply(core.term, True, match_index, core.commit_index, epoch=epoch)
    return Ready(
        entries=entries,
        hard_state=hard_state,
        messages_after_sync=(Envelope(core.replica_id, source, reply),),
        committed=committed,
        must_sync=True,
    )


def count_answer(core: "RaftCore", source: ReplicaId, message: AppendEntriesReply) -> Ready | None:
    """Take in what a follower has that lacks nothing but answers, and commit if that is enough.

    Not while this term has committed nothing yet: with its first entry an election ends, and for
    that the host looks at more than what is applied.
    """
    leadership = core.leadership
    if (
        leadership is None
        or not message.accepted
        or message.term != core.term
        or leadership.transfer_target
        or core.commit_index < leadership.noop_index
        or core.has_ready()
    ):
        return None
    progress = leadership.progress.get(source)
    if (
        progress is None
        or progress.state is not ProgressState.REPLICATE
        or progress.fortified_epoch == NO_EPOCH
        or progress.next_index <= core.log.last_index
    ):
        return None
    replication.accept_reply(core, source, message)
    if core.handed_index == core.commit_index:
        return NOTHING
    core.hard_state_unwritten = False
    return Ready(hard_state=core.hard_state(), committed=core.hand_out())
