"""What faults hurt: a cluster, simulated or of real processes.

Purpose
    Let one fault be written once for both. What only a simulation can do (disks, clocks, slow
    links) is reached through `simulated`.
Invariants
    - Faults run at the same time, so each takes what it finds: killing what is down, or thawing
      what is not frozen, does nothing. What two have frozen, cut or isolated is well again when
      both have healed it.
"""

from typing import Protocol

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster


class Target(Protocol):
    """See the module. Nodes are named by their numbers."""

    @property
    def numbers(self) -> tuple[int, ...]:
        """The nodes: 1 to n."""
        ...

    @property
    def hosts(self) -> tuple[tuple[int, ...], ...]:
        """The nodes by the machine that they are on, as they say."""
        ...

    @property
    def simulated(self) -> Cluster | None:
        """The cluster, if it is a simulated one."""
        ...

    @property
    def db(self) -> Database:
        """A client for administration: splits, transfers, membership."""
        ...

    def is_up(self, n: int) -> bool:
        """Whether the node's process exists, frozen or not."""
        ...

    async def kill(self, n: int) -> None:
        """End a node as SIGKILL does; in simulation its power fails, too (unsynced writes)."""
        ...

    async def start(self, n: int) -> None:
        """Start a killed node on what it has.

        Returns when it takes part, or has died again.
        """
        ...

    async def freeze(self, n: int) -> None:
        """Let a node stand still, as SIGSTOP does."""
        ...

    async def thaw(self, n: int) -> None:
        """Undo `freeze`."""
        ...

    async def cut(self, a: int, b: int) -> None:
        """Hold what `a` sends to `b`; the other direction works."""
        ...

    async def heal(self, a: int, b: int) -> None:
        """Undo `cut`."""
        ...

    async def isolate(self, n: int) -> None:
        """Cut a node off from everybody, clients included."""
        ...

    async def rejoin(self, n: int) -> None:
        """Undo `isolate`."""
        ...

    async def reset(self, a: int, b: int) -> None:
        """Break the connections between two nodes, losing what travels."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Let that much of the cluster's time pass."""
        ...

    def note(self, fault: str, detail: str) -> None:
        """Count a fault that was done, and tell the trace of it."""
        ...
