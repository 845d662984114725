"""What a core tells about itself; metrics, the console and scenario output are renderings of it."""

import msgspec

from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.messages import Configuration


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
