"""What a split makes of the right half on one store, case by case."""

import pytest

from multiraft.ids import Epoch, Index, NodeId, RangeId, ReplicaId, Term, Timestamp
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor, ReplicaKind
from multiraft.mvcc.statistics import RangeStats
from multiraft.raft.ready import HardState
from multiraft.ranges import split, state
from multiraft.ranges.messages import SplitTrigger
from multiraft.ranges.split import RightSide
from multiraft.ranges.state import INITIAL_INDEX, INITIAL_TERM, Tombstone

ME = NodeId(2)
MY_ID = ReplicaId(5)

WHOLE = RangeDescriptor(
    RangeId(7),
    b"a",
    b"z",
    4,
    (
        ReplicaDescriptor(NodeId(1), ReplicaId(1)),
        ReplicaDescriptor(ME, MY_ID),
        ReplicaDescriptor(NodeId(3), ReplicaId(6), ReplicaKind.LEARNER),
    ),
    ReplicaId(8),
)
LEFT, RIGHT = split.halves(WHOLE, b"m", RangeId(9))
TRIGGER = SplitTrigger(LEFT, RIGHT, RangeStats(3, 30, 3, 60), Timestamp(1_000), NodeId(1))


# -- halves ----------------------------------------------------------------------------------------


def test_halves_share_the_span_without_gap_or_overlap() -> None:
    assert (LEFT.start, LEFT.end, RIGHT.start, RIGHT.end) == (b"a", b"m", b"m", b"z")


def test_both_halves_are_newer_than_what_they_replace() -> None:
    assert (LEFT.generation, RIGHT.generation) == (5, 5)


def test_the_left_half_keeps_the_range_id_and_the_right_one_gets_the_new_one() -> None:
    assert (LEFT.range_id, RIGHT.range_id) == (RangeId(7), RangeId(9))


def test_both_halves_keep_replicas_their_kinds_and_the_next_replica_id() -> None:
    for half in (LEFT, RIGHT):
        assert half.replicas == WHOLE.replicas
        assert half.next_replica_id == WHOLE.next_replica_id


@pytest.mark.parametrize("key", [b"a", b"z", b"A", b"zz"])
def test_a_split_outside_the_span_or_at_its_ends_is_our_mistake(key: bytes) -> None:
    with pytest.raises(AssertionError, match="inside the range"):
        split.halves(WHOLE, key, RangeId(9))


def test_a_split_in_a_joint_configuration_is_our_mistake() -> None:
    leaving = ReplicaDescriptor(NodeId(3), ReplicaId(6), ReplicaKind.OUTGOING)
    joint = RangeDescriptor(RangeId(7), b"a", b"z", 4, (*WHOLE.replicas[:2], leaving), ReplicaId(8))
    with pytest.raises(AssertionError, match="joint"):
        split.halves(joint, b"m", RangeId(9))


# -- decide ----------------------------------------------------------------------------------------


def test_nothing_is_here_so_the_right_replica_is_created() -> None:
    assert split.decide(TRIGGER, ME, None, None) is RightSide.CREATE


def test_an_uninitialised_replica_of_the_same_id_is_initialised() -> None:
    assert split.decide(TRIGGER, ME, MY_ID, None) is RightSide.INITIALISE


def test_a_replica_that_was_removed_and_added_again_is_left_alone() -> None:
    assert split.decide(TRIGGER, ME, ReplicaId(MY_ID + 1), None) is RightSide.LEAVE


@pytest.mark.parametrize("existing", [None, ReplicaId(MY_ID + 3)])
def test_a_tombstone_above_the_id_forbids_the_return(existing: ReplicaId | None) -> None:
    tombstone = Tombstone(ReplicaId(MY_ID + 1))
    assert split.decide(TRIGGER, ME, existing, tombstone) is RightSide.LEAVE


def test_a_tombstone_at_the_id_forbids_only_lower_ones() -> None:
    assert split.decide(TRIGGER, ME, None, Tombstone(MY_ID)) is RightSide.CREATE
    assert split.decide(TRIGGER, ME, MY_ID, Tombstone(MY_ID)) is RightSide.INITIALISE


def test_a_replica_of_a_lower_id_cannot_be_there() -> None:
    with pytest.raises(AssertionError, match="outlived its removal"):
        split.decide(TRIGGER, ME, ReplicaId(MY_ID - 1), None)


def test_a_store_without_the_range_does_not_apply_its_split() -> None:
    with pytest.raises(AssertionError, match="does not keep"):
        split.decide(TRIGGER, NodeId(4), None, None)


# -- hard state ------------------------------------------------------------------------------------


def test_a_right_replica_is_born_with_its_first_leader_as_everybodys_vote() -> None:
    assert split.right_hard_state(TRIGGER, None) == HardState(
        term=INITIAL_TERM, vote=ReplicaId(1), commit_index=INITIAL_INDEX
    )


def test_what_an_uninitialised_replica_voted_for_in_a_later_term_is_kept() -> None:
    later = Term(INITIAL_TERM + 2)
    existing = HardState(term=later, vote=ReplicaId(6))
    assert split.right_hard_state(TRIGGER, existing) == HardState(
        term=later, vote=ReplicaId(6), commit_index=INITIAL_INDEX
    )


def test_a_later_term_without_a_vote_stays_without_a_vote() -> None:
    existing = HardState(term=Term(INITIAL_TERM + 1))
    assert split.right_hard_state(TRIGGER, existing).vote == ReplicaId(0)


@pytest.mark.parametrize("term", [Term(0), Term(INITIAL_TERM - 1), INITIAL_TERM])
def test_an_earlier_or_the_first_term_is_the_first_leaders(term: Term) -> None:
    hard_state = split.right_hard_state(TRIGGER, HardState(term=term))
    assert (hard_state.term, hard_state.vote) == (INITIAL_TERM, ReplicaId(1))


@pytest.mark.parametrize("term", [INITIAL_TERM, Term(INITIAL_TERM + 3)])
def test_fortification_survives_the_split(term: Term) -> None:
    """Rule S16: the promise to a leader is part of the one record that is never lowered."""
    existing = HardState(
        term=term,
        vote=ReplicaId(1),
        fortified_leader=ReplicaId(1),
        fortified_term=term,
        fortified_epoch=Epoch(3),
    )
    hard_state = split.right_hard_state(TRIGGER, existing)
    fortified = (hard_state.fortified_leader, hard_state.fortified_term, hard_state.fortified_epoch)
    assert fortified == (ReplicaId(1), term, Epoch(3))


def test_the_commit_index_never_falls() -> None:
    existing = HardState(term=Term(9), commit_index=Index(INITIAL_INDEX + 4))
    assert split.right_hard_state(TRIGGER, existing).commit_index == INITIAL_INDEX + 4


# -- what the right half begins with ---------------------------------------------------------------


def test_a_right_half_begins_at_the_floor_and_owes_its_addressing_record() -> None:
    applied = state.initial_applied(TRIGGER.right_stats, TRIGGER.floor)
    assert applied.clock_floor == TRIGGER.floor
    assert applied.stats == TRIGGER.right_stats
    assert applied.meta_generation < RIGHT.generation
