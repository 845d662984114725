"""What the log costs per entry, and per range at start: pytest bench/bench_raft_log.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.ids import Index, RangeId, Term
from multiraft.raft.messages import Entry, EntryKind
from multiraft.raft.ready import HardState
from multiraft.storage import raft_log
from multiraft.storage.engine import Engine
from multiraft.storage.raft_log import RangeLog
from multiraft.storage.rocks import RocksEngine

BATCH = 64
PAYLOAD = b"p" * 300
RANGES = 2_000


class NoBatch:
    """A batch that costs nothing, to see what the log itself costs."""

    def put(self, key: bytes, value: bytes, family: object) -> None:
        """Do nothing."""

    def delete(self, key: bytes, family: object) -> None:
        """Do nothing."""

    def delete_range(self, start: bytes, end: bytes, family: object) -> None:
        """Do nothing."""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = RocksEngine.open(tmp_path / "store")
    yield made
    made.close()


def entries(first: int, count: int = BATCH) -> tuple[Entry, ...]:
    return tuple(Entry(Term(1), Index(first + i), EntryKind.COMMAND, PAYLOAD) for i in range(count))


def test_append_64_without_the_engine(benchmark: BenchmarkFixture, engine: Engine) -> None:
    log = RangeLog(engine, RangeId(1))

    def next_entries() -> tuple[tuple[NoBatch, tuple[Entry, ...]], dict[str, object]]:
        return (NoBatch(), entries(log.last_index() + 1)), {}

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        log.append, setup=next_entries, rounds=500
    )


@pytest.mark.parametrize("count", [1, BATCH])
def test_append_and_write(benchmark: BenchmarkFixture, engine: Engine, count: int) -> None:
    log = RangeLog(engine, RangeId(1))

    def append(new: tuple[Entry, ...]) -> None:
        batch = engine.new_batch()
        log.append(batch, new)
        engine.write(batch)

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        append, setup=lambda: ((entries(log.last_index() + 1, count),), {}), rounds=500
    )


@pytest.mark.parametrize("count", [1, BATCH])
def test_read_entries(benchmark: BenchmarkFixture, engine: Engine, count: int) -> None:
    log = RangeLog(engine, RangeId(1))
    batch = engine.new_batch()
    log.append(batch, entries(1, 1_000))
    engine.write(batch)
    found = benchmark(lambda: log.entries(Index(500), Index(500 + count), 1 << 30))
    assert len(found) == count


def test_term(benchmark: BenchmarkFixture, engine: Engine) -> None:
    log = RangeLog(engine, RangeId(1))
    log.append(engine.new_batch(), entries(1, 1_000))
    benchmark(lambda: log.term(Index(500)))


def test_truncate_and_append_64(benchmark: BenchmarkFixture, engine: Engine) -> None:
    log = RangeLog(engine, RangeId(1))
    batch = engine.new_batch()
    log.append(batch, entries(1, 1_000))
    engine.write(batch)

    def turn(new: tuple[Entry, ...]) -> None:
        batch = engine.new_batch()
        log.append(batch, new)
        log.truncate(batch, Index(log.first_index() + BATCH - 1))
        engine.write(batch)

    benchmark.pedantic(  # type: ignore[no-untyped-call]
        turn, setup=lambda: ((entries(log.last_index() + 1),), {}), rounds=500
    )


@pytest.mark.parametrize("length", [0, 10])
def test_load_2000_ranges(benchmark: BenchmarkFixture, engine: Engine, length: int) -> None:
    for number in range(1, RANGES + 1):
        log = RangeLog(engine, RangeId(number))
        batch = engine.new_batch()
        log.reset(batch, Index(10), Term(1))
        log.set_hard_state(batch, HardState(term=Term(1), commit_index=Index(10)))
        if length:
            log.append(batch, entries(11, length))
        engine.write(batch)

    def load_all() -> int:
        return sum(
            raft_log.load(engine, range_id, applied_index=Index(10)).last_index()
            for range_id in raft_log.range_ids(engine)
        )

    assert benchmark(load_all) == RANGES * (10 + length)


def test_load_one_long_log(benchmark: BenchmarkFixture, engine: Engine) -> None:
    log = RangeLog(engine, RangeId(1))
    for first in range(1, 20_001, 1_000):
        batch = engine.new_batch()
        log.append(batch, entries(first, 1_000))
        engine.write(batch)
    found = benchmark(lambda: raft_log.load(engine, RangeId(1)))
    assert found.last_index() == 20_000
