"""Majority arithmetic for one voter set, and for two at once.

Purpose
    Answer two questions: which value has a quorum reached, and is a vote decided? The first serves
    the commit index, the lease and support alike.
Invariants
    - An empty voter set has reached everything and wins every vote. This lets the empty outgoing
      half of a plain configuration defer to the other half.
    - A replica without a value counts as 0; learners count for nothing.
Source
    Raft thesis 3.5 (commit rule) and 4.3 (joint consensus).
"""

import enum
from collections.abc import Mapping, Sequence

from multiraft.ids import ReplicaId
from multiraft.raft.messages import Configuration

UNBOUNDED = 1 << 64
"""What an empty voter set has reached: above every index and timestamp."""


class VoteResult(enum.Enum):
    """Where an election stands."""

    PENDING = enum.auto()
    WON = enum.auto()
    LOST = enum.auto()


def reached(configuration: Configuration, values: Mapping[ReplicaId, int]) -> int:
    """Return the largest value that a majority of each half has reached."""
    incoming = _reached_by_majority(configuration.voters, values)
    if not configuration.outgoing:
        return incoming
    return min(incoming, _reached_by_majority(configuration.outgoing, values))


def _reached_by_majority(voters: Sequence[ReplicaId], values: Mapping[ReplicaId, int]) -> int:
    if not voters:
        return UNBOUNDED
    ascending = sorted([values.get(voter, 0) for voter in voters])
    return ascending[(len(ascending) - 1) // 2]


def vote_result(configuration: Configuration, votes: Mapping[ReplicaId, bool]) -> VoteResult:
    """Return how the election stands; one lost half loses it, both halves must be won."""
    results = (
        _majority_vote(configuration.voters, votes),
        _majority_vote(configuration.outgoing, votes),
    )
    if VoteResult.LOST in results:
        return VoteResult.LOST
    if VoteResult.PENDING in results:
        return VoteResult.PENDING
    return VoteResult.WON


def _majority_vote(voters: Sequence[ReplicaId], votes: Mapping[ReplicaId, bool]) -> VoteResult:
    if not voters:
        return VoteResult.WON
    majority = len(voters) // 2 + 1
    granted = sum(1 for voter in voters if votes.get(voter) is True)
    refused = sum(1 for voter in voters if votes.get(voter) is False)
    if granted >= majority:
        return VoteResult.WON
    if len(voters) - refused < majority:
        return VoteResult.LOST
    return VoteResult.PENDING
