"""One range becomes two: what the split command means on each replica.

Purpose
    Decide, from the trigger and from what this store has of the right range, what becomes of the
    right half here. Nothing is copied: data addressed by key stays where it is.
Cases (each was a bug elsewhere, trap T14)
    - nothing here: the right replica begins life with the trigger's state;
    - an uninitialised replica under the same ID: it is initialised and keeps term, vote and
      fortification, since it may have voted already (rule S16);
    - a tombstone or a replica under a higher ID: the right side was removed, and perhaps added
      again, before the split was applied here: the split leaves it alone and drops the data.
Source
    Safety rules S1, S2, S16, A4, A5; docs/architecture/splits.md.
"""

import enum

from multiraft.ids import NodeId, RangeId, ReplicaId
from multiraft.model.descriptor import RangeDescriptor
from multiraft.raft.ready import HardState
from multiraft.ranges import state
from multiraft.ranges.messages import SplitTrigger
from multiraft.ranges.state import Tombstone


class RightSide(enum.Enum):
    """What to do with the right half on this store."""

    CREATE = "create"
    INITIALISE = "initialise"
    LEAVE = "leave"


def decide(
    trigger: SplitTrigger,
    node_id: NodeId,
    existing: ReplicaId | None,
    tombstone: Tombstone | None,
) -> RightSide:
    """Return what becomes of the right half here.

    `existing` is the ID of the uninitialised replica of the right range on this store, if any.
    """
    mine = trigger.right.replica_on(node_id)
    assert mine is not None, f"n{node_id} applies a split of a range it does not keep"
    if tombstone is not None and mine.replica_id < tombstone.next_replica_id:
        return RightSide.LEAVE
    if existing is None:
        return RightSide.CREATE
    if existing > mine.replica_id:
        return RightSide.LEAVE
    assert existing == mine.replica_id, "a replica of an older ID outlived its removal"
    return RightSide.INITIALISE


def right_hard_state(trigger: SplitTrigger, existing: HardState | None) -> HardState:
    """Return the hard state with which the right replica begins.

    Its first term names the first leader as everybody's vote, so no second one can be elected in
    it. What an uninitialised replica promised before is kept.
    """
    first_leader = trigger.right.replica_on(trigger.leader)
    assert first_leader is not None, "the first leader keeps the right range"
    born = HardState(
        term=state.INITIAL_TERM, vote=first_leader.replica_id, commit_index=state.INITIAL_INDEX
    )
    if existing is None:
        return born
    if existing.term > born.term:
        vote, term = existing.vote, existing.term
    else:
        vote, term = born.vote, born.term
    return HardState(
        term=term,
        vote=vote,
        commit_index=max(existing.commit_index, born.commit_index),
        fortified_leader=existing.fortified_leader,
        fortified_term=existing.fortified_term,
        fortified_epoch=existing.fortified_epoch,
    )


def halves(
    descriptor: RangeDescriptor, key: bytes, right_id: RangeId
) -> tuple[RangeDescriptor, RangeDescriptor]:
    """Return the descriptors of both halves of `descriptor` split at `key`.

    Both get the next generation, so that each is newer than what they replace in a range cache.
    Learners of the left are learners of the right (rule A5).
    """
    assert descriptor.start < key < descriptor.end, "the key lies inside the range"
    assert not descriptor.is_joint, "no split in a joint configuration (rule A5)"
    generation = descriptor.generation + 1
    left = RangeDescriptor(
        descriptor.range_id,
        descriptor.start,
        key,
        generation,
        descriptor.replicas,
        descriptor.next_replica_id,
    )
    right = RangeDescriptor(
        right_id,
        key,
        descriptor.end,
        generation,
        descriptor.replicas,
        descriptor.next_replica_id,
    )
    return left, right
