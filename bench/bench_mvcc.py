"""Hot paths of mvcc/ on RocksDB: one get, the effects of one put, and scans per key.

Run: pytest bench/bench_mvcc.py --benchmark-columns=min,median,ops
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.ids import Timestamp
from multiraft.model import hlc, keys
from multiraft.mvcc import reads, versions
from multiraft.mvcc.reader import EngineReader, Reader
from multiraft.mvcc.versions import VALUE, Version
from multiraft.mvcc.writes import WriteSet
from multiraft.storage import layout
from multiraft.storage.rocks import RocksEngine

KEYS = 10_000
VALUE_BYTES = b"v" * 256
WRITE_ID = b"w" * 16
NOW = hlc.from_ms(1_700_000_000_000)
NAMES = [keys.PLAIN + b"user/%08d" % number for number in range(KEYS)]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Return a reader of KEYS keys, with three versions each."""
    directory: Path = tmp_path_factory.mktemp("mvcc")
    engine = RocksEngine.open(directory)
    batch = engine.new_batch()
    for name in NAMES:
        for age in range(1, 4):
            version = Version(Timestamp(NOW - age), VALUE, WRITE_ID, b"", VALUE_BYTES)
            physical = layout.version_key(name, version.timestamp)
            batch.put(physical, versions.encode(version), engine.data)
    engine.write(batch)
    yield EngineReader(engine)
    engine.close()


def test_newest(benchmark: BenchmarkFixture, reader: Reader) -> None:
    assert benchmark(reads.newest, reader, NAMES[5_000]) is not None


def test_newest_of_an_absent_key(benchmark: BenchmarkFixture, reader: Reader) -> None:
    assert benchmark(reads.newest, reader, keys.PLAIN + b"user/x") is None


def test_get_at_a_timestamp(benchmark: BenchmarkFixture, reader: Reader) -> None:
    found = benchmark(reads.get, reader, NAMES[5_000], Timestamp(NOW - 2))
    assert found.timestamp == NOW - 2


def test_find_write_among_newer_versions(benchmark: BenchmarkFixture, reader: Reader) -> None:
    found = benchmark(reads.find_write, reader, NAMES[5_000], b"x" * 16, Timestamp(NOW - 10))
    assert found is None


def test_effects_of_one_put(benchmark: BenchmarkFixture, reader: Reader) -> None:
    def put() -> int:
        writes = WriteSet(reader, NOW, WRITE_ID)
        writes.put(NAMES[5_000], VALUE_BYTES)
        return len(writes.effects().puts)

    assert benchmark(put) == 2


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_of_10000_keys_with_three_versions(
    benchmark: BenchmarkFixture, reader: Reader, reverse: bool
) -> None:
    page = benchmark(reads.scan, reader, keys.PLAIN, keys.END, NOW, reverse=reverse)
    assert page.keys == KEYS


@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_scan_of_10000_keys_with_one_version(
    benchmark: BenchmarkFixture, tmp_path: Path, reverse: bool
) -> None:
    engine = RocksEngine.open(tmp_path)
    batch = engine.new_batch()
    for name in NAMES:
        stored = versions.encode(Version(NOW, VALUE, WRITE_ID, b"", VALUE_BYTES))
        batch.put(layout.version_key(name, NOW), stored, engine.data)
    engine.write(batch)
    page = benchmark(reads.scan, EngineReader(engine), keys.PLAIN, keys.END, NOW, reverse=reverse)
    assert page.keys == KEYS
    engine.close()
