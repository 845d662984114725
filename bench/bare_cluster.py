"""Three nodes and a client on virtual time, with nothing of the simulator in the way of a request.

No watch looks at stores or engines, so what is counted while requests run is what they cost in
production, but for engine, network and loop. Those count nothing: see counting.py.
"""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from multiraft.client import database
from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.model import hlc
from multiraft.net.inproc import InprocTransport
from multiraft.net.links import InprocNetwork
from multiraft.net.transport import NodeAddress
from multiraft.node import Node
from multiraft.ranges import bootstrap
from multiraft.sim.clock import VirtualClock
from multiraft.sim.cluster import FAST
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from multiraft.storage.engine import Family
from multiraft.storage.identity import Identity
from multiraft.storage.memory import MemoryEngine

LINK_S = 0.000_1
SYNC_S = 0.000_2
"""As long as real ones take, so that as many turns and messages come of a request as there."""


class SlowLink:
    """A direction between two nodes (net.links.Link)."""

    def delay_s(self, size_bytes: int) -> float | None:
        """Return how long any batch of frames travels."""
        return LINK_S


class CountingEngine(MemoryEngine):
    """Counts how often something is read, and what is written."""

    def __init__(self) -> None:
        super().__init__(sync_delay_s=lambda: SYNC_S)
        self.reads = 0
        self.writes = 0
        self.bytes_written = 0

    def write(self, batch: Any) -> None:  # noqa: ANN401
        """As Engine.write."""
        self.writes += 1
        self.bytes_written += batch.size_bytes
        super().write(batch)

    def get(self, key: bytes, family: Family) -> bytes | None:
        """As Engine.get."""
        self.reads += 1
        return super().get(key, family)

    def first(self, start: bytes, end: bytes, family: Family) -> tuple[bytes, bytes] | None:
        """As Engine.first."""
        self.reads += 1
        return super().first(start, end, family)

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As Engine.scan."""
        self.reads += 1
        return super().scan(start, end, family, reverse=reverse)


class BareCluster:
    """See the module. Made by `running`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._clock = VirtualClock(loop)
        self._network = InprocNetwork(FAST.net, lambda _source, _destination: SlowLink())
        self.engines = [CountingEngine() for _ in range(3)]
        self.nodes = [self._node(number, engine) for number, engine in enumerate(self.engines, 1)]

    def _node(self, number: int, engine: CountingEngine) -> Node:
        me = Identity("costs", NodeId(number))
        addresses = tuple(NodeAddress(NodeId(n), _address(n)) for n in (1, 2, 3))
        bootstrap.write(engine, me, addresses, hlc.from_us(VirtualClock.START_US - 1))
        return Node(me, engine, self._transport(f"n{number}"), self._clock, SeededRng(number), FAST)

    def _transport(self, name: str) -> InprocTransport:
        return InprocTransport(self._network, name, _raise)

    def connect(self) -> Database:
        """Return a client."""
        return database.connect(
            _address(1),
            transport=self._transport("client"),
            clock=self._clock,
            rng=SeededRng(9),
            deadline_s=FAST.client.deadline_s,
        )


@contextlib.asynccontextmanager
async def running(loop: VirtualLoop) -> AsyncIterator[tuple[BareCluster, Database]]:
    """Run a cluster, and a client that has found its way to the leader."""
    cluster = BareCluster(loop)
    for number, node in enumerate(cluster.nodes, 1):
        await node.start(_address(number))
    async with cluster.connect() as db:
        await db.put(b"first", b"")
        yield cluster, db
    for node in cluster.nodes:
        await node.stop()


def _address(number: int) -> str:
    return f"n{number}:7000"


def _raise(error: Exception) -> None:
    raise AssertionError("a handler failed") from error
