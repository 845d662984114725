"""Real node processes as a target of faults.

Invariants
    - Two processes never run on one directory: whoever starts a node that is being started waits
      for that start.
    - What several have frozen goes on when all have thawed it; a node that died is not frozen.
    - After `close` nothing runs, and starts do nothing: faults may still be healing.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Sequence

from multiraft import errors
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.torture.cuts import Cuts
from multiraft.cli.torture.proxy import Proxy
from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster

_POLL_S = 0.05


class ProcessTarget:
    """See Target, and the module."""

    simulated: Cluster | None = None

    def __init__(
        self, cluster: LocalCluster, db: Database, proxies: Sequence[Proxy], cuts: Cuts
    ) -> None:
        self.db = db
        self.faults: Counter[str] = Counter()
        """How often each was done."""
        self._cluster = cluster
        self._proxies = proxies
        self._cuts = cuts
        self._frozen: Counter[int] = Counter()
        self._starting: dict[int, asyncio.Task[None]] = {}
        self._killed_at_start: set[int] = set()
        self._is_closed = False

    @property
    def numbers(self) -> tuple[int, ...]:
        """See Target."""
        return tuple(process.number for process in self._cluster.nodes)

    @property
    def hosts(self) -> tuple[tuple[int, ...], ...]:
        """See Target. All run on this machine, and none says so."""
        return tuple((number,) for number in self.numbers)

    def is_up(self, n: int) -> bool:
        """See Target."""
        return self._process(n).is_running

    async def kill(self, n: int) -> None:
        """See Target."""
        if self.is_up(n):
            del self._frozen[n]
            if n in self._starting:
                self._killed_at_start.add(n)
            await self._cluster.kill_node(self._process(n))

    async def start(self, n: int) -> None:
        """See Target. Raises StartupError when it cannot, and nobody killed it."""
        starting = self._starting.get(n)
        if starting is None and not self.is_up(n) and not self._is_closed:
            starting = asyncio.create_task(self._start(self._process(n)))
            self._starting[n] = starting
        if starting is not None:
            await asyncio.shield(starting)

    async def _start(self, process: NodeProcess) -> None:
        try:
            await self._cluster.start_node(process)
        except errors.StartupError:
            if process.number not in self._killed_at_start:
                raise
        finally:
            self._killed_at_start.discard(process.number)
            del self._starting[process.number]

    async def freeze(self, n: int) -> None:
        """See Target. A node that is only starting is left alone: its start has a time limit."""
        if self.is_up(n) and n not in self._starting:
            self._frozen[n] += 1
            self._signal(n, signal.SIGSTOP)

    async def thaw(self, n: int) -> None:
        """See Target."""
        if not self._frozen[n]:
            return
        self._frozen[n] -= 1
        if not self._frozen[n] and self.is_up(n):
            self._signal(n, signal.SIGCONT)

    async def cut(self, a: int, b: int) -> None:
        """See Target."""
        self._cuts.cut(a, b)

    async def heal(self, a: int, b: int) -> None:
        """See Target."""
        self._cuts.heal(a, b)

    async def isolate(self, n: int) -> None:
        """See Target."""
        self._cuts.isolate(n)

    async def rejoin(self, n: int) -> None:
        """See Target."""
        self._cuts.rejoin(n)

    async def reset(self, a: int, b: int) -> None:
        """See Target."""
        for source, target in ((a, b), (b, a)):
            self._proxies[target - 1].reset(source)

    async def sleep(self, seconds: float) -> None:
        """See Target."""
        await asyncio.sleep(seconds)

    def note(self, fault: str, detail: str) -> None:
        """See Target."""
        self.faults[fault] += 1

    async def heal_all(self) -> None:
        """Start every node that is down: one that ended without having been killed."""
        await asyncio.gather(*(self.start(n) for n in self.numbers))

    async def kill_all(self) -> None:
        """Kill every node at one instant."""
        await asyncio.gather(*(self.kill(n) for n in self.numbers))

    async def close(self) -> None:
        """See the module."""
        self._is_closed = True
        await self.kill_all()
        while self._starting:  # a process may come to be only now
            await asyncio.wait(self._starting.values(), timeout=_POLL_S)
            await self.kill_all()

    def _process(self, n: int) -> NodeProcess:
        return self._cluster.nodes[n - 1]

    def _signal(self, n: int, number: signal.Signals) -> None:
        os.kill(self._process(n).pid, number)
