"""Which function takes which message: the index of the implementation.

Three tables, each complete (tests/raft/test_dispatch.py): what a message of a newer term does to
ours, what is answered to one of an older term, and who takes one of this term in each role.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from multiraft.ids import NO_REPLICA, Index, ReplicaId
from multiraft.raft import election, fortification, read_index, replication, snapshot, transfer
from multiraft.raft.messages import (
    AppendEntries,
    AppendEntriesReply,
    Fortify,
    FortifyReply,
    InstallSnapshot,
    PreVote,
    PreVoteReply,
    ReadIndex,
    ReadIndexReply,
    ReleaseFortification,
    ReleaseReply,
    RequestVote,
    RequestVoteReply,
    StillLeading,
    TimeoutNow,
)
from multiraft.raft.role import Role

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore

# The message's type is the key, so each function gets the type it names.
Handler = Callable[["RaftCore", ReplicaId, Any], None]
Admission = Callable[["RaftCore", ReplicaId, Any], bool]


# --- A newer term: adopt it? True lets the message go on to its handler ------------------------


def _adopt(core: "RaftCore", source: ReplicaId, message: Any) -> bool:  # noqa: ANN401
    election.become_follower(core, message.term, NO_REPLICA)
    return True


def _adopt_from_leader(core: "RaftCore", source: ReplicaId, message: Any) -> bool:  # noqa: ANN401
    election.become_follower(core, message.term, source)
    return True


def _leave_term(core: "RaftCore", source: ReplicaId, message: PreVote) -> bool:
    return True  # Thesis 9.6: a pre-vote speaks of a term that does not exist yet.


def _adopt_if_refused(core: "RaftCore", source: ReplicaId, message: PreVoteReply) -> bool:
    return message.granted or _adopt(core, source, message)


def _adopt_if_free(core: "RaftCore", source: ReplicaId, message: RequestVote) -> bool:
    return election.admits_vote_request(core, source, message) and _adopt(core, source, message)


NEWER: dict[type, Admission] = {
    PreVote: _leave_term,
    PreVoteReply: _adopt_if_refused,
    RequestVote: _adopt_if_free,
    RequestVoteReply: _adopt,
    AppendEntries: _adopt_from_leader,
    AppendEntriesReply: _adopt,
    Fortify: _adopt_from_leader,
    FortifyReply: _adopt,
    ReleaseFortification: _adopt,
    ReleaseReply: _adopt,
    TimeoutNow: _adopt,
    InstallSnapshot: _adopt_from_leader,
    StillLeading: _adopt,
    ReadIndex: _adopt_from_leader,
    ReadIndexReply: _adopt,
}


# --- An older term -----------------------------------------------------------------------------


def _ignore(core: "RaftCore", source: ReplicaId, message: Any) -> None:  # noqa: ANN401
    """Too late to matter."""


def _depose(core: "RaftCore", source: ReplicaId, message: Any) -> None:  # noqa: ANN401
    """Tell a former leader that its term is over."""
    reply = AppendEntriesReply(core.term, False, Index(0), core.commit_index)
    core.send(source, reply)


def _refuse_vote(core: "RaftCore", source: ReplicaId, message: RequestVote) -> None:
    core.send_after_sync(source, RequestVoteReply(core.term, False))


OLDER: dict[type, Handler] = {
    PreVote: election.consider_pre_vote,
    PreVoteReply: election.learn_commit,
    RequestVote: _refuse_vote,
    RequestVoteReply: _ignore,
    AppendEntries: _depose,
    AppendEntriesReply: _ignore,
    Fortify: _depose,
    FortifyReply: _ignore,
    ReleaseFortification: fortification.accept_release,
    ReleaseReply: fortification.accept_release_reply,
    TimeoutNow: _ignore,
    InstallSnapshot: _depose,
    StillLeading: fortification.deny_still_leading,
    ReadIndex: _depose,
    ReadIndexReply: _ignore,
}


# --- This term ---------------------------------------------------------------------------------


def _accept_fortify(core: "RaftCore", source: ReplicaId, message: Fortify) -> None:
    election.hear_leader(core, source)
    fortification.accept_fortify(core, source, message)


def _impossible(core: "RaftCore", source: ReplicaId, message: Any) -> None:  # noqa: ANN401
    raise AssertionError(f"election safety: {source} leads term {core.term}, and so does this one")


def _rows(
    message_type: type,
    follower: Handler,
    pre_candidate: Handler,
    candidate: Handler,
    leader: Handler,
) -> dict[tuple[Role, type], Handler]:
    return {
        (Role.FOLLOWER, message_type): follower,
        (Role.PRE_CANDIDATE, message_type): pre_candidate,
        (Role.CANDIDATE, message_type): candidate,
        (Role.LEADER, message_type): leader,
    }


def _always(message_type: type, handler: Handler) -> dict[tuple[Role, type], Handler]:
    return _rows(message_type, handler, handler, handler, handler)


def _from_leader(message_type: type, handler: Handler) -> dict[tuple[Role, type], Handler]:
    return _rows(message_type, handler, handler, handler, _impossible)


def _to_leader(message_type: type, handler: Handler) -> dict[tuple[Role, type], Handler]:
    return _rows(message_type, _ignore, _ignore, _ignore, handler)


HANDLERS: dict[tuple[Role, type], Handler] = {
    **_always(PreVote, election.consider_pre_vote),
    **_rows(
        PreVoteReply,
        election.learn_commit,
        election.count_pre_vote,
        election.learn_commit,
        _ignore,
    ),
    **_always(RequestVote, election.consider_vote),
    **_rows(RequestVoteReply, _ignore, _ignore, election.count_vote, _ignore),
    **_from_leader(AppendEntries, replication.accept_entries),
    **_to_leader(AppendEntriesReply, replication.accept_reply),
    **_from_leader(Fortify, _accept_fortify),
    **_to_leader(FortifyReply, fortification.accept_fortify_reply),
    **_always(ReleaseFortification, fortification.accept_release),
    **_always(ReleaseReply, fortification.accept_release_reply),
    **_from_leader(TimeoutNow, transfer.accept_timeout_now),
    **_from_leader(InstallSnapshot, snapshot.accept_snapshot),
    # A candidate may yet come to lead this very term, so it cannot deny.
    **_rows(
        StillLeading,
        fortification.deny_still_leading,
        fortification.deny_still_leading,
        _ignore,
        fortification.answer_still_leading,
    ),
    **_from_leader(ReadIndex, read_index.answer),
    **_to_leader(ReadIndexReply, read_index.accept_reply),
}
