"""A cluster that fits in one object and speaks the request protocol: what clients are tested with.

Purpose
    Real enough for a client: several nodes, ranges with leaders, addressing records, versions with
    times, splits, write-once. Nothing is replicated: all nodes share the state, and who may serve a
    range is a table. Tests bend it: `intercept` decides the fate of each request.
Invariants
    - Frames of one connection arrive in order, in a later loop iteration.
    - A write leaves its ID and its results under every key it names; an attempt above the first
      that writes nothing leaves them under its first key (rules S7, S8).
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from sortedcontainers import SortedDict

from multiraft import errors
from multiraft.client.calls import WRITES, wrote
from multiraft.ids import NodeId, RangeId, ReplicaId, Timestamp
from multiraft.model import encoding, hlc, keys, requests
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor, initial_descriptor
from multiraft.model.locality import Locality
from multiraft.model.lock_status import RangeLocksStatus
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Operation,
    PointOperation,
    ReplyFrame,
    Result,
)
from multiraft.model.transaction_requests import Refresh
from multiraft.net import handshake
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Acceptor,
    Connection,
    FrameKind,
    Handler,
    Hello,
    Listener,
    NodeAddress,
    Welcome,
)
from multiraft.runtime import Clock
from tests.support.fake_transactions import KINDS, FakeTransactions

FIRST_RANGE = RangeId(1)
PAGE_KEYS_MAX = 10_000
LOCK_WAIT_S = 0.02
"""How long a request waits at a lock before it is told to come again."""


class Plan(msgspec.Struct, frozen=True):
    """What happens to one request. The default: it is evaluated and answered at once."""

    request_delay_s: float = 0.0
    """Evaluated that much later, by whatever the cluster is then."""
    reply_delay_s: float = 0.0
    drop_request: bool = False
    drop_reply: bool = False
    breaks_connection: bool = False
    """Evaluated, but instead of the reply the connection ends."""
    refusal: errors.MultiraftError | None = None
    drops_results: bool = False
    """Evaluated, but the reply lacks the results."""


EVALUATE = Plan()
Intercept = Callable[[NodeId, BatchRequest], Plan]


class FakeRange:
    """A range and who leads it."""

    def __init__(self, descriptor: RangeDescriptor, leader: NodeId) -> None:
        self.descriptor = descriptor
        self.leader = leader


class FakeCluster:
    """See the module. `splits` are the user keys at which the plain keyspace is cut.

    All ranges begin on the first three nodes.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        nodes: int = 3,
        splits: tuple[bytes, ...] = (),
        cluster_id: str = "c1",
    ) -> None:
        self._clock = clock
        self._last = Timestamp(0)
        self.cluster_id = cluster_id
        self.node_ids = tuple(NodeId(number) for number in range(1, nodes + 1))
        self.down: set[NodeId] = set()
        """Nodes that accept no connections."""
        self.intercept: Intercept = lambda _node, _request: EVALUATE
        self.hints: dict[NodeId, NodeId | None] = {}
        """What a node that does not lead says instead of the truth."""
        self.requests: list[tuple[NodeId, BatchRequest]] = []
        """Everything that arrived, in order."""
        self.evaluations: Counter[bytes] = Counter()
        """How often a part with that ID changed something."""
        self.connections: list[FakeConnection] = []
        self.versions: SortedDict[bytes, list[tuple[Timestamp, bytes | None]]] = SortedDict()
        self.outcomes: dict[tuple[bytes, bytes], tuple[Result, ...]] = {}
        self.ranges: dict[RangeId, FakeRange] = {}
        self.transactions = FakeTransactions(self)
        self.node_statuses: dict[NodeId, dict[str, Any]] = {}
        self.localities: dict[NodeId, Locality] = {}
        """What nodes tell of themselves."""
        self.profiles: dict[NodeId, dict[str, Any]] = {}
        """What nodes tell that they spend their time on."""
        self.locks: dict[RangeId, RangeLocksStatus] = {}
        """What leaders tell of locks."""
        self.newcomers: set[NodeId] = set()
        """Nodes that have yet to hear where the first range is."""
        self.clock_of: dict[NodeId, Timestamp] = {}
        """Clocks that are not the cluster's."""
        home = self.node_ids[:3]
        bounds = [keys.MIN, keys.PLAIN, *(keys.PLAIN + key for key in splits), keys.END]
        for number in range(len(bounds) - 1):
            descriptor = initial_descriptor(
                RangeId(number + 1), bounds[number], bounds[number + 1], home
            )
            self.ranges[descriptor.range_id] = FakeRange(descriptor, home[number % len(home)])
            self.write_meta(descriptor)

    # -- what tests do to it -----------------------------------------------------------------------

    def split(self, user_key: bytes, *, update_meta: bool = True) -> FakeRange:
        """Split a range in the middle of everything; return the right half."""
        key = keys.PLAIN + user_key
        left = self.range_of(key)
        was = left.descriptor
        if was.start == key:
            return left
        generation = was.generation + 1
        left.descriptor = msgspec.structs.replace(was, end=key, generation=generation)
        right_id = RangeId(max(self.ranges) + 1)
        right = FakeRange(
            RangeDescriptor(right_id, key, was.end, 1, was.replicas, was.next_replica_id),
            left.leader,
        )
        self.ranges[right_id] = right
        if update_meta:
            self.write_meta(left.descriptor)
            self.write_meta(right.descriptor)
        return right

    def move(
        self, range_id: RangeId, nodes: tuple[NodeId, ...], *, update_meta: bool = True
    ) -> None:
        """Give a range other replicas; the first of them leads it."""
        moved = self.ranges[range_id]
        was = moved.descriptor
        first_new = was.next_replica_id
        moved.descriptor = msgspec.structs.replace(
            was,
            generation=was.generation + 1,
            replicas=tuple(
                ReplicaDescriptor(node, ReplicaId(first_new + place))
                for place, node in enumerate(nodes)
            ),
            next_replica_id=ReplicaId(first_new + len(nodes)),
        )
        moved.leader = nodes[0]
        if update_meta:
            self.write_meta(moved.descriptor)

    def write_meta(self, descriptor: RangeDescriptor) -> None:
        """Write the addressing record of a range."""
        self.write(keys.meta_key(descriptor.start), encoding.pack(descriptor), self.now())

    def put(self, user_key: bytes, value: bytes | None) -> None:
        """Write a value behind everybody's back; None removes it."""
        self.write(keys.PLAIN + user_key, value, self.now())

    def value(self, user_key: bytes) -> bytes | None:
        """Return what a key holds now."""
        return self.read(keys.PLAIN + user_key, hlc.MAX)

    def range_of(self, key: bytes) -> FakeRange:
        """Return the range of a logical key."""
        return next(r for r in self.ranges.values() if r.descriptor.contains(key))

    def leader_of(self, user_key: bytes) -> NodeId:
        """Return who leads the range of a user key."""
        return self.range_of(keys.PLAIN + user_key).leader

    def stop(self, node_id: NodeId) -> None:
        """Break the node's connections and accept no new ones."""
        self.down.add(node_id)
        for connection in list(self.connections):
            if connection.welcome.node_id == node_id:
                connection.break_("the node stopped")

    def sent(self, kind: type[Operation]) -> list[tuple[NodeId, BatchRequest]]:
        """Return the requests that arrived and begin with an operation of that kind."""
        return [(n, r) for n, r in self.requests if isinstance(r.operations[0], kind)]

    def now(self) -> Timestamp:
        """Return the cluster's clock."""
        self._last = max(hlc.from_us(self._clock.wall_us()), Timestamp(self._last + 1))
        return self._last

    # -- what nodes do -----------------------------------------------------------------------------

    def welcome(self, node_id: NodeId) -> Welcome:
        """Return what a node says of the cluster."""
        return Welcome(
            PROTOCOL_VERSION,
            self.cluster_id,
            node_id,
            self.clock_of.get(node_id, self.now()),
            None if node_id in self.newcomers else self.ranges[FIRST_RANGE].descriptor,
            tuple(NodeAddress(n, address_of(n), self.localities.get(n, ())) for n in self.node_ids),
        )

    def evaluate(self, node_id: NodeId, request: BatchRequest) -> BatchReply:
        """Answer a request as that node would now."""
        limit = Timestamp(0)
        try:
            if request.txn is not None or isinstance(request.operations[0], KINDS):
                found = self._serving(node_id, request)
                results, timestamp, limit = self.transactions.evaluate(found, request)
            else:
                results, timestamp = self._evaluate(node_id, request)
        except errors.MultiraftError as error:
            clock = self.clock_of.get(node_id, self.now())
            return BatchReply((), clock=clock, error=errors.to_wire(error))
        clock = self.clock_of.get(node_id, self.now())
        return BatchReply(results, timestamp, clock, uncertainty_limit=limit)

    def _evaluate(
        self, node_id: NodeId, request: BatchRequest
    ) -> tuple[tuple[Result, ...], Timestamp]:
        if isinstance(request.operations[0], requests.NodeStatus):
            node_status = self.node_statuses.get(node_id, {"node_id": node_id})
            return (requests.StatusResult(msgspec.json.encode(node_status)),), Timestamp(0)
        if isinstance(request.operations[0], requests.NodeProfile):
            profile = self.profiles.get(node_id, {"node_id": node_id})
            return (requests.StatusResult(msgspec.json.encode(profile)),), Timestamp(0)
        if isinstance(request.operations[0], requests.RangeStatus):
            leader = self._replica(node_id, request).leader
            status = {"range_id": request.range_id, "leader": leader, "asked": node_id}
            return (requests.StatusResult(msgspec.json.encode(status)),), Timestamp(0)
        if isinstance(request.operations[0], requests.AdminProtect):
            return (requests.ProtectResult(self.now()),), Timestamp(0)
        if isinstance(request.operations[0], requests.RangeLocks):
            leads = self._replica(node_id, request).leader == node_id
            nothing = RangeLocksStatus(request.range_id, node_id, leads)
            told = self.locks.get(request.range_id, nothing) if leads else nothing
            return (requests.StatusResult(msgspec.json.encode(told)),), Timestamp(0)
        found = self._serving(node_id, request)
        for operation in request.operations:
            if isinstance(operation, PointOperation):
                self.transactions.wait_for(operation.key, b"")
        if any(type(operation) in WRITES for operation in request.operations):
            results = self._write_once(request)
            self.transactions.note_reads(request, self.now())
            return results, self.now()
        timestamp = request.timestamp or self.now()
        self.transactions.note_reads(request, timestamp)
        return tuple(
            self._carry_out(found, operation, timestamp) for operation in request.operations
        ), timestamp

    def _replica(self, node_id: NodeId, request: BatchRequest) -> FakeRange:
        found = self.ranges.get(request.range_id)
        if found is None or found.descriptor.replica_on(node_id) is None:
            raise errors.RangeNotFoundError(range_id=request.range_id, node_id=node_id)
        return found

    def _serving(self, node_id: NodeId, request: BatchRequest) -> FakeRange:
        """Return the range if that node may carry out the request."""
        found = self._replica(node_id, request)
        self._check_span(node_id, found, request)
        if found.leader != node_id:
            hint = self.hints.get(node_id, found.leader)
            raise errors.NotLeaseholderError(range_id=request.range_id, leaseholder=hint)
        return found

    def _check_span(self, node_id: NodeId, found: FakeRange, request: BatchRequest) -> None:
        descriptor = found.descriptor
        for operation in request.operations:
            if isinstance(operation, Refresh) and operation.end:
                inside = descriptor.covers(operation.key, operation.end)
                wanted = (operation.key, operation.end)
            elif isinstance(operation, requests.Scan):
                inside = descriptor.covers(operation.start, operation.end)
                wanted = (operation.start, operation.end)
            else:
                key = getattr(operation, "key", descriptor.start)
                inside, wanted = descriptor.contains(key), (key, keys.next_key(key))
            if not inside:
                # A node knows the ranges of which it has a replica.
                known = [
                    r.descriptor for r in self.ranges.values() if r.descriptor.replica_on(node_id)
                ]
                near = [d for d in known if d.overlaps(*wanted) or d.range_id == request.range_id]
                raise errors.RangeMismatchError(
                    range_id=request.range_id, descriptors=[encoding.pack(d) for d in near]
                )

    def _write_once(self, request: BatchRequest) -> tuple[Result, ...]:
        assert len(request.id) == 16, "a write has an ID"
        named = [getattr(operation, "key", b"") for operation in request.operations]
        for key in named:
            if (request.id, key) in self.outcomes:
                recorded = self.outcomes[request.id, key]
                assert len(recorded) == len(named), "an ID means the whole part (rule S8)"
                return recorded
        results = self._write_all(request)
        if wrote(request.operations, results):
            self.evaluations[request.id] += 1
            for key in named:
                self.outcomes[request.id, key] = results
        elif request.attempt > 1:
            self.outcomes[request.id, named[0]] = results
        return results

    def _write_all(self, request: BatchRequest) -> tuple[Result, ...]:
        for operation in request.operations:
            if isinstance(operation, requests.ConditionalPut):
                held = self.read(operation.key, hlc.MAX)
                if held != operation.expected:
                    return tuple(
                        requests.ConditionalPutResult(False, held)
                        if other is operation
                        else _FAILED
                        for other in request.operations
                    )
        found = self.ranges[request.range_id]
        timestamp = self.now()
        return tuple(
            self._carry_out(found, operation, timestamp) for operation in request.operations
        )

    def _carry_out(self, found: FakeRange, operation: Operation, at: Timestamp) -> Result:
        match operation:
            case requests.Get(key):
                return requests.GetResult(self.read(key, at), at)
            case requests.Put(key, value):
                self.write(key, value, at)
                return requests.PutResult()
            case requests.Delete(key):
                existed = self.read(key, hlc.MAX) is not None
                if existed:
                    self.write(key, None, at)
                return requests.DeleteResult(existed)
            case requests.ConditionalPut(key, new):
                self.write(key, new, at)
                return requests.ConditionalPutResult(True)
            case requests.Increment(key, delta):
                return self._increment(key, delta, at)
            case requests.Scan():
                return self.scan(operation, at)
            case requests.AdminSplit(key):
                left = self.range_of(key)
                if left.descriptor.start == key:
                    before = next(
                        r for r in self.ranges.values() if r.descriptor.end == left.descriptor.start
                    )
                    return _admin(before.descriptor, left.descriptor)
                right = self.split(key[1:])
                return _admin(left.descriptor, right.descriptor)
            case requests.AdminTransfer(target):
                found.leader = target
                return _admin(found.descriptor)
            case requests.AdminChangeReplicas(voters, generation):
                if generation != found.descriptor.generation:
                    raise errors.RangeChangedError(
                        range_id=found.descriptor.range_id,
                        seen=generation,
                        generation=found.descriptor.generation,
                    )
                self.move(found.descriptor.range_id, voters)
                return _admin(found.descriptor)
        raise AssertionError(f"{operation} is not known here")

    def _increment(self, key: bytes, delta: int, at: Timestamp) -> Result:
        held = self.read(key, hlc.MAX)
        number = 0 if held is None else encoding.unpack_counter(held)
        if number is None:
            raise errors.NotAnIntegerError(key=keys.pretty(key), reason="it holds something else")
        self.write(key, encoding.pack_counter(number + delta), at)
        return requests.IncrementResult(number + delta)

    def scan(self, scan: requests.Scan, at: Timestamp) -> requests.ScanResult:
        """Return a page as of that time."""
        limit = min(scan.limit_keys or PAGE_KEYS_MAX, PAGE_KEYS_MAX)
        rows: list[bytes] = []
        found = self.keys_within(scan.start, scan.end)
        for key in reversed(found) if scan.reverse else found:
            value = self.read(key, at)
            if value is None:
                continue
            if len(rows) == 2 * limit:
                resume = keys.next_key(key) if scan.reverse else key
                return requests.ScanResult(tuple(rows), resume)
            rows += (key, value)
        return requests.ScanResult(tuple(rows), None)

    def keys_within(self, start: bytes, end: bytes) -> list[bytes]:
        """Return the keys of a span that have versions."""
        return list(self.versions.irange(start, end, (True, False)))

    def read(self, key: bytes, at: Timestamp) -> bytes | None:
        """Return what a key held at that time."""
        for timestamp, value in reversed(self.versions.get(key, ())):
            if timestamp <= at:
                return bytes(value) if value is not None else None
        return None

    def write(self, key: bytes, value: bytes | None, at: Timestamp) -> None:
        """Write a version."""
        self.versions.setdefault(key, []).append((at, value))


class FakeConnection:
    """A client's end of a connection to one node of the cluster (net.transport.Connection)."""

    def __init__(self, cluster: FakeCluster, hello: Hello, welcome: Welcome) -> None:
        self.hello = hello
        self.welcome = welcome
        self.peer_address = address_of(welcome.node_id)
        self.buffered_bytes = 0
        self.frames = 0
        self.is_closed = False
        self.is_mute = False
        """Whether nothing that is sent arrives."""
        self._cluster = cluster
        self._loop = asyncio.get_running_loop()
        self._handler: Handler | None = None

    def install(self, handler: Handler) -> None:
        """Deliver frames to `handler` from now on."""
        self._handler = handler
        self._cluster.connections.append(self)

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame of the client."""
        if not self.is_closed and not self.is_mute:
            self.frames += 1
            self._loop.call_soon(self._arrive, kind, payload)

    def pause_reading(self) -> None:
        """Nothing here piles up."""

    def resume_reading(self) -> None:
        """Nothing here piles up."""

    async def wait_closed(self) -> None:
        """Closing takes no time here."""

    def close(self, reason: str = "") -> None:
        """Close, by the client."""
        self._end(reason)

    def break_(self, reason: str) -> None:
        """Close, by the other end or by the network."""
        self._end(reason)

    def _end(self, reason: str) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        self._cluster.connections.remove(self)
        assert self._handler is not None, "the connection was installed"
        self._loop.call_soon(self._handler.closed, reason)

    def _arrive(self, kind: FrameKind, payload: bytes) -> None:
        if self.is_closed:
            return
        node_id = self.welcome.node_id
        if kind is FrameKind.CLUSTER_INFO:
            welcome = handshake.encode_welcome(self._cluster.welcome(node_id))
            self._deliver(FrameKind.CLUSTER_INFO, welcome)
            return
        assert kind is FrameKind.REQUESTS, "clients send requests"
        for call_id, request in encoding.unpack_request_frame(payload).calls:
            self._cluster.requests.append((node_id, request))
            plan = self._cluster.intercept(node_id, request)
            if not plan.drop_request:
                self._later(plan.request_delay_s, self._evaluate, call_id, request, plan)

    def _evaluate(self, call_id: int, request: BatchRequest, plan: Plan) -> None:
        node_id = self.welcome.node_id
        if plan.refusal is not None:
            clock = self._cluster.welcome(node_id).clock
            reply = BatchReply((), clock=clock, error=errors.to_wire(plan.refusal))
        else:
            reply = self._cluster.evaluate(node_id, request)
            if plan.drops_results:
                reply = msgspec.structs.replace(reply, results=())
        if plan.breaks_connection:
            self.break_("the connection broke")
        elif not plan.drop_reply:
            payload = encoding.pack(ReplyFrame(((call_id, reply),)))
            delay_s = plan.reply_delay_s
            if reply.error is not None and reply.error.code == errors.LockWaitError.code:
                delay_s += LOCK_WAIT_S
            self._later(delay_s, self._deliver, FrameKind.REPLIES, payload)

    def _deliver(self, kind: FrameKind, payload: bytes) -> None:
        if not self.is_closed:
            assert self._handler is not None, "the connection was installed"
            self._handler.received(kind, payload)

    def _later(self, delay_s: float, what: Callable[..., None], *given: Any) -> None:  # noqa: ANN401
        if delay_s:
            self._loop.call_later(delay_s, what, *given)
        else:
            self._loop.call_soon(what, *given)


class FakeTransport:
    """Reaches the nodes of one or more clusters (net.transport.Transport)."""

    def __init__(self, *clusters: FakeCluster) -> None:
        self._clusters = clusters
        self.attempts: list[str] = []
        """Addresses that were connected to, successfully or not."""

    async def listen(self, address: str, accept: Acceptor) -> Listener:
        """Clients do not listen."""
        raise AssertionError("clients do not listen")

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> FakeConnection:
        """Connect to the node at `address`."""
        self.attempts.append(address)
        await asyncio.sleep(0)
        for cluster in self._clusters:
            for node_id in cluster.node_ids:
                if address_of(node_id, cluster.cluster_id) == address:
                    return self._connect(cluster, node_id, hello, make_handler)
        raise errors.NodeUnavailableError(target=address, reason="nobody listens there")

    def _connect(
        self,
        cluster: FakeCluster,
        node_id: NodeId,
        hello: Hello,
        make_handler: Callable[[Connection], Handler],
    ) -> FakeConnection:
        if node_id in cluster.down:
            raise errors.NodeUnavailableError(target=f"n{node_id}", reason="it is down")
        welcome = cluster.welcome(node_id)
        handshake.check_same_cluster(hello, welcome)
        connection = FakeConnection(cluster, hello, welcome)
        connection.install(make_handler(connection))
        return connection


def address_of(node_id: NodeId, cluster_id: str = "c1") -> str:
    """Return where a node listens."""
    return f"{cluster_id}-n{node_id}:7000"


_FAILED = requests.PutResult()


def _admin(*descriptors: RangeDescriptor) -> requests.AdminResult:
    return requests.AdminResult(tuple(encoding.pack(d) for d in descriptors))
