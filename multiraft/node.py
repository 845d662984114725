"""One node: builds everything below, owns its start and its stop.

Purpose
    The composition root. It opens the engine, makes clock, links, router and store, listens, and
    takes them down in the reverse order. Nothing here decides anything about data.
Invariants
    - A node serves only under the identity that was made with its directory (rule A7).
    - On SIGTERM leaderships are handed over before connections close; on SIGKILL nothing is lost.
    - When the store fails, the node stops at once: no reply leaves after a failed write or sync.
"""

import asyncio
import signal
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import msgspec
import orjson

from multiraft import config as configuration
from multiraft import errors, runtime
from multiraft.client.router import Router
from multiraft.cluster import joining, node_status, profile, registry
from multiraft.cluster.disk_guard import DiskGuard
from multiraft.cluster.garbage_queue import GarbageQueue
from multiraft.cluster.node_status import NodeStatus
from multiraft.cluster.replica_gc import ReplicaGc
from multiraft.cluster.replicate_queue import ReplicateQueue
from multiraft.cluster.settled import Settled
from multiraft.config import Config, NetConfig
from multiraft.ids import NodeId
from multiraft.model import encoding
from multiraft.model import hlc as timestamps
from multiraft.model import locality as localities
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.hlc import HybridClock
from multiraft.model.locality import Locality
from multiraft.net import addresses
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Handler,
    Hello,
    Listener,
    NodeAddress,
    Transport,
    Welcome,
)
from multiraft.ranges import bootstrap
from multiraft.ranges.admission import Admission
from multiraft.ranges.peers import AddressBook, PeerLinks
from multiraft.ranges.service import PeerConnection, RequestConnection
from multiraft.ranges.snapshot import SnapshotReceiver
from multiraft.ranges.store import Store
from multiraft.runtime import Clock, Rng, SystemClock, SystemRng
from multiraft.storage import identity
from multiraft.storage.engine import Engine
from multiraft.storage.identity import Identity
from multiraft.storage.rocks import RocksEngine

HAND_OVER_S = 3.0
FILES_OF_THE_STORE = 2_048
"""How many files are left to the engine and to connections that this node makes."""


class NodeSettings(msgspec.Struct, frozen=True):
    """What one process is told. `join` names nodes of a running cluster.

    Others reach the node at `advertise`; empty: where it listens. `locality` is where it is; None:
    where it was when it ran last.

    A directory that holds no node yet joins that cluster or, with `join` empty and `bootstrap`, is
    the first of a new one.
    """

    directory: Path
    listen: str
    join: tuple[str, ...] = ()
    bootstrap: bool = False
    config: Config = Config()
    advertise: str = ""
    locality: Locality | None = None

    @property
    def told(self) -> str:
        """The address that other nodes and clients are told."""
        return self.advertise or self.listen


class Node:
    """A running node. Made by `Node.start`; the caller awaits `failed` and calls `stop`."""

    def __init__(
        self,
        me: Identity,
        engine: Engine,
        transport: Transport,
        clock: Clock,
        rng: Rng,
        config: Config,
    ) -> None:
        configuration.check(config)
        self.me = me
        self.engine = engine
        self.config = config
        self.failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._hlc = HybridClock(clock, config.liveness.clock_offset_ms_max)
        self._started_at = clock.monotonic()
        self._listener: Listener | None = None
        self._advertised = ""
        self._admission = Admission()
        self.addresses = AddressBook(bootstrap.read_nodes(engine), self._addresses_changed)
        self.store = Store(
            me.node_id,
            engine,
            self._hlc,
            clock,
            rng,
            config,
            self._send_frame,
            self._fail,
        )

    @property
    def address(self) -> str:
        """Where others reach the node."""
        assert self._listener is not None, "the node is started"
        return self._advertised or self._listener.address

    @property
    def locality(self) -> Locality:
        """Where the node is, as others were told last."""
        entry = self.addresses.get(self.me.node_id)
        return () if entry is None else entry.locality

    async def start(
        self, listen: str, *, advertise: str = "", locality: Locality | None = None
    ) -> None:
        """Listen at `listen` and take part. On return requests are served, or forwarded to be.

        Others are told `advertise`, if that is not where it listens, and `locality`; None: what
        they were told last.

        Raises StartupError, CorruptionError.
        """
        self._listener = await self._transport.listen(listen, self._accept)
        self._advertised = advertise
        entry = NodeAddress(
            self.me.node_id, self.address, self.locality if locality is None else locality
        )
        self.addresses.learn(entry)
        self._links = PeerLinks(
            self._transport,
            self.addresses,
            entry,
            self.me.cluster_id,
            self._clock,
            self._rng,
            self._link_lost,
            self._heard_of,
            self._fail,
        )
        known = self.addresses.nodes()
        self._router = Router(
            self._transport,
            self._clock,
            self._rng,
            self.config.client,
            seeds=[self._listener.address, *(n.address for n in known)],
        )
        self._replication = ReplicateQueue(self.store, self.addresses)
        self._garbage = GarbageQueue(self.store, self._router)
        self.store.connect(self._router, self._connect_bulk, _Host(self))
        guard = DiskGuard(self.store)
        guard.look()
        await self.store.start(tuple(node.node_id for node in known))
        replicas = ReplicaGc(self.store, self._router)
        for queue in (self._replication, replicas, guard, self._garbage):
            self.store.spawn(queue.run(), name=type(queue).__name__)

    async def stop(self, *, hand_over: bool = False) -> None:
        """Close connections, stop the store, close the engine; `hand_over` leaderships first."""
        if hand_over and not self.failed.done():
            await self.store.hand_over_all(HAND_OVER_S)
        if self._listener is not None:
            await self._listener.close()
            await self._router.close()
            await self.store.stop()
            await self._links.close()
        self.engine.close()

    async def kill(self) -> None:
        """Stop without a word to anybody, as far as a process can do that to itself.

        Nothing is handed over, flushed or answered, and the engine is left as it is: its owner says
        what a crash leaves of it.
        """
        await self.store.halt()
        if self._listener is not None:
            await self._router.close()
            await self._links.close()

    def status(self) -> NodeStatus:
        """Return what this node, once it is started, tells of itself."""
        engine, transport = self.engine, self._transport
        return NodeStatus(
            node_id=self.me.node_id,
            cluster_id=self.me.cluster_id,
            address=self.address,
            locality=localities.show(self.locality),
            version=node_status.version(),
            uptime_s=self._clock.monotonic() - self._started_at,
            memory_bytes=runtime.memory_bytes(),
            free_disk_bytes=engine.free_bytes(),
            clock_offset_us_max=self.config.liveness.clock_offset_ms_max * 1_000,
            engine=engine.status() if isinstance(engine, RocksEngine) else None,
            transport=transport.status() if isinstance(transport, TcpTransport) else None,
            store=self.store.status(),
            links=self._links.status(),
            router=self._router.status(),
            replication=self._replication.status(),
            garbage=self._garbage.status(),
        )

    def welcome(self) -> Welcome:
        """Return what this node tells whoever connects."""
        return Welcome(
            PROTOCOL_VERSION,
            self.me.cluster_id,
            self.me.node_id,
            self._hlc.now(),
            self._first_range(),
            self.addresses.nodes(),
        )

    def _first_range(self) -> RangeDescriptor | None:
        """Return where the addressing records are, as far as this node knows (rule L6)."""
        replica = self.store.replicas.get(bootstrap.FIRST_RANGE_ID)
        if replica is not None and replica.descriptor is not None:
            return replica.descriptor
        cached = self._router.addressing.cache.by_id(bootstrap.FIRST_RANGE_ID)
        return None if cached is None else cached.descriptor

    # -- connections -----------------------------------------------------------------------------

    def _accept(self, hello: Hello) -> tuple[Welcome, Callable[[Connection], Handler]]:
        if hello.cluster_id and hello.cluster_id != self.me.cluster_id:
            raise errors.WrongClusterError(
                f"this is cluster {self.me.cluster_id}, not {hello.cluster_id}"
            )
        if hello.target_node_id and hello.target_node_id != self.me.node_id:
            raise errors.WrongClusterError(
                f"n{hello.target_node_id} was called, but this is n{self.me.node_id}"
            )
        if hello.node_id == self.me.node_id:
            raise errors.WrongClusterError(
                f"another process says that it is n{hello.node_id}, as this one is: was the "
                "directory copied? Only one of the two may run"
            )
        if hello.node_id and hello.cluster_id:
            self.addresses.learn(NodeAddress(hello.node_id, hello.address, hello.locality))
            self.store.add_peer(hello.node_id)
            self._links.heard_from(hello.node_id)
        return self.welcome(), self._handlers[hello.connection_class](self, hello)

    def _requests_handler(self, hello: Hello) -> Callable[[Connection], Handler]:
        return lambda connection: RequestConnection(
            self.store, connection, self.welcome, self._admit, self._admission
        )

    def _admit(self, connection: Connection, payload: bytes) -> None:
        """A new node asks for an ID: answer when there is one."""
        try:
            request = registry.unpack_join(payload)
        except encoding.UNREADABLE as error:
            raise errors.ProtocolError(reason=f"an unreadable Join: {error}") from error
        self.store.spawn(self._answer_join(connection, request), name=f"join {request.address}")

    async def _answer_join(self, connection: Connection, request: registry.Join) -> None:
        try:
            addresses.split(request.address)
            localities.check(request.locality)
            node_id = await registry.admit(self._router, request)
        except errors.MultiraftError as error:
            answer = registry.Joined(refusal=error.message)
        else:
            answer = registry.Joined(self.me.cluster_id, node_id, self.addresses.nodes())
        connection.send(FrameKind.JOINED, encoding.pack(answer))

    def _raft_handler(self, hello: Hello) -> Callable[[Connection], Handler]:
        if not hello.node_id or not hello.cluster_id:
            raise errors.ProtocolError(reason="only nodes open Raft connections")
        return lambda _: PeerConnection(self.store, hello.node_id)

    def _bulk_handler(self, hello: Hello) -> Callable[[Connection], Handler]:
        if not hello.node_id or not hello.cluster_id:
            raise errors.ProtocolError(reason="only nodes open bulk connections")
        return lambda connection: SnapshotReceiver(self.store.intake, hello.node_id, connection)

    _handlers = {  # noqa: RUF012 - one table for the class
        ConnectionClass.REQUESTS: _requests_handler,
        ConnectionClass.RAFT: _raft_handler,
        ConnectionClass.BULK: _bulk_handler,
    }

    async def _connect_bulk(self, node_id: NodeId, handler: Handler) -> Connection:
        entry = self.addresses.get(node_id)
        if entry is None:
            raise errors.NodeUnavailableError(target=f"n{node_id}", reason="its address is unknown")
        hello = self._links.hello(ConnectionClass.BULK, node_id)
        return await self._transport.connect(entry.address, hello, lambda _: handler)

    def _send_frame(self, node_id: NodeId, payload: bytes) -> None:
        self._links.send(node_id, payload)

    def _link_lost(self, node_id: NodeId) -> None:
        self.store.peer_unreachable(node_id)

    def _heard_of(self, nodes: tuple[NodeAddress, ...]) -> None:
        """Others know these nodes; where a node listens and is, it has the last word itself."""
        for node in nodes:
            if self.addresses.get(node.node_id) is None:
                self.addresses.learn(node)
                self.store.add_peer(node.node_id)

    async def meet(self, node_id: NodeId) -> bool:
        """Return whether the cluster has this node; if so, it is a peer of this one from now on."""
        if self.addresses.get(node_id) is None:
            registered = await registry.find(self._router, node_id)
            if registered is None:
                return False
            self._heard_of((registered,))
        return True

    def _addresses_changed(self) -> None:
        batch = self.engine.new_batch()
        bootstrap.write_nodes(batch, self.engine, self.addresses.nodes())
        self.engine.write(batch)

    # -- trouble ---------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_result(error)


class _Host:
    """What a store asks of its node, once it is started (ranges.admin.Host)."""

    __slots__ = ("_node",)

    def __init__(self, node: Node) -> None:
        self._node = node

    def status(self) -> bytes:
        return msgspec.json.encode(self._node.status())

    async def profile(self, duration_ms: int) -> bytes:
        return msgspec.json.encode(await profile.take(self._node.store, duration_ms))

    async def meet(self, node_id: NodeId) -> bool:
        return await self._node.meet(node_id)


def prepare_local_cluster(directories: list[Path], addresses: list[str]) -> str:
    """Make the directories of a new cluster, one node each, and return the cluster's ID.

    All of them must be empty or missing, and none of the nodes may run. Raises StartupError.
    """
    cluster_id = str(uuid.uuid4())
    nodes = tuple(
        NodeAddress(NodeId(number), address) for number, address in enumerate(addresses, start=1)
    )
    timestamp = timestamps.from_us(SystemClock().wall_us())
    for directory, node in zip(directories, nodes, strict=True):
        engine = RocksEngine.open(directory)
        try:
            _refuse_existing(engine, directory)
            bootstrap.write(engine, Identity(cluster_id, node.node_id), nodes, timestamp)
        finally:
            engine.close()
    return cluster_id


def _refuse_existing(engine: Engine, directory: Path) -> None:
    me = identity.load(engine)
    if me is not None:
        raise errors.StartupError(
            f"{directory} already holds node n{me.node_id} of cluster {me.cluster_id}; "
            "start it as it is, or name an empty directory"
        )


async def run_node(settings: NodeSettings) -> None:
    """Run a node until SIGTERM or SIGINT, or until its store fails.

    Prints one JSON line when it serves; a start may wait for other nodes, or for the clock, and
    ends at a signal too. Raises StartupError if it cannot start, and what made the
    store fail.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A server hears it in the background too, where other commands leave Ctrl-C to others.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    waiter = asyncio.ensure_future(stop.wait())
    starting = asyncio.ensure_future(start_node(settings))
    await asyncio.wait((waiter, starting), return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.wait((starting,))
        return
    node = starting.result()
    settled = Settled(lambda: len(node.store.replicas), loop.call_soon_threadsafe)
    settled.start()
    ready = {
        "event": "ready",
        "node_id": node.me.node_id,
        "address": node.address,
        "cluster_id": node.me.cluster_id,
    }
    sys.stdout.buffer.write(orjson.dumps(ready, option=orjson.OPT_APPEND_NEWLINE))
    sys.stdout.flush()
    await asyncio.wait((waiter, node.failed), return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    settled.stop()
    if node.failed.done():
        # No orderly end: whatever made the store fail, its files are left as they are.
        raise node.failed.result()
    await node.stop(hand_over=True)


async def start_node(settings: NodeSettings) -> Node:
    """Open what `settings` names, and return the node once it serves.

    Raises StartupError, CorruptionError.
    """
    _refuse_optimised_mode()
    config = settings.config
    configuration.check(config)
    addresses.split(settings.told)
    localities.check(settings.locality or ())
    clock, rng = SystemClock(), SystemRng()
    engine = RocksEngine.open(settings.directory, config.storage)
    try:
        me = identity.load(engine)
        transport = TcpTransport(_that_fits_open_files(config.net), _report)
        if me is not None:
            await joining.check_same_cluster(transport, settings.join, me)
            known = bootstrap.read_nodes(engine)
            await joining.check_moved(transport, known, me, settings.told)
        elif settings.join:
            request = registry.Join(settings.told, settings.locality or ())
            me = await joining.join(engine, transport, settings.join, request)
        else:
            me = _found_cluster(engine, settings, clock)
        node = Node(me, engine, transport, clock, rng, config)
        await node.start(settings.listen, advertise=settings.advertise, locality=settings.locality)
    except BaseException:
        engine.close()
        raise
    return node


def _refuse_optimised_mode() -> None:
    """Raise StartupError under `python -O`: an invariant that broke would go unnoticed."""
    if not __debug__:
        raise errors.StartupError(
            "a node does not run with `python -O` or PYTHONOPTIMIZE set: they remove the checks "
            "that stop a store before it does harm; start it without"
        )


def _that_fits_open_files(net: NetConfig) -> NetConfig:
    """Return the settings with no more connections than this process may have files open.

    One that is over our own limit is refused with a reason; one over the system's is not.
    """
    files = runtime.allow_open_files(net.connections_max + FILES_OF_THE_STORE)
    fitting = max(files - FILES_OF_THE_STORE, files // 2)
    return msgspec.structs.replace(net, connections_max=min(net.connections_max, fitting))


def _found_cluster(engine: Engine, settings: NodeSettings, clock: Clock) -> Identity:
    if not settings.bootstrap:
        raise errors.StartupError(
            f"{settings.directory} holds no node: join a cluster, or start a new one"
        )
    me = Identity(str(uuid.uuid4()), NodeId(1))
    nodes = (NodeAddress(me.node_id, settings.told, settings.locality or ()),)
    bootstrap.write(engine, me, nodes, timestamps.from_us(clock.wall_us()))
    return me


def _report(error: Exception) -> None:
    """Print an exception that ended a connection: a mistake of ours, not of the peer."""
    print(f"a connection was closed because of an error here: {error!r}", file=sys.stderr)
