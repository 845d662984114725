"""Hot paths of concurrency/: what each request pays before and after it is evaluated.

Run: pytest bench/bench_latches.py --benchmark-columns=min,median,ops
"""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from multiraft.concurrency.latches import Latch, LatchManager
from multiraft.concurrency.recent_writes import RecentWrites
from multiraft.concurrency.timestamp_cache import TimestampCache
from multiraft.ids import Timestamp

KEY = b"\x10user/00005000"
OWNER = b"t" * 16


def ignore() -> None:
    pass


def test_acquire_and_release_one_point(benchmark: BenchmarkFixture) -> None:
    manager = LatchManager()

    def use() -> None:
        latch = Latch((), (KEY,))
        manager.acquire(latch, ignore)
        manager.release(latch)

    benchmark(use)


@pytest.mark.parametrize("points", [64, 256])
def test_acquire_and_release_a_read_span_over_points(
    benchmark: BenchmarkFixture, points: int
) -> None:
    manager = LatchManager()
    for number in range(points):
        manager.acquire(Latch((b"\x10%d" % number,)), ignore)

    def use() -> None:
        latch = Latch((), (), ((b"\x10", b"\x11"),))
        manager.acquire(latch, ignore)
        manager.release(latch)

    benchmark(use)


def test_one_key_written_by_256_callers(benchmark: BenchmarkFixture) -> None:
    def use() -> None:
        manager = LatchManager()
        latches = [Latch((), (KEY,)) for _ in range(256)]
        for latch in latches:
            manager.acquire(latch, ignore)
        for latch in latches:
            manager.release(latch)

    benchmark(use)


def test_write_floor(benchmark: BenchmarkFixture) -> None:
    cache = TimestampCache(Timestamp(1), 65_536)
    benchmark(cache.write_floor, KEY, OWNER)


def test_add_point_read(benchmark: BenchmarkFixture) -> None:
    cache = TimestampCache(Timestamp(1), 65_536)
    names = [b"\x10user/%08d" % number for number in range(1_000)]
    clock = iter(range(2, 1 << 60))

    def use() -> None:
        now = next(clock)
        cache.add_point(names[now % 1_000], Timestamp(now))

    benchmark(use)


def test_note_write_and_ask_for_its_absence(benchmark: BenchmarkFixture) -> None:
    recent = RecentWrites(65_536, Timestamp(1))
    clock = iter(range(2, 1 << 60))

    def use() -> None:
        now = next(clock)
        write_id = now.to_bytes(16, "big")
        recent.knows_absence(write_id, Timestamp(now))
        recent.note(write_id, Timestamp(now))

    benchmark(use)
