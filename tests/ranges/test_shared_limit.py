"""What all hold together, and what each may."""

import random

import pytest

from multiraft.ranges.shared_limit import SharedLimit


def test_alone_one_may_hold_all_that_one_may_and_nobody_less_than_the_least() -> None:
    limit = SharedLimit(all_max=100, each_max=20, each_min=2)
    assert limit.each_now == 20
    limit.held = 20
    assert limit.each_now == 20, "what it holds itself does not make it less"
    limit.held = 60
    assert limit.each_now == 10
    limit.held = 1_000
    assert limit.each_now == 2


def test_with_room_for_hardly_more_than_one_somebody_else_may_have_what_is_left() -> None:
    limit = SharedLimit(all_max=150, each_max=100, each_min=1)
    limit.held = 100
    assert limit.each_now == 50


@pytest.mark.parametrize("holders", [1, 2, 5, 50, 500])
def test_greedy_holders_stay_within_what_all_may_and_the_least_of_each(holders: int) -> None:
    dice = random.Random(holders)
    limit = SharedLimit(all_max=10_000, each_max=1_000, each_min=10)
    held = [0] * holders
    for _ in range(200 * holders):
        one = dice.randrange(holders)
        if held[one] < limit.each_now:
            held[one] += 1
            limit.held += 1
    assert limit.held <= 10_000 + 10 * holders
    assert max(held) <= 1_000


def test_a_limit_that_one_could_use_up_alone_makes_no_sense() -> None:
    with pytest.raises(AssertionError):
        SharedLimit(all_max=10, each_max=10, each_min=1)
