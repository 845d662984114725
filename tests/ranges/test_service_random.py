"""Connections of clients under random loads: every call is answered once, nothing stays stuck."""

import asyncio
import random
from functools import partial

import pytest

from multiraft import errors
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Delete,
    Get,
    GetResult,
    Operation,
    Put,
    RequestFrame,
)
from multiraft.net.transport import FrameKind
from multiraft.ranges import admission, service, unread
from multiraft.ranges.admission import Admission
from multiraft.ranges.pending import Reply
from multiraft.ranges.service import RequestConnection
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop

OPERATIONS: tuple[Operation, ...] = (Put(b"\x10k", bytes(2_000)), Delete(b"\x10k"), Get(b"\x10k"))


class Store:
    """A store that answers at once, later, or when it is told to; some turns take long."""

    node_id = NodeId(1)

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._slow_share = rng.choice([0.0, 0.001, 0.01])
        self._at_once_share = rng.choice([0.0, 0.5, 1.0])
        self.held: list[Reply] = []
        self.submitted = 0

    @property
    def context(self) -> "Store":
        """Stand in for that, too."""
        return self

    def refusal(self, error: errors.MultiraftError) -> BatchReply:
        """As StoreContext.refusal."""
        return BatchReply((), error=errors.to_wire(error))

    @property
    def turns(self) -> "Store":
        """Stand in for that, too."""
        return self

    def at_the_end(self, action: object) -> None:
        """As Turns.at_the_end outside of a turn."""
        self._loop.call_soon(action)  # type: ignore[arg-type]

    def submit(self, asked: BatchRequest, reply: Reply) -> None:
        """Answer, now or some time."""
        self.submitted += 1
        rng = self._rng
        if rng.random() < self._slow_share:
            self._loop.skip(rng.choice([0.01, 0.2]))
        size = int.from_bytes(asked.id, "big")
        answer = BatchReply((GetResult(bytes(size), Timestamp(1)),))
        chance = rng.random()
        if chance < self._at_once_share:
            reply(answer)
        elif chance < 0.9:
            self._loop.call_later(rng.random() * 0.2, reply, answer)
        else:
            self.held.append(lambda _: reply(answer))

    def answer_all(self) -> None:
        """Answer what is held, and hold nothing more."""
        self._at_once_share = 1.0
        held, self.held = self.held, []
        for reply in held:
            reply(BatchReply(()))


class Client:
    """Both ends of a connection: the handler, and whom it serves."""

    def __init__(self, loop: VirtualLoop, rng: random.Random) -> None:
        self._loop = loop
        self._rng = rng
        self._socket: list[bytes] = []
        self.is_paused = False
        self.is_closed = False
        self.closed_because = ""
        self.buffered_bytes = 0
        self.next_id = 0
        self.answers: dict[int, int] = {}
        self.refused = 0

    def serve(self, store: Store, shared: Admission) -> None:
        """Accept it."""
        self.handler = RequestConnection(store, self, None, None, shared)  # type: ignore[arg-type]

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """Take replies, which are read some time."""
        if self.is_closed:
            return
        self.buffered_bytes += len(payload)
        for call_id, reply in encoding.unpack_reply_frame(payload).replies:
            self.answers[call_id] = self.answers.get(call_id, 0) + 1
            self.refused += reply.error is not None

    def close(self, reason: str = "") -> None:
        """End, as ConnectionEnd does."""
        if not self.is_closed:
            self.is_closed = True
            self.closed_because = reason
            self._loop.call_soon(self.handler.closed, reason)

    def pause_reading(self) -> None:
        """Leave frames in the socket."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Take them from there."""
        self.is_paused = False
        self._loop.call_soon(self.deliver)

    def ask(self) -> None:
        """Put a frame into the socket."""
        rng = self._rng
        operation = rng.choice(OPERATIONS)
        operations = (operation,) * rng.choice([1, 1, 1, 40])
        calls = rng.choice([0, 1, 1, 2, 20, 300])
        size = rng.choice([0, 0, 0, 0, 1_000, 20_000]) if calls < 100 else 0
        asked = BatchRequest(RangeId(2), operations, id=size.to_bytes(16, "big"))
        numbers = range(self.next_id, self.next_id + calls)
        self.next_id += calls
        self._socket.append(encoding.pack(RequestFrame(tuple((n, asked) for n in numbers))))

    def deliver(self) -> None:
        """Hand over what one read of the socket brings, whether that pauses it or not."""
        if self.is_paused or self.is_closed:
            return
        at_once = self._rng.randrange(1, 10)
        now, self._socket = self._socket[:at_once], self._socket[at_once:]
        for payload in now:
            self.handler.received(FrameKind.REQUESTS, payload)
        if self._socket:
            self._loop.call_soon(self.deliver)

    def read(self, share: float) -> None:
        """Read so much of what there is. Who is gone reads nothing."""
        if not self.is_closed:
            self.buffered_bytes -= int(self.buffered_bytes * share)


async def _run(seed: int, loop: VirtualLoop) -> int:
    rng = random.Random(seed)
    store, shared = Store(loop, rng), Admission()
    clients = [Client(loop, rng) for _ in range(rng.choice([1, 3, 12]))]
    for client in clients:
        client.serve(store, shared)
    for _step in range(rng.choice([20, 60])):
        for client in clients:
            for _frame in range(rng.choice([0, 1, 4])):
                client.ask()
            client.deliver()
            if rng.random() < 0.3:
                client.read(rng.choice([0.3, 1.0]))
            if rng.random() < 0.003:
                client.close("gone")
        if rng.random() < 0.02:
            loop.skip(1.0)  # The process was stopped.
        await asyncio.sleep(rng.choice([0.0, 0.001, 0.05]))
    for _step in range(400):
        store.answer_all()
        for client in clients:
            client.read(1.0)
        await asyncio.sleep(0.05)
    refused, asked = sum(c.refused for c in clients), sum(c.next_id for c in clients)
    if not any(client.is_closed for client in clients):
        assert store.submitted + refused == asked, "what is refused was not begun"
    assert shared.pending.held == 0, "all is answered, or its connection has ended"
    for client in clients:
        assert set(client.answers.values()) <= {1}, "at most once"
        assert "internal error" not in client.closed_because
        if not client.is_closed:
            assert len(client.answers) == client.next_id, "each"
            assert not client.is_paused
        client.close()
    await asyncio.sleep(0)
    assert (shared.pending.held, shared.unread.held) == (0, 0)
    return refused


@pytest.mark.parametrize("scale", [1, 20])
def test_every_call_is_answered_once_or_its_connection_ends_and_nothing_is_left(
    scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once with the limits as they are, once with such that everybody runs into all of them."""
    for module, name in (
        (service, "FRAMES_BYTES_MAX"),
        (service, "PENDING_BYTES_MAX"),
        (admission, "PENDING_MAX"),
        (admission, "PENDING_MIN"),
        (admission, "PENDING_OF_ALL_MAX"),
        (unread, "EACH_BYTES_MIN"),
        (unread, "EACH_BYTES_MAX"),
        (unread, "ALL_BYTES_MAX"),
    ):
        monkeypatch.setattr(module, name, getattr(module, name) // scale)
    monkeypatch.setattr(service, "PENDING_MIN", admission.PENDING_MIN)
    refused = 0
    for seed in range(9):
        refused += virtual_loop.run(partial(_run, seed))
    assert refused, "some had to wait for too long"
