"""What the nodes of a run use while it lasts: memory, descriptors, and bytes on disk.

Purpose
    A run of hours shows what one of minutes does not: something that only ever grows. So each node
    is looked at again and again, and the result has the first look, one early in the run, the last,
    and the most of each measure.
Invariants
    - It only looks. A node that is down, or ends meanwhile, is passed by.
    - Memory and descriptors are those of a process: of a node that is killed and started, its
      newest life is told, except for the most.
"""

import asyncio
import stat
from collections.abc import Sequence
from pathlib import Path

import msgspec

from multiraft.cli import process_usage
from multiraft.cli.cluster_process import NodeProcess
from multiraft.storage import directory as data_directory

EARLY_SHARE = 1 / 8
EARLY_S_MAX = 3_600.0
"""Early is when that share of the run has passed, or at most so many seconds."""
_LOOKS = 200
_LOOK_S = (0.5, 5.0)
"""So many looks in a run, no shorter and no longer after each other."""


class Usage(msgspec.Struct, frozen=True):
    """What a node uses at one moment."""

    memory_bytes: int
    descriptors: int
    data_bytes: int
    """Of all files in its data directory."""
    wal_bytes: int
    """Of those, RocksDB's write-ahead logs."""
    log_bytes: int
    """What it has printed."""


class NodeUsage(msgspec.Struct, frozen=True):
    """What a node used in the course of a run."""

    node: int
    start: Usage
    early: Usage
    end: Usage
    most: Usage
    """The most of each measure, whenever that was."""

    def growth(self, measure: str) -> float:
        """Return the end's multiple of what was used early."""
        early: int = getattr(self.early, measure)
        end: int = getattr(self.end, measure)
        return end / max(early, 1)


MEASURES = tuple(field.name for field in msgspec.structs.fields(Usage))


class UsageWatch:
    """See the module. `run` is for a task of its own; `seconds` is how long the run takes."""

    def __init__(self, nodes: Sequence[NodeProcess], seconds: float) -> None:
        self._nodes = nodes
        self._early_s = min(seconds * EARLY_SHARE, EARLY_S_MAX)
        self._pause_s = min(max(seconds / _LOOKS, _LOOK_S[0]), _LOOK_S[1])
        self._found: dict[int, NodeUsage] = {}

    async def run(self) -> None:
        """Look again and again."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while True:
            self.look(is_early=loop.time() - began <= self._early_s)
            await asyncio.sleep(self._pause_s)

    def look(self, *, is_early: bool = False) -> None:
        """Look at every node that runs."""
        for process in self._nodes:
            if process.is_running:
                try:
                    now = _usage(process)
                except OSError:  # it has just ended
                    continue
                self._note(process.number, now, is_early=is_early)

    def _note(self, number: int, now: Usage, *, is_early: bool) -> None:
        before = self._found.get(number, NodeUsage(number, now, now, now, now))
        most = {name: max(getattr(before.most, name), getattr(now, name)) for name in MEASURES}
        self._found[number] = NodeUsage(
            number, before.start, now if is_early else before.early, now, Usage(**most)
        )

    def found(self) -> tuple[NodeUsage, ...]:
        """Return what was seen, by node."""
        return tuple(usage for _, usage in sorted(self._found.items()))


def grown_most(usages: Sequence[NodeUsage], measure: str) -> NodeUsage:
    """Return the node of which a measure grew most since early in its run."""
    return max(usages, key=lambda usage: usage.growth(measure))


def _usage(process: NodeProcess) -> Usage:
    rocks = process.directory / data_directory.ROCKS
    return Usage(
        memory_bytes=process_usage.resident_bytes(process.pid),
        descriptors=process_usage.open_files(process.pid),
        data_bytes=_size_of(process.directory, "**/*"),
        wal_bytes=_size_of(rocks, "*.log"),
        log_bytes=process.log_file.stat().st_size,
    )


def _size_of(directory: Path, pattern: str) -> int:
    """Return the bytes of all files that fit; one that goes away meanwhile has none."""
    total = 0
    for path in list(directory.glob(pattern)):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if stat.S_ISREG(found.st_mode):
            total += found.st_size
    return total
