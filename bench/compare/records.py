"""What is kept of a run: one line of JSON for each round of each peer, operation and callers.

A line holds all that the table and the plot are made of, and all settings, so that they can be made
again from the file alone.
"""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from bench.compare.peer import Data, Load, Operation
from multiraft.cli.machine import Machine


class Measured(msgspec.Struct, frozen=True):
    """What came of a load, seen from all sides."""

    load: Load
    server_cpu_s: float | None = None
    """Of all servers and their threads while the load ran; None if there is none, or one ended."""
    server_resident_bytes: int | None = None
    """Of all servers together at the end of the load; None in the same cases."""
    others_cores: float | None = None
    """How many cores were busy with neither servers nor client: the less, the more it counts."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One round of one peer, operation and number of callers."""

    peer: str
    operation: Operation
    callers: int
    round: int
    """Counted from 1; rounds of the same number ran right after each other."""
    seconds: float
    """How long the load was to last."""
    began_at: str
    """When the peer was started for this round, in UTC."""
    measured: Measured | None = None
    """None if the peer failed."""
    problem: str = ""
    settings: Mapping[str, str] = {}
    remark: str
    is_durable: bool = True
    """Whether what is acknowledged is on disk."""
    data: Data
    machine: Machine


def append(file: Path, record: Record) -> None:
    """Write a record behind the others; it is on disk on return, whatever happens to the run."""
    with file.open("ab") as stream:
        stream.write(msgspec.json.encode(record) + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(files: Iterable[Path]) -> list[Record]:
    """Return the records of all files, in order.

    The rounds of each file are counted on from the last: what different runs measured is put
    together, but never compared within a round.
    """
    found: list[Record] = []
    for file in files:
        rounds_before = max((each.round for each in found), default=0)
        for line in file.read_bytes().splitlines():
            record = msgspec.json.decode(line, type=Record)
            found.append(msgspec.structs.replace(record, round=record.round + rounds_before))
    return found
