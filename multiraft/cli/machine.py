"""The machine that a measurement is of: figures mean nothing without it."""

import os
import platform
from pathlib import Path

import msgspec


class Machine(msgspec.Struct, frozen=True):
    """What a reader of the figures needs to know."""

    processor: str
    cores: int
    memory_bytes: int
    filesystem: str
    """Of the directory where the nodes keep their data; on `tmpfs` a sync costs nothing."""
    python: str


def describe(directory: Path) -> Machine:
    """Return this machine, and the kind of file system that `directory` is on."""
    return Machine(
        processor=_processor(),
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        filesystem=filesystem_of(directory, Path("/proc/self/mounts").read_text()),
        python=platform.python_version(),
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def filesystem_of(path: Path, mounts: str) -> str:
    """Return the type of the file system that holds `path`, by the kernel's table of mounts."""
    found, longest = "unknown", -1
    for line in mounts.splitlines():
        _, mounted_at, kind, *_ = line.split()
        if path.resolve().is_relative_to(mounted_at) and len(mounted_at) > longest:
            found, longest = kind, len(mounted_at)
    return found


def one_line(machine: Machine) -> str:
    """Return the machine as people read it."""
    memory_gib = machine.memory_bytes / (1 << 30)
    return (
        f"{machine.cores} cores ({machine.processor}), {memory_gib:.0f} GiB, "
        f"{machine.filesystem}, Python {machine.python}"
    )
