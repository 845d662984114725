"""What is frozen, and when: with this process's own collector."""

import gc
import weakref
from collections.abc import Callable, Iterator

import pytest

from multiraft.cluster.settled import REPLICAS_MIN, Settled

MANY = 10 * REPLICAS_MIN


class Scene:
    """A node with so many replicas, whose loop runs when it is told to."""

    def __init__(self) -> None:
        self.replicas = MANY
        self.soon: list[Callable[[], None]] = []
        self.settled = Settled(lambda: self.replicas, self.soon.append)

    def collect(self, generation: int = 2) -> None:
        """Collect, and let the loop run."""
        gc.collect(generation)
        soon = list(self.soon)
        self.soon.clear()
        for call in soon:
            call()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    gc.collect()
    gc.disable()
    scene.settled.start()
    try:
        yield scene
    finally:
        scene.settled.stop()
        gc.enable()


def test_what_there_is_at_the_start_is_frozen(scene: Scene) -> None:
    assert gc.get_freeze_count() > 10_000


def test_a_full_collection_freezes_what_it_leaves_once_replicas_have_grown(scene: Scene) -> None:
    frozen = gc.get_freeze_count()
    replicas: list[list[list[int]]] = [[[]] for _ in range(MANY)]
    scene.collect()
    assert gc.get_freeze_count() <= frozen, "there are no more than before"
    scene.replicas += MANY
    scene.collect(generation=1)
    assert gc.get_freeze_count() <= frozen
    scene.collect()
    assert gc.get_freeze_count() > frozen + len(replicas)


def test_a_little_growth_is_passed_by(scene: Scene) -> None:
    frozen = gc.get_freeze_count()
    scene.replicas += REPLICAS_MIN
    scene.collect()
    assert gc.get_freeze_count() <= frozen


def test_cycles_that_were_frozen_go_when_replicas_have_become_fewer(scene: Scene) -> None:
    class Replica:
        def __init__(self) -> None:
            self.me = self

    replica = Replica()
    is_there = weakref.ref(replica)
    scene.replicas += MANY
    scene.collect()
    del replica
    scene.collect()
    assert is_there(), "it is frozen"
    scene.replicas = REPLICAS_MIN
    scene.collect()
    assert not is_there()


def test_when_it_stops_nothing_is_left(scene: Scene) -> None:
    callbacks = list(gc.callbacks)
    scene.settled.stop()
    assert gc.get_freeze_count() == 0
    assert len(gc.callbacks) == len(callbacks) - 1
    scene.settled.start()
