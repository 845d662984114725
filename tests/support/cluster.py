"""A whole cluster on a virtual loop: real nodes, memory engines, in-process network, own clocks.

Everything but engine, network and clock is production code. A test hurts the cluster through the
methods here and waits with `until`, which lets virtual time pass. All frames between stores pass a
`Wiretap`, whose checks every test ends with.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import msgspec

import multiraft
from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config, RaftConfig
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import BatchReply, BatchRequest, Operation
from multiraft.mvcc import reads, statistics
from multiraft.mvcc.reader import EngineReader
from multiraft.net.inproc import InprocTransport
from multiraft.net.links import InprocNetwork
from multiraft.net.transport import NodeAddress, Transport
from multiraft.node import Node
from multiraft.ranges import bootstrap, snapshot
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.replica import Replica
from multiraft.storage.identity import Identity
from multiraft.storage.memory import MemoryEngine
from tests.support import virtual_loop
from tests.support.clients import SeededRng
from tests.support.virtual_loop import VirtualClock, VirtualLoop
from tests.support.wiretap import Wiretap

FAST = Config(
    raft=RaftConfig(tick_ms=20),
    client=ClientConfig(attempt_timeout_ms=500, deadline_s=30.0),
)
"""Short ticks, so that elections take tens of virtual milliseconds."""

STEP_S = 0.005


class Member:
    """One node of the cluster, up or down; the engine and the clock outlive the node."""

    def __init__(self, number: int, clock: VirtualClock) -> None:
        self.number = number
        self.name = f"n{number}"
        self.address = f"{self.name}:7000"
        self.clock = clock
        self.sync_delay_s = 0.0
        """How long each sync of its disk takes."""
        self.engine = MemoryEngine(sync_delay_s=lambda: self.sync_delay_s)
        self.node: Node | None = None
        self.incarnation = 0
        """How often the node was started."""
        self.is_paused = False
        self.missed_turn = False

    @property
    def up(self) -> Node:
        """The running node."""
        assert self.node is not None, f"{self.name} is down"
        return self.node

    def replica(self, range_id: int = USER_RANGE_ID) -> Replica:
        """Return this node's replica of a range."""
        return self.up.store.replicas[RangeId(range_id)]


class DelayedLink:
    """A link that takes as long as the cluster says, and loses as much."""

    def __init__(self, cluster: "Cluster", source: str, destination: str) -> None:
        self._cluster = cluster
        self._pair = (source, destination)

    def delay_s(self, size_bytes: int) -> float | None:
        """Return how long a batch of frames travels; None: it is lost with its connection."""
        cluster = self._cluster
        loss = cluster.losses.get(self._pair)
        if loss and cluster.random.random() < loss:
            return None
        return cluster.link_delay_s


class Cluster:
    """See the module. `errors` holds what made stores fail, and what escaped handlers."""

    def __init__(
        self, loop: VirtualLoop, *, nodes: int = 3, config: Config = FAST, seed: int = 1
    ) -> None:
        self.loop = loop
        self.link_delay_s = 0.0
        """How long each frame travels."""
        self.losses: dict[tuple[str, str], float] = {}
        """By source and destination: how likely a batch of frames is lost with its connection."""
        self.config = config
        self.random = random.Random(seed)
        self.network = InprocNetwork(config.net, partial(DelayedLink, self))
        self.errors: list[BaseException] = []
        self.wiretap = Wiretap()
        self.snapshots_of_the_dead = 0
        self.members = {
            number: Member(number, VirtualClock(loop)) for number in range(1, nodes + 1)
        }
        addresses = tuple(NodeAddress(NodeId(m.number), m.address) for m in self.members.values())
        for member in self.members.values():
            bootstrap.write(
                member.engine,
                Identity("test-cluster", NodeId(member.number)),
                addresses,
                hlc.from_us(VirtualClock.START_US - 1),
            )

    def slow_down(self, *, sync_s: float, link_s: float) -> None:
        """Let every sync, and every way of a frame, take that long from now on."""
        self.link_delay_s = link_s
        for member in self.members.values():
            member.sync_delay_s = sync_s

    async def start(self) -> None:
        """Start every node that is down, and wait until every range has a serving leader."""
        for member in self.members.values():
            if member.node is None:
                await self.start_node(member.number)
        await self.until_served()

    async def start_node(self, number: int) -> None:
        """Start one node on what its engine holds."""
        member = self.members[number]
        assert member.node is None, f"{member.name} is up"
        node = Node(
            Identity("test-cluster", NodeId(number)),
            member.engine,
            self.make_transport(member),
            member.clock,
            SeededRng(self.random.randrange(1 << 30)),
            self.config,
        )
        node.failed.add_done_callback(lambda failed: self.errors.append(failed.result()))
        store = node.store
        store.outbox.send_frame = self.wiretap.splice(
            number, member.incarnation, store.outbox.send_frame
        )
        member.incarnation += 1
        member.node = node
        await self.run_start(member)

    def make_transport(self, member: Member) -> Transport:
        """Return what connects a node to the others."""
        return InprocTransport(self.network, member.name, self.errors.append)

    async def run_start(self, member: Member) -> None:
        """Let a node that was made begin to run."""
        await member.up.start(member.address)

    async def stop(self) -> None:
        """Stop every node in good order; the test fails if a store had failed before.

        It fails too if the wiretap heard what must never be said.
        """
        for member in self.members.values():
            if member.node is not None:
                node, member.node = member.node, None
                await node.stop()
        assert not self.errors, self.errors
        assert not self.wiretap.violations, self.wiretap.violations

    async def crash(self, number: int, *, keep: int | None = None) -> None:
        """End a node as a power cut does: of its unsynced batches only the first `keep` survive.

        None: a random number of them.
        """
        member = self.members[number]
        node, member.node = member.up, None
        self.snapshots_of_the_dead += node.store.snapshots.sent
        self.network.crash(member.name)
        await node.kill()
        unsynced = member.engine.unsynced_count
        member.engine.crash(self.random.randint(0, unsynced) if keep is None else keep)
        member.engine = member.engine.reopen()

    async def restart(self, number: int) -> None:
        """Start a crashed node again."""
        await self.start_node(number)

    def isolate(self, number: int) -> None:
        """Cut a node off from everybody, clients included."""
        self.network.isolate(f"n{number}")

    def break_connections(self, number: int) -> None:
        """Break every connection between a node and the others, losing what travels."""
        for other in self.members.values():
            if other.number != number:
                self.network.break_connections(f"n{number}", other.name)
                self.network.break_connections(other.name, f"n{number}")

    def rejoin(self, number: int) -> None:
        """Undo `isolate`."""
        self.network.rejoin(f"n{number}")

    def pause(self, number: int) -> None:
        """Stop a node as SIGSTOP does: nothing is read, written, sent or applied until `resume`.

        Its timers still run, but what they cause stays inside.
        """
        member = self.members[number]
        store = member.up.store
        member.is_paused = True
        self.isolate(number)
        turn = store._guarded_turn

        def no_turn() -> None:
            if member.is_paused:
                member.missed_turn = True
            else:
                turn()

        store._guarded_turn = no_turn  # type: ignore[method-assign]

    def resume(self, number: int) -> None:
        """Undo `pause`: the turn that was due runs, then what waits in the sockets arrives."""
        member = self.members[number]
        member.is_paused = False
        if member.missed_turn:
            member.missed_turn = False
            self.loop.call_soon(member.up.store._guarded_turn)
        self.rejoin(number)

    def connect(self, *, name: str = "client", **settings: Any) -> Database:  # noqa: ANN401
        """Return a database of this cluster, to be used with `async with`."""
        config = msgspec.structs.replace(
            self.config, client=msgspec.structs.replace(self.config.client, **settings)
        )
        return multiraft.connect(
            *(m.address for m in self.members.values()),
            settings=config,
            transport=InprocTransport(self.network, name, self.errors.append),
            clock=VirtualClock(self.loop),
            rng=SeededRng(self.random.randrange(1 << 30)),
        )

    # -- looking ---------------------------------------------------------------------------------

    def submit(
        self, number: int, operations: tuple[Operation, ...], *, range_id: int = USER_RANGE_ID
    ) -> list[BatchReply]:
        """Hand a request to a node's store, past client and network; return where it answers."""
        replies: list[BatchReply] = []
        store = self.members[number].up.store
        request = BatchRequest(
            RangeId(range_id),
            operations,
            id=self.random.randbytes(16),
            issued_at=Timestamp(store.context.hlc.now() - hlc.from_ms(250)),
        )
        store.submit(request, replies.append)
        return replies

    def followers(self, range_id: int = USER_RANGE_ID) -> list[Member]:
        """Return the running nodes other than the one that serves the range."""
        leader = self.leader(range_id)
        assert leader is not None, f"r{range_id} is served"
        return [member for member in self.running() if member is not leader]

    def running(self) -> list[Member]:
        """Return the nodes that are up."""
        return [m for m in self.members.values() if m.node is not None]

    def leader(self, range_id: int = USER_RANGE_ID) -> Member | None:
        """Return the node that serves the range under a lease now, or None."""
        for member in self.running():
            replica = member.up.store.replicas.get(RangeId(range_id))
            holder = None if replica is None else replica.leaseholder
            if holder is not None and holder.may_serve(member.up.store.context.hlc.now()):
                return member
        return None

    def replicas(self, range_id: int = USER_RANGE_ID) -> list[Replica]:
        """Return the replicas of a range on the running nodes."""
        stores = [m.up.store for m in self.running()]
        return [s.replicas[RangeId(range_id)] for s in stores if RangeId(range_id) in s.replicas]

    def range_at(self, key: bytes) -> RangeDescriptor:
        """Return the newest descriptor that any running node has for one of the users' keys."""
        logical = keys.PLAIN + key
        found = [m.up.store.map.at(logical) for m in self.running()]
        descriptors = [r.descriptor for r in found if r is not None and r.descriptor is not None]
        return max(descriptors, key=lambda d: d.generation)

    def snapshots_sent(self) -> int:
        """Return how many snapshots any node has sent, those that have crashed since included."""
        return self.snapshots_of_the_dead + sum(m.up.store.snapshots.sent for m in self.running())

    def check_statistics(self) -> None:
        """Recount every range on every node: what was added up must be what is there."""
        for member in self.running():
            reader = EngineReader(member.engine)
            for replica in member.up.store.replicas.values():
                descriptor = replica.descriptor
                if descriptor is not None:
                    counted = statistics.count(reader, descriptor.start, descriptor.end)
                    assert replica.applied.stats == counted, f"{member.name} r{replica.range_id}"

    def meta_records(self) -> dict[bytes, RangeDescriptor]:
        """Return the addressing records, by the start of their range, as the first range has them.

        What the leader of the first range has applied.
        """
        leader = self.leader(bootstrap.FIRST_RANGE_ID)
        assert leader is not None, "the first range is served"
        reader = EngineReader(leader.engine)
        records: dict[bytes, RangeDescriptor] = {}
        for range_id in self.range_ids():
            for replica in self.replicas(range_id):
                if replica.descriptor is not None:
                    start = replica.descriptor.start
                    version = reads.newest(reader, keys.meta_key(start))
                    if version is not None:
                        records[start] = encoding.unpack_descriptor(version.value)
        return records

    def range_ids(self) -> list[RangeId]:
        """Return every range that a running node has."""
        return sorted({r for m in self.running() for r in m.up.store.replicas})

    async def until(
        self, condition: Callable[[], bool], *, within_s: float = 30.0, step_s: float = STEP_S
    ) -> None:
        """Let virtual time pass until `condition()`; fails the test if it never comes true."""
        deadline = self.loop.time() + within_s
        while not condition():
            assert not self.errors, self.errors
            assert self.loop.time() < deadline, f"not within {within_s:g} virtual seconds"
            await asyncio.sleep(step_s)

    async def until_served(self) -> None:
        """Wait until every range has a leader that may serve."""
        await self.until(lambda: all(self.leader(r) is not None for r in self.range_ids()))

    async def until_applied(self, range_id: int = USER_RANGE_ID) -> None:
        """Wait until all running replicas of a range have applied the same, which is everything."""

        def equal() -> bool:
            indexes = {r.applied.index for r in self.replicas(range_id)}
            commits = {r.core.last_index for r in self.replicas(range_id)}
            return len(indexes) == 1 and indexes == commits

        await self.until(equal)

    def contents(self, number: int, range_id: int = USER_RANGE_ID) -> list[tuple[bytes, bytes]]:
        """Return everything keyed in a range as that node's engine holds it."""
        member = self.members[number]
        descriptor = member.replica(range_id).descriptor
        assert descriptor is not None
        view = member.engine.view()
        try:
            return list(snapshot.rows_of(view, member.engine.data, descriptor))
        finally:
            view.close()


def cluster_test(
    *, nodes: int = 3, config: Config = FAST, seed: int = 1
) -> Callable[[Callable[[Cluster, Database], Coroutine[Any, Any, None]]], Callable[[], None]]:
    """Make a test of an `async def test_...(cluster, db)` on a started cluster."""

    def wrap(main: Callable[[Cluster, Database], Coroutine[Any, Any, None]]) -> Callable[[], None]:
        async def on_loop(loop: VirtualLoop) -> None:
            cluster = Cluster(loop, nodes=nodes, config=config, seed=seed)
            await cluster.start()
            async with cluster.connect() as db:
                await main(cluster, db)
            await cluster.stop()

        def test() -> None:
            virtual_loop.run(on_loop, limit_s=10_000)

        test.__doc__ = main.__doc__
        return test

    return wrap
