"""Engines for tests: small ones, a way to wait for a sync, and images of a crash."""

import asyncio
import contextlib
import os
import shutil
from pathlib import Path

from multiraft.config import KIB, StorageConfig
from multiraft.storage.engine import Engine, Family

EVERYTHING_END = b"\xff" * 32
"""Above every key that tests use."""

SMALL = StorageConfig(
    raft_write_buffer_bytes=64 * KIB,
    data_write_buffer_bytes=64 * KIB,
    block_cache_bytes=256 * KIB,
)
"""Write buffers as small as RocksDB takes them, so that little data reaches all kinds of files."""


def memory_directory() -> str | None:
    """Return where files cost no disk, if there is such a place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


async def synced(engine: Engine) -> BaseException | None:
    """Sync, and return what the callback was given."""
    done = asyncio.get_running_loop().create_future()
    engine.sync(done.set_result)
    error: BaseException | None = await done
    return error


def sync(engine: Engine) -> None:
    """Sync from outside of a loop; it must succeed."""
    assert asyncio.run(synced(engine)) is None


def put(engine: Engine, key: bytes, value: bytes, family: Family) -> None:
    """Write one key."""
    batch = engine.new_batch()
    batch.put(key, value, family)
    engine.write(batch)


def contents(engine: Engine, family: Family) -> list[tuple[bytes, bytes]]:
    """Return all keys and values."""
    return list(engine.scan(b"", EVERYTHING_END, family))


def crash_image(directory: Path, image: Path) -> Path:
    """Copy the directory of an engine that is open: what SIGKILL would leave.

    As of one moment: a copy beside which RocksDB flushed or compacted is none, and made anew.
    """
    while True:
        before = _files(directory)
        shutil.rmtree(image, ignore_errors=True)
        with contextlib.suppress(shutil.Error):  # A file that went meanwhile; others are gone too.
            shutil.copytree(directory, image)
        if _files(directory) == before:
            return image


def _files(directory: Path) -> dict[Path, int]:
    """Return the sizes of all files, by which they tell that they changed: they only grow."""
    sizes = {}
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return sizes


def flip(path: Path, offset: int, mask: int) -> None:
    """Flip the bits of `mask` in one byte of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        found = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([found ^ mask]))
