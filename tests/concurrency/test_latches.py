from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency import latches
from multiraft.concurrency.latches import (
    DESCRIPTOR,
    Latch,
    LatchManager,
    LatchStatus,
    Span,
    record_point,
)
from multiraft.model import keys


class Scenario:
    """A manager, and the names of the latches it granted later, in order."""

    def __init__(self) -> None:
        self.manager = LatchManager()
        self.granted: list[str] = []

    def acquire(self, name: str, latch: Latch) -> bool:
        return self.manager.acquire(latch, lambda: self.granted.append(name))


def is_held(latch: Latch) -> bool:
    return latch.state == latches._HELD


def read(*points: bytes) -> Latch:
    return Latch(read_points=points)


def write(*points: bytes) -> Latch:
    return Latch(write_points=points)


def read_span(start: bytes, end: bytes) -> Latch:
    return Latch(read_spans=((start, end),))


def write_span(start: bytes, end: bytes) -> Latch:
    return Latch(write_spans=((start, end),))


def test_uncontended_latch_is_held_at_once_and_leaves_nothing() -> None:
    manager = LatchManager()
    latch = Latch((b"a",), (b"b",), ((b"c", b"d"),), ((b"e", b"f"),))
    assert manager.acquire(latch, lambda: None)
    assert is_held(latch)
    assert manager.status() == LatchStatus(held=1, waiting=0, points=2, with_spans=1)
    manager.release(latch)
    assert not is_held(latch)
    assert manager.status() == LatchStatus(held=0, waiting=0, points=0, with_spans=0)


CONFLICTS = [
    (write(b"k"), write(b"k"), True),
    (write(b"k"), read(b"k"), True),
    (read(b"k"), write(b"k"), True),
    (read(b"k"), read(b"k"), False),
    (write(b"j"), write(b"k"), False),
    (write_span(b"a", b"k"), write(b"j"), True),
    (write_span(b"a", b"k"), read(b"a"), True),
    (write_span(b"a", b"k"), write(b"k"), False),
    (read_span(b"a", b"k"), write(b"j"), True),
    (read_span(b"a", b"k"), read(b"j"), False),
    (read(b"j"), write_span(b"a", b"k"), True),
    (write(b"j"), read_span(b"a", b"k"), True),
    (read(b"j"), read_span(b"a", b"k"), False),
    (write(b"k"), read_span(b"a", b"k"), False),
    (read_span(b"a", b"k"), write_span(b"j", b"z"), True),
    (write_span(b"a", b"k"), read_span(b"j", b"z"), True),
    (write_span(b"a", b"k"), write_span(b"j", b"z"), True),
    (read_span(b"a", b"k"), read_span(b"j", b"z"), False),
    (write_span(b"a", b"k"), write_span(b"k", b"z"), False),
    (write_span(keys.MIN, keys.END), write(DESCRIPTOR), False),
    (write(DESCRIPTOR), write(DESCRIPTOR), True),
    (write_span(keys.MIN, keys.END), write(record_point(b"a", b"1")), False),
    (write(record_point(b"a", b"1")), write(record_point(b"a", b"1")), True),
    (write(record_point(b"a", b"1")), write(record_point(b"a", b"2")), False),
    (write(record_point(b"a", b"1")), write(DESCRIPTOR), False),
]


@pytest.mark.parametrize(("first", "second", "conflict"), CONFLICTS)
def test_who_waits_for_whom(first: Latch, second: Latch, conflict: bool) -> None:
    first, second = copy(first), copy(second)
    scenario = Scenario()
    assert scenario.acquire("first", first)
    assert scenario.acquire("second", second) is not conflict
    assert scenario.granted == []
    scenario.manager.release(first)
    assert is_held(second)
    assert scenario.granted == (["second"] if conflict else [])


def copy(latch: Latch) -> Latch:
    return Latch(latch.read_points, latch.write_points, latch.read_spans, latch.write_spans)


def test_latch_does_not_wait_for_itself() -> None:
    manager = LatchManager()
    latch = Latch((b"a", b"b", b"a"), (b"b", b"b"), ((b"a", b"c"),), ((b"a", b"z"),))
    assert manager.acquire(latch, lambda: None)
    assert latch.read_points == (b"a",)
    assert latch.write_points == (b"b",)
    manager.release(latch)
    assert manager.status() == LatchStatus(0, 0, 0, 0)


def test_readers_behind_a_waiting_writer_wait() -> None:
    scenario = Scenario()
    first, writer, second, third = read(b"k"), write(b"k"), read(b"k"), read(b"k")
    assert scenario.acquire("first", first)
    assert not scenario.acquire("writer", writer)
    assert not scenario.acquire("second", second)
    assert not scenario.acquire("third", third)
    assert scenario.manager.status() == LatchStatus(held=1, waiting=3, points=1, with_spans=0)
    scenario.manager.release(first)
    assert scenario.granted == ["writer"]
    scenario.manager.release(writer)
    assert scenario.granted == ["writer", "second", "third"]


def test_cancelled_writer_lets_the_readers_behind_it_through() -> None:
    scenario = Scenario()
    first, writer, second = read(b"k"), write(b"k"), read(b"k")
    scenario.acquire("first", first)
    scenario.acquire("writer", writer)
    scenario.acquire("second", second)
    scenario.manager.cancel(writer)
    assert scenario.granted == ["second"]
    scenario.manager.release(first)
    scenario.manager.release(second)
    assert scenario.granted == ["second"]


def test_cancelled_writer_behind_a_writer_lets_nobody_through() -> None:
    scenario = Scenario()
    first, second = write(b"k"), write(b"k")
    scenario.acquire("first", first)
    scenario.acquire("second", second)
    scenario.acquire("reader", read(b"k"))
    scenario.manager.cancel(second)
    assert scenario.granted == []
    scenario.manager.release(first)
    assert scenario.granted == ["reader"]


def test_latch_at_the_head_of_one_queue_still_waits_in_another() -> None:
    scenario = Scenario()
    other, both, behind = write(b"b"), write(b"a", b"b"), write(b"a")
    scenario.acquire("other", other)
    scenario.acquire("both", both)
    scenario.acquire("behind", behind)
    scenario.manager.cancel(behind)
    assert scenario.granted == []
    scenario.manager.release(other)
    assert scenario.granted == ["both"]


def test_cancelled_latch_is_never_granted() -> None:
    scenario = Scenario()
    held, waiting = write_span(b"a", b"z"), write(b"k")
    scenario.acquire("held", held)
    scenario.acquire("waiting", waiting)
    scenario.manager.cancel(waiting)
    scenario.manager.release(held)
    assert scenario.granted == []
    assert not is_held(waiting)
    assert scenario.manager.status() == LatchStatus(0, 0, 0, 0)


def test_cancel_of_a_held_latch_releases_it_and_of_a_released_one_does_nothing() -> None:
    scenario = Scenario()
    first, second, third = write(b"k"), write(b"k"), write(b"k")
    scenario.acquire("first", first)
    scenario.acquire("second", second)
    scenario.acquire("third", third)
    scenario.manager.cancel(first)
    scenario.manager.cancel(first)
    assert scenario.granted == ["second"]
    scenario.manager.release(second)
    assert scenario.granted == ["second", "third"]


def test_one_release_grants_in_order_of_arrival() -> None:
    scenario = Scenario()
    both = Latch(write_points=(b"b", b"a"), write_spans=((b"m", b"n"),))
    scenario.acquire("both", both)
    scenario.acquire("span", read_span(b"m", b"n"))
    scenario.acquire("a", write(b"a"))
    scenario.acquire("b", write(b"b"))
    scenario.manager.release(both)
    assert scenario.granted == ["span", "a", "b"]


def test_callback_may_release_acquire_and_cancel() -> None:
    manager = LatchManager()
    log: list[str] = []
    first, second, third, fourth = write(b"a", b"b"), write(b"a"), write(b"b"), write(b"a")
    new = write(b"c")

    def on_second() -> None:
        log.append("second begins")
        manager.cancel(third)
        manager.acquire(new, lambda: None)
        manager.release(second)
        log.append("second ends")

    manager.acquire(first, lambda: None)
    manager.acquire(second, on_second)
    manager.acquire(third, lambda: log.append("third"))
    manager.acquire(fourth, lambda: log.append("fourth"))
    manager.release(first)
    # `third` held already, but had not been told; `fourth` is told after `second` is through.
    assert log == ["second begins", "second ends", "fourth"]
    assert is_held(new)
    manager.release(fourth)
    manager.release(new)
    assert manager.status() == LatchStatus(0, 0, 0, 0)


def test_misuse_is_our_mistake() -> None:
    manager = LatchManager()
    latch = write(b"k")
    waiting = write(b"k")
    manager.acquire(latch, lambda: None)
    manager.acquire(waiting, lambda: None)
    with pytest.raises(AssertionError, match="acquired once"):
        manager.acquire(latch, lambda: None)
    with pytest.raises(AssertionError, match="only a held latch"):
        manager.release(waiting)


# The obviously correct model: a latch may be held iff no earlier one in flight conflicts with it.

UNIVERSE = (b"a", b"b", b"c", DESCRIPTOR)

some_points = st.lists(st.sampled_from(UNIVERSE), max_size=3)
some_spans: st.SearchStrategy[list[Span]] = st.lists(
    st.sampled_from([(b"a", b"b"), (b"b", b"d"), (b"a", b"d"), (b"b", b"b")]), max_size=2
)
any_latch = st.builds(
    lambda points, written, spans, written_spans: Latch(
        tuple(points), tuple(written), tuple(spans), tuple(written_spans)
    ),
    some_points,
    some_points,
    some_spans,
    some_spans,
)
# Most collide on two keys, in every way there is; queues get long.
dense_latch = st.sampled_from(
    [
        read(b"a"),
        read(b"b"),
        write(b"a"),
        write(b"b"),
        write(b"a", b"b"),
        Latch((b"a",), (b"b",)),
        Latch((b"b",), (b"a",)),
        read_span(b"a", b"b"),
        write_span(b"b", b"c"),
    ]
)
endings = st.tuples(st.sampled_from(["release", "cancel"]), st.integers(0, 30))
scripts = st.lists(st.one_of(dense_latch, dense_latch, any_latch, endings), min_size=4, max_size=40)


def touches(latch: Latch) -> tuple[set[bytes], set[bytes]]:
    """Return the points read and the points written, spans spelled out over a small key space."""
    covered = [
        {k for k in UNIVERSE for start, end in spans if start <= k < end}
        for spans in (latch.read_spans, latch.write_spans)
    ]
    return set(latch.read_points) | covered[0], set(latch.write_points) | covered[1]


def conflict(one: Latch, other: Latch) -> bool:
    reads, writes = touches(one)
    other_reads, other_writes = touches(other)
    return bool(writes & (other_reads | other_writes) or reads & other_writes)


class Model:
    def __init__(self) -> None:
        self.in_flight: list[Latch] = []

    def held(self) -> list[Latch]:
        return [
            latch
            for number, latch in enumerate(self.in_flight)
            if not any(conflict(earlier, latch) for earlier in self.in_flight[:number])
        ]


@settings(max_examples=300, deadline=None)
@given(scripts)
def test_manager_behaves_as_the_model(script: list[Latch | tuple[str, int]]) -> None:
    manager = LatchManager()
    model = Model()
    told: list[Latch] = []
    for step in script:
        before = model.held()
        told.clear()
        if isinstance(step, Latch):
            latch = copy(step)
            model.in_flight.append(latch)
            at_once = manager.acquire(latch, partial(told.append, latch))
            assert at_once == (latch in model.held())
            assert told == []
        else:
            action, number = step
            candidates = before if action == "release" else model.in_flight
            if not candidates:
                continue
            latch = candidates[number % len(candidates)]
            model.in_flight.remove(latch)
            (manager.release if action == "release" else manager.cancel)(latch)
            assert told == [each for each in model.held() if each not in before]
        held = model.held()
        assert [each for each in model.in_flight if is_held(each)] == held
        assert manager.status().waiting == len(model.in_flight) - len(held)
    while model.in_flight:
        latch = model.held()[0]
        model.in_flight.remove(latch)
        manager.release(latch)
    assert manager.status() == LatchStatus(0, 0, 0, 0)
