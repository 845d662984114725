"""A fixed set of seeds of tests/support/raft_simulation.py.

MULTIRAFT_SEEDS=N tries N others, with MULTIRAFT_EVENTS=M events each. A failure names its seed;
`World(seed, ...).run(...)` repeats it exactly.
"""

import os
import random

import pytest

from tests.support.raft_simulation import World

EVENTS = 400
FIXED_SEEDS = 200
BLOCK = 20


def run(seed: int, events: int = EVENTS) -> World:
    world = World(seed, voters=3 + 2 * (seed % 2), stores=5 + seed % 3)
    try:
        world.run(events)
    except Exception as error:
        raise AssertionError(f"seed {seed}: {error}") from error
    return world


@pytest.mark.parametrize("first", range(0, FIXED_SEEDS, BLOCK))
def test_every_seed_is_safe_and_comes_to_rest(first: int) -> None:
    for seed in range(first, first + BLOCK):
        run(seed)


@pytest.mark.timeout(0)
def test_as_many_other_seeds_as_asked_for() -> None:
    start = random.SystemRandom().randrange(1 << 32)
    events = int(os.environ.get("MULTIRAFT_EVENTS", EVENTS))
    for seed in range(start, start + int(os.environ.get("MULTIRAFT_SEEDS", "0"))):
        run(seed, events)


def test_one_seed_is_one_run() -> None:
    def trace(seed: int) -> object:
        world = run(seed)
        return [store.disk.written.machine for store in world.stores.values()], world.now

    assert trace(7) == trace(7)
    assert trace(7) != trace(8)


def test_the_simulation_reaches_what_it_is_for() -> None:
    counts: dict[str, int] = {}
    for seed in range(60):
        for what, count in run(seed).counts.items():
            counts[what] = counts.get(what, 0) + count
    expected = {"configuration", "served", "transfer", "snapshot", "crash", "at once"}
    assert set(counts) == expected
    assert min(counts.values()) >= 20
