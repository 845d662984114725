"""Connections of one client: one per node, shared by all calls, opened when first needed.

Purpose
    Carry requests to nodes and hand replies to whoever asked. All calls made in one iteration of
    the event loop leave in one frame.
Invariants
    - A call that was sent is answered exactly once: `replied`, or `unanswered` when the connection
      broke; unless it was forgotten, then never.
    - Nothing here decides to send a call again: that is the router's business.
    - A node that could not be reached is left alone for a while, longer each time; meanwhile
      opening fails at once, so that another replica is tried without a wait.
    - While the peer does not read, calls wait here as objects and not as bytes, so a slow node
      never makes a connection exceed its send buffer.
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol, TypeVar

from multiraft import config, errors
from multiraft.ids import NO_NODE, NodeId, Timestamp
from multiraft.model import encoding
from multiraft.model.locality import Locality
from multiraft.model.requests import BatchReply, BatchRequest, RequestFrame
from multiraft.net import handshake
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Hello,
    Transport,
    Welcome,
)
from multiraft.runtime import Clock, Rng

T = TypeVar("T")

FRAME_BYTES_MAX = 8 * config.MIB
"""A frame of several calls that would be larger is cut in two."""

FRAME_CALLS_MAX = 256
"""At most that many calls go into one frame."""

BUFFERED_BYTES_MAX = 16 * config.MIB
"""With more than this unread by the peer, further calls wait."""

_DRAIN_POLL_S = 0.005
_RETRY_MS_MIN = 50
_RETRY_MS_MAX = 2_000
_INFO_TIMEOUT_S = 1.0


class Caller(Protocol):
    """Who is told how a call ended. Called on the loop."""

    expires: float
    """When, in monotonic time, the caller wants to be told that there was no reply."""

    def replied(self, call_id: int, reply: BatchReply) -> None:
        """Take the reply."""
        ...

    def unanswered(self, call_id: int, error: errors.MultiraftError) -> None:
        """There will be no reply; the node may have done what was asked all the same."""
        ...


class Link:
    """An established connection to a node, and the calls that wait for its replies."""

    __slots__ = (
        "_connection",
        "_infos",
        "_lost",
        "_outbox",
        "_pool",
        "closed_reason",
        "node_id",
        "pending",
    )

    def __init__(self, pool: "Connections", connection: Connection) -> None:
        self._pool = pool
        self._connection = connection
        self.node_id = connection.welcome.node_id
        self.pending: dict[int, Caller] = {}
        self.closed_reason: str | None = None
        self._outbox: list[tuple[int, BatchRequest]] = []
        self._infos: list[asyncio.Future[Welcome]] = []

    def call(self, request: BatchRequest, caller: Caller) -> int:
        """Send `request` at the end of this loop iteration, and return its call ID."""
        call_id = next(self._pool.call_ids)
        self.pending[call_id] = caller
        outbox = self._outbox
        if not outbox:
            self._pool.loop.call_soon(self._flush)
        outbox.append((call_id, request))
        return call_id

    def forget(self, call_id: int) -> None:
        """Nobody waits for that call any more. If it has not left yet, it will not."""
        self.pending.pop(call_id, None)

    @property
    def welcome(self) -> Welcome:
        """What the node said when the connection was made."""
        return self._connection.welcome

    async def ask_info(self) -> Welcome:
        """Return a fresh Welcome of the node. Raises NodeUnavailableError."""
        answer: asyncio.Future[Welcome] = self._pool.loop.create_future()
        self._infos.append(answer)
        self._connection.send(FrameKind.CLUSTER_INFO, b"")
        try:
            async with asyncio.timeout(_INFO_TIMEOUT_S):
                return await answer
        except TimeoutError:
            raise self._unavailable("no answer to a question about the cluster") from None
        finally:
            if answer in self._infos:
                self._infos.remove(answer)

    def close(self, reason: str) -> None:
        """Close the connection; every pending call is told."""
        self._connection.close(reason)
        self.closed(reason)

    async def wait_closed(self) -> None:
        """Return when nothing of the connection is left."""
        await self._connection.wait_closed()

    def received(self, kind: FrameKind, payload: bytes) -> None:
        """Take a frame (net.transport.Handler)."""
        if kind is FrameKind.REPLIES:
            self._take_replies(payload)
        elif kind is FrameKind.CLUSTER_INFO:
            welcome = handshake.decode_welcome(payload)
            self._pool.learn(welcome)
            if self._infos:
                self._infos.pop(0).set_result(welcome)
        else:
            raise errors.ProtocolError(reason=f"a node sent {kind.name} to a client")

    def closed(self, reason: str) -> None:
        """The connection is gone (net.transport.Handler)."""
        if self.closed_reason is not None:
            return
        self.closed_reason = reason or "the connection was closed"
        self._pool.lost(self)
        error = self._unavailable(self.closed_reason)
        for answer in self._infos:
            if not answer.done():
                answer.set_exception(error)
        self._outbox.clear()
        calls, self.pending = self.pending, {}
        for call_id, caller in calls.items():
            caller.unanswered(call_id, error)

    def _take_replies(self, payload: bytes) -> None:
        replies = encoding.unpack_reply_frame(payload).replies
        pending = self.pending
        if replies:
            # All are of one node, so the last one's clock is the greatest.
            self._pool.observe(max([reply.clock for _, reply in replies]))
        for call_id, reply in replies:
            caller = pending.pop(call_id, None)
            if caller is not None:
                caller.replied(call_id, reply)

    def _flush(self) -> None:
        """Send what waits, until the peer is behind; the rest follows when it has caught up."""
        outbox, pending = self._outbox, self.pending
        while outbox and self.closed_reason is None:
            if self._connection.buffered_bytes > BUFFERED_BYTES_MAX:
                self._pool.loop.call_later(_DRAIN_POLL_S, self._flush)
                return
            calls = tuple([call for call in outbox[:FRAME_CALLS_MAX] if call[0] in pending])
            del outbox[:FRAME_CALLS_MAX]
            if calls:
                self._send(calls)

    def _send(self, calls: tuple[tuple[int, BatchRequest], ...]) -> None:
        payload = encoding.pack(RequestFrame(calls))
        if len(payload) > FRAME_BYTES_MAX and len(calls) > 1:
            middle = len(calls) // 2
            self._send(calls[:middle])
            self._send(calls[middle:])
            return
        self._connection.send(FrameKind.REQUESTS, payload)

    def _unavailable(self, reason: str) -> errors.NodeUnavailableError:
        return errors.NodeUnavailableError(target=f"n{self.node_id}", reason=reason)


class Peer:
    """What is known of one node, whether it is connected or not."""

    __slots__ = (
        "address",
        "connecting",
        "failures",
        "last_error",
        "locality",
        "node_id",
        "retry_at_s",
    )

    def __init__(self, node_id: NodeId, address: str, locality: Locality) -> None:
        self.node_id = node_id
        self.address = address
        self.locality = locality
        self.connecting: asyncio.Task[Link | errors.MultiraftError] | None = None
        self.failures = 0
        self.retry_at_s = 0.0
        self.last_error = ""


class Connections:
    """See the module. `on_welcome` is told of every Welcome, `on_clock` of nodes' clocks."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        rng: Rng,
        *,
        seeds: tuple[str, ...],
        on_welcome: Callable[[Welcome], None],
        on_clock: Callable[[Timestamp], None],
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._rng = rng
        self._seeds = seeds
        self._on_welcome = on_welcome
        self.observe = on_clock
        self.loop = asyncio.get_running_loop()
        self.call_ids = itertools.count(1)
        self.cluster_id = ""
        self.links: dict[NodeId, Link] = {}
        self.peers: dict[NodeId, Peer] = {}
        self._refreshing: asyncio.Task[errors.MultiraftError | None] | None = None
        self._is_closed = False

    async def open(self, node_id: NodeId) -> Link:
        """Return the connection to that node, making it if need be.

        Any other is asked for the address of a node that is new to this client. Raises
        NodeUnavailableError, at once if the last attempt failed a short time ago. Cancellation
        leaves an attempt that others may be waiting for.
        """
        link = self.links.get(node_id)
        if link is not None:
            return link
        self._check_open()
        if node_id not in self.peers:
            await self.refresh()
        peer = self.peers.get(node_id)
        if peer is None:
            raise errors.NodeUnavailableError(
                target=f"n{node_id}", reason="its address is not known"
            )
        if self.is_down(node_id):
            raise errors.NodeUnavailableError(target=f"n{node_id}", reason=peer.last_error)
        if peer.connecting is None:
            peer.connecting = self.loop.create_task(
                self._connect_peer(peer), name=f"connect n{node_id}"
            )
        outcome = await asyncio.shield(peer.connecting)
        if isinstance(outcome, errors.MultiraftError):
            raise outcome
        if outcome.closed_reason is not None:  # While it was being handed over.
            raise errors.NodeUnavailableError(target=f"n{node_id}", reason=outcome.closed_reason)
        return outcome

    def is_down(self, node_id: NodeId) -> bool:
        """Return whether the node failed so recently that it is not worth trying."""
        peer = self.peers.get(node_id)
        return peer is not None and self._clock.monotonic() < peer.retry_at_s

    async def refresh(self) -> None:
        """Hear from any node what the cluster looks like now; `on_welcome` is called.

        When none answers, raises NodeUnavailableError that names all that were tried, or the error
        of one that is there but cannot be talked to. Callers that come while it runs share its
        outcome.
        """
        self._check_open()
        if self._refreshing is None:
            self._refreshing = self.loop.create_task(self._refresh(), name="refresh cluster info")
            self._refreshing.add_done_callback(self._refreshed)
        error = await asyncio.shield(self._refreshing)
        if error is not None:
            raise error

    def learn(self, welcome: Welcome) -> None:
        """Take in what a node says of the cluster."""
        self.cluster_id = self.cluster_id or welcome.cluster_id
        for node in welcome.nodes:
            peer = self.peers.get(node.node_id)
            if peer is None:
                self.peers[node.node_id] = Peer(node.node_id, node.address, node.locality)
                continue
            peer.locality = node.locality
            if peer.address != node.address:
                peer.address = node.address
                peer.retry_at_s = 0.0
        self._on_welcome(welcome)

    def lost(self, link: Link) -> None:
        """A link is closed."""
        if self.links.get(link.node_id) is link:
            del self.links[link.node_id]

    async def close(self) -> None:
        """Close every connection; pending calls end as unanswered."""
        self._is_closed = True
        tasks = [
            task
            for task in (self._refreshing, *(peer.connecting for peer in self.peers.values()))
            if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self.links.values())
        for link in links:
            link.close("the client was closed")
        await asyncio.gather(*(link.wait_closed() for link in links))

    def _check_open(self) -> None:
        if self._is_closed:
            raise errors.StoppedError(what="the client")

    async def _connect_peer(self, peer: Peer) -> Link | errors.MultiraftError:
        try:
            link = await self._connect(peer.address, peer.node_id)
        except errors.MultiraftError as error:
            self._failed(peer, error)
            return error
        else:
            peer.failures = 0
            peer.retry_at_s = 0.0
            return link
        finally:
            peer.connecting = None

    def _failed(self, peer: Peer, error: errors.MultiraftError) -> None:
        pause_ms = min(_RETRY_MS_MAX, _RETRY_MS_MIN << min(peer.failures, 10))
        pause_ms = pause_ms // 2 + self._rng.below(pause_ms // 2 + 1)
        peer.failures += 1
        peer.last_error = error.message
        peer.retry_at_s = self._clock.monotonic() + pause_ms / 1_000

    async def _connect(self, address: str, node_id: NodeId) -> Link:
        hello = Hello(
            PROTOCOL_VERSION,
            ConnectionClass.REQUESTS,
            cluster_id=self.cluster_id,
            target_node_id=node_id,
        )
        links: list[Link] = []

        def make_handler(connection: Connection) -> Link:
            links.append(Link(self, connection))
            return links[0]

        connection = await self._transport.connect(address, hello, make_handler)
        link = links[0]
        if link.closed_reason is not None:
            raise errors.NodeUnavailableError(target=address, reason=link.closed_reason)
        self.learn(connection.welcome)
        self.observe(connection.welcome.clock)
        older = self.links.get(link.node_id)
        if older is not None:
            # A seed turned out to be a node we are connected to already.
            link.close("a second connection to the same node")
            return older
        self.links[link.node_id] = link
        return link

    def _shuffled(self, items: Iterable[T]) -> list[T]:
        """Return the items in random order, so that clients spread over the nodes."""
        left = list(items)
        return [left.pop(self._rng.below(len(left))) for _ in range(len(left))]

    def _refreshed(self, _task: asyncio.Task[errors.MultiraftError | None]) -> None:
        self._refreshing = None

    async def _refresh(self) -> errors.MultiraftError | None:
        """Ask one node after the other, until one tells where the first range is.

        A node that is new, or keeps nothing, may not know. It is asked all the same, for others.
        """
        failures: dict[str, errors.MultiraftError] = {}
        is_answered = False
        for asked, answer in self._whom_to_ask():
            try:
                welcome = await answer
            except errors.MultiraftError as failure:
                failures[asked] = failure
                continue
            is_answered = True
            if welcome.first_range is not None:
                break
        return None if is_answered else _nobody_answers(failures)

    def _whom_to_ask(self) -> Iterator[tuple[str, Awaitable[Welcome]]]:
        """Yield nodes that are connected, those that are known by then, and the seeds."""
        for link in self._shuffled(self.links.values()):
            yield f"n{link.node_id}", link.ask_info()
        for peer in self._shuffled(self.peers.values()):
            if peer.node_id not in self.links:
                yield peer.address, _welcome(self.open(peer.node_id))
        for address in self._shuffled(self._seeds):
            yield address, _welcome(self._connect(address, NO_NODE))


async def _welcome(opening: Awaitable[Link]) -> Welcome:
    return (await opening).welcome


def _nobody_answers(failures: dict[str, errors.MultiraftError]) -> errors.MultiraftError:
    """Return one error for what became of each address tried."""
    if len(failures) == 1:
        return next(iter(failures.values()))
    addresses: dict[str, list[str]] = {}
    for address, failure in sorted(failures.items()):
        if not isinstance(failure, errors.NodeUnavailableError):
            return failure  # Somebody was there, and said what is wrong.
        addresses.setdefault(failure.facts["reason"], []).append(address)
    reasons = [f"{', '.join(same)}: {reason}" for reason, same in addresses.items()]
    return errors.NodeUnavailableError(
        target="the cluster", reason="; ".join(reasons) or "no address was given"
    )
