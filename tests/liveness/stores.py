"""Stores of a test, joined by a network that the test can cut, on a virtual loop.

A node is what `ranges/` will be: it puts its HLC on every message and takes in the HLC of every
message it gets before it hands the message on.
"""

from collections import Counter

from multiraft import errors
from multiraft.config import LivenessConfig
from multiraft.ids import NodeId, Timestamp
from multiraft.liveness.heartbeats import Liveness
from multiraft.liveness.messages import LivenessMessage
from multiraft.liveness.support import Change
from multiraft.model.hlc import HybridClock
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from multiraft.storage.memory import MemoryEngine

CONFIG = LivenessConfig()
LATENCY_S = 0.002


class Network:
    """Delivers after LATENCY_S, in order, unless the link is cut in that direction."""

    def __init__(self, loop: VirtualLoop, cluster: tuple[NodeId, ...]) -> None:
        self.loop = loop
        self.cluster = cluster
        self.nodes: dict[NodeId, Node] = {}
        self.cut: set[tuple[NodeId, NodeId]] = set()

    def send(
        self, source: NodeId, target: NodeId, clock: Timestamp, message: LivenessMessage
    ) -> None:
        if (source, target) not in self.cut:
            self.loop.call_later(LATENCY_S, self._deliver, source, target, clock, message)

    def _deliver(
        self, source: NodeId, target: NodeId, clock: Timestamp, message: LivenessMessage
    ) -> None:
        node = self.nodes.get(target)
        if node is not None:
            node.deliver(source, clock, message)


class Disk:
    """A memory engine over restarts: how long its syncs take, and how many there were."""

    def __init__(self) -> None:
        self.sync_delay_s = 0.0
        self.syncs = 0
        self.engine = MemoryEngine(sync_delay_s=self._begin_sync)

    def crash(self) -> None:
        """Lose everything that was not synced, and open what is left."""
        self.engine.crash(keep=0)
        self.engine = self.engine.reopen()

    def _begin_sync(self) -> float:
        self.syncs += 1
        return self.sync_delay_s


class Node:
    """One process: it ends with `crash`, and a new one is made with `restarted`."""

    def __init__(self, node_id: NodeId, network: Network, disk: Disk, clock: VirtualClock) -> None:
        self.node_id = node_id
        self.network = network
        self.disk = disk
        self.clock = clock
        self.hlc = HybridClock(clock, CONFIG.clock_offset_ms_max)
        self.sent: Counter[str] = Counter()
        self.changes: list[tuple[NodeId, Change]] = []
        self.failures: list[BaseException] = []
        self.refused = 0
        self.stops_at: tuple[Change, ...] = ()
        """What makes the host stop."""
        self.liveness = Liveness(
            node_id,
            CONFIG,
            self.hlc,
            clock,
            disk.engine,
            send=self._send,
            on_change=self._on_change,
            on_failure=self.failures.append,
        )
        network.nodes[node_id] = self

    def _on_change(self, node: NodeId, change: Change) -> None:
        self.changes.append((node, change))
        if change in self.stops_at:
            self.liveness.stop()

    async def start(self) -> None:
        """Start, with all other nodes of the cluster as peers."""
        for peer in self.network.cluster:
            if peer != self.node_id:
                self.liveness.add_peer(peer)
        await self.liveness.start()

    def crash(self) -> None:
        """Power is lost: nothing runs, and what was not synced is gone."""
        self.liveness.stop()
        self.disk.crash()
        del self.network.nodes[self.node_id]

    def restarted(self) -> "Node":
        """Return the next process on the same disk and machine, not started yet."""
        return Node(self.node_id, self.network, self.disk, self.clock)

    def deliver(self, source: NodeId, clock: Timestamp, message: LivenessMessage) -> None:
        try:
            self.hlc.forward_from_peer(clock)
        except errors.ClockOffsetError:
            self.refused += 1
            self.liveness.receive_refused(source, message)
            return
        self.liveness.receive(source, message)

    def is_supported_by(self, node: NodeId) -> bool:
        """Return whether a leader here may count on `node` now."""
        return self.liveness.support_from(node)[1] > self.hlc.now()

    def _send(self, node: NodeId, message: LivenessMessage) -> None:
        self.sent[type(message).__name__] += 1
        self.network.send(self.node_id, node, self.hlc.now(), message)


async def start_cluster(loop: VirtualLoop, count: int) -> list[Node]:
    """Return nodes 1 to `count`, each asking all others."""
    network = Network(loop, tuple(NodeId(number) for number in range(1, count + 1)))
    nodes = [Node(node_id, network, Disk(), VirtualClock(loop)) for node_id in network.cluster]
    for node in nodes:
        await node.start()
    return nodes
