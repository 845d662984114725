"""What a core tells about itself; metrics, the console and scenario output are renderings of it."""

from typing import TYPE_CHECKING

import msgspec

from multiraft.ids import NO_REPLICA, Epoch, Index, ReplicaId, Term
from multiraft.raft import fortification
from multiraft.raft.messages import Configuration
from multiraft.raft.progress import ProgressState
from multiraft.raft.role import Role

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore


class MemberStatus(msgspec.Struct, frozen=True):
    """One member as its leader sees it."""

    replica_id: ReplicaId
    state: str
    match_index: Index
    next_index: Index
    commit_known: Index
    fortified: bool


class Status(msgspec.Struct, frozen=True):
    """One replica; `members` is empty unless it leads."""

    replica_id: ReplicaId
    role: str
    term: Term
    vote: ReplicaId
    leader: ReplicaId
    first_index: Index
    last_index: Index
    commit_index: Index
    applied_index: Index
    configuration: Configuration
    fortified_leader: ReplicaId
    fortified_epoch: Epoch
    transferring_to: ReplicaId
    members: tuple[MemberStatus, ...]


def status_of(core: "RaftCore") -> Status:
    """Return the status of `core` as it is now."""
    leadership = core.leadership
    return Status(
        replica_id=core.replica_id,
        role=Role(core.role).name,
        term=core.term,
        vote=core.vote,
        leader=core.leader,
        first_index=core.first_index,
        last_index=core.last_index,
        commit_index=core.commit_index,
        applied_index=core.applied_index,
        configuration=core.configuration,
        fortified_leader=core.fortified_leader,
        fortified_epoch=core.fortified_epoch,
        transferring_to=NO_REPLICA if leadership is None else leadership.transfer_target,
        members=_members(core),
    )


def _members(core: "RaftCore") -> tuple[MemberStatus, ...]:
    if core.leadership is None:
        return ()
    return tuple(
        MemberStatus(
            replica_id=member,
            state=ProgressState(progress.state).name,
            match_index=progress.match_index,
            next_index=progress.next_index,
            commit_known=progress.commit_known,
            fortified=fortification.is_fortified_by(core, member),
        )
        for member, progress in core.leadership.progress.items()
    )
