import itertools
import random

import msgspec
import pytest

from multiraft import config
from multiraft.sim import buggify
from multiraft.testing import spec


def test_a_seed_draws_the_same_settings_every_time() -> None:
    one, other = (buggify.draw(config.Config(), random.Random(7)) for _ in range(2))
    assert one == other
    assert one[1]


@pytest.mark.parametrize("name", spec.names())
def test_every_combination_that_can_be_drawn_works(name: str) -> None:
    """Settings bound each other two by two: so pairs of points at their extremes are enough."""
    base = spec.load(name).base_config()
    for one, other in itertools.combinations(buggify.POINTS, 2):
        for values in itertools.product((min(one.values), max(one.values)), other.values):
            drawn = base
            for point, value in zip((one, other), values, strict=True):
                part = msgspec.structs.replace(getattr(drawn, point.part), **{point.name: value})
                drawn = msgspec.structs.replace(drawn, **{point.part: part})
            config.check(drawn)


def test_every_point_is_drawn_by_some_seed_and_not_by_others() -> None:
    drawn = [buggify.draw(config.Config(), random.Random(seed))[1] for seed in range(200)]
    told = {each for run in drawn for each in run}
    for point in buggify.POINTS:
        for value in point.values:
            assert f"{point.part}.{point.name}={value}" in told
        assert any(not any(point.name in each for each in run) for run in drawn)
