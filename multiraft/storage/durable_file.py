"""Small files written whole: after a crash either the old content is there or the new.

Source
    Write beside, fsync, rename, fsync the directory: POSIX promises the order only this way.
"""

import os
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    """Make `content` the durable content of `path`."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in `directory` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
