"""What a process of this machine has used so far, by its ID: processor time and memory."""

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


def resident_bytes(pid: int) -> int:
    """Return how much of its memory is in the machine's, pages that it shares included."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()
