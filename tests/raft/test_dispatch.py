import itertools
import typing

import pytest

from multiraft.ids import Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft import dispatch, messages
from multiraft.raft.messages import Message, Release
from multiraft.raft.role import Role
from tests.support.raft_disk import disk_with
from tests.support.raft_replica import Replica, voters

TYPES: tuple[type, ...] = typing.get_args(Message)
RELEASE = Release(ReplicaId(2), Term(1), Epoch(0), Timestamp(0))


def of_term(message_type: type, term: int) -> Message:
    """Return some message of that type."""
    number = Term(term)
    made: dict[type, Message] = {
        messages.PreVote: messages.PreVote(number, Index(0), Term(0)),
        messages.PreVoteReply: messages.PreVoteReply(number, False),
        messages.RequestVote: messages.RequestVote(number, Index(0), Term(0)),
        messages.RequestVoteReply: messages.RequestVoteReply(number, False),
        messages.AppendEntries: messages.AppendEntries(number, Index(0), Term(0), (), Index(0)),
        messages.AppendEntriesReply: messages.AppendEntriesReply(number, False, Index(0), Index(0)),
        messages.Fortify: messages.Fortify(number, Epoch(1)),
        messages.FortifyReply: messages.FortifyReply(number, Epoch(0)),
        messages.ReleaseFortification: messages.ReleaseFortification(number, RELEASE),
        messages.ReleaseReply: messages.ReleaseReply(number, Term(1)),
        messages.TimeoutNow: messages.TimeoutNow(number, RELEASE),
        messages.InstallSnapshot: messages.InstallSnapshot(number, Index(9), Term(1), voters(3)),
        messages.StillLeading: messages.StillLeading(number),
        messages.ReadIndex: messages.ReadIndex(number, 1),
        messages.ReadIndexReply: messages.ReadIndexReply(number, 1),
    }
    return made[message_type]


def test_every_message_has_a_row_for_every_role_and_no_other() -> None:
    assert set(dispatch.HANDLERS) == set(itertools.product(Role, TYPES))
    assert set(dispatch.NEWER) == set(TYPES)
    assert set(dispatch.OLDER) == set(TYPES)


@pytest.mark.parametrize("message_type", TYPES, ids=lambda each: each.__name__)
def test_no_message_of_an_older_term_changes_the_term_or_the_role(message_type: type) -> None:
    replica = Replica(disk_with(voters(3), (5,)))
    replica.step(2, of_term(message_type, 3))
    assert (replica.core.term, replica.core.vote) == (5, 0)
    assert replica.has_role(Role.FOLLOWER)
    assert replica.core.last_index == 1


@pytest.mark.parametrize("message_type", TYPES, ids=lambda each: each.__name__)
def test_every_message_of_a_newer_term_is_adopted_but_a_pre_vote(message_type: type) -> None:
    replica = Replica(disk_with(voters(3), (5,)))
    replica.step(2, of_term(message_type, 7))
    # TimeoutNow goes on to a campaign in the term after.
    expected = {"PreVote": 5, "TimeoutNow": 8}.get(message_type.__name__, 7)
    assert replica.core.term == expected


@pytest.mark.parametrize("role", Role, ids=lambda each: each.name)
@pytest.mark.parametrize("message_type", TYPES, ids=lambda each: each.__name__)
def test_messages_that_only_a_leader_sends_make_everyone_else_follow_it(
    role: Role, message_type: type
) -> None:
    replica = Replica(disk_with(voters(3), (5,)))
    if role is Role.PRE_CANDIDATE:
        replica.core.campaign()
    elif role is Role.CANDIDATE:
        replica.core.campaign()
        replica.step(2, messages.PreVoteReply(Term(6), True))
    if role is Role.LEADER or message_type not in (
        messages.AppendEntries,
        messages.Fortify,
        messages.InstallSnapshot,
        messages.ReadIndex,
    ):
        return
    replica.step(3, of_term(message_type, replica.core.term))
    assert replica.has_role(Role.FOLLOWER)
    assert replica.core.leader == 3
