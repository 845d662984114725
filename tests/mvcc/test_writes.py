import functools
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.mvcc import reads, statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.mvcc.writes import Effects, PutSet, WriteSet
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine
from tests.support.version_model import Model, histories, some_keys, some_values, write_id

ID = write_id(99)
NOW = Timestamp(1_000)


def write_set(model: Model, *, timestamp: int = NOW, replay: bool = False) -> WriteSet:
    engine = MemoryEngine()
    model.store(engine)
    return WriteSet(EngineReader(engine), Timestamp(timestamp), ID, replay=replay)


def one_value(key: bytes = b"k", value: bytes = b"old") -> Model:
    return Model({key: [Version(Timestamp(10), VALUE, write_id(1), b"", value)]})


def test_put_of_a_new_key_adds_one_version() -> None:
    writes = write_set(Model())
    writes.put(b"k", b"new")
    physical = layout.version_key(b"k", NOW)
    assert writes.effects() == Effects(
        puts=(physical, b"\x01" + ID + b"new"),
        stats=RangeStats(
            live_keys=1, live_bytes=4, versions=1, version_bytes=len(physical) + 17 + 3
        ),
    )


def test_put_over_a_value_counts_the_difference() -> None:
    writes = write_set(one_value())
    writes.put(b"k", b"newer")
    physical = layout.version_key(b"k", NOW)
    assert writes.effects().stats == RangeStats(
        live_keys=0, live_bytes=2, versions=1, version_bytes=len(physical) + 17 + 5
    )


def test_delete_leaves_a_tombstone() -> None:
    writes = write_set(one_value())
    writes.delete(b"k")
    physical = layout.version_key(b"k", NOW)
    assert writes.effects() == Effects(
        puts=(physical, b"\x02" + ID),
        stats=RangeStats(live_keys=-1, live_bytes=-4, versions=1, version_bytes=len(physical) + 17),
    )


def test_outcome_changes_nothing_that_is_live() -> None:
    writes = write_set(one_value())
    writes.outcome(b"k")
    physical = layout.version_key(b"k", NOW)
    assert writes.effects() == Effects(
        puts=(physical, b"\x03" + ID),
        stats=RangeStats(versions=1, version_bytes=len(physical) + 17),
    )


def test_later_operations_of_a_part_read_what_earlier_ones_wrote() -> None:
    writes = write_set(one_value())
    assert writes.is_empty
    writes.put(b"k", b"1")
    assert writes.newest(b"k") == Version(NOW, VALUE, ID, b"", b"1")
    writes.delete(b"k")
    assert writes.newest(b"k") == Version(NOW, TOMBSTONE, ID)
    assert not writes.is_empty


def test_of_several_writes_to_a_key_the_last_counts_once() -> None:
    writes = write_set(one_value())
    writes.put(b"k", b"1")
    writes.put(b"k", b"22")
    physical = layout.version_key(b"k", NOW)
    stored = b"\x01" + ID + b"22"
    assert writes.effects() == Effects(
        puts=(physical, stored),
        stats=RangeStats(live_bytes=-1, versions=1, version_bytes=len(physical) + len(stored)),
    )


@pytest.mark.parametrize("timestamp", [9, 10])
def test_write_at_or_below_a_version_is_our_mistake(timestamp: int) -> None:
    writes = write_set(one_value(), timestamp=timestamp)
    with pytest.raises(AssertionError, match="above every version"):
        writes.put(b"k", b"new")
    for write in (writes.delete, writes.outcome):
        with pytest.raises(AssertionError, match="above every version"):
            write(b"k")


def test_an_outcome_at_a_key_that_is_written_is_our_mistake() -> None:
    writes = write_set(Model())
    writes.put(b"a", b"")
    with pytest.raises(AssertionError, match="not both"):
        writes.outcome(b"a")
    writes = write_set(Model())
    writes.outcome(b"a")
    with pytest.raises(AssertionError, match="not both"):
        writes.put(b"a", b"")
    with pytest.raises(AssertionError, match="not both"):
        writes.delete(b"a")


def test_a_part_that_writes_may_leave_outcomes_at_its_other_keys() -> None:
    writes = write_set(one_value())
    writes.put(b"a", b"new")
    writes.outcome(b"j")
    assert writes.writes(b"a")
    assert writes.writes(b"j")
    assert not writes.writes(b"k")
    effects = writes.effects()
    assert effects.puts[1::2] == (b"\x01" + ID + b"new", b"\x03" + ID)
    assert (effects.stats.live_keys, effects.stats.versions) == (1, 2)


def test_part_may_leave_an_outcome_at_each_of_its_keys() -> None:
    writes = write_set(one_value())
    for key in (b"j", b"k", b"j"):
        writes.outcome(key)
    effects = writes.effects()
    assert effects.puts[::2] == (layout.version_key(b"j", NOW), layout.version_key(b"k", NOW))
    assert effects.puts[1::2] == (b"\x03" + ID, b"\x03" + ID)
    assert effects.stats == RangeStats(
        versions=2, version_bytes=sum(len(piece) for piece in effects.puts)
    )


def test_short_write_id_is_our_mistake() -> None:
    with pytest.raises(AssertionError, match="16 bytes"):
        WriteSet(EngineReader(MemoryEngine()), NOW, b"short")


@pytest.mark.parametrize("before", [10, NOW - 1])
def test_replay_reads_what_lay_below_the_write(before: int) -> None:
    model = Model({b"k": [Version(Timestamp(before), VALUE, write_id(1), b"", b"old")]})
    model.add(b"k", Version(NOW, VALUE, ID, b"", b"mine"))
    model.add(b"k", Version(Timestamp(NOW + 5), TOMBSTONE, write_id(3)))
    writes = write_set(model, replay=True)
    assert writes.newest(b"k") == model.get(b"k", before)
    writes.put(b"k", b"mine")
    assert writes.newest(b"k") == model.get(b"k", NOW)
    with pytest.raises(AssertionError, match="replay"):
        writes.effects()


some_operations = st.lists(
    st.tuples(some_keys, st.one_of(st.none(), some_values)), min_size=1, max_size=6
)


@given(histories(), st.lists(some_operations, max_size=5), st.booleans())
def test_differences_add_up_to_a_recount(
    model: Model, parts: list[list[tuple[bytes, bytes | None]]], ends_in_outcome: bool
) -> None:
    engine = MemoryEngine()
    model.store(engine)
    reader = EngineReader(engine)
    stats = statistics.count(reader, keys.MIN, keys.END)
    expected = dict(model.live(keys.MIN, keys.END, NOW))
    for number, part in enumerate(parts):
        writes = WriteSet(reader, Timestamp(NOW + number), ID)
        for key, value in part:
            if value is None:
                writes.delete(key)
                expected.pop(key, None)
            else:
                writes.put(key, value)
                expected[key] = value
        stats = stats.plus(apply(engine, writes.effects()))
    if ends_in_outcome:
        writes = WriteSet(reader, Timestamp(NOW + 100), ID)
        writes.outcome(b"a")
        stats = stats.plus(apply(engine, writes.effects()))
    assert statistics.count(reader, keys.MIN, keys.END) == stats
    page = reads.scan(reader, keys.MIN, keys.END, Timestamp(NOW + 200))
    assert dict(zip(page.rows[::2], page.rows[1::2], strict=True)) == expected


@given(histories(), some_operations, some_keys)
def test_difference_right_of_a_key_is_that_of_a_recount(
    model: Model, part: list[tuple[bytes, bytes | None]], split_key: bytes
) -> None:
    engine = MemoryEngine()
    model.store(engine)
    reader = EngineReader(engine)
    before = statistics.count(reader, split_key, keys.END)
    writes = WriteSet(reader, NOW, ID)
    for key, value in part:
        if value is None:
            writes.delete(key)
        else:
            writes.put(key, value)
    apply(engine, writes.effects())
    after = statistics.count(reader, split_key, keys.END)
    assert writes.stats_from(split_key) == after.minus(before)


@given(histories(), st.dictionaries(some_keys, some_values, min_size=1), some_keys)
def test_the_fast_path_of_puts_comes_to_what_a_write_set_for_each_does(
    model: Model, puts: dict[bytes, bytes], split_key: bytes
) -> None:
    engine = MemoryEngine()
    model.store(engine)
    reader = EngineReader(engine)
    fast = PutSet(reader)
    slow: list[WriteSet] = []
    for number, (key, value) in enumerate(puts.items()):
        fast.put(Timestamp(NOW + number), write_id(99 + number), key, value)
        slow.append(WriteSet(reader, Timestamp(NOW + number), write_id(99 + number)))
        slow[-1].put(key, value)
    each = [writes.effects() for writes in slow]
    effects = fast.effects()
    assert effects.puts == tuple(part for one in each for part in one.puts)
    assert effects.stats == total(one.stats for one in each)
    assert fast.written == [version for writes in slow for version in writes.written]
    assert fast.stats_from(split_key) == total(w.stats_from(split_key) for w in slow)


def total(several: Iterable[RangeStats]) -> RangeStats:
    return functools.reduce(RangeStats.plus, several, RangeStats())


def apply(engine: MemoryEngine, effects: Effects) -> RangeStats:
    batch = engine.new_batch()
    for physical, stored in zip(effects.puts[::2], effects.puts[1::2], strict=True):
        assert engine.get(physical, engine.data) is None
        batch.put(physical, stored, engine.data)
    engine.write(batch)
    return effects.stats


def test_outcome_is_found_by_its_id_but_not_read() -> None:
    engine = MemoryEngine()
    model = one_value()
    model.add(b"k", Version(NOW, OUTCOME, ID, b"failed"))
    model.store(engine)
    reader = EngineReader(engine)
    newest = reads.newest(reader, b"k")
    assert newest is not None
    assert newest.value == b"old"
    found = reads.find_write(reader, b"k", ID, Timestamp(10))
    assert found == Version(NOW, OUTCOME, ID, b"failed")
