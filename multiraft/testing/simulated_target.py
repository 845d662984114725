"""The simulated cluster as a target of faults."""

import asyncio
from collections import Counter
from collections.abc import Callable

from multiraft.client.database import Database
from multiraft.cluster.diversity import Topology
from multiraft.sim.cluster import Cluster
from multiraft.sim.trace import WORLD
from multiraft.sim.trace import Fault as FaultNoted

Observer = Callable[[str, str], None]


class SimulatedTarget:
    """See Target. `observe` is told of every fault, by name, with its detail."""

    def __init__(
        self,
        cluster: Cluster,
        db: Database,
        observe: Observer = lambda fault, detail: None,
    ) -> None:
        self.simulated = cluster
        self.db = db
        self.faults: Counter[str] = Counter()
        """How often each was done."""
        self._observe = observe

    @property
    def numbers(self) -> tuple[int, ...]:
        """See Target."""
        return tuple(self.simulated.members)

    @property
    def hosts(self) -> tuple[tuple[int, ...], ...]:
        """See Target."""
        members = self.simulated.members.values()
        return Topology({m.node_id: m.locality or () for m in members}).hosts()

    def is_up(self, n: int) -> bool:
        """See Target."""
        return self.simulated.members[n].node is not None

    async def kill(self, n: int) -> None:
        """See Target."""
        if self.is_up(n):
            self.simulated.kill(n)

    async def start(self, n: int) -> None:
        """See Target."""
        if not self.is_up(n):
            await self.simulated.start_node(n)

    async def freeze(self, n: int) -> None:
        """See Target."""
        if self.is_up(n):
            self.simulated.freeze(n)

    async def thaw(self, n: int) -> None:
        """See Target."""
        self.simulated.thaw(n)

    async def cut(self, a: int, b: int) -> None:
        """See Target."""
        self.simulated.cut(a, b)

    async def heal(self, a: int, b: int) -> None:
        """See Target."""
        self.simulated.heal(a, b)

    async def isolate(self, n: int) -> None:
        """See Target."""
        self.simulated.isolate(n)

    async def rejoin(self, n: int) -> None:
        """See Target."""
        self.simulated.rejoin(n)

    async def reset(self, a: int, b: int) -> None:
        """See Target."""
        self.simulated.reset(a, b)

    async def sleep(self, seconds: float) -> None:
        """See Target."""
        await asyncio.sleep(seconds)

    def note(self, fault: str, detail: str) -> None:
        """See Target."""
        self.faults[fault] += 1
        self.simulated.note(WORLD, FaultNoted(fault, detail))
        self._observe(fault, detail)

    async def heal_all(self) -> None:
        """Start every node that is down: one whose store died of what another fault did to it."""
        for n in self.numbers:
            await self.start(n)
