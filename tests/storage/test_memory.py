"""The memory engine's bad days; what it shares with RocksDB is in test_engine.py."""

import asyncio

import pytest

from multiraft import errors
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from multiraft.storage.memory import MemoryEngine
from tests.support import engines


def numbered(count: int) -> MemoryEngine:
    """Return an engine with `count` unsynced batches, each with a key of its own."""
    engine = MemoryEngine()
    for i in range(count):
        engines.put(engine, b"%d" % i, b"v", engine.data)
    return engine


@pytest.mark.parametrize("keep", range(4))
def test_crash_keeps_as_many_unsynced_batches_as_asked(keep: int) -> None:
    engine = numbered(3)
    engine.crash(keep)
    reopened = engine.reopen()
    assert engines.contents(reopened, reopened.data) == [(b"%d" % i, b"v") for i in range(keep)]


def test_crash_restores_what_lost_batches_overwrote_and_deleted() -> None:
    engine = numbered(3)
    engines.sync(engine)
    before = engines.contents(engine, engine.data)
    for _ in range(2):
        batch = engine.new_batch()
        batch.put(b"0", b"new", engine.data)
        batch.delete_range(b"1", b"9", engine.data)
        batch.put(b"1", b"again", engine.data)
        batch.put(b"x", b"y", engine.raft)
        engine.write(batch)
    engine.crash(keep=0)
    reopened = engine.reopen()
    assert engines.contents(reopened, reopened.data) == before
    assert engines.contents(reopened, reopened.raft) == []


def test_crash_cannot_keep_more_than_there_is() -> None:
    with pytest.raises(AssertionError, match="some of the unsynced"):
        numbered(1).crash(keep=2)


def test_close_loses_nothing() -> None:
    engine = numbered(3)
    engine.close()
    reopened = engine.reopen()
    assert len(engines.contents(reopened, reopened.data)) == 3


def test_engine_in_use_cannot_be_opened_again() -> None:
    with pytest.raises(AssertionError, match="in use"):
        numbered(1).reopen()


def test_crashed_engine_refuses_and_names_the_crash() -> None:
    engine = numbered(1)
    engine.crash(keep=0)
    with pytest.raises(errors.StoppedError, match="crashed"):
        engine.get(b"0", engine.data)


def test_batch_is_written_once() -> None:
    engine = MemoryEngine()
    batch = engine.new_batch()
    engine.write(batch)
    with pytest.raises(AssertionError, match="written once"):
        engine.write(batch)
    with pytest.raises(AssertionError, match="takes no more"):
        batch.put(b"k", b"v", engine.data)


def test_reversed_range_is_refused() -> None:
    engine = MemoryEngine()
    with pytest.raises(AssertionError, match="ends where it begins"):
        engine.new_batch().delete_range(b"b", b"a", engine.data)


def test_slow_sync_covers_what_was_written_when_it_began() -> None:
    async def main(loop: VirtualLoop) -> None:
        engine = MemoryEngine(sync_delay_s=lambda: 2.0)
        engines.put(engine, b"a", b"v", engine.data)
        finished_at: list[float] = []
        engine.sync(lambda _: finished_at.append(loop.time()))
        engines.put(engine, b"b", b"v", engine.data)
        engine.sync(lambda _: finished_at.append(loop.time()))
        engine.sync(lambda _: finished_at.append(loop.time()))
        await asyncio.sleep(1.9)
        assert finished_at == []
        assert engine.unsynced_count == 2
        await asyncio.sleep(0.2)
        assert finished_at == [pytest.approx(2.0)]
        assert engine.unsynced_count == 1
        await asyncio.sleep(2.0)
        assert finished_at == [pytest.approx(2.0), pytest.approx(4.0), pytest.approx(4.0)]
        assert engine.unsynced_count == 0

    virtual_loop.run(main)


def test_crash_during_a_sync_may_lose_what_it_covered_and_calls_nobody_back() -> None:
    async def main(loop: VirtualLoop) -> None:
        engine = MemoryEngine(sync_delay_s=lambda: 1.0)
        engines.put(engine, b"a", b"v", engine.data)
        called: list[object] = []
        engine.sync(called.append)
        await asyncio.sleep(0.5)
        engine.crash(keep=0)
        reopened = engine.reopen()
        await asyncio.sleep(5.0)
        assert called == []
        assert engines.contents(reopened, reopened.data) == []

    virtual_loop.run(main)


def test_failed_write_stops_the_engine_for_good() -> None:
    engine = numbered(1)
    engine.fail_next_write("EIO")
    for _ in range(2):
        with pytest.raises(errors.StoreFailedError, match="EIO"):
            engines.put(engine, b"k", b"v", engine.data)
    assert isinstance(asyncio.run(engines.synced(engine)), errors.StoreFailedError)
    with pytest.raises(errors.StoreFailedError):
        engine.get(b"0", engine.data)


def test_failed_sync_stops_the_engine_and_makes_nothing_durable() -> None:
    engine = numbered(2)
    engine.fail_next_sync("EIO")
    error = asyncio.run(engines.synced(engine))
    assert isinstance(error, errors.StoreFailedError)
    with pytest.raises(errors.StoreFailedError, match="EIO"):
        engines.put(engine, b"k", b"v", engine.data)
    assert engine.unsynced_count == 2
    engine.crash(keep=1)
    reopened = engine.reopen()
    assert len(engines.contents(reopened, reopened.data)) == 1


def test_full_disk_stops_the_engine_and_keeps_the_batch_out() -> None:
    engine = MemoryEngine(capacity_bytes=10)
    engines.put(engine, b"k", b"12345", engine.data)
    assert engine.free_bytes() == 4
    with pytest.raises(errors.StoreFailedError, match="no space left"):
        engines.put(engine, b"l", b"1234", engine.data)
    engine.crash(keep=1)
    engine.capacity_bytes = 100
    reopened = engine.reopen()
    assert engines.contents(reopened, reopened.data) == [(b"k", b"12345")]
    assert reopened.free_bytes() == 94


def test_free_bytes_follow_overwrites_and_deletions() -> None:
    engine = MemoryEngine(capacity_bytes=100)
    engines.put(engine, b"k", b"12345", engine.data)
    engines.put(engine, b"k", b"1", engine.data)
    assert engine.free_bytes() == 98
    batch = engine.new_batch()
    batch.delete_range(b"", b"z", engine.data)
    batch.delete(b"absent", engine.data)
    engine.write(batch)
    assert engine.free_bytes() == 100


def test_overlays_go_with_those_who_needed_them() -> None:
    engine = numbered(200)
    view = engine.view()
    scan = engine.scan(b"", b"z", engine.data)
    next(scan)
    assert len(engine.data._overlays) == 2
    del scan
    view.close()
    assert engine.data._overlays == []


def test_a_damaged_value_is_never_returned_until_it_is_mended_or_overwritten() -> None:
    engine = numbered(1)
    view = engine.view()
    engine.damage(0)
    key, family = b"0", engine.data
    reads = (
        lambda: engine.get(key, family),
        lambda: engine.first(b"", b"\xff", family),
        lambda: list(engine.scan(b"", b"\xff", family)),
        lambda: view.get(key, family),
        lambda: list(view.scan(b"", b"\xff", family)),
    )
    for read in reads:
        with pytest.raises(errors.CorruptionError, match="checksum"):
            read()
    engine.mend()
    for read in reads:
        assert read()
    engine.damage(0)
    batch = engine.new_batch()
    batch.put(key, b"new", family)
    engine.write(batch)
    assert engine.get(key, family) == b"new"


def test_a_crash_that_loses_the_overwriting_batch_brings_the_damage_back() -> None:
    engine = numbered(1)
    engine.damage(0)
    batch = engine.new_batch()
    batch.put(b"0", b"new", engine.data)
    engine.write(batch)
    engine.crash(keep=1)
    opened = engine.reopen()
    with pytest.raises(errors.CorruptionError):
        opened.get(b"0", opened.data)


def test_a_limit_leaves_so_much_space_and_can_be_lifted() -> None:
    engine = numbered(1)
    engine.limit(10)
    assert engine.free_bytes() == 10
    engine.limit(None)
    assert engine.free_bytes() > 1 << 40
