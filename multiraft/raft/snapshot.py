"""Snapshots, as far as consensus is concerned: their metadata. The host moves the data.

Invariants
    - A snapshot at or below the commit index changes nothing; the answer says what is here.
    - Installing one never touches term, vote or fortification (rule S16), and the answer leaves
      after the sync of the Ready that carries it.
    - Log and snapshot meet: after it the log begins right behind the mark (T19).
Source
    Raft paper 7.
"""

from typing import TYPE_CHECKING

from multiraft.ids import Index, ReplicaId
from multiraft.raft import election
from multiraft.raft.messages import InstallSnapshot
from multiraft.raft.progress import ProgressState
from multiraft.raft.ready import SnapshotMark

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


def accept_snapshot(core: "RaftCore", source: ReplicaId, message: InstallSnapshot) -> None:
    """Install unless it is old, or the log already reaches its mark."""
    election.hear_leader(core, source)
    if message.last_index > core.commit_index:
        if core.log.term(message.last_index) == message.last_term:
            core.commit_to(message.last_index)
        else:
            mark = SnapshotMark(message.last_index, message.last_term, message.configuration)
            core.restore(mark)
    core.matched_index = max(core.matched_index, core.commit_index)
    core.acknowledge_to = source


def report(core: "RaftCore", member: ReplicaId, *, delivered: bool) -> None:
    """The host has delivered the snapshot to `member`, or could not.

    Delivered: probe downwards from the end, the refusal's hint finds where it stands. Otherwise
    the next retry starts again from what is known.
    """
    if core.leadership is None:
        return
    progress = core.leadership.progress.get(member)
    if progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if delivered:
        progress.become_probe(Index(core.log.last_index + 1))
        core.replicate = True
    else:
        progress.become_probe(Index(progress.match_index + 1))
        progress.probe_sent = True
