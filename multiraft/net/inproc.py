"""Connections within one process and event loop: the same protocol without sockets.

Purpose
    Run whole clusters in one process, on a real or a virtual-time loop, over a network that can be
    hurt (links.py).
Invariants
    - Frames queued in one loop iteration travel together and are delivered in a later one, never
      from within `send`. Payloads arrive as the very objects that were sent.
    - Handshake, limits and endings are those of TCP: the code above cannot tell the difference.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from multiraft import errors
from multiraft.net import addresses
from multiraft.net.connection import ConnectionEnd, OnError, Side
from multiraft.net.links import InprocNetwork
from multiraft.net.sides import AcceptingSide, Admissions, ConnectingSide
from multiraft.net.transport import Acceptor, Connection, FrameKind, Handler, Hello

_Frame = tuple[FrameKind, bytes]


class InprocConnection(ConnectionEnd):
    """One end of a connection from node `source` to node `destination`.

    What it sends passes three stages: the outbox collects the frames of one loop iteration; the
    batch travels for as long as the link says; then it waits in the other end's inbox while that
    end does not read. An empty batch is a reset: the connection broke behind it.
    """

    other: "InprocConnection"

    def __init__(
        self,
        network: InprocNetwork,
        source: str,
        destination: str,
        side: Side,
    ) -> None:
        super().__init__(asyncio.get_running_loop(), network.config, side)
        self.source = source
        self.destination = destination
        self.peer_address = destination
        self._network = network
        self._link = network.link(source, destination)
        self._outbox: list[_Frame] = []
        self._outbox_bytes = 0
        self._unread_bytes = 0
        self._travelling: deque[tuple[float, list[_Frame]]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._inbox: deque[_Frame] = deque()
        self._is_paused = False
        self._is_up = False
        self._is_gone = False

    def come_up(self) -> None:
        """Begin: at the connecting end at once, at the other when it is reached."""
        self._is_up = True
        self._network.add(self)
        super().come_up()

    @property
    def buffered_bytes(self) -> int:
        """See transport.Connection."""
        return self._unread_bytes

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """See transport.Connection."""
        if self.ended:
            return
        size = len(payload)
        assert size <= self._config.frame_bytes_max, "a frame is over the limit of every receiver"
        if not self._outbox:
            self._loop.call_soon(self._flush)
        self._outbox.append((kind, payload))
        self._outbox_bytes += size
        self._unread_bytes += size

    def _flush(self) -> None:
        batch, size = self._outbox, self._outbox_bytes
        self._outbox, self._outbox_bytes = [], 0
        if not batch:
            return
        if self._unread_bytes > self._config.send_buffer_bytes_max:
            self.end(
                f"slow reader: {self._unread_bytes} bytes wait to be sent, at most "
                f"{self._config.send_buffer_bytes_max} may"
            )
            self.abort()
            return
        delay_s = self._link.delay_s(size)
        if delay_s is None:
            self.break_off()
            return
        self._travelling.append((self._loop.time() + delay_s, batch))
        self._pump()

    def pump_soon(self) -> None:
        """See links.End."""
        self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        """Deliver the batches that have travelled long enough, and see to the next one."""
        travelling, now_s = self._travelling, self._loop.time()
        while travelling:
            if self._network.is_cut(self.source, self.destination):
                self._network.stall(self)
                return
            arrives_s, batch = travelling[0]
            if arrives_s > now_s:
                if self._alarm is None:
                    self._alarm = self._loop.call_at(arrives_s, self._ring)
                return
            travelling.popleft()
            self.other.arrive(batch)

    def _ring(self) -> None:
        self._alarm = None
        self._pump()

    def arrive(self, batch: list[_Frame]) -> None:
        """Take what has travelled here from the other end."""
        if self._is_gone:
            return
        if not batch:
            self._go("the connection broke: reset by the other end")
            return
        if not self._is_up:
            self.come_up()
        self._inbox.extend(batch)
        self._drain()

    def _drain(self) -> None:
        while self._inbox and not self._is_paused and not self.ended:
            kind, payload = self._inbox.popleft()
            self.other.delivered(len(payload))
            try:
                self.take(kind, payload)
            except Exception as error:
                self.took(error)

    def delivered(self, size: int) -> None:
        """Count what the other end has taken."""
        self._unread_bytes -= size

    def pause_reading(self) -> None:
        """See transport.Connection."""
        self._is_paused = True

    def resume_reading(self) -> None:
        """See transport.Connection."""
        if self._is_paused:
            self._is_paused = False
            self._loop.call_soon(self._drain)

    def abort(self) -> None:
        """Break the connection here; the other end sees a reset when it has travelled there."""
        self._outbox.clear()
        self._travelling.clear()
        self._travelling.append((self._loop.time(), []))
        self.pump_soon()
        self._go("the connection was closed")

    def break_off(self) -> None:
        """See links.End."""
        for end in (self, self.other):
            end._outbox.clear()
            end._travelling.clear()
            end._go("the connection broke")

    def crash(self) -> None:
        """See links.End."""
        self.ended = True
        self.abort()

    def _hang_up(self) -> None:
        # Behind the flush of the goodbye, which may travel on after this end is gone.
        self._loop.call_soon(self._go, "the connection was closed")

    def _opened(self) -> None:
        pass  # frames come as objects here: there is no parser to lift the limits of

    def _go(self, reason: str) -> None:
        if self._is_gone:
            return
        self._is_gone = True
        self._inbox.clear()
        self._network.remove(self)
        if self._is_up:
            self._lost(reason)


class InprocListener:
    """Implements transport.Listener."""

    def __init__(self, network: InprocNetwork, address: str, side: AcceptingSide) -> None:
        self.address = address
        self._network = network
        self._side = side

    async def close(self) -> None:
        """See transport.Listener."""
        self._network.stop_listening(self.address, self._side)
        await self._side.close_all("the node is stopping")


class InprocTransport:
    """Implements transport.Transport for the node `name` of a network."""

    def __init__(self, network: InprocNetwork, name: str, on_error: OnError) -> None:
        self._network = network
        self._name = name
        self._on_error = on_error
        self._admissions = Admissions(network.config.connections_max)

    async def listen(self, address: str, accept: Acceptor) -> InprocListener:
        """See transport.Transport."""
        side = AcceptingSide(accept, self._admissions, self._on_error)
        where = self._network.listen(self._name, address, side)
        return InprocListener(self._network, where, side)

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> InprocConnection:
        """See transport.Transport."""
        addresses.split(address)
        listening = self._network.listener_at(address)
        if listening is None:
            raise errors.NodeUnavailableError(target=address, reason="nobody listens there")
        name, accepting = listening
        loop = asyncio.get_running_loop()
        side = ConnectingSide(loop, address, hello, make_handler, self._on_error)
        near = InprocConnection(self._network, self._name, name, side)
        far = InprocConnection(self._network, name, self._name, accepting)
        near.other, far.other = far, near
        near.come_up()
        try:
            async with asyncio.timeout(self._network.config.connect_timeout_ms / 1_000):
                await side.opened
        except TimeoutError as error:
            raise errors.NodeUnavailableError(target=address, reason="no answer in time") from error
        finally:
            side.abandon()
            if not near.is_open:
                near.abort()
        return near
