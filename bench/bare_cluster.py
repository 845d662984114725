"""Nodes and a client on virtual time, with nothing of the simulator in the way of a request.

No watch looks at stores or engines, so what is counted while requests run is what they cost in
production, but for engine, network and loop. What requests cost (tests/costs) and how that changes
with nodes and ranges (scale_counts.py) is counted here.
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
from multiraft.storage import identity
from multiraft.storage.engine import Family
from multiraft.storage.identity import Identity
from multiraft.storage.memory import MemoryEngine

LINK_S = 0.000_1
SYNC_S = 0.000_2
"""As long as real ones take, so that as many turns and messages come of a request as there."""


CLIENT = "client"
FOUNDERS_MAX = 3
"""The first ranges have as many replicas as nodes found a cluster; further nodes have none yet."""


class SlowLink:
    """A direction between two nodes (net.links.Link). Counts what travels."""

    def __init__(self) -> None:
        self.bytes_sent = 0

    def delay_s(self, size_bytes: int) -> float | None:
        """Return how long any batch of frames travels."""
        self.bytes_sent += size_bytes
        return LINK_S


class CountingEngine(MemoryEngine):
    """Counts how often something is read, what is written, and syncs."""

    def __init__(self) -> None:
        super().__init__(sync_delay_s=self._delay_s)
        self.reads = 0
        self.writes = 0
        self.bytes_written = 0
        self.syncs = 0

    def _delay_s(self) -> float:
        self.syncs += 1
        return SYNC_S

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

    def __init__(self, loop: VirtualLoop, nodes: int) -> None:
        self._clock = VirtualClock(loop)
        self._links: dict[tuple[str, str], SlowLink] = {}
        self._network = InprocNetwork(FAST.net, self._link)
        self._addresses = tuple(
            NodeAddress(NodeId(number), _address(number)) for number in range(1, nodes + 1)
        )
        self.engines = [CountingEngine() for _ in self._addresses]
        self.nodes = [self._node(number, engine) for number, engine in enumerate(self.engines, 1)]

    def bytes_between_nodes(self) -> int:
        """Return how much the nodes have sent to each other so far."""
        names = {_name(number) for number in range(1, len(self.nodes) + 1)}
        return sum(link.bytes_sent for ends, link in self._links.items() if names.issuperset(ends))

    def _link(self, source: str, destination: str) -> SlowLink:
        return self._links.setdefault((source, destination), SlowLink())

    def _node(self, number: int, engine: CountingEngine) -> Node:
        me = Identity("costs", NodeId(number))
        if number <= FOUNDERS_MAX:
            founders = self._addresses[:FOUNDERS_MAX]
            bootstrap.write(engine, me, founders, hlc.from_us(VirtualClock.START_US - 1))
        batch = engine.new_batch()
        if number > FOUNDERS_MAX:
            identity.create(engine, batch, me)
        bootstrap.write_nodes(batch, engine, self._addresses)
        engine.write(batch)
        return Node(
            me, engine, self._transport(_name(number)), self._clock, SeededRng(number), FAST
        )

    def _transport(self, name: str) -> InprocTransport:
        return InprocTransport(self._network, name, _raise)

    def connect(self, name: str = CLIENT) -> Database:
        """Return a client, whose name is not that of a node or another client."""
        return database.connect(
            _address(1),
            transport=self._transport(name),
            clock=self._clock,
            rng=SeededRng(9),
            deadline_s=FAST.client.deadline_s,
        )


@contextlib.asynccontextmanager
async def running(loop: VirtualLoop, nodes: int = 3) -> AsyncIterator[tuple[BareCluster, Database]]:
    """Run a cluster, and a client that has found its way to the leader."""
    cluster = BareCluster(loop, nodes)
    for number, node in enumerate(cluster.nodes, 1):
        await node.start(_address(number))
    async with cluster.connect() as db:
        await db.put(b"first", b"")
        yield cluster, db
    for node in cluster.nodes:
        await node.stop()


def _name(number: int) -> str:
    return f"n{number}"


def _address(number: int) -> str:
    return f"{_name(number)}:7000"


def _raise(error: Exception) -> None:
    raise AssertionError("a handler failed") from error
