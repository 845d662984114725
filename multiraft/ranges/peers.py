"""Connections from this store to the other stores: one per peer for Raft, one for bulk data.

Purpose
    Send one frame per peer and turn; dial when there is something to say; forget what cannot be
    sent, since Raft and liveness repeat what matters.
Invariants
    - Nothing is queued for a peer without a connection, so an unreachable peer costs no memory.
    - At most one dial per peer and class is under way, with a growing pause between failures. A
      peer that dials this node is up again, so the pause is over: it needs to be asked for support
      before the next leader dies.
"""

import asyncio
from collections.abc import Callable

import msgspec

from multiraft import errors, runtime
from multiraft.ids import NodeId
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Hello,
    NodeAddress,
    Transport,
)
from multiraft.runtime import Clock, Rng

DIAL_PAUSE_S_MIN = 0.05
DIAL_PAUSE_S_MAX = 1.0


class AddressBook:
    """Where the nodes of the cluster listen and are, as far as this node knows."""

    __slots__ = ("_changed", "_entries")

    def __init__(self, known: tuple[NodeAddress, ...], changed: Callable[[], None]) -> None:
        self._entries = {entry.node_id: entry for entry in known}
        self._changed = changed

    def learn(self, entry: NodeAddress) -> None:
        """A node says this of itself, or the registry does."""
        if entry.address and self._entries.get(entry.node_id) != entry:
            self._entries[entry.node_id] = entry
            self._changed()

    def get(self, node_id: NodeId) -> NodeAddress | None:
        """Return the node's entry, or None if this node has never heard of it."""
        return self._entries.get(node_id)

    def nodes(self) -> tuple[NodeAddress, ...]:
        """Return all entries by node ID."""
        return tuple(entry for _, entry in sorted(self._entries.items()))


class _Link:
    """The way to one peer; also the handler of its connection, on which nothing is expected."""

    __slots__ = ("connection", "dialing", "failures", "owner", "peer", "retry_at")

    def __init__(self, owner: "PeerLinks", peer: NodeId) -> None:
        self.owner = owner
        self.peer = peer
        self.connection: Connection | None = None
        self.dialing: asyncio.Task[None] | None = None
        self.failures = 0
        self.retry_at = 0.0

    def attach(self, connection: Connection) -> "_Link":
        """The handshake is done: this link is the connection's handler from now on."""
        self.connection = connection
        self.failures = 0
        self.owner.heard_of(connection.welcome.nodes)
        return self

    def received(self, kind: FrameKind, payload: bytes) -> None:
        raise errors.ProtocolError(reason=f"unexpected frame {kind} on a peer link")

    def closed(self, reason: str) -> None:
        self.connection = None
        self.owner.link_lost(self.peer)


class LinksStatus(msgspec.Struct, frozen=True):
    """Which peers are connected, and what became of the frames for all of them."""

    connected: tuple[NodeId, ...]
    frames_sent: int
    frames_dropped: int
    """For want of a connection."""


class PeerLinks:
    """The outbound Raft connections of a node, by peer."""

    __slots__ = (
        "_clock",
        "_closing",
        "_cluster_id",
        "_links",
        "_lost",
        "_me",
        "_on_error",
        "_rng",
        "_transport",
        "addresses",
        "frames_dropped",
        "frames_sent",
        "heard_of",
    )

    def __init__(
        self,
        transport: Transport,
        addresses: AddressBook,
        me: NodeAddress,
        cluster_id: str,
        clock: Clock,
        rng: Rng,
        lost: Callable[[NodeId], None],
        heard_of: Callable[[tuple[NodeAddress, ...]], None],
        on_error: Callable[[BaseException], None],
    ) -> None:
        self._transport = transport
        self.addresses = addresses
        self._me = me
        self._cluster_id = cluster_id
        self._clock = clock
        self._rng = rng
        self._lost = lost
        self.heard_of = heard_of
        """A peer has told which nodes it knows."""
        self._on_error = on_error
        self._links: dict[NodeId, _Link] = {}
        self._closing = False
        self.frames_sent = 0
        self.frames_dropped = 0

    def hello(self, connection_class: ConnectionClass, peer: NodeId) -> Hello:
        """Return what this node says when it dials `peer`."""
        return Hello(
            PROTOCOL_VERSION,
            connection_class,
            self._cluster_id,
            self._me.node_id,
            self._me.address,
            peer,
            self._me.locality,
        )

    def send(self, peer: NodeId, payload: bytes) -> None:
        """Send a Raft frame now, or drop it and dial."""
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = _Link(self, peer)
        connection = link.connection
        if connection is None:
            self.frames_dropped += 1
            self._dial_soon(link)
            return
        self.frames_sent += 1
        connection.send(FrameKind.RAFT, payload)

    def heard_from(self, peer: NodeId) -> None:
        """`peer` has just connected to this node: dial it now, however often that failed before."""
        link = self._links.get(peer)
        if link is not None and link.connection is None:
            link.failures = 0
            link.retry_at = 0.0
            self._dial_soon(link)

    def status(self) -> LinksStatus:
        """Return who is connected and what was sent."""
        connected = [peer for peer, link in self._links.items() if link.connection is not None]
        return LinksStatus(tuple(sorted(connected)), self.frames_sent, self.frames_dropped)

    def link_lost(self, peer: NodeId) -> None:
        """A connection broke: what it carried may be lost."""
        if not self._closing:
            self._lost(peer)

    async def close(self) -> None:
        """Close every connection and stop dialing."""
        self._closing = True
        for link in self._links.values():
            if link.dialing is not None:
                link.dialing.cancel()
            if link.connection is not None:
                link.connection.close("the node stops")
        dials = [link.dialing for link in self._links.values() if link.dialing is not None]
        await asyncio.gather(*dials, return_exceptions=True)
        self._links.clear()

    def _dial_soon(self, link: _Link) -> None:
        if link.dialing is not None or self._closing or self._clock.monotonic() < link.retry_at:
            return
        entry = self.addresses.get(link.peer)
        if entry is None:
            return
        link.dialing = runtime.spawn(
            self._dial(link, entry.address), name=f"dial n{link.peer}", on_error=self._on_error
        )

    async def _dial(self, link: _Link, address: str) -> None:
        hello = self.hello(ConnectionClass.RAFT, link.peer)
        try:
            await self._transport.connect(address, hello, link.attach)
        except errors.MultiraftError:
            pause = min(DIAL_PAUSE_S_MAX, DIAL_PAUSE_S_MIN * (1 << min(link.failures, 8)))
            link.failures += 1
            jitter = 0.5 + self._rng.below(1000) / 1000
            link.retry_at = self._clock.monotonic() + pause * jitter
        finally:
            link.dialing = None
