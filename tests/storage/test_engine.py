"""What storage/engine.py promises, asked of both engines; then both against a model."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from multiraft import errors
from multiraft.storage.engine import Engine, View
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.rocks import RocksEngine
from tests.support import engines
from tests.support.engines import EVERYTHING_END, SMALL


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Engine]:
    made: Engine = (
        RocksEngine.open(scratch / "store", SMALL) if request.param == "rocks" else MemoryEngine()
    )
    yield made
    made.close()


def fill(engine: Engine, count: int) -> list[tuple[bytes, bytes]]:
    """Write `count` numbered keys to `data` and return them."""
    rows = [(b"k%05d" % i, b"v%d" % i) for i in range(count)]
    batch = engine.new_batch()
    for key, value in rows:
        batch.put(key, value, engine.data)
    engine.write(batch)
    return rows


# Batches


def test_batch_is_visible_once_written_and_not_before(engine: Engine) -> None:
    batch = engine.new_batch()
    batch.put(b"k", b"v", engine.data)
    assert engine.get(b"k", engine.data) is None
    engine.write(batch)
    assert engine.get(b"k", engine.data) == b"v"


def test_families_do_not_share_keys(engine: Engine) -> None:
    batch = engine.new_batch()
    batch.put(b"k", b"log", engine.raft)
    batch.put(b"k", b"state", engine.data)
    engine.write(batch)
    assert engine.get(b"k", engine.raft) == b"log"
    assert engine.get(b"k", engine.data) == b"state"


def test_last_write_to_a_key_within_a_batch_wins(engine: Engine) -> None:
    batch = engine.new_batch()
    batch.put(b"a", b"1", engine.data)
    batch.put(b"a", b"2", engine.data)
    batch.put(b"b", b"1", engine.data)
    batch.delete(b"b", engine.data)
    batch.delete(b"c", engine.data)
    batch.put(b"c", b"3", engine.data)
    engine.write(batch)
    assert engines.contents(engine, engine.data) == [(b"a", b"2"), (b"c", b"3")]


def test_delete_range_removes_what_comes_before_it_and_spares_what_comes_after(
    engine: Engine,
) -> None:
    fill(engine, 10)
    batch = engine.new_batch()
    batch.put(b"k00003x", b"in the same batch, before", engine.data)
    batch.delete_range(b"k00002", b"k00007", engine.data)
    batch.put(b"k00004", b"after", engine.data)
    engine.write(batch)
    assert [key for key, _ in engines.contents(engine, engine.data)] == [
        b"k00000",
        b"k00001",
        b"k00004",
        b"k00007",
        b"k00008",
        b"k00009",
    ]


def test_delete_range_of_one_family_spares_the_other(engine: Engine) -> None:
    engines.put(engine, b"k", b"v", engine.data)
    batch = engine.new_batch()
    batch.delete_range(b"", EVERYTHING_END, engine.raft)
    engine.write(batch)
    assert engine.get(b"k", engine.data) == b"v"


def test_empty_batch_may_be_written(engine: Engine) -> None:
    engine.write(engine.new_batch())
    engines.sync(engine)


def test_a_batch_tells_about_how_much_it_writes(engine: Engine) -> None:
    batch = engine.new_batch()
    before = batch.size_bytes
    batch.put(b"k", bytes(1_000), engine.data)
    batch.put(b"k", bytes(1_000), engine.raft)
    assert 2_000 < batch.size_bytes - before < 2_100
    engine.write(batch)


def test_empty_key_and_empty_value_are_legal(engine: Engine) -> None:
    engines.put(engine, b"", b"", engine.data)
    assert engine.get(b"", engine.data) == b""
    assert engines.contents(engine, engine.data) == [(b"", b"")]


# Reads


def test_first_gives_the_first_key_of_the_span_and_none_beyond(engine: Engine) -> None:
    fill(engine, 3)
    assert engine.first(b"k00001", b"k00003", engine.data) == (b"k00001", b"v1")
    assert engine.first(b"k00001a", b"k00003", engine.data) == (b"k00002", b"v2")
    assert engine.first(b"k00001a", b"k00002", engine.data) is None
    assert engine.first(b"k00003", EVERYTHING_END, engine.data) is None


def test_scan_holds_its_bounds_in_both_directions(engine: Engine) -> None:
    rows = fill(engine, 200)
    for low, high in ((0, 200), (3, 4), (3, 3), (4, 3), (0, 64), (0, 65), (70, 199)):
        start, end = b"k%05d" % low, b"k%05d" % high
        expected = rows[low:high]
        assert list(engine.scan(start, end, engine.data)) == expected
        assert list(engine.scan(start, end, engine.data, reverse=True)) == expected[::-1]


def test_unchecked_scan_gives_all_of_the_span_first(engine: Engine) -> None:
    rows = fill(engine, 10)
    found = list(engine.scan_unchecked(b"k00003", b"k00006", engine.data))
    assert found[:3] == rows[3:6]


def test_reverse_scan_from_beyond_the_last_key_begins_at_it(engine: Engine) -> None:
    rows = fill(engine, 3)
    assert next(engine.scan(b"", EVERYTHING_END, engine.data, reverse=True)) == rows[-1]


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_sees_the_state_as_of_its_call(engine: Engine, *, reverse: bool) -> None:
    rows = fill(engine, 300)
    scan = engine.scan(b"", EVERYTHING_END, engine.data, reverse=reverse)
    engines.put(engine, b"k00000", b"overwritten before the first step", engine.data)
    seen = [next(scan), next(scan)]
    batch = engine.new_batch()
    batch.delete_range(b"k00100", b"k00200", engine.data)
    batch.put(b"k00250", b"overwritten", engine.data)
    batch.put(b"k00150x", b"new", engine.data)
    engine.write(batch)
    seen.extend(scan)
    assert seen == (rows[::-1] if reverse else rows)


def test_scan_given_up_half_way_does_not_keep_the_engine_from_closing(engine: Engine) -> None:
    fill(engine, 300)
    next(engine.scan(b"", EVERYTHING_END, engine.data))


# Views


def test_view_sees_both_families_as_of_its_creation(engine: Engine) -> None:
    rows = fill(engine, 300)
    engines.put(engine, b"log", b"old", engine.raft)
    view = engine.view()
    batch = engine.new_batch()
    batch.delete_range(b"", EVERYTHING_END, engine.data)
    batch.put(b"k00001", b"new", engine.data)
    batch.put(b"log", b"new", engine.raft)
    batch.put(b"log2", b"new", engine.raft)
    engine.write(batch)
    assert list(view.scan(b"", EVERYTHING_END, engine.data)) == rows
    assert list(view.scan(b"", EVERYTHING_END, engine.raft, reverse=True)) == [(b"log", b"old")]
    assert view.get(b"k00001", engine.data) == b"v1"
    assert view.get(b"k00001x", engine.data) is None
    assert view.get(EVERYTHING_END, engine.data) is None
    assert view.get(b"log2", engine.raft) is None
    view.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_gets_and_other_scans_do_not_disturb_a_scan_of_a_view(
    engine: Engine, *, reverse: bool
) -> None:
    rows = fill(engine, 100)
    expected = rows[::-1] if reverse else rows
    view = engine.view()
    seen = []
    for row in view.scan(b"", EVERYTHING_END, engine.data, reverse=reverse):
        seen.append(row)
        assert view.get(b"k00050", engine.data) == b"v50"
        other = view.scan(b"k00020", EVERYTHING_END, engine.data, reverse=not reverse)
        assert next(other) == (rows[20] if reverse else rows[-1])
    assert seen == expected
    view.close()


def test_closed_view_refuses_and_closes_again(engine: Engine) -> None:
    fill(engine, 3)
    view = engine.view()
    scan = view.scan(b"", EVERYTHING_END, engine.data)
    next(scan)
    view.close()
    view.close()
    with pytest.raises(errors.StoppedError, match="the view is closed"):
        view.get(b"k00001", engine.data)
    with pytest.raises(errors.StoppedError):
        view.scan(b"", EVERYTHING_END, engine.data)


# Closing


def test_closed_engine_refuses_everything(engine: Engine) -> None:
    batch = engine.new_batch()
    family = engine.data
    engine.close()
    for call in (
        lambda: engine.write(batch),
        lambda: engine.get(b"k", family),
        lambda: engine.first(b"", b"k", family),
        lambda: engine.scan(b"", b"k", family),
        lambda: engine.scan_unchecked(b"", b"k", family),
        engine.view,
    ):
        with pytest.raises(errors.StoppedError):
            call()


def test_closing_twice_is_harmless(engine: Engine) -> None:
    engine.close()


# Both against a model

KEYS = st.integers(0, 12).map(lambda number: b"%02d" % number)
VALUES = st.binary(max_size=4)
FAMILIES = st.sampled_from(["raft", "data"])
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), FAMILIES, KEYS, VALUES),
        st.tuples(st.just("delete"), FAMILIES, KEYS),
        st.tuples(st.just("delete_range"), FAMILIES, KEYS, KEYS).map(
            lambda drawn: (*drawn[:2], *sorted(drawn[2:]))
        ),
    ),
    min_size=1,
    max_size=6,
)
Contents = dict[str, dict[bytes, bytes]]


def apply_to_model(model: Contents, operations: list[Any]) -> Contents:
    """Return the model after a batch."""
    changed = {name: dict(rows) for name, rows in model.items()}
    for kind, family, *arguments in operations:
        rows = changed[family]
        if kind == "put":
            rows[arguments[0]] = arguments[1]
        elif kind == "delete":
            rows.pop(arguments[0], None)
        else:
            for key in [key for key in rows if arguments[0] <= key < arguments[1]]:
                del rows[key]
    return changed


def in_order(rows: dict[bytes, bytes], start: bytes, end: bytes) -> list[tuple[bytes, bytes]]:
    return sorted((key, value) for key, value in rows.items() if start <= key < end)


class EngineModel(RuleBasedStateMachine):
    """Random batches, reads, views, scans and restarts, with plain dicts beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.durable: Contents = {"raft": {}, "data": {}}
        self.unsynced: list[Contents] = []
        self.views: list[tuple[View, Contents]] = []
        self.scans: list[tuple[Iterator[tuple[bytes, bytes]], list[tuple[bytes, bytes]]]] = []
        self.engine: Engine = self.open()

    def open(self) -> Engine:
        raise NotImplementedError

    @property
    def newest(self) -> Contents:
        return self.unsynced[-1] if self.unsynced else self.durable

    def drop_readers(self) -> None:
        for view, _ in self.views:
            view.close()
        self.views.clear()
        self.scans.clear()

    def restarted(self, engine: Engine, found: Contents) -> None:
        self.engine = engine
        self.durable = found
        self.unsynced = []

    @rule(operations=OPERATIONS)
    def write(self, operations: list[Any]) -> None:
        batch = self.engine.new_batch()
        for kind, family, *arguments in operations:
            getattr(batch, kind)(*arguments, getattr(self.engine, family))
        self.engine.write(batch)
        self.unsynced.append(apply_to_model(self.newest, operations))

    @rule()
    def sync(self) -> None:
        engines.sync(self.engine)
        self.durable = self.newest
        self.unsynced = []

    @rule(key=KEYS, family=FAMILIES)
    def get(self, key: bytes, family: str) -> None:
        expected = self.newest[family].get(key)
        assert self.engine.get(key, getattr(self.engine, family)) == expected

    @rule(start=KEYS, end=KEYS, family=FAMILIES)
    def first(self, start: bytes, end: bytes, family: str) -> None:
        expected = in_order(self.newest[family], start, end)[:1]
        found = self.engine.first(start, end, getattr(self.engine, family))
        assert found == (expected[0] if expected else None)

    @rule(start=KEYS, end=KEYS, family=FAMILIES, reverse=st.booleans())
    def begin_scan(self, start: bytes, end: bytes, family: str, *, reverse: bool) -> None:
        expected = in_order(self.newest[family], start, end)
        scan = self.engine.scan(start, end, getattr(self.engine, family), reverse=reverse)
        self.scans.append((scan, expected[::-1] if reverse else expected))

    @precondition(lambda self: self.scans)
    @rule(which=st.integers(0, 99), steps=st.integers(1, 5))
    def continue_scan(self, which: int, steps: int) -> None:
        scan, expected = self.scans[which % len(self.scans)]
        for _ in range(steps):
            assert next(scan, None) == (expected.pop(0) if expected else None)

    @precondition(lambda self: len(self.views) < 3)
    @rule()
    def make_view(self) -> None:
        self.views.append((self.engine.view(), self.newest))

    @precondition(lambda self: self.views)
    @rule(which=st.integers(0, 99), start=KEYS, end=KEYS, family=FAMILIES, reverse=st.booleans())
    def scan_view(
        self, which: int, start: bytes, end: bytes, family: str, *, reverse: bool
    ) -> None:
        view, model = self.views[which % len(self.views)]
        expected = in_order(model[family], start, end)
        scan = view.scan(start, end, getattr(self.engine, family), reverse=reverse)
        self.scans.append((scan, expected[::-1] if reverse else expected))

    @precondition(lambda self: self.views)
    @rule(which=st.integers(0, 99), key=KEYS, family=FAMILIES)
    def get_from_view(self, which: int, key: bytes, family: str) -> None:
        view, model = self.views[which % len(self.views)]
        assert view.get(key, getattr(self.engine, family)) == model[family].get(key)

    @invariant()
    def newest_is_what_the_model_says(self) -> None:
        for family in ("raft", "data"):
            expected = in_order(self.newest[family], b"", EVERYTHING_END)
            assert engines.contents(self.engine, getattr(self.engine, family)) == expected

    def teardown(self) -> None:
        self.drop_readers()
        self.engine.close()


class MemoryModel(EngineModel):
    """... with crashes that keep any number of the unsynced batches."""

    def open(self) -> Engine:
        return MemoryEngine()

    @rule()
    def restart(self) -> None:
        assert isinstance(self.engine, MemoryEngine)
        self.drop_readers()
        self.engine.close()
        self.restarted(self.engine.reopen(), self.newest)

    @rule(fraction=st.floats(0, 1))
    def crash(self, fraction: float) -> None:
        assert isinstance(self.engine, MemoryEngine)
        assert self.engine.unsynced_count == len(self.unsynced)
        self.drop_readers()
        keep = round(fraction * len(self.unsynced))
        self.engine.crash(keep)
        survived = [self.durable, *self.unsynced][keep]
        self.restarted(self.engine.reopen(), survived)


class RocksModel(EngineModel):
    """... with clean restarts, and crash images, which hold all that was written."""

    def __init__(self) -> None:
        self.temporary = tempfile.TemporaryDirectory(dir=engines.memory_directory())
        self.directory = Path(self.temporary.name) / "store"
        super().__init__()

    def open(self) -> Engine:
        return RocksEngine.open(self.directory, SMALL)

    @rule()
    def restart(self) -> None:
        self.drop_readers()
        self.engine.close()
        self.restarted(self.open(), self.newest)

    @rule()
    def kill(self) -> None:
        self.drop_readers()
        image = engines.crash_image(self.directory, self.directory.with_name("image"))
        self.engine.close()
        engines.crash_image(image, self.directory)
        self.restarted(self.open(), self.newest)

    def teardown(self) -> None:
        super().teardown()
        self.temporary.cleanup()


TestMemoryModel = MemoryModel.TestCase
TestMemoryModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRocksModel = RocksModel.TestCase
TestRocksModel.settings = settings(max_examples=12, stateful_step_count=40, deadline=None)
