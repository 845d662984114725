import itertools
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader, Reader
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from tests.support.version_model import Model, histories, some_bounds, some_keys, write_id

ReaderOf = Callable[[Engine], Reader]

one_engine_for_all = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
timestamps = st.integers(0, 90)


@one_engine_for_all
@given(histories(), some_keys, timestamps)
def test_get_and_newest_see_what_the_model_sees(
    engine: Engine, reader_of: ReaderOf, model: Model, key: bytes, timestamp: int
) -> None:
    model.store(engine)
    reader = reader_of(engine)
    assert reads.newest(reader, key) == model.newest(key)
    assert reads.get(reader, key, Timestamp(timestamp)) == model.get(key, timestamp)


@one_engine_for_all
@given(histories(), some_bounds, some_bounds, timestamps, st.booleans())
def test_scan_sees_what_the_model_sees(
    engine: Engine,
    reader_of: ReaderOf,
    model: Model,
    start: bytes,
    end: bytes,
    timestamp: int,
    reverse: bool,
) -> None:
    start, end = sorted((start, end))
    model.store(engine)
    page = reads.scan(reader_of(engine), start, end, Timestamp(timestamp), reverse=reverse)
    expected = model.live(start, end, timestamp)
    if reverse:
        expected.reverse()
    assert pairs(page.rows) == expected
    assert page.keys == len(expected)
    assert page.resume is None


@one_engine_for_all
@given(
    histories(),
    timestamps,
    st.booleans(),
    st.integers(0, 3),
    st.integers(0, 60),
    st.integers(0, 3),
)
def test_pages_put_together_are_the_whole_scan(
    engine: Engine,
    model: Model,
    timestamp: int,
    reverse: bool,
    limit_keys: int,
    limit_bytes: int,
    limit_passed: int,
) -> None:
    model.store(engine)
    found = []
    start, end = keys.MIN, keys.END
    while True:
        page = reads.scan(
            EngineReader(engine),
            start,
            end,
            Timestamp(timestamp),
            reverse=reverse,
            limit_keys=limit_keys,
            limit_bytes=limit_bytes,
            limit_passed=limit_passed,
        )
        rows = pairs(page.rows)
        found += rows
        assert not limit_keys or page.keys <= limit_keys
        # All but the last row lie below the limit in bytes.
        assert not limit_bytes or sum(len(k) + len(v) for k, v in rows[:-1]) < limit_bytes
        if page.resume is None:
            break
        assert rows or limit_passed, "a page before the last one holds at least one key"
        start, end = (start, page.resume) if reverse else (page.resume, end)
    expected = model.live(keys.MIN, keys.END, timestamp)
    assert found == (expected[::-1] if reverse else expected)


@one_engine_for_all
@given(histories(), some_keys, st.integers(0, 42), timestamps)
def test_find_write_finds_exactly_what_lies_above(
    engine: Engine, reader_of: ReaderOf, model: Model, key: bytes, number: int, newer_than: int
) -> None:
    model.store(engine)
    expected = [
        version
        for version in model.chains.get(key, [])
        if version.id == write_id(number) and version.timestamp > newer_than
    ]
    found = reads.find_write(reader_of(engine), key, write_id(number), Timestamp(newer_than))
    assert [found] == expected if expected else found is None


@one_engine_for_all
@given(histories(), some_keys, st.integers(0, 42), timestamps)
def test_get_write_finds_exactly_what_lies_there(
    engine: Engine, reader_of: ReaderOf, model: Model, key: bytes, number: int, timestamp: int
) -> None:
    model.store(engine)
    found = reads.get_write(reader_of(engine), key, write_id(number), Timestamp(timestamp))
    there = [v for v in model.chains.get(key, []) if v.timestamp == timestamp]
    assert [found] == there if there and there[0].id == write_id(number) else found is None


def test_get_write_does_not_take_another_write_for_its_own() -> None:
    engine = MemoryEngine()
    long_chain(3).store(engine)
    reader = EngineReader(engine)
    found = reads.get_write(reader, b"b", write_id(2), Timestamp(20))
    assert found == Version(Timestamp(20), VALUE, write_id(2), b"", b"2")
    assert reads.get_write(reader, b"b", write_id(9), Timestamp(20)) is None
    assert reads.get_write(reader, b"b", write_id(2), Timestamp(21)) is None


def pairs(rows: tuple[bytes, ...]) -> list[tuple[bytes, bytes]]:
    return list(zip(rows[::2], rows[1::2], strict=True))


def long_chain(length: int) -> Model:
    """Three keys; the one in the middle has `length` versions, at 10, 20, 30..."""
    model = Model()
    model.add(b"a", Version(Timestamp(1), VALUE, write_id(1), b"", b"before"))
    for number in range(1, length + 1):
        version = Version(Timestamp(10 * number), VALUE, write_id(number), b"", b"%d" % number)
        model.add(b"b", version)
    model.add(b"c", Version(Timestamp(2), VALUE, write_id(2), b"", b"after"))
    return model


@pytest.mark.parametrize("length", [15, 16, 17, 18, 33, 100])
def test_scan_crosses_keys_with_many_versions(
    engine: Engine, reader_of: ReaderOf, length: int
) -> None:
    model = long_chain(length)
    model.store(engine)
    reader = reader_of(engine)
    for timestamp in (5, 10, 15, 150, 160, 165, 170, 175, 500, 10_000):
        expected = model.live(b"a", b"d", timestamp)
        forward = reads.scan(reader, b"a", b"d", Timestamp(timestamp))
        assert pairs(forward.rows) == expected
        backward = reads.scan(reader, b"a", b"d", Timestamp(timestamp), reverse=True)
        assert pairs(backward.rows) == expected[::-1]


@pytest.mark.parametrize("kind", [TOMBSTONE, OUTCOME])
@pytest.mark.parametrize("reverse", [False, True])
def test_scan_crosses_keys_whose_many_versions_are_not_live(
    engine: Engine, kind: int, reverse: bool
) -> None:
    model = long_chain(1)
    for number in range(2, 60):
        model.add(b"b", Version(Timestamp(10 * number), kind, write_id(number)))
    model.store(engine)
    page = reads.scan(EngineReader(engine), b"a", b"d", Timestamp(9_999), reverse=reverse)
    expected = model.live(b"a", b"d", 9_999)
    assert len(expected) == (2 if kind == TOMBSTONE else 3)
    assert pairs(page.rows) == (expected[::-1] if reverse else expected)


class CountingReader:
    """Counts how many versions were looked at."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.looked_at = 0

    def known(self, prefix: bytes) -> Version | None:
        return self._reader.known(prefix)

    def first(self, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        self.looked_at += 1
        return self._reader.first(start, end)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        for pair in self._reader.scan(start, end, reverse=reverse):
            self.looked_at += 1
            yield pair

    def scan_unchecked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return self.scan(start, end)


class UncheckedReader(EngineReader):
    """Lets its unchecked scans end after so many rows, or go on behind their span."""

    def __init__(self, engine: Engine, rows_max: int) -> None:
        super().__init__(engine)
        self._rows_max = rows_max

    def scan_unchecked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        return itertools.islice(self.scan(start, b"\xff" * 20), self._rows_max)


@one_engine_for_all
@given(
    histories(),
    st.integers(0, 20),
    some_bounds,
    some_bounds,
    timestamps,
    st.integers(0, 3),
    st.integers(0, 60),
)
def test_unchecked_ends_change_nothing(
    engine: Engine,
    model: Model,
    rows_max: int,
    start: bytes,
    end: bytes,
    timestamp: int,
    limit_keys: int,
    limit_bytes: int,
) -> None:
    start, end = sorted((start, end))
    model.store(engine)
    checked, unchecked = (
        reads.scan(
            reader,
            start,
            end,
            Timestamp(timestamp),
            limit_keys=limit_keys,
            limit_bytes=limit_bytes,
        )
        for reader in (UncheckedReader(engine, 0), UncheckedReader(engine, rows_max))
    )
    assert unchecked == checked


@pytest.mark.parametrize("timestamp", [10, 15_005, 30_000])
@pytest.mark.parametrize("reverse", [False, True])
def test_cost_of_a_scan_does_not_grow_with_unseen_versions(reverse: bool, timestamp: int) -> None:
    engine = MemoryEngine()
    long_chain(3_000).store(engine)
    reader = CountingReader(EngineReader(engine))
    page = reads.scan(reader, b"", keys.END, Timestamp(timestamp), reverse=reverse)
    assert page.keys == 3
    assert reader.looked_at < 3 * reads.SEEK_AFTER


def test_resume_is_none_when_the_limit_falls_on_the_end_of_the_span() -> None:
    engine = MemoryEngine()
    long_chain(1).store(engine)
    reader = EngineReader(engine)
    at = Timestamp(99)
    assert reads.scan(reader, b"a", b"a\x00", at, limit_keys=1).resume is None
    assert reads.scan(reader, b"c", b"d", at, limit_keys=1, reverse=True).resume is None
    assert reads.scan(reader, b"a", b"c", at, limit_keys=1).resume == b"a\x00"
    assert reads.scan(reader, b"a", b"d", at, limit_keys=1, reverse=True).resume == b"c"


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_over_removed_keys_pauses(reverse: bool) -> None:
    engine = MemoryEngine()
    model = Model()
    for number in range(100):
        key = b"%03d" % number
        model.add(key, Version(Timestamp(1), VALUE, write_id(1)))
        model.add(key, Version(Timestamp(2), TOMBSTONE, write_id(2)))
    model.store(engine)
    reader = CountingReader(EngineReader(engine))
    page = reads.scan(
        reader, b"", keys.END, Timestamp(9), reverse=reverse, limit_keys=1, limit_passed=10
    )
    assert page.rows == ()
    assert page.resume == (b"090" if reverse else b"009\x00")
    assert reader.looked_at < 25


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_over_keys_that_have_nothing_but_outcomes_pauses(reverse: bool) -> None:
    engine, model = MemoryEngine(), Model()
    for number in range(100):
        model.add(b"k%02d" % number, Version(Timestamp(2), OUTCOME, write_id(number)))
    model.add(b"k50", Version(Timestamp(1), VALUE, write_id(0), b"", b"v"))
    model.store(engine)
    reader = EngineReader(engine)
    rows: list[tuple[bytes, bytes]] = []
    start, end, pages = b"", keys.END, 0
    while True:
        page = reads.scan(reader, start, end, Timestamp(9), reverse=reverse, limit_passed=10)
        rows += pairs(page.rows)
        pages += 1
        if page.resume is None:
            break
        start, end = (start, page.resume) if reverse else (page.resume, end)
    assert rows == [(b"k50", b"v")]
    assert pages >= 10


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_over_keys_of_the_future_pauses(reverse: bool) -> None:
    engine = MemoryEngine()
    model = Model()
    for number in range(1_000):
        model.add(b"%04d" % number, Version(Timestamp(10), VALUE, write_id(1)))
    model.store(engine)
    reader = CountingReader(EngineReader(engine))
    page = reads.scan(reader, b"", keys.END, Timestamp(9), reverse=reverse, limit_passed=5)
    assert page.rows == ()
    assert page.resume is not None
    assert reader.looked_at < 6 * reads.SEEK_AFTER


@one_engine_for_all
@given(
    histories(), some_bounds, some_bounds, timestamps, timestamps, st.integers(0, 9), st.booleans()
)
def test_the_first_change_is_that_of_the_model_however_it_is_cut(
    engine: Engine,
    model: Model,
    start: bytes,
    end: bytes,
    since: int,
    until: int,
    limit_passed: int,
    own: bool,
) -> None:
    start, end = sorted((start, end))
    since, until = sorted((since, until))
    model.store(engine)
    except_id = write_id(until // 2) if own else b""
    expected = None
    for key, version in model.all():
        counts = version.kind != OUTCOME and version.id != except_id
        if start <= key < end and since < version.timestamp <= until and counts:
            if expected is not None and expected.key != key:
                break
            expected = reads.Change(key, version.timestamp)
    reader = EngineReader(engine)
    found, low, steps = None, start, 0
    while True:
        found = reads.first_change(
            reader,
            low,
            end,
            Timestamp(since),
            Timestamp(until),
            except_id,
            limit_passed=limit_passed,
        )
        steps += 1
        if found is None or found.timestamp:
            break
        assert low < found.key < end, "it gets further"
        low = found.key
    assert found == expected
    assert limit_passed or steps == 1


@pytest.mark.parametrize("versions_of_each", [1, 15, 16, 17, 50])
def test_the_change_of_a_key_with_many_versions_is_found(
    engine: Engine, versions_of_each: int
) -> None:
    """Too new ones, too old ones and those in between, in every position."""
    model = Model()
    for key in (b"a", b"b"):
        for number in range(1, versions_of_each + 1):
            version = Version(Timestamp(2 * number), VALUE, write_id(number), b"", b"v")
            model.add(key, version)
    model.store(engine)
    reader = EngineReader(engine)
    last = 2 * versions_of_each
    for since in range(0, last + 2, 3):
        for until in range(since, last + 2, 5):
            changed = min(until - until % 2, last)
            expected = reads.Change(b"a", Timestamp(changed)) if changed > since else None
            times = Timestamp(since), Timestamp(until)
            assert reads.change_of(reader, b"a", *times) == expected
            assert reads.first_change(reader, b"", b"z", *times) == expected
            if expected is not None:
                own = write_id(changed // 2)
                older = reads.change_of(reader, b"a", *times, own)
                assert reads.first_change(reader, b"a", b"b", *times, own) == older
                assert older is None or older.timestamp == changed - 2
