"""What one call of an engine costs: pytest bench/bench_engine.py."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.rocks import RocksEngine

KEYS = 100_000
VALUE = b"v" * 256
END = b"\xff"


def key(number: int) -> bytes:
    return b"key-%08d" % (number % KEYS)


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    made: Engine = (
        RocksEngine.open(tmp_path / "store") if request.param == "rocks" else MemoryEngine()
    )
    for start in range(0, KEYS, 1_000):
        batch = made.new_batch()
        for number in range(start, start + 1_000):
            batch.put(key(number), VALUE, made.data)
        made.write(batch)
    yield made
    made.close()


def numbers() -> Callable[[], int]:
    """Return a function that gives another number each time, scattered over the keys."""
    state = [0]

    def another() -> int:
        state[0] = (state[0] + 7_919) % KEYS
        return state[0]

    return another


@pytest.mark.parametrize("entries", [1, 10, 100])
def test_write_batch(benchmark: BenchmarkFixture, engine: Engine, entries: int) -> None:
    another = numbers()

    def write() -> None:
        batch = engine.new_batch()
        put, family = batch.put, engine.data
        for _ in range(entries):
            put(key(another()), VALUE, family)
        engine.write(batch)

    benchmark(write)


def test_get(benchmark: BenchmarkFixture, engine: Engine) -> None:
    another = numbers()
    benchmark(lambda: engine.get(key(another()), engine.data))


def test_get_of_an_absent_key(benchmark: BenchmarkFixture, engine: Engine) -> None:
    benchmark(lambda: engine.get(b"absent", engine.data))


def test_first(benchmark: BenchmarkFixture, engine: Engine) -> None:
    another = numbers()
    benchmark(lambda: engine.first(key(another()), END, engine.data))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_1000_keys(benchmark: BenchmarkFixture, engine: Engine, *, reverse: bool) -> None:
    rows = benchmark(
        lambda: list(engine.scan(key(5_000), key(6_000), engine.data, reverse=reverse))
    )
    assert len(rows) == 1_000


def test_make_a_view_and_close_it(benchmark: BenchmarkFixture, engine: Engine) -> None:
    benchmark(lambda: engine.view().close())


def test_get_from_a_view(benchmark: BenchmarkFixture, engine: Engine) -> None:
    another = numbers()
    view = engine.view()
    benchmark(lambda: view.get(key(another()), engine.data))
    view.close()


def test_write_and_sync(benchmark: BenchmarkFixture, engine: Engine) -> None:
    with asyncio.Runner() as runner:
        loop = runner.get_loop()

        async def write_and_sync() -> None:
            batch = engine.new_batch()
            batch.put(b"k", VALUE, engine.data)
            engine.write(batch)
            done = loop.create_future()
            engine.sync(done.set_result)
            assert await done is None

        benchmark(lambda: runner.run(write_and_sync()))


def test_open_and_close(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    RocksEngine.open(tmp_path / "empty").close()
    benchmark(lambda: RocksEngine.open(tmp_path / "empty").close())
