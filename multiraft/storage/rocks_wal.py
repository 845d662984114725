"""RocksDB's write-ahead log, as far as it must be looked at before RocksDB reads it, and after.

Purpose
    A record of a "recyclable" type, in a log that was opened without recycling, makes RocksDB's
    recovery loop for ever instead of calling it damage (9.8.4). We never recycle, so such a record
    is garbage: a flipped bit, or what a crash left behind the end. The log is cut before it, which
    is what recovery does about any other record that it cannot read; whether anything that was
    synced went with it, the watermark tells; then people want to know where the damage is.
    RocksDB's MANIFEST has the same format, and reading it loops in the same way. It is never cut,
    since it says which tables there are: such a record in it is damage.
Format
    Blocks of 32 KiB, records within them, the last bytes of a block unused if a head does not fit:

        crc(4) length(2, little-endian) type(1) payload(length)
Invariants
    - Every head that RocksDB reads is looked at: like RocksDB, this goes on at the next block when
      a length makes no sense. It looks at more, since it does not check checksums.
    - A log that is not damaged is never changed.
Source
    "Write Ahead Log File Format" in RocksDB's wiki.
"""

import mmap
import os
import re
import struct
from pathlib import Path

from multiraft import errors

_BLOCK_BYTES = 32 * 1024
_HEAD_BYTES = 7
_LENGTH_AND_TYPE = struct.Struct("<HB")
_LENGTH_AT = 4
_PADDING = 0
_RECYCLABLE = frozenset({5, 6, 7, 8, 11})
_DROPPED = re.compile(r"(\d+\.log): dropping (\d+) bytes; (?:Corruption: )?(.*)")


def cut_unreadable(rocks: Path) -> None:
    """Cut every log in RocksDB's directory `rocks` before the first record that it cannot survive.

    The caller holds the lock of the data directory.
    """
    for path in sorted(rocks.glob("*.log")):
        offset = unreadable_at(path)
        if offset is not None:
            os.truncate(path, offset)


def check_manifest(rocks: Path) -> None:
    """Raise CorruptionError if the MANIFEST in use has a record that RocksDB cannot survive."""
    current = rocks / "CURRENT"
    used = current.read_text(errors="replace").strip() if current.exists() else ""
    for path in rocks.glob("MANIFEST-*"):
        offset = unreadable_at(path) if path.name == used else None
        if offset is not None:
            raise errors.CorruptionError(reason=f"{path} is damaged at byte {offset}")


def unreadable_at(path: Path) -> int | None:
    """Return where the first record of a recyclable type begins in the log at `path`, or None."""
    size = path.stat().st_size
    if size < _HEAD_BYTES:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        read_head = _LENGTH_AND_TYPE.unpack_from
        position = 0
        while position + _HEAD_BYTES <= size:
            left = _BLOCK_BYTES - position % _BLOCK_BYTES
            if left < _HEAD_BYTES:
                position += left
                continue
            length, kind = read_head(content, position + _LENGTH_AT)
            if kind in _RECYCLABLE:
                return position
            whole = _HEAD_BYTES + length
            position += left if kind == _PADDING or whole > left else whole
    return None


def sizes(rocks: Path) -> dict[str, int]:
    """Return the size of each log by its name."""
    return {path.name: path.stat().st_size for path in rocks.glob("*.log")}


def dropped(rocks: Path, sizes_before: dict[str, int]) -> str:
    """Return which logs recovery has read in part only, from where on not, and why; or nothing.

    As RocksDB's own diary tells of its latest start. `sizes_before` are those of the logs before
    it: after it they are gone.
    """
    diary = rocks / "LOG"
    told = diary.read_text(errors="replace") if diary.exists() else ""
    return "; ".join(
        f"{rocks / name} is damaged from byte {sizes_before[name] - int(count)} on ({why})"
        for name, count, why in _DROPPED.findall(told)
        if name in sizes_before
    )
