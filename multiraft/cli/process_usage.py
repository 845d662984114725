"""What a process of this machine has used so far, by its ID, or all of them together."""

import os
import resource
from pathlib import Path

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the processor time of all its threads, ended ones too, user and system together."""
    # The second field is the name in brackets, which may hold spaces; utime and stime are
    # fields 14 and 15.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S


def machine_cpu_seconds() -> float:
    """Return the processor time that everything on the machine has used since it started."""
    # user, nice, system, idle, iowait, irq, softirq, steal; what follows is part of the first two.
    names = Path("/proc/stat").read_text().partition("\n")[0].split()
    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, names[1:9])
    return (user + nice + system + irq + softirq + steal) / _CLOCK_TICKS_PER_S


def resident_bytes(pid: int) -> int:
    """Return how much of its memory is in the machine's, pages that it shares included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_files(pid: int) -> int:
    """Return how many descriptors it has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))
