import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.mvcc import garbage, reads, statistics
from multiraft.mvcc.garbage import GarbageScan
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.storage import layout
from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from tests.support.version_model import Model, histories, some_bounds, write_id


def removable(
    engine: Engine, start: bytes, end: bytes, threshold: int, slice_: int = 2
) -> list[garbage.Found]:
    scan = GarbageScan(EngineReader(engine), start, end, Timestamp(threshold))
    found = []
    while not scan.advance(slice_):
        found += scan.take()
    return found + scan.take()


def removed(engine: Engine, start: bytes, end: bytes, threshold: int) -> list[tuple[bytes, int]]:
    found = removable(engine, start, end, threshold)
    return [layout.split_version_key(physical) for physical, _ in found]


def expected_to_go(model: Model, threshold: int) -> set[tuple[bytes, int]]:
    gone: set[tuple[bytes, int]] = set()
    for key, version in model.all():
        seen = model.get(key, threshold)
        keeps = version == seen and version.kind == VALUE
        if version.timestamp <= threshold and not keeps:
            gone.add((key, version.timestamp))
    return gone


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(histories(), st.integers(0, 90))
def test_all_that_no_read_sees_goes_and_nothing_else(
    engine: Engine, model: Model, threshold: int
) -> None:
    model.store(engine)
    found = removed(engine, keys.MIN, keys.END, threshold)
    assert removable(engine, keys.MIN, keys.END, threshold, 1_000) == removable(
        engine, keys.MIN, keys.END, threshold
    )
    assert len(found) == len(set(found))
    assert set(found) == expected_to_go(model, threshold)


@given(histories(), st.integers(0, 90), st.data())
def test_no_read_changes_when_the_removal_is_cut_anywhere(
    model: Model, threshold: int, data: st.DataObject
) -> None:
    engine = MemoryEngine()
    model.store(engine)
    reader = EngineReader(engine)
    before = [scan(engine, at) for at in range(threshold, 92)]
    stats = statistics.count(reader, keys.MIN, keys.END)
    found = removable(engine, keys.MIN, keys.END, threshold)
    cut = data.draw(st.integers(0, len(found)))
    batch = engine.new_batch()
    freed = 0
    for physical, size in found[:cut]:
        batch.delete(physical, engine.data)
        freed += size
    engine.write(batch)
    assert [scan(engine, at) for at in range(threshold, 92)] == before
    after = statistics.count(reader, keys.MIN, keys.END)
    assert after == stats.minus(RangeStats(versions=cut, version_bytes=freed))


@given(histories(), st.integers(0, 90))
def test_the_next_threshold_is_the_least_at_which_more_goes(model: Model, threshold: int) -> None:
    engine = MemoryEngine()
    model.store(engine)
    scan = GarbageScan(EngineReader(engine), keys.MIN, keys.END, Timestamp(threshold))
    assert scan.advance(1_000)
    now = expected_to_go(model, threshold)
    assert {layout.split_version_key(physical) for physical, _ in scan.take()} == now
    more = [at for at in range(threshold + 1, 200) if expected_to_go(model, at) != now]
    assert scan.next_at() == (more[0] if more else None)


def scan(engine: Engine, at: int) -> tuple[bytes, ...]:
    return reads.scan(EngineReader(engine), keys.MIN, keys.END, Timestamp(at)).rows


@given(histories(), some_bounds, some_bounds, st.integers(0, 90))
def test_only_the_span_is_collected(model: Model, start: bytes, end: bytes, threshold: int) -> None:
    start, end = sorted((start, end))
    engine = MemoryEngine()
    model.store(engine)
    whole = removed(engine, keys.MIN, keys.END, threshold)
    assert removed(engine, start, end, threshold) == [
        (key, at) for key, at in whole if start <= key < end
    ]


def test_tombstone_goes_after_the_values_below_it() -> None:
    model = Model()
    for at, kind in ((1, VALUE), (2, OUTCOME), (3, VALUE), (4, TOMBSTONE), (5, OUTCOME)):
        model.add(b"k", Version(Timestamp(at), kind, write_id(at)))
    engine = MemoryEngine()
    model.store(engine)
    order = [at for _, at in removed(engine, keys.MIN, keys.END, 5)]
    assert sorted(order) == [1, 2, 3, 4, 5]
    assert order.index(4) > order.index(1)
    assert order.index(4) > order.index(3)


@pytest.mark.parametrize(
    ("versions", "more_at"),
    [
        ([(b"j", 7, OUTCOME), (b"k", 5, OUTCOME), (b"l", 6, OUTCOME)], 5),
        ([(b"k", 3, TOMBSTONE), (b"k", 6, VALUE), (b"k", 7, VALUE)], 7),
    ],
    ids=["the oldest outcome", "the value that replaces one written after a removal"],
)
def test_what_is_too_young_says_when_more_goes(
    versions: list[tuple[bytes, int, int]], more_at: int
) -> None:
    model = Model()
    for key, at, kind in versions:
        model.add(key, Version(Timestamp(at), kind, write_id(at)))
    engine = MemoryEngine()
    model.store(engine)
    scan = GarbageScan(EngineReader(engine), keys.MIN, keys.END, Timestamp(4))
    assert scan.advance(1_000)
    assert scan.next_at() == more_at
