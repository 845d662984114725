"""One test per trap of the binding: what rocksdict really does, and that we do not fall in.

A test of the first kind that fails with a new version is good news: the trap has gone, and the code
that avoids it can follow.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rocksdict

from multiraft import errors
from multiraft.storage.rocks import RocksEngine
from tests.support import engines
from tests.support.engines import EVERYTHING_END, SMALL


@pytest.fixture
def directory(scratch: Path) -> Path:
    return scratch / "store"


@pytest.fixture
def engine(directory: Path) -> Iterator[RocksEngine]:
    opened = RocksEngine.open(directory, SMALL)
    yield opened
    opened.close()


@pytest.fixture
def raw(scratch: Path) -> Iterator[rocksdict.Rdict]:
    options = rocksdict.Options(raw_mode=True)
    options.create_if_missing(True)
    database = rocksdict.Rdict(str(scratch / "raw"), options)
    yield database
    with contextlib.suppress(rocksdict.DbClosedError):
        database.close()


def test_scans_over_a_snapshot_show_the_newest_data(raw: rocksdict.Rdict) -> None:
    raw[b"k"] = b"old"
    snapshot = raw.snapshot()
    raw[b"k"] = b"new"
    assert snapshot[b"k"] == b"old"
    assert list(snapshot.items()) == [(b"k", b"new")]
    del snapshot


def test_raw_iterator_keeps_its_view_over_flush_and_compaction(raw: rocksdict.Rdict) -> None:
    raw[b"k"] = b"old"
    iterator = raw.iter()
    raw[b"k"] = b"new"
    raw.delete_range(b"a", b"z")
    raw.flush()
    raw.compact_range(None, None)
    iterator.seek(b"a")
    assert iterator.value() == b"old"
    del iterator


def test_view_keeps_its_state_over_flush_and_compaction(engine: RocksEngine) -> None:
    engines.put(engine, b"k", b"old", engine.data)
    view = engine.view()
    engines.put(engine, b"k", b"new", engine.data)
    engine._families[engine.data].flush()
    engine._families[engine.data].compact_range(None, None)
    assert view.get(b"k", engine.data) == b"old"
    view.close()


def test_lower_bound_does_not_bound(raw: rocksdict.Rdict) -> None:
    for key in (b"a", b"b", b"c"):
        raw[key] = b"v"
    read_options = rocksdict.ReadOptions()
    read_options.set_iterate_lower_bound(b"b")
    iterator = raw.iter(read_options)
    iterator.seek(b"b")
    found = []
    while iterator.valid():
        found.append(iterator.key())
        iterator.prev()
    assert found != [b"b"]
    del iterator


def damaged_table(directory: Path) -> None:
    """Fill the store at `directory`, and flip a byte in a data block of its largest table."""
    engine = RocksEngine.open(directory, SMALL)
    for i in range(150):
        batch = engine.new_batch()
        for j in range(20):
            batch.put(b"%03d%02d" % (i, j), b"%03d" % i * 10, engine.data)
        engine.write(batch)
    engine.close()
    table = max((directory / "rocks").glob("*.sst"), key=lambda path: path.stat().st_size)
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)


def test_damaged_block_ends_a_plain_iteration_silently(directory: Path) -> None:
    damaged_table(directory)
    engine = RocksEngine.open(directory, SMALL)
    assert len(list(engine._families[engine.data].items())) < 3_000
    engine.close()


def test_damaged_block_ends_an_unchecked_scan_silently_and_the_scan_behind_it_does_not(
    directory: Path,
) -> None:
    damaged_table(directory)
    engine = RocksEngine.open(directory, SMALL)
    found = list(engine.scan_unchecked(b"", EVERYTHING_END, engine.data))
    assert 0 < len(found) < 3_000
    with pytest.raises(errors.CorruptionError, match=r"\.sst"):
        list(engine.scan(found[-1][0], EVERYTHING_END, engine.data))
    engine.close()


@pytest.mark.parametrize("reverse", [False, True])
def test_damaged_block_is_an_error_of_our_scans(directory: Path, *, reverse: bool) -> None:
    damaged_table(directory)
    engine = RocksEngine.open(directory, SMALL)
    scan = engine.scan(b"", EVERYTHING_END, engine.data, reverse=reverse)
    with pytest.raises(errors.CorruptionError, match=r"\.sst"):
        list(scan)
    with pytest.raises(errors.CorruptionError):
        engine.get(b"00000", engine.data)
    engine.close()


@pytest.mark.parametrize("kind", ["get", "first", "view"])
def test_damaged_block_is_an_error_of_single_reads(directory: Path, kind: str) -> None:
    damaged_table(directory)
    engine = RocksEngine.open(directory, SMALL)
    view = engine.view()
    read: Callable[[bytes], bytes | None] = {
        "get": lambda key: engine.get(key, engine.data),
        "first": lambda key: (engine.first(key, EVERYTHING_END, engine.data) or (key, None))[1],
        "view": lambda key: view.get(key, engine.data),
    }[kind]

    def read_all() -> None:
        for i in range(150):
            assert read(b"%03d05" % i) == b"%03d" % i * 10

    with pytest.raises(errors.CorruptionError):
        read_all()
    assert engine.status().failure.startswith("the store must stop: Corruption")
    engine.close()


def test_batch_is_consumed_by_write(engine: RocksEngine) -> None:
    batch = engine.new_batch()
    batch.put(b"k", b"v", engine.data)
    engine.write(batch)
    with pytest.raises(Exception, match="batch"):
        batch.put(b"l", b"v", engine.data)


def test_empty_range_counts_as_a_write_that_a_flush_forgets(
    raw: rocksdict.Rdict, scratch: Path
) -> None:
    batch = rocksdict.WriteBatch(raw_mode=True)
    batch.delete_range(b"a", b"a")
    raw.write(batch)
    assert raw.latest_sequence_number() == 1
    raw.close()
    again = rocksdict.Rdict(str(scratch / "raw"), rocksdict.Options(raw_mode=True))
    assert again.latest_sequence_number() == 0
    again.close()


def test_empty_range_as_the_last_write_does_not_look_like_a_lost_one(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    batch = engine.new_batch()
    batch.delete_range(b"a", b"a", engine.data)
    engine.write(batch)
    engine.close()
    RocksEngine.open(directory, SMALL).close()


def test_reversed_range_is_stopped_before_it_stops_the_store(engine: RocksEngine) -> None:
    with pytest.raises(AssertionError, match="ends where it begins"):
        engine.new_batch().delete_range(b"b", b"a", engine.data)


def test_family_handle_keeps_the_directory_locked_and_the_engine_lets_go(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    kept = engine.data
    engine.close()
    with pytest.raises(errors.DirectoryInUseError):
        RocksEngine.open(directory, SMALL)
    del kept
    RocksEngine.open(directory, SMALL).close()


def test_sync_leaves_the_loop_free_while_it_runs(engine: RocksEngine) -> None:
    """That flush_wal releases the interpreter lock is what the design stands on."""
    in_flush = threading.Event()
    resume = threading.Event()
    real = engine._database

    class Slow:
        def flush_wal(self, sync: bool) -> None:
            in_flush.set()
            assert resume.wait(timeout=30)
            real.flush_wal(sync)

        def latest_sequence_number(self) -> int:
            return real.latest_sequence_number()

    engine._database = Slow()  # type: ignore[assignment]

    async def main() -> None:
        engines.put(engine, b"k", b"v", engine.data)
        syncing = asyncio.ensure_future(engines.synced(engine))
        assert await asyncio.to_thread(in_flush.wait, 30)
        engines.put(engine, b"during", b"v", engine.data)
        assert engine.get(b"during", engine.data) == b"v"
        resume.set()
        assert await syncing is None

    asyncio.run(main())
    engine._database = real


def test_options_that_the_binding_takes_from_a_file_only_are_in_force(
    engine: RocksEngine, directory: Path
) -> None:
    newest = max((directory / "rocks").glob("OPTIONS-*"))
    text = newest.read_text()
    for line in (
        "track_and_verify_wals_in_manifest=true",
        "wal_recovery_mode=kPointInTimeRecovery",
        "paranoid_checks=true",
        "recycle_log_file_num=0",
        "create_if_missing=true",
    ):
        assert f"  {line}\n" in text, line
    assert engine.status().failure == ""


def test_existing_store_is_never_made_anew(directory: Path) -> None:
    RocksEngine.open(directory, SMALL).close()
    RocksEngine.open(directory, SMALL).close()
    text = max((directory / "rocks").glob("OPTIONS-*")).read_text()
    assert "  create_if_missing=false\n" in text
    assert "  create_missing_column_families=false\n" in text


def test_store_opens_fast(directory: Path) -> None:
    """Not a benchmark: an order of magnitude, so that nothing slow sneaks into the opening."""
    engine = RocksEngine.open(directory, SMALL)
    for i in range(2_000):
        engines.put(engine, b"%d" % i, bytes(100), engine.data)
    engine.close()
    start = time.thread_time()
    RocksEngine.open(directory, SMALL).close()
    assert time.thread_time() - start < 2.0
