from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import ReplicaId
from multiraft.raft import quorum
from multiraft.raft.messages import Configuration
from multiraft.raft.quorum import VoteResult
from tests.support.raft_replica import joint, voters

ids = st.lists(st.integers(1, 7), unique=True, max_size=5).map(
    lambda numbers: tuple(ReplicaId(number) for number in sorted(numbers))
)
configurations = st.builds(Configuration, ids, ids)
values = st.dictionaries(st.integers(1, 9).map(ReplicaId), st.integers(1, 20))


def replicas(values: dict[int, int]) -> dict[ReplicaId, int]:
    return {ReplicaId(number): value for number, value in values.items()}


def votes(values: dict[int, bool]) -> dict[ReplicaId, bool]:
    return {ReplicaId(number): value for number, value in values.items()}


def test_two_of_three_are_needed_and_silence_counts_as_zero() -> None:
    assert quorum.reached(voters(3), replicas({1: 12, 2: 5})) == 5
    assert quorum.reached(voters(3), replicas({1: 12})) == 0


def test_three_of_four_are_needed() -> None:
    assert quorum.reached(voters(4), replicas({1: 9, 2: 8, 3: 7, 4: 6})) == 7


def test_learners_count_for_nothing() -> None:
    assert quorum.reached(voters(3, learners=(4, 5)), replicas({1: 3, 4: 9, 5: 9})) == 0


def test_joint_configuration_needs_both_majorities() -> None:
    both = joint((1, 3, 4), (1, 2, 3))
    assert quorum.reached(both, replicas({1: 9, 3: 9})) == 9
    assert quorum.reached(both, replicas({1: 9, 4: 9})) == 0
    assert quorum.reached(both, replicas({1: 9, 2: 9})) == 0


def test_empty_configuration_has_reached_everything() -> None:
    assert quorum.reached(voters(0), {}) == quorum.UNBOUNDED


def test_vote_is_pending_until_a_majority_agrees_or_cannot() -> None:
    assert quorum.vote_result(voters(3), votes({1: True})) is VoteResult.PENDING
    assert quorum.vote_result(voters(3), votes({1: True, 2: False})) is VoteResult.PENDING
    assert quorum.vote_result(voters(3), votes({1: True, 2: True})) is VoteResult.WON
    assert quorum.vote_result(voters(3), votes({1: False, 2: False})) is VoteResult.LOST


def test_joint_vote_is_lost_with_either_half_and_won_with_both() -> None:
    both = joint((4, 5, 6), (1, 2, 3))
    won_new = {4: True, 5: True}
    assert quorum.vote_result(both, votes(won_new)) is VoteResult.PENDING
    assert quorum.vote_result(both, votes(won_new | {1: False, 2: False})) is VoteResult.LOST
    assert quorum.vote_result(both, votes(won_new | {1: True, 2: True})) is VoteResult.WON


@given(configurations, values)
def test_reached_agrees_with_counting(
    configuration: Configuration, reached: dict[ReplicaId, int]
) -> None:
    expected = quorum.UNBOUNDED
    for half in (configuration.voters, configuration.outgoing):
        candidates = [
            value
            for value in range(21)
            if 2 * sum(reached.get(voter, 0) >= value for voter in half) > len(half)
        ]
        if half:
            expected = min(expected, max(candidates))
    assert quorum.reached(configuration, reached) == expected


@given(configurations, values)
def test_what_a_quorum_has_reached_wins_a_vote_and_nothing_more_does(
    configuration: Configuration, reached: dict[ReplicaId, int]
) -> None:
    value = quorum.reached(configuration, reached)
    if value == quorum.UNBOUNDED:
        return
    everyone = (*configuration.voters, *configuration.outgoing)
    reach = {voter: reached.get(voter, 0) >= value for voter in everyone}
    beyond = {voter: reached.get(voter, 0) >= value + 1 for voter in everyone}
    assert quorum.vote_result(configuration, reach) is VoteResult.WON
    assert quorum.vote_result(configuration, beyond) is VoteResult.LOST
