"""What a load took of the machine: its servers, the harness with its clients, and others."""

import os
from collections.abc import Sequence

import msgspec

from multiraft.cli import process_usage


class Usage(msgspec.Struct, frozen=True):
    """Processor seconds since some start, or between two moments."""

    wall_s: float
    machine_s: float
    servers_s: float
    harness_s: float
    """Of this process and of the programs that it has run to their end."""

    def since(self, earlier: "Usage") -> "Usage":
        """Return what was used between the two moments."""
        return Usage(
            self.wall_s - earlier.wall_s,
            self.machine_s - earlier.machine_s,
            self.servers_s - earlier.servers_s,
            self.harness_s - earlier.harness_s,
        )

    @property
    def others_cores(self) -> float | None:
        """How many cores were busy with something else; None if no time has passed."""
        if self.wall_s <= 0:
            return None
        others_s = self.machine_s - self.servers_s - self.harness_s
        return round(others_s / self.wall_s, 3)


def now(servers: Sequence[int]) -> Usage:
    """Return what has been used until now; `servers` are processes that run."""
    own = os.times()
    return Usage(
        own.elapsed,
        process_usage.machine_cpu_seconds(),
        sum(map(process_usage.cpu_seconds, servers)),
        own.user + own.system + own.children_user + own.children_system,
    )
