"""ReadIndex: prove leadership without a clock, by one round to a quorum.

For replica administration and tests; keys are served under the lease only (rule A3).

Invariants
    - No read before an entry of the leader's own term is committed (T8).
    - A context is used once: an answer to an earlier attempt confirms nothing later (T9).
Source
    Raft thesis 6.4.
"""

from typing import TYPE_CHECKING

from multiraft.ids import ReplicaId
from multiraft.raft import election, membership, quorum
from multiraft.raft.leadership import PendingRead
from multiraft.raft.messages import ReadIndex, ReadIndexReply
from multiraft.raft.ready import ReadState

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


def request(core: "RaftCore", context: int) -> bool:
    """Start an attempt; False where this replica cannot tell. Lost messages: attempt again."""
    leadership = core.leadership
    if leadership is None or core.commit_index < leadership.noop_index:
        return False
    assert context > leadership.read_context_last, "every attempt has a context of its own"
    leadership.read_context_last = context
    leadership.reads[context] = PendingRead(core.commit_index)
    for voter in membership.other_voters(core):
        core.send(voter, ReadIndex(core.term, context))
    _confirm(core, core.replica_id, context)
    return True


def answer(core: "RaftCore", source: ReplicaId, message: ReadIndex) -> None:
    """Confirm that no higher term is known here."""
    election.hear_leader(core, source)
    core.send(source, ReadIndexReply(core.term, message.context))


def accept_reply(core: "RaftCore", source: ReplicaId, message: ReadIndexReply) -> None:
    """Count a confirmation."""
    _confirm(core, source, message.context)


def _confirm(core: "RaftCore", voter: ReplicaId, context: int) -> None:
    leadership = core.leadership
    assert leadership is not None
    read = leadership.reads.get(context)
    if read is None:
        return
    read.confirmed[voter] = True
    won = quorum.vote_result(core.configuration, read.confirmed) is quorum.VoteResult.WON
    if not won:
        return
    # A round that began later confirms every attempt before it.
    for earlier in [each for each in leadership.reads if each <= context]:
        core.reads.append(ReadState(earlier, leadership.reads.pop(earlier).index))
