"""The data directory of one node: what lies in it, and whether it is ours.

Format
    LOCK        empty; locked by whoever has the store open
    FORMAT      one line, "multiraft store, format 1"; written last when the directory is made
    WATERMARK   see watermark.py
    options/    options that RocksDB's binding takes only from a file; see rocks_options.py
    rocks/      RocksDB's own files
Invariants
    - A directory with FORMAT is complete: whatever is missing from then on is damage, and nothing
      is ever created in its place. A directory without FORMAT holds no data of ours.
    - The number in FORMAT rises when an older version could no longer read the directory.
"""

import fcntl
from pathlib import Path
from typing import BinaryIO

from multiraft import errors
from multiraft.storage import durable_file, watermark

LOCK = "LOCK"
FORMAT_VERSION = 1
FORMAT_NAME = "FORMAT"
ROCKS = "rocks"
OPTIONS = "options"

_LINE_START = "multiraft store, format "
# What a creation that was interrupted before its last step may have left.
_UNFINISHED = frozenset({ROCKS, OPTIONS, watermark.NAME, watermark.NAME + ".tmp", "FORMAT.tmp"})
# At the root of every ext4 file system, and a mount point is a good data directory.
_HARMLESS = frozenset({LOCK, "lost+found"})


def lock(directory: Path) -> BinaryIO:
    """Make `directory` if need be and lock it until the returned file is closed.

    Raises DirectoryInUseError while someone else has it, in this process or another. RocksDB has a
    lock too, but only once it is open, and there are things to do before.
    """
    directory.mkdir(parents=True, exist_ok=True)
    file = (directory / LOCK).open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise in_use(directory) from error
    return file


def in_use(directory: Path) -> errors.DirectoryInUseError:
    """Return the error for a directory that someone else has."""
    return errors.DirectoryInUseError(
        f"{directory} is in use by another process; stop it, or name another directory"
    )


def prepare(directory: Path) -> bool:
    """Return whether `directory`, which is locked, holds a store of ours.

    False: it is empty, or what is in it was left by an interrupted `finish`. Raises
    DirectoryFormatError for a directory that is someone else's or of a newer version.
    """
    names = {entry.name for entry in directory.iterdir()}
    if FORMAT_NAME in names:
        _check_format(directory / FORMAT_NAME)
        return True
    strangers = sorted(names - _UNFINISHED - _HARMLESS)
    if strangers:
        raise errors.DirectoryFormatError(
            f"{directory} is not a multiraft data directory: it has no {FORMAT_NAME} file but "
            f"holds {strangers[0]!r}; name an empty directory or one that does not exist yet"
        )
    return False


def finish(directory: Path) -> None:
    """Declare a new directory complete, durably."""
    line = f"{_LINE_START}{FORMAT_VERSION}\n"
    durable_file.replace(directory / FORMAT_NAME, line.encode())
    durable_file.sync_directory(directory.parent)


def _check_format(path: Path) -> None:
    # Far more than our line, far less than a file that only happens to have this name.
    with path.open("rb") as file:
        text = file.read(256).decode(errors="replace")
    version = text.removeprefix(_LINE_START).removesuffix("\n")
    if not text.startswith(_LINE_START) or not version.isdecimal():
        raise errors.DirectoryFormatError(
            f"{path} does not say that {path.parent} is a multiraft data directory; "
            "name another directory"
        )
    if int(version) > FORMAT_VERSION:
        raise errors.DirectoryFormatError(
            f"{path.parent} has format {version}, written by a newer version of multiraft; this "
            f"one reads up to format {FORMAT_VERSION}: upgrade, or name another directory"
        )
