"""What operators ask of a cluster: its nodes, its ranges, and changes to them.

Purpose
    The methods behind `db.admin` and the command line's tables. Changes are requests like any other
    and are evaluated by the range's leaseholder; what is looked at is asked of single replicas, so
    it may differ from node to node and is never the base of a decision.
"""

import asyncio
import contextlib
from typing import Any

import msgspec

from multiraft import errors
from multiraft.client import arguments, batch, contention, span_read
from multiraft.client.batch import Builder
from multiraft.client.connections import Peer
from multiraft.client.contention import RangeLocksInfo, TransactionInfo
from multiraft.client.protection import Keeper
from multiraft.client.router import Router
from multiraft.ids import NO_NODE, NodeId, RangeId, Timestamp
from multiraft.model import encoding, keys, locality, protection
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import (
    NO_RANGE,
    AdminChangeReplicas,
    AdminResult,
    AdminSplit,
    AdminTransfer,
    NodeProfile,
    NodeStatus,
    Operation,
    RangeStatus,
    StatusResult,
)

STATUS_TIMEOUT_S = 2.0
PROFILE_GRACE_S = 5.0
"""How long after its end a profile may arrive: nodes are profiled when they are busy."""
STATUSES_CONCURRENT_MAX = 64
CHANGE_REPLICAS_DEADLINE_S = 120.0
"""A new replica needs the range's data first."""


class RangeInfo(msgspec.Struct, frozen=True):
    """A range as its addressing record and one of its replicas, the leader if possible, see it."""

    descriptor: RangeDescriptor
    leader: NodeId | None
    status: dict[str, Any] | None
    """As `ranges/replica_status.py` has it; None if no replica answered."""


class NodeInfo(msgspec.Struct, frozen=True):
    """A node, and whether this client reaches it."""

    node_id: NodeId
    address: str
    is_reachable: bool
    reason: str
    """Why it is not reachable."""
    status: dict[str, Any] | None = None
    """What it tells of itself, as `node_status` returns it."""
    locality: str = ""
    """Where it is, such as "zone=b,host=alpha"; empty if nobody has told."""


class ProfileInfo(msgspec.Struct, frozen=True):
    """A node, and what it has spent its time on."""

    node_id: NodeId
    address: str
    profile: dict[str, Any] | None
    """What `cluster/profile.py` tells; None if the node did not answer."""
    reason: str
    """Why it did not."""


class ProtectionInfo(msgspec.Struct, frozen=True):
    """A time that somebody keeps readable."""

    id: str
    timestamp: Timestamp
    expires: Timestamp
    """Unless it is renewed."""
    owner: str


class ClusterStatus(msgspec.Struct, frozen=True):
    """The cluster at a glance."""

    cluster_id: str
    nodes: tuple[NodeInfo, ...]
    ranges: int | None
    """None when the addressing records cannot be read, as without a majority of the nodes."""
    protections: tuple[ProtectionInfo, ...] | None = None
    """The times that are kept readable; None when these cannot be read either."""


class Admin:
    """See the module; `Database.admin`."""

    __slots__ = ("_builder", "_router")

    def __init__(self, router: Router, builder: Builder) -> None:
        self._router = router
        self._builder = builder

    async def ranges(self, *, with_status: bool = True) -> list[RangeInfo]:
        """Return all ranges by start key, from their addressing records.

        A record may be a moment old: right after a split the right half may be missing. With
        `with_status`, replicas are asked too; one that does not answer costs up to two seconds.
        """
        descriptors = await self._records()
        slots = asyncio.Semaphore(STATUSES_CONCURRENT_MAX)

        async def look_at(descriptor: RangeDescriptor) -> RangeInfo:
            if not with_status:
                known = self._router.addressing.cache.by_id(descriptor.range_id)
                return RangeInfo(descriptor, known.leader if known else None, None)
            async with slots:
                return await self._look_at(descriptor)

        return list(await asyncio.gather(*(look_at(descriptor) for descriptor in descriptors)))

    async def split(
        self, key: bytes, *, deadline_s: float | None = None
    ) -> tuple[RangeDescriptor, RangeDescriptor]:
        """Split the range that holds `key`, so that a range starts there; return both halves.

        Also if there already was a boundary: then the range before it, and the one that starts
        there. AdminRefusedError if it makes no sense.
        """
        logical = self._builder.key(key)
        found = await self._change(AdminSplit(logical), logical, deadline_s)
        if len(found) != 2:
            raise errors.ProtocolError(reason=f"a split was answered with {len(found)} ranges")
        return found[0], found[1]

    async def transfer(
        self, range_id: RangeId, target: NodeId, *, deadline_s: float | None = None
    ) -> RangeDescriptor:
        """Hand the leadership of a range to the replica on `target`; return once it has left."""
        arguments.check_id("target", target)
        descriptor = await self.find(range_id)
        return (await self._change(AdminTransfer(target), descriptor.start, deadline_s))[0]

    async def change_replicas(
        self,
        range_id: RangeId,
        voters: tuple[NodeId, ...],
        *,
        deadline_s: float = CHANGE_REPLICAS_DEADLINE_S,
    ) -> RangeDescriptor:
        """Give a range exactly these voters; return when they, and nobody else, are in force.

        Also if the range is split or changed by others meanwhile: what is asked for holds whatever
        it was before.
        """
        ends = self._router.now() + deadline_s
        for voter in voters:
            arguments.check_id("a voter", voter)
        descriptor = await self.find(range_id)
        generation = descriptor.generation
        while True:
            change = AdminChangeReplicas(tuple(voters), generation)
            try:
                return (await self._change(change, descriptor.start, ends - self._router.now()))[0]
            except errors.RangeChangedError as error:
                generation = error.generation

    async def find(self, range_id: RangeId) -> RangeDescriptor:
        """Return the descriptor of a range by its ID. Raises AdminRefusedError if there is none."""
        for descriptor in await self._records():
            if descriptor.range_id == range_id:
                known = self._router.addressing.cache.by_id(range_id)
                return descriptor if known is None else known.descriptor
        raise errors.AdminRefusedError(reason=f"there is no range r{range_id}")

    async def replica_status(self, range_id: RangeId, node_id: NodeId) -> dict[str, Any] | None:
        """Return what the replica on one node reports of itself; None if it does not answer."""
        arguments.check_id("range_id", range_id)
        try:
            return await self._ask(node_id, range_id, RangeStatus())
        except errors.MultiraftError:
            return None

    async def node_status(self, node_id: NodeId) -> dict[str, Any]:
        """Return what a node tells of itself (cluster/node_status.py).

        Raises NodeUnavailableError if it does not answer within two seconds.
        """
        try:
            async with asyncio.timeout(STATUS_TIMEOUT_S):
                return await self._ask(node_id, NO_RANGE, NodeStatus())
        except TimeoutError:
            raise errors.NodeUnavailableError(
                target=f"n{node_id}", reason=f"no answer within {STATUS_TIMEOUT_S:g} s"
            ) from None

    async def nodes(self) -> list[NodeInfo]:
        """Return all nodes that the cluster knows of, and what each that answers tells of itself.

        One that does not answer costs up to two seconds.
        """

        async def look_at(peer: Peer) -> NodeInfo:
            node_id, address, where = peer.node_id, peer.address, locality.show(peer.locality)
            try:
                status = await self.node_status(node_id)
            except errors.MultiraftError as error:
                return NodeInfo(node_id, address, False, error.message, locality=where)
            return NodeInfo(node_id, address, True, "", status, where)

        return list(await asyncio.gather(*map(look_at, await self._peers())))

    async def profile(self, node_id: NodeId, duration_s: float) -> dict[str, Any]:
        """Return what a node spends the next `duration_s` on, by stages (cluster/profile.py).

        It is a few per cent slower meanwhile. Raises NodeUnavailableError, or RequestError if that
        is longer than a minute.
        """
        question = NodeProfile(round(duration_s * 1_000))
        return await self._ask(node_id, NO_RANGE, question, duration_s + PROFILE_GRACE_S)

    async def profiles(self, duration_s: float, only: NodeId | None = None) -> list[ProfileInfo]:
        """Profile all nodes that the cluster knows of, or `only` one, at the same time.

        AdminRefusedError if there is no such node.
        """
        chosen = [peer for peer in await self._peers() if only is None or peer.node_id == only]
        if not chosen:
            raise errors.AdminRefusedError(reason=f"there is no node n{only}")

        async def look_at(peer: Peer) -> ProfileInfo:
            node_id, address = peer.node_id, peer.address
            try:
                profile = await self.profile(node_id, duration_s)
            except errors.RequestError:
                raise
            except errors.MultiraftError as error:
                return ProfileInfo(node_id, address, None, error.message)
            return ProfileInfo(node_id, address, profile, "")

        return list(await asyncio.gather(*map(look_at, chosen)))

    async def _peers(self) -> list[Peer]:
        """Return all nodes by their IDs, as any one tells them now."""
        connections = self._router.connections
        await connections.refresh()
        return sorted(connections.peers.values(), key=lambda peer: peer.node_id)

    def protect(self, at: Timestamp, *, owner: str = "an application") -> Keeper:
        """Return what keeps everything readable as of `at`, and later, while its block lasts.

            async with db.admin.protect(timestamp, owner="nightly backup"):
                ...

        Whatever the time to live: garbage collection goes no further meanwhile. Nothing keeps the
        past of a client that has vanished for longer than a minute. Entering raises ReadTooOldError
        for a time that lies further back than the time to live: it may be gone by then.
        """
        return Keeper(self._router, at, owner)

    async def protections(self, *, deadline_s: float | None = None) -> list[ProtectionInfo]:
        """Return the times that are protected now, the oldest first."""
        prefix = keys.PROTECTION_PREFIX
        at, rows = await span_read.read(
            self._router, prefix, keys.prefix_end(prefix), deadline_s=deadline_s
        )
        stored = {key[len(prefix) :].hex(): protection.unpack(packed) for key, packed in rows}
        found = [
            ProtectionInfo(protection_id, each.timestamp, each.expires, each.owner)
            for protection_id, each in stored.items()
            if each.expires >= at
        ]
        return sorted(found, key=lambda info: info.timestamp)

    async def status(self) -> ClusterStatus:
        """Return the cluster at a glance, also when most of it is gone."""
        nodes = await self.nodes()
        ranges, protections = None, None
        with contextlib.suppress(errors.DeadlineExceededError):
            ranges = len(await self._records(STATUS_TIMEOUT_S))
            protections = tuple(await self.protections(deadline_s=STATUS_TIMEOUT_S))
        return ClusterStatus(self._router.connections.cluster_id, tuple(nodes), ranges, protections)

    async def locks(self) -> tuple[RangeLocksInfo, ...]:
        """Return the locks of all ranges by start key, with those who wait for them.

        As the leaseholders know them; a range without one that answers within two seconds has none.
        """
        return await contention.locks(self._router, await self._records())

    async def transactions(self) -> tuple[TransactionInfo, ...]:
        """Return the transactions that hold locks or wait for some, oldest first.

        A transaction that has only read, or has yet to send what it writes, is known to its client
        alone.
        """
        return await contention.transactions(self._router, await self.locks())

    async def _records(self, deadline_s: float | None = None) -> list[RangeDescriptor]:
        """Read all addressing records, as of one time."""
        _, rows = await span_read.read(self._router, keys.META, keys.SYSTEM, deadline_s=deadline_s)
        found = [encoding.unpack_descriptor(packed) for _, packed in rows]
        self._router.learn(found)
        return found

    async def _change(
        self, operation: Operation, anchor: bytes, deadline_s: float | None
    ) -> list[RangeDescriptor]:
        reply = await self._router.execute((operation,), anchor=anchor, deadline_s=deadline_s)
        result = reply.results[0]
        if not isinstance(result, AdminResult) or not result.descriptors:
            raise batch.unexpected(result)
        found = [encoding.unpack_descriptor(packed) for packed in result.descriptors]
        self._router.learn(found)
        return found

    async def _look_at(self, descriptor: RangeDescriptor) -> RangeInfo:
        """Ask the leader, or whoever is likely to know it, then whoever it names."""
        order = self._router.addressing.cache.likeliest_first(descriptor)
        best: RangeInfo | None = None
        while order:
            node_id = order.pop(0)
            status = await self.replica_status(descriptor.range_id, node_id)
            if status is None:
                continue
            leader = NodeId(int(status.get("leader") or NO_NODE)) or None
            best = RangeInfo(descriptor, leader, status)
            if leader is None or leader == node_id or leader not in order:
                break
            order = [leader]
        return best or RangeInfo(descriptor, None, None)

    async def _ask(
        self,
        node_id: NodeId,
        range_id: RangeId,
        question: RangeStatus | NodeStatus | NodeProfile,
        timeout_s: float = STATUS_TIMEOUT_S,
    ) -> dict[str, Any]:
        """Return the answer of exactly that node, asked once."""
        reply = await self._router.send_to_node(node_id, range_id, (question,), timeout_s)
        result = reply.results[0]
        if not isinstance(result, StatusResult):
            raise batch.unexpected(result)
        return msgspec.json.decode(result.status, type=dict[str, Any])
