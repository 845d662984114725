"""The network as everything above sees it: framed connections between nodes, and from clients.

A connection carries frames, a kind and a payload each, in order, or breaks. Frames queued in one
loop iteration leave together. Nothing here knows what payloads mean.
"""

import enum
from collections.abc import Callable
from typing import Protocol

import msgspec

from multiraft.ids import NO_NODE, NodeId, Timestamp
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.locality import Locality

PROTOCOL_VERSION = 1


class ConnectionClass(enum.IntEnum):
    """What a connection is for; one per peer and class, so that bulk never delays Raft."""

    RAFT = 1
    REQUESTS = 2
    BULK = 3


class FrameKind(enum.IntEnum):
    """What a frame's payload is. Numbers are never reused."""

    HELLO = 1
    WELCOME = 2
    GOODBYE = 3
    RAFT = 10
    """A ranges.messages.PeerFrame: heartbeats, then envelopes of many groups."""
    REQUESTS = 20
    """A model.requests.RequestFrame."""
    REPLIES = 21
    """A model.requests.ReplyFrame."""
    CLUSTER_INFO = 22
    """Asks for, and answers with, a fresh Welcome; empty payload when asking."""
    JOIN = 23
    """A new node asks for an ID; see node.py."""
    JOINED = 24
    SNAPSHOT = 30
    """A chunk of a range's data, on a BULK connection; see ranges/snapshot.py."""
    SNAPSHOT_REPLY = 31


class NodeAddress(msgspec.Struct, frozen=True, array_like=True):
    """Where a node listens, and where it is."""

    node_id: NodeId
    address: str
    locality: Locality = ()


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first frame, sent by the side that connects. `node_id` is 0 for a client.

    An empty `cluster_id` means "whichever cluster you are": clients and joining nodes.
    """

    protocol_version: int
    connection_class: ConnectionClass
    cluster_id: str = ""
    node_id: NodeId = NO_NODE
    address: str = ""
    """Where the sender listens, when it is a node."""
    target_node_id: NodeId = NO_NODE
    """Whom the sender believes to be calling; 0 when it does not know."""
    locality: Locality = ()
    """Where the sender is, when it is a node."""


class Welcome(msgspec.Struct, frozen=True, array_like=True):
    """The answer to a Hello that is accepted; a Goodbye refuses it.

    `first_range` is the first range's descriptor as this node knows it (rule L6); None on a node
    that has not joined yet. `nodes` are all nodes it knows.
    """

    protocol_version: int
    cluster_id: str
    node_id: NodeId
    clock: Timestamp
    first_range: RangeDescriptor | None
    nodes: tuple[NodeAddress, ...]


class Connection(Protocol):
    """One end of an established connection: the handshake is over."""

    hello: Hello
    """What the connecting side said."""
    welcome: Welcome
    """What the accepting side answered."""
    peer_address: str
    """Where the other end's socket is, for people to read; empty if that is not known."""

    @property
    def buffered_bytes(self) -> int:
        """Bytes accepted by `send` that the peer's machine has not taken yet."""
        ...

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """Send a frame; never blocks. On a broken connection it does nothing.

        The caller bounds what it queues by looking at `buffered_bytes`; a connection over the
        configured limit is closed as a slow reader.
        """
        ...

    def pause_reading(self) -> None:
        """Take nothing more from the network, so that the peer's sends pile up at the peer.

        Frames that were read already, one read of the socket at most, are still delivered. A peer
        that dies meanwhile is noticed only after `resume_reading`.
        """
        ...

    def resume_reading(self) -> None:
        """Undo `pause_reading`; either may be called any number of times."""
        ...

    def close(self, reason: str = "") -> None:
        """Say goodbye with `reason` and close. The handler's `closed` is called later, once."""
        ...

    async def wait_closed(self) -> None:
        """Return when nothing of the connection is left, after `close` or any other end.

        Until then the goodbye may be unsent and the descriptor open: wait before the loop ends.
        """
        ...


class Handler(Protocol):
    """What a connection's owner provides. Called on the loop; an exception ends the connection."""

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame whose checksum and length were checked."""
        ...

    def closed(self, reason: str) -> None:
        """The connection is gone, for whatever reason; called exactly once, last."""
        ...


class Listener(Protocol):
    """A listening address."""

    address: str
    """Where it really listens: with port 0 asked, the port that was given."""

    async def close(self) -> None:
        """Stop listening and close every connection that was accepted."""
        ...


Acceptor = Callable[[Hello], tuple[Welcome, Callable[[Connection], Handler]]]
"""Given the peer's Hello: the Welcome to answer with, and what makes the handler once connected.

Raises a MultiraftError to refuse; its message is sent as the Goodbye's reason.
"""


class Transport(Protocol):
    """Makes connections. TCP and TLS in tcp.py, within a process in inproc.py."""

    async def listen(self, address: str, accept: Acceptor) -> Listener:
        """Listen at `address` ("host:port"). Raises AddressInUseError, ConfigError."""
        ...

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> Connection:
        """Connect, shake hands, and return the connection with its handler installed.

        Raises NodeUnavailableError (nobody listens, time-out), WrongClusterError, ProtocolError
        (it refused; the reason is in the message). Cancellation closes the socket.
        """
        ...
