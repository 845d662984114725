import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft.model import keys
from multiraft.mvcc import statistics, versions
from multiraft.mvcc.reader import EngineReader, ViewReader
from multiraft.mvcc.statistics import RangeStats, StatsScan
from multiraft.storage import layout
from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from tests.support.version_model import Model, histories, some_bounds


def expected_of(model: Model, start: bytes, end: bytes) -> RangeStats:
    live = model.live(start, end, 1 << 60)
    stored = [
        len(layout.version_key(key, version.timestamp)) + len(versions.encode(version))
        for key, version in model.all()
        if start <= key < end
    ]
    return RangeStats(
        live_keys=len(live),
        live_bytes=sum(len(key) + len(value) for key, value in live),
        versions=len(stored),
        version_bytes=sum(stored),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(histories(), some_bounds, some_bounds, st.integers(1, 9))
def test_recount_in_slices_equals_the_model(
    engine: Engine, model: Model, start: bytes, end: bytes, slice_keys: int
) -> None:
    start, end = sorted((start, end))
    model.store(engine)
    view = engine.view()
    recount = StatsScan(ViewReader(view, engine.data), start, end)
    slices = 1
    while not recount.advance(slice_keys):
        slices += 1
    view.close()
    expected = expected_of(model, start, end)
    assert recount.stats == expected
    assert slices == expected.versions // slice_keys + 1


@given(histories(), some_bounds)
def test_halves_add_up_to_the_whole(model: Model, middle: bytes) -> None:
    engine = MemoryEngine()
    model.store(engine)
    reader = EngineReader(engine)
    whole = statistics.count(reader, keys.MIN, keys.END)
    left = statistics.count(reader, keys.MIN, middle)
    right = statistics.count(reader, middle, keys.END)
    assert left.plus(right) == whole
    assert whole.minus(left) == right


@pytest.mark.parametrize("slice_keys", [1, 2, 3, 100])
def test_locks_of_the_span_are_counted(slice_keys: int) -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    for key in (b"a", b"b", b"b\x00", b"c"):
        batch.put(layout.lock_key(key), b"lock", engine.data)
    batch.put(layout.record_key(b"b", b"t" * 16), b"record", engine.data)
    engine.write(batch)
    recount = StatsScan(EngineReader(engine), b"b", b"c")
    while not recount.advance(slice_keys):
        pass
    assert recount.stats == RangeStats(locks=2)


def test_stats_are_added_field_by_field() -> None:
    one, other = RangeStats(1, 2, 3, 4, 5), RangeStats(10, 20, 30, 40, 50)
    assert one.plus(other) == RangeStats(11, 22, 33, 44, 55)
    assert other.minus(one) == RangeStats(9, 18, 27, 36, 45)
