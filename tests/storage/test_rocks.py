"""The durable engine as its host sees it: opening, failing, syncing, closing."""

import asyncio
import contextlib
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from multiraft import errors
from multiraft.storage import watermark
from multiraft.storage.rocks import RocksEngine
from tests.support import engines
from tests.support.engines import SMALL


@pytest.fixture
def directory(scratch: Path) -> Path:
    return scratch / "store"


@pytest.fixture
def engine(directory: Path) -> Iterator[RocksEngine]:
    opened = RocksEngine.open(directory, SMALL)
    yield opened
    opened.close()


class Stumbling:
    """A database whose named method raises; all others are the real one's."""

    def __init__(self, database: object, method: str, error: Exception) -> None:
        self._database: Any = database
        self._method = method
        self._error = error
        self.calls = 0

    def __getattr__(self, name: str) -> object:
        if name != self._method:
            found: object = getattr(self._database, name)
            return found
        return self._stumble

    def _stumble(self, *_: object) -> None:
        self.calls += 1
        raise self._error


def break_sync(engine: RocksEngine, text: str = "IO error: EIO") -> Stumbling:
    stumbling = Stumbling(engine._database, "flush_wal", Exception(text))
    engine._database = stumbling  # type: ignore[assignment]
    return stumbling


@contextlib.contextmanager
def file_size_limit(limit_bytes: int) -> Iterator[None]:
    """Let writes to files beyond this size fail, as they do on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Opening


def test_second_opening_in_the_same_process_names_the_directory(
    engine: RocksEngine, directory: Path
) -> None:
    with pytest.raises(errors.DirectoryInUseError, match=f"{directory} is in use"):
        RocksEngine.open(directory, SMALL)
    engines.put(engine, b"k", b"v", engine.data)


@pytest.mark.integration
def test_second_process_names_the_directory(engine: RocksEngine, directory: Path) -> None:
    program = (
        "import sys\n"
        "from multiraft import errors\n"
        "from multiraft.storage.rocks import RocksEngine\n"
        "try:\n"
        "    RocksEngine.open(sys.argv[1])\n"
        "except errors.DirectoryInUseError as error:\n"
        "    print(error)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert f"{directory} is in use by another process" in finished.stdout


def test_directory_can_be_opened_again_after_close(directory: Path) -> None:
    for count in range(3):
        engine = RocksEngine.open(directory, SMALL)
        assert len(engines.contents(engine, engine.data)) == count
        engines.put(engine, b"%d" % count, b"v", engine.data)
        engine.close()


def test_interrupted_creation_is_taken_up_again(directory: Path) -> None:
    RocksEngine.open(directory, SMALL).close()
    (directory / "FORMAT").unlink()
    (directory / "WATERMARK").unlink()
    RocksEngine.open(directory, SMALL).close()
    assert (directory / "FORMAT").exists()


def test_store_that_lost_its_format_file_is_not_taken_for_a_new_one(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    engines.put(engine, b"k", b"v", engine.data)
    engine.close()
    (directory / "FORMAT").unlink()
    with pytest.raises(errors.DirectoryFormatError, match="holds data but no FORMAT file"):
        RocksEngine.open(directory, SMALL)


def test_file_in_place_of_the_directory_is_a_startup_error(scratch: Path) -> None:
    path = scratch / "file"
    path.touch()
    with pytest.raises(errors.StartupError, match="cannot be used as a data directory"):
        RocksEngine.open(path, SMALL)


def test_failed_opening_leaves_the_directory_unlocked(directory: Path) -> None:
    RocksEngine.open(directory, SMALL).close()
    content = (directory / "WATERMARK").read_bytes()
    (directory / "WATERMARK").unlink()
    with pytest.raises(errors.CorruptionError):
        RocksEngine.open(directory, SMALL)
    (directory / "WATERMARK").write_bytes(content)
    RocksEngine.open(directory, SMALL).close()


def test_default_configuration_works(directory: Path) -> None:
    RocksEngine.open(str(directory)).close()


# Durability and the watermark


def test_sync_raises_the_watermark_to_all_that_was_written_before_it(
    engine: RocksEngine, directory: Path
) -> None:
    for i in range(5):
        engines.put(engine, b"%d" % i, b"v", engine.data)
    engines.sync(engine)
    assert engine.status().durable_sequence == engine.status().last_sequence == 5
    engines.put(engine, b"k", b"v", engine.data)
    assert engine.status().durable_sequence == 5
    on_disk = watermark.open_file(directory / "WATERMARK")
    assert on_disk.sequence == 5
    on_disk.close()


def test_watermark_counts_nothing_written_while_the_sync_runs(engine: RocksEngine) -> None:
    class WritingMeanwhile(Stumbling):
        def _stumble(self, *_: object) -> None:
            engines.put(engine, b"late", b"v", engine.data)

    engines.put(engine, b"early", b"v", engine.data)
    real: Any = engine._database
    engine._database = WritingMeanwhile(real, "flush_wal", Exception())  # type: ignore[assignment]
    engines.sync(engine)
    engine._database = real
    assert engine.status().last_sequence == 2
    assert engine.status().durable_sequence == 1


def test_sync_with_nothing_new_does_not_touch_the_disk(engine: RocksEngine) -> None:
    engines.put(engine, b"k", b"v", engine.data)
    engines.sync(engine)
    stumbling = break_sync(engine)
    engines.sync(engine)
    assert stumbling.calls == 0


def test_many_requests_cost_two_syncs(engine: RocksEngine) -> None:
    async def main() -> None:
        engines.put(engine, b"k", b"v", engine.data)
        results = await asyncio.gather(*(engines.synced(engine) for _ in range(50)))
        assert results == [None] * 50

    asyncio.run(main())
    assert engine.status().sync_count == 2


def test_close_syncs(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    engines.put(engine, b"k", b"v", engine.data)
    engine.close()
    mark = watermark.open_file(directory / "WATERMARK")
    assert mark.sequence == 1
    mark.close()


def test_watermark_that_cannot_be_flushed_stops_the_store(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = RocksEngine.open(directory, SMALL)

    def fail(_: object) -> None:
        raise OSError("EIO")

    monkeypatch.setattr(watermark.Watermark, "flush", fail)
    engines.put(engine, b"k", b"v", engine.data)
    engines.sync(engine)
    engines.put(engine, b"k", b"v", engine.data)
    error = asyncio.run(engines.synced(engine))
    assert isinstance(error, errors.StoreFailedError)
    assert "EIO" in error.message
    engine.close()


def test_without_fsync_callbacks_come_on_the_next_turn_and_nothing_is_synced(
    directory: Path,
) -> None:
    config = msgspec.structs.replace(SMALL, unsafe_no_fsync=True)
    engine = RocksEngine.open(directory, config)
    stumbling = break_sync(engine)

    async def main() -> None:
        seen: list[object] = []
        engines.put(engine, b"k", b"v", engine.data)
        engine.sync(seen.append)
        assert seen == []
        await asyncio.sleep(0)
        assert seen == [None]

    asyncio.run(main())
    assert stumbling.calls == 0
    engine._database = stumbling._database
    engine.close()


# Failing


def test_failed_sync_is_final(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    engines.put(engine, b"k", b"v", engine.data)
    stumbling = break_sync(engine)
    error = asyncio.run(engines.synced(engine))
    assert isinstance(error, errors.StoreFailedError)
    assert "EIO" in error.message
    assert str(directory) in error.message
    assert isinstance(asyncio.run(engines.synced(engine)), errors.StoreFailedError)
    assert stumbling.calls == 1, "a sync that is tried again may lie"
    for call in (
        lambda: engines.put(engine, b"k", b"v", engine.data),
        lambda: engine.get(b"k", engine.data),
        lambda: engine.first(b"", b"z", engine.data),
        lambda: engine.scan(b"", b"z", engine.data),
        engine.view,
    ):
        with pytest.raises(errors.StoreFailedError, match="EIO"):
            call()
    assert "EIO" in engine.status().failure
    engine.close()
    assert stumbling.calls == 1


def test_failed_write_is_final_and_what_was_synced_survives(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    engines.put(engine, b"durable", b"v", engine.data)
    engines.sync(engine)
    with (
        file_size_limit(1_000),
        pytest.raises(errors.StoreFailedError, match="File too large"),
    ):
        engines.put(engine, b"too much", bytes(5_000), engine.data)
    with pytest.raises(errors.StoreFailedError, match="File too large"):
        engines.put(engine, b"small", b"v", engine.data)
    assert isinstance(asyncio.run(engines.synced(engine)), errors.StoreFailedError)
    engine.close()
    engine = RocksEngine.open(directory, SMALL)
    assert engines.contents(engine, engine.data) == [(b"durable", b"v")]
    engine.close()


def test_failure_of_the_last_sync_is_raised_by_close_and_frees_the_directory(
    directory: Path,
) -> None:
    engine = RocksEngine.open(directory, SMALL)
    engines.put(engine, b"k", b"v", engine.data)
    break_sync(engine)
    with pytest.raises(errors.StoreFailedError, match="EIO"):
        engine.close()
    RocksEngine.open(directory, SMALL).close()


def full_disk(scratch: Path) -> Path | None:
    """Mount a file system of 8 MiB and return where; None if we may not."""
    mount_point = scratch / "small"
    mount_point.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(mount_point)],
        capture_output=True,
        check=False,
    )
    return mount_point if mounted.returncode == 0 else None


@pytest.mark.integration
@pytest.mark.skipif(os.getuid() != 0, reason="mounting a file system needs root")
def test_full_disk_stops_the_store_and_loses_nothing_acknowledged(scratch: Path) -> None:
    mount_point = full_disk(scratch)
    if mount_point is None:
        pytest.skip("no file system can be mounted here")
    try:
        ballast = mount_point / "ballast"
        engine = RocksEngine.open(mount_point / "store", SMALL)
        ballast.write_bytes(bytes(max(0, engine.free_bytes() - 512 * 1024)))
        acknowledged = 0
        while engine.status().failure == "":
            with contextlib.suppress(errors.StoreFailedError):
                engines.put(engine, b"%05d" % acknowledged, bytes(1_000), engine.data)
                engines.sync(engine)
                acknowledged += 1
        assert "No space left on device" in engine.status().failure
        engine.close()
        ballast.unlink()
        engine = RocksEngine.open(mount_point / "store", SMALL)
        found = [key for key, _ in engines.contents(engine, engine.data)]
        assert found[:acknowledged] == [b"%05d" % i for i in range(acknowledged)]
        assert acknowledged > 0
        engine.close()
    finally:
        subprocess.run(["umount", "--lazy", str(mount_point)], check=True)


# State


def test_free_bytes_ask_the_file_system_once_a_second(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    asked: list[object] = []
    statvfs = os.statvfs

    def counting(path: Path) -> os.statvfs_result:
        asked.append(path)
        return statvfs(path)

    engine = RocksEngine.open(directory, SMALL, monotonic=lambda: now[0])
    monkeypatch.setattr(os, "statvfs", counting)
    assert engine.free_bytes() > 0
    now[0] += 1.0
    engine.free_bytes()
    assert asked == [directory]
    now[0] += 0.1
    engine.free_bytes()
    assert asked == [directory, directory]
    engine.close()


# Closing


def test_close_ends_the_thread_and_leaves_no_descriptor(scratch: Path) -> None:
    RocksEngine.open(scratch / "warm-up", SMALL).close()
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for i in range(3):
        engine = RocksEngine.open(scratch / str(i), SMALL)
        engines.put(engine, b"k", b"v", engine.data)
        engines.sync(engine)
        engine.close()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_close_takes_open_views_along(directory: Path) -> None:
    engine = RocksEngine.open(directory, SMALL)
    view, family = engine.view(), engine.data
    engine.close()
    with pytest.raises(errors.StoppedError):
        view.get(b"k", family)
    del family
    RocksEngine.open(directory, SMALL).close()


def test_close_waits_for_a_running_sync_and_calls_nobody_back(directory: Path) -> None:
    async def main() -> list[object]:
        engine = RocksEngine.open(directory, SMALL)
        engines.put(engine, b"k", b"v", engine.data)
        called: list[object] = []
        engine.sync(called.append)
        engine.close()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return called

    assert asyncio.run(main()) == []


@pytest.mark.integration
def test_process_that_never_closes_exits_cleanly_and_loses_nothing(directory: Path) -> None:
    program = (
        "import sys\n"
        "from tests.support import engines\n"
        "from multiraft.storage.rocks import RocksEngine\n"
        "engine = RocksEngine.open(sys.argv[1], engines.SMALL)\n"
        "engines.put(engine, b'k', b'v', engine.data)\n"
        "engines.sync(engine)\n"
        "engines.put(engine, b'unsynced', b'v', engine.data)\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, str(directory)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    engine = RocksEngine.open(directory, SMALL)
    assert engines.contents(engine, engine.data) == [(b"k", b"v"), (b"unsynced", b"v")]
    engine.close()
