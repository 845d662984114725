"""Timed methods: what is counted, and that nothing of it is left when nobody looks any more."""

import gc
from collections.abc import Callable

import pytest

from multiraft.cluster import instruments
from multiraft.cluster.instruments import Instruments, Reading, Watch

GARBAGE = "garbage"


class Clocks:
    """Time passes when it is told to: on the processor, or waiting."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.cpu_s = 0.0

    def work(self, seconds: float) -> None:
        self.now_s += seconds
        self.cpu_s += seconds

    def wait(self, seconds: float) -> None:
        self.now_s += seconds


class Kitchen:
    """What is watched here."""

    def __init__(self, clocks: Clocks) -> None:
        self.clocks = clocks
        self.orders: list[Callable[..., None]] = []

    def cook(self, dishes: int) -> int:
        self.clocks.work(1.0)
        if dishes > 1:
            self.cook(dishes - 1)
        self.wash(b"plates")
        self.clocks.wait(0.5)
        return dishes

    def wash(self, what: bytes) -> None:
        self.clocks.work(0.25)
        self.serve(what)
        if what == b"porcelain":
            raise ValueError(what)

    def serve(self, what: bytes) -> None:
        """Send something out."""

    def deliver(self, done: Callable[..., None]) -> None:
        self.orders.append(done)

    def stock_up(self) -> None:
        self.clocks.work(2.0)
        self.clocks.wait(3.0)


def _plates(_kitchen: Kitchen, what: bytes) -> int:
    return len(what)


def _dishes(_kitchen: Kitchen, dishes: int) -> int:
    return dishes


PLACES = (
    instruments.stage("cook", Kitchen, "cook", size_in=_dishes),
    instruments.stage("wash", Kitchen, "wash"),
    instruments.sends(Kitchen, "serve", _plates),
    instruments.waits("delivery", Kitchen, "deliver"),
    instruments.threaded("stock", Kitchen, "stock_up"),
)
ORIGINALS = dict(vars(Kitchen))


class Scene:
    def __init__(self) -> None:
        self.clocks = Clocks()
        watch = Watch(lambda: self.clocks.now_s, lambda: self.clocks.cpu_s)
        self.instruments = Instruments(PLACES, GARBAGE, watch)
        self.kitchen = Kitchen(self.clocks)

    def read(self, stage: str) -> Reading:
        return self.instruments.read()[stage]


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_time_belongs_to_the_innermost_stage_and_bytes_to_the_one_that_sends(scene: Scene) -> None:
    with scene.instruments.watched():
        scene.clocks.work(10.0)
        assert scene.kitchen.cook(1) == 1
        scene.clocks.work(10.0)
        assert scene.read("cook") == Reading(1, 1.5, 1.0, bytes_in=1)
        assert scene.read("wash") == Reading(1, 0.25, 0.25, bytes_out=len(b"plates"))


def test_a_stage_within_itself_is_the_same_run(scene: Scene) -> None:
    with scene.instruments.watched():
        scene.kitchen.cook(3)
    assert scene.read("cook") == Reading(1, 4.5, 3.0, bytes_in=3)
    assert scene.read("wash").runs == 3


def test_a_stage_ends_with_an_exception_too(scene: Scene) -> None:
    with scene.instruments.watched():
        with pytest.raises(ValueError, match="porcelain"):
            scene.kitchen.wash(b"porcelain")
        scene.clocks.work(10.0)
        scene.kitchen.wash(b"")
    assert scene.read("wash") == Reading(2, 0.5, 0.5, bytes_out=len(b"porcelain"))


def test_waits_and_threads_count_beside_the_stages(scene: Scene) -> None:
    told: list[str] = []
    with scene.instruments.watched():
        scene.kitchen.deliver(told.append)
        scene.kitchen.cook(1)
        scene.kitchen.stock_up()
        scene.kitchen.orders.pop()("here")
    assert told == ["here"]
    assert scene.read("delivery") == Reading(1, 6.75, longest_s=6.75)
    assert scene.read("stock") == Reading(1, 5.0, 2.0, longest_s=5.0)
    assert scene.read("cook") == Reading(1, 1.5, 1.0, bytes_in=1)


def test_the_longest_run_is_that_since_somebody_began_to_look(scene: Scene) -> None:
    for dishes in (3, 1):
        with scene.instruments.watched():
            scene.kitchen.deliver(print)
            scene.clocks.work(dishes)
            scene.kitchen.orders.pop()()
            scene.kitchen.deliver(print)
            scene.kitchen.orders.pop()()
            assert scene.read("delivery").longest_s == dishes
    assert scene.read("delivery").seconds == 4.0


def test_garbage_collections_are_counted(scene: Scene) -> None:
    with scene.instruments.watched():
        before = scene.read(GARBAGE).runs
        gc.collect()
        assert scene.read(GARBAGE).runs == before + 1
    counted = scene.read(GARBAGE)
    gc.collect()
    assert scene.read(GARBAGE) == counted


def test_nothing_is_left_once_the_last_watcher_has_gone(scene: Scene) -> None:
    callbacks = list(gc.callbacks)
    with scene.instruments.watched():
        with scene.instruments.watched():
            scene.kitchen.cook(1)
        assert scene.instruments.is_watching
        earlier = scene.read("cook")
        scene.kitchen.cook(1)
        assert scene.read("cook").since(earlier) == Reading(1, 1.5, 1.0, bytes_in=1)
    assert not scene.instruments.is_watching
    assert dict(vars(Kitchen)) == ORIGINALS
    assert gc.callbacks == callbacks
    counted = scene.instruments.read()
    scene.kitchen.cook(1)
    assert scene.instruments.read() == counted


def test_what_passes_while_nobody_looks_is_no_stages_time(scene: Scene) -> None:
    with scene.instruments.watched():
        scene.kitchen.wash(b"")
    scene.clocks.work(100.0)
    with scene.instruments.watched():
        scene.kitchen.wash(b"")
    assert scene.read("wash") == Reading(2, 0.5, 0.5)
