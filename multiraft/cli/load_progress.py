"""How far a load has come, kept beside its input so that it goes on after an interruption.

Purpose
    `rows.jsonl.progress` says up to which byte every row of `rows.jsonl` is acknowledged.
Invariants
    - Everything before `offset` is acknowledged or was reported as bad; nothing is promised of what
      lies after it. Rows that are put twice do no harm: a put is idempotent.
    - It is believed only if the input still begins with the same bytes and the rows go to the same
      cluster. A file that was cut short or damaged counts as absent.
"""

import os
from pathlib import Path
from typing import BinaryIO

import msgspec
import xxhash

SUFFIX = ".progress"
_FINGERPRINT_BYTES = 64 << 10


class Progress(msgspec.Struct, frozen=True):
    """The contents of a progress file, as JSON."""

    cluster: str
    offset: int
    line: int
    rows: int
    bad_rows: int
    fingerprint: str
    """Of the bytes just before `offset`, at most 64 KiB."""


def path_of(source: Path) -> Path:
    """Return where the progress of loading `source` is kept."""
    return source.with_name(source.name + SUFFIX)


def fingerprint(file: BinaryIO, offset: int) -> str:
    """Return a checksum of the bytes just before `offset`; the file's position is kept."""
    position = file.tell()
    file.seek(max(0, offset - _FINGERPRINT_BYTES))
    checksum = xxhash.xxh3_64_hexdigest(file.read(min(offset, _FINGERPRINT_BYTES)))
    file.seek(position)
    return checksum


def read(path: Path) -> Progress | None:
    """Return the progress recorded at `path`, or None if there is none that can be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Progress)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write(path: Path, progress: Progress) -> None:
    """Record `progress`, replacing what was there in one step."""
    partial = path.with_name(path.name + ".new")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(progress)) + b"\n")
    os.replace(partial, path)


def fits(progress: Progress, file: BinaryIO, cluster: str) -> bool:
    """Return whether `progress` speaks of this input and this cluster."""
    return progress.cluster == cluster and progress.fingerprint == fingerprint(
        file, progress.offset
    )
