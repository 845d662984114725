"""Changes of the configuration: who votes, and when that may change.

Purpose
    Joint consensus. A change of voters goes through a joint configuration in which both majorities
    must agree; a voter that leaves is first demoted to learner. Learners come and go in one step.
Invariants
    - A configuration is in force when it is applied (rule S5). One change at a time: the next is
      refused until the leader applied the former, and never altered (rule S17).
    - New voters were learners before, and are fortified to the leader first (rule S4).
    - A joint configuration is entered or left only when the lease under the configuration in force
      reaches every lease end promised before (rule S4).
Source
    Raft thesis 4.3; safety rules S4, S5, S17.
"""

import enum
from typing import TYPE_CHECKING

from multiraft.config import MIB
from multiraft.ids import NO_REPLICA, Index, ReplicaId
from multiraft.raft import fortification, replication
from multiraft.raft.messages import Configuration, EntryKind

if TYPE_CHECKING:
    from multiraft.raft.core import RaftCore

_SCAN_BYTES = 1 * MIB


class Refusal(enum.Enum):
    """Why a proposal was not taken. Nothing was appended."""

    NOT_LEADER = "this replica does not lead that term"
    TRANSFERRING = "leadership is being handed over"
    OVERLOADED = "too many bytes wait for a quorum"
    CHANGE_PENDING = "the former change of the configuration is not applied here yet"
    NOT_A_STEP = "one step cannot lead from the present configuration to that one"
    NOT_FORTIFIED = "a new voter has not fortified this leader yet"
    LEASE_NOT_CARRIED = "the present configuration does not support the lease promised before"


def electorate(configuration: Configuration) -> tuple[ReplicaId, ...]:
    """Return whoever votes in either half."""
    both = dict.fromkeys((*configuration.voters, *configuration.outgoing))
    return tuple(both)


def is_voter(core: "RaftCore") -> bool:
    """Return whether this replica votes in the configuration in force here."""
    return core.replica_id in core.electorate


def other_voters(core: "RaftCore") -> list[ReplicaId]:
    """Return whom a candidate asks."""
    return [voter for voter in core.electorate if voter != core.replica_id]


def has_unapplied_configuration(core: "RaftCore") -> bool:
    """Return whether an entry known to be committed changes the configuration, unapplied (S5)."""
    low = Index(core.applied_index + 1)
    high = Index(core.commit_index + 1)
    while low < high:
        entries, _ = core.log.slice(low, high, _SCAN_BYTES)
        if any(entry.kind is EntryKind.CONFIGURATION for entry in entries):
            return True
        low = Index(low + len(entries))
    return False


def refusal(core: "RaftCore", new: Configuration) -> Refusal | None:
    """Return why the leader may not propose `new` now, or None if it may."""
    leadership = core.leadership
    if leadership is None:
        return Refusal.NOT_LEADER
    if core.applied_index < leadership.pending_configuration_index:
        return Refusal.CHANGE_PENDING
    present = core.configuration
    if not is_step(present, new):
        return Refusal.NOT_A_STEP
    if new.voters == present.voters and new.is_joint == present.is_joint:
        return None  # Only learners come or go: no promise depends on them.
    added = [voter for voter in new.voters if voter not in core.electorate]
    if not all(fortification.is_fortified_by(core, voter) for voter in added):
        return Refusal.NOT_FORTIFIED
    if fortification.lease_end(core) < leadership.lease_promised:
        return Refusal.LEASE_NOT_CARRIED
    return None


def is_step(present: Configuration, new: Configuration) -> bool:
    """Return whether one entry may lead from `present` to `new`."""
    if not new.voters or set(new.learners) & {*new.voters, *new.outgoing}:
        return False
    if present.is_joint:
        demoted = set(present.outgoing) - set(present.voters)
        return not new.is_joint and new.voters == present.voters and demoted <= set(new.learners)
    if new.is_joint:
        added = set(new.voters) - set(present.voters)
        return new.outgoing == present.voters and added <= set(present.learners)
    return new.voters == present.voters


def leaving(joint: Configuration) -> Configuration:
    """Return what a joint configuration becomes when left: those who leave stay as learners."""
    demoted = set(joint.outgoing) - set(joint.voters)
    return Configuration(voters=joint.voters, learners=tuple(sorted({*joint.learners, *demoted})))


def apply(core: "RaftCore", configuration: Configuration) -> None:
    """Put `configuration` into force.

    A leader tracks new members, forgets removed ones with what they promised (rule S4), and steps
    down if it votes no more (thesis 4.2.2).
    """
    core.set_configuration(configuration)
    core.lease_version += 1
    leadership = core.leadership
    if leadership is None:
        return
    before = leadership.progress
    next_index = Index(core.log.last_index + 1)
    leadership.progress = {
        member: before.get(member) or replication.track(core, member, next_index)
        for member in configuration.members
    }
    if leadership.transfer_target not in core.electorate:
        leadership.transfer_target = NO_REPLICA
    if not is_voter(core):
        core.step_down()
        return
    for member in configuration.members:
        if member not in before:
            fortification.request(core, member)
    core.replicate = True
    replication.advance_commit(core)
