"""The watermark: how far the engine's log is known to be durable, kept beside the engine.

Purpose
    RocksDB takes a damaged record in its log for the end of the log and drops what follows, synced
    or not. The watermark remembers how far it was synced; a log that ends before it is damaged.
Format
    WATERMARK is two slots, at 0 and 4096, written in turn, so that a torn write leaves the other:

        magic(8) "mr-mark1"   sequence(8, big-endian)   xxh3_64 of the first 16 bytes(8, big-endian)

    The highest slot that fits its checksum counts; none is damage.
Invariants
    - `raise_to(n)` is called only after everything up to n was synced: the mark may be too low,
      never too high.
    - A raised mark survives the death of the process at once, since it is stored into a shared
      mapping; `flush` makes it survive power loss. So what a crash of the machine leaves
      unprotected against a damaged log is what was synced since the last flush, at most a second.
Source
    docs/decisions/0002-wal-recovery.md
"""

import contextlib
import math
import mmap
import os
import struct
from pathlib import Path
from typing import BinaryIO

import xxhash

from multiraft import errors
from multiraft.storage import durable_file

NAME = "WATERMARK"

_MAGIC = b"mr-mark1"
_SLOT = struct.Struct(">8sQ8s")
_SLOT_STRIDE = 4096
_FILE_BYTES = 2 * _SLOT_STRIDE


class Watermark:
    """An open WATERMARK file. Used by one thread at a time."""

    __slots__ = ("_file", "_flushed", "_flushed_at", "_map", "_slot", "sequence")

    def __init__(self, file: BinaryIO, mapped: mmap.mmap, sequence: int, slot: int) -> None:
        self._file = file
        self._map = mapped
        self._slot = slot
        self._flushed = sequence
        self._flushed_at = -math.inf
        self.sequence = sequence

    def raise_to(self, sequence: int) -> None:
        """Note that everything up to `sequence` is durable. No system call, about a microsecond."""
        if sequence <= self.sequence:
            return
        self._slot ^= 1
        start = self._slot * _SLOT_STRIDE
        self._map[start : start + _SLOT.size] = _encode(sequence)
        self.sequence = sequence

    def flush_when_due(self, now: float, interval_s: float) -> None:
        """Flush if the mark has moved and the last flush of this kind is `interval_s` ago."""
        if self._flushed != self.sequence and now - self._flushed_at >= interval_s:
            self._flushed_at = now
            self.flush()

    def flush(self) -> None:
        """Make the mark survive power loss. Waits for the disk; OSError if that fails."""
        sequence = self.sequence
        # Not the mapping's own flush, which keeps the interpreter lock while it waits.
        os.fdatasync(self._file.fileno())
        self._flushed = sequence

    def close(self) -> None:
        """Let go of the file, without a flush."""
        self._map.close()
        self._file.close()


def create(path: Path) -> None:
    """Write a watermark of 0 at `path`, durably, over whatever is there."""
    durable_file.replace(path, _encode(0).ljust(_FILE_BYTES, b"\x00"))


def open_file(path: Path) -> Watermark:
    """Open the watermark at `path`. Raises CorruptionError if it is missing or damaged."""
    with contextlib.ExitStack() as undo:
        try:
            file = undo.enter_context(path.open("r+b"))
            mapped = undo.enter_context(mmap.mmap(file.fileno(), _FILE_BYTES))
        except (FileNotFoundError, ValueError) as error:
            reason = f"{path} is missing or cut short: {error}"
            raise errors.CorruptionError(reason=reason) from error
        slots = (_decode(mapped, 0), _decode(mapped, 1))
        sequence = max(slots)
        if sequence < 0:
            raise errors.CorruptionError(reason=f"{path} is damaged: no slot fits its checksum")
        undo.pop_all()
    return Watermark(file, mapped, sequence, slots.index(sequence))


def _encode(sequence: int) -> bytes:
    head = _MAGIC + sequence.to_bytes(8, "big")
    return head + xxhash.xxh3_64_digest(head)


def _decode(mapped: mmap.mmap, slot: int) -> int:
    """Return the slot's sequence, or -1 if it was never written or is damaged."""
    magic, sequence, checksum = _SLOT.unpack_from(mapped, slot * _SLOT_STRIDE)
    head = magic + sequence.to_bytes(8, "big")
    if magic != _MAGIC or checksum != xxhash.xxh3_64_digest(head):
        return -1
    return int(sequence)
