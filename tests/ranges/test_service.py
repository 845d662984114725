"""Connections of clients and of peers to a store: frames in, frames out, and what must not come."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from unittest import mock

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster import registry
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.requests import (
    AdminSplit,
    BatchReply,
    BatchRequest,
    Delete,
    Get,
    GetResult,
    Operation,
    Put,
    RangeStatus,
    ReplyFrame,
    RequestFrame,
    ScanResult,
)
from multiraft.net.inproc import InprocTransport
from multiraft.net.transport import (
    PROTOCOL_VERSION,
    Connection,
    ConnectionClass,
    FrameKind,
    Hello,
    Welcome,
)
from multiraft.ranges import admission, messages, service, unread
from multiraft.ranges.admission import Admission
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.ranges.messages import PeerFrame
from multiraft.ranges.pending import Reply
from multiraft.ranges.service import PeerConnection, RequestConnection
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from multiraft.sim.loop import VirtualLoop
from tests.support.cluster import cluster_test
from tests.support.peers import Recorder
from tests.support.serving import leader_of, plain


class Client(Recorder):
    """A client that speaks the protocol by hand."""

    def ask(self, *calls: tuple[int, BatchRequest]) -> None:
        """Send calls in one frame."""
        self.connection.send(FrameKind.REQUESTS, encoding.pack(RequestFrame(calls)))

    def replies(self) -> dict[int, BatchReply]:
        """Return all answers so far, by call."""
        return {
            call_id: reply
            for kind, payload in self.frames
            if kind is FrameKind.REPLIES
            for call_id, reply in encoding.unpack_reply_frame(payload).replies
        }


def request(*operations: Operation, number: int = 1, range_id: int = USER_RANGE_ID) -> BatchRequest:
    return BatchRequest(RangeId(range_id), operations, id=number.to_bytes(16, "big"))


@asynccontextmanager
async def connected(
    cluster: Cluster, member: Member, hello: Hello | None = None
) -> AsyncIterator[Client]:
    """Connect to a node by hand."""
    clients: list[Client] = []

    def make(connection: Connection) -> Client:
        clients.append(Client(connection))
        return clients[0]

    transport = InprocTransport(cluster.network, "by-hand", cluster.errors.append)
    hello = hello or Hello(PROTOCOL_VERSION, ConnectionClass.REQUESTS)
    connection = await transport.connect(member.address, hello, make)
    yield clients[0]
    connection.close()
    await connection.wait_closed()


def from_peer(connection_class: ConnectionClass, to: Member) -> Hello:
    """Return what another node of the cluster says when it dials `to`."""
    number = 2 if to.number != 2 else 3
    address = f"n{number}:7000"
    return Hello(PROTOCOL_VERSION, connection_class, "test-cluster", NodeId(number), address)


# -- good frames -------------------------------------------------------------------------------


@cluster_test()
async def test_each_call_is_answered_by_its_number_in_any_order(
    cluster: Cluster, db: Database
) -> None:
    async with connected(cluster, leader_of(cluster)) as client:
        client.ask(
            (7, request(Put(plain(b"k"), b"v"))),
            (3, request(Get(plain(b"j")))),
            (9, request()),
            (4, request(Get(plain(b"k")), range_id=99)),
        )
        await cluster.until(lambda: len(client.replies()) == 4)
        replies = client.replies()
        assert replies[7].error is None
        assert replies[3].results == (GetResult(None, Timestamp(0)),)
        details = [replies[call].error for call in (9, 4)]
        assert [d.code for d in details if d is not None] == ["bad_request", "range_mismatch"]
        first = encoding.unpack_reply_frame(client.frames[0][1])
        assert {call_id for call_id, _ in first.replies} == {3, 9, 4}, "in one frame"
        client.ask()
        client.ask((1, request(Get(plain(b"k")))))
        await cluster.until(lambda: 1 in client.replies())


@cluster_test()
async def test_a_node_tells_about_the_cluster_when_asked(cluster: Cluster, db: Database) -> None:
    leader = leader_of(cluster)
    async with connected(cluster, leader) as client:
        client.connection.send(FrameKind.CLUSTER_INFO, b"")
        await cluster.until(lambda: bool(client.frames))
        kind, payload = client.frames[0]
        assert kind is FrameKind.CLUSTER_INFO
        welcome = msgspec.msgpack.decode(payload, type=Welcome)
        assert welcome.node_id == leader.number
        assert [node.node_id for node in welcome.nodes] == [1, 2, 3]
        assert welcome.first_range is not None
        assert welcome.first_range.start == keys.MIN


@cluster_test()
async def test_a_connection_serves_one_node_to_join(cluster: Cluster, db: Database) -> None:
    """Each Join is a task that writes to the registry twice: a flood would fill the memory."""
    async with connected(cluster, leader_of(cluster)) as client:
        for _ in range(100):
            client.connection.send(FrameKind.JOIN, encoding.pack(registry.Join("n4:7000")))
        await cluster.until(lambda: bool(client.reasons))
        assert "a second Join" in client.reasons[0]
    joined = registry.Join("n5:7000")
    async with connected(cluster, leader_of(cluster)) as client:
        client.connection.send(FrameKind.JOIN, encoding.pack(joined))
        await cluster.until(lambda: bool(client.frames))
        kind, payload = client.frames[0]
        assert kind is FrameKind.JOINED
        assert registry.unpack_joined(payload).node_id == 5, "the first of the hundred was the 4th"


@cluster_test()
async def test_administrative_requests_are_answered_like_others(
    cluster: Cluster, db: Database
) -> None:
    follower = cluster.followers()[0]
    async with connected(cluster, follower) as client:
        client.ask(
            (1, request(RangeStatus())),
            (2, request(AdminSplit(plain(b"m")))),
            (3, request(RangeStatus(), range_id=99)),
        )
        await cluster.until(lambda: len(client.replies()) == 3)
        replies = client.replies()
        told = msgspec.json.decode(replies[1].results[0].status)  # type: ignore[union-attr]
        assert (told["role"], told["node_id"]) == ("follower", follower.number)
        details = [replies[call].error for call in (2, 3)]
        assert [d.code for d in details if d is not None] == ["not_leaseholder", "range_not_found"]
    assert cluster.range_ids() == [1, 2]


# -- bad frames --------------------------------------------------------------------------------

GARBAGE = {
    "nothing": b"",
    "no msgpack": b"\xc1\xff\x00",
    "half a frame": encoding.pack(RequestFrame(((1, request(Get(b"\x10k"))),)))[:-4],
    "a frame and more": encoding.pack(RequestFrame(())) + b"\x00",
    "an unknown operation": msgspec.msgpack.encode([[[1, [2, [[99, b"k"]]]]]]),
    "a wrong type": msgspec.msgpack.encode([[["one", [2, [[1, b"k"]]]]]]),
    "a missing field": msgspec.msgpack.encode([[[1, [2]]]]),
    "a number of 65 bits": b"\x91\x91\x92\xd9\x01",
    "something nested": msgspec.msgpack.encode([[[[[[[[[[[]]]]]]]]]]]),
    "a map": msgspec.msgpack.encode({"calls": []}),
}


@pytest.mark.parametrize("name", sorted(GARBAGE))
def test_a_frame_that_cannot_be_read_ends_its_connection_and_nothing_else(name: str) -> None:
    @cluster_test()
    async def garbage(cluster: Cluster, db: Database) -> None:
        await db.put(b"k", b"v")
        async with connected(cluster, leader_of(cluster)) as client:
            client.ask((1, request(Get(plain(b"k")))))
            client.connection.send(FrameKind.REQUESTS, GARBAGE[name])
            client.ask((2, request(Get(plain(b"k")))))
            await cluster.until(lambda: bool(client.reasons))
            assert "unreadable request" in client.reasons[0]
            assert 2 not in client.replies()
        assert await db.get(b"k") == b"v"

    garbage()


@pytest.mark.parametrize(
    "kind", [FrameKind.RAFT, FrameKind.REPLIES, FrameKind.SNAPSHOT, FrameKind.JOINED]
)
def test_a_frame_of_another_kind_ends_a_clients_connection(kind: FrameKind) -> None:
    @cluster_test()
    async def foreign(cluster: Cluster, db: Database) -> None:
        async with connected(cluster, leader_of(cluster)) as client:
            client.connection.send(kind, b"")
            await cluster.until(lambda: bool(client.reasons))
            assert "unexpected frame" in client.reasons[0]
        await db.put(b"k", b"v")

    foreign()


@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        (FrameKind.RAFT, b"\xc1", "unreadable peer frame"),
        (FrameKind.RAFT, b"", "unreadable peer frame"),
        (FrameKind.REQUESTS, b"", "unexpected frame"),
    ],
)
def test_a_bad_frame_of_a_peer_ends_its_connection(
    kind: FrameKind, payload: bytes, reason: str
) -> None:
    @cluster_test()
    async def bad(cluster: Cluster, db: Database) -> None:
        leader = leader_of(cluster)
        async with connected(cluster, leader, from_peer(ConnectionClass.RAFT, leader)) as peer:
            peer.connection.send(kind, payload)
            await cluster.until(lambda: bool(peer.reasons))
            assert reason in peer.reasons[0]
        await db.put(b"k", b"v")
        assert leader_of(cluster) is leader

    bad()


@cluster_test()
async def test_only_nodes_open_connections_for_raft_and_snapshots(
    cluster: Cluster, db: Database
) -> None:
    for connection_class in (ConnectionClass.RAFT, ConnectionClass.BULK):
        with pytest.raises(errors.ProtocolError, match="only nodes"):
            async with connected(
                cluster, leader_of(cluster), Hello(PROTOCOL_VERSION, connection_class)
            ):
                pass


@cluster_test()
async def test_a_peer_frame_whose_clock_is_far_ahead_is_dropped_whole(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    clock = leader.up.store.context.hlc
    far = Timestamp(clock.now() + hlc.from_ms(60_000))
    async with connected(cluster, leader, from_peer(ConnectionClass.RAFT, leader)) as peer:
        peer.connection.send(FrameKind.RAFT, messages.encode(PeerFrame(far)))
        await asyncio.sleep(0.1)
        assert not peer.reasons, "it may be a clock that is set right again"
        assert clock.last < far


@cluster_test()
async def test_a_peer_frame_takes_the_clock_of_its_receiver_along(
    cluster: Cluster, db: Database
) -> None:
    leader = leader_of(cluster)
    clock = leader.up.store.context.hlc
    ahead = Timestamp(clock.now() + hlc.from_ms(150))
    async with connected(cluster, leader, from_peer(ConnectionClass.RAFT, leader)) as peer:
        peer.connection.send(FrameKind.RAFT, messages.encode(PeerFrame(ahead)))
        await asyncio.sleep(0.05)
        assert clock.last >= ahead


# -- too much ----------------------------------------------------------------------------------


class StillStore:
    """A store that keeps requests until it is told to answer."""

    def __init__(self) -> None:
        self.waiting: list[tuple[BatchRequest, Reply]] = []

    def submit(self, asked: BatchRequest, reply: Reply) -> None:
        """Keep it."""
        self.waiting.append((asked, reply))

    @property
    def turns(self) -> "StillStore":
        """Stand in for that, too."""
        return self

    def at_the_end(self, action: Callable[[], None]) -> None:
        """As Turns.at_the_end outside of a turn."""
        asyncio.get_running_loop().call_soon(action)

    def answer(self, count: int, value: bytes = b"") -> None:
        """Answer the oldest requests."""
        ready, self.waiting = self.waiting[:count], self.waiting[count:]
        for _, reply in ready:
            reply(BatchReply((GetResult(value, Timestamp(1)),)))


class StillConnection:
    """A connection that only remembers what is done with it."""

    def __init__(self) -> None:
        self.is_paused = False
        self.buffered_bytes = 0
        self.closed_because = ""
        self.frames: list[ReplyFrame] = []
        self.sizes: list[int] = []

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """Keep it."""
        assert kind is FrameKind.REPLIES
        self.sizes.append(len(payload))
        self.frames.append(encoding.unpack_reply_frame(payload))

    def close(self, reason: str = "") -> None:
        """Note it."""
        self.closed_because = reason

    def pause_reading(self) -> None:
        """Note it."""
        self.is_paused = True

    def resume_reading(self) -> None:
        """Note it."""
        self.is_paused = False


def handler_of(
    store: StillStore, connection: StillConnection, shared: Admission | None = None
) -> RequestConnection:
    """Return the handler of a client that asks for no welcome and does not join."""

    def never(*_: object) -> Welcome:
        raise AssertionError("nobody asks")

    admission = Admission() if shared is None else shared
    return RequestConnection(store, connection, never, never, admission)  # type: ignore[arg-type]


def serve() -> tuple[StillStore, StillConnection, RequestConnection]:
    store, connection = StillStore(), StillConnection()
    return store, connection, handler_of(store, connection)


A_PUT = Put(b"\x10k", b"")


def frame_of(count: int, operation: Operation = A_PUT) -> bytes:
    one = request(operation)
    return encoding.pack(RequestFrame(tuple((number, one) for number in range(count))))


def test_a_client_with_too_many_requests_under_way_is_not_read_until_half_are_answered() -> None:
    async def main() -> None:
        store, connection, handler = serve()
        handler.received(FrameKind.REQUESTS, frame_of(admission.PENDING_MAX))
        for _ in range(admission.PENDING_MAX // service.BEGUN_MAX):
            await asyncio.sleep(0)
        assert len(store.waiting) == admission.PENDING_MAX
        assert not connection.is_paused
        handler.received(FrameKind.REQUESTS, frame_of(1))
        assert connection.is_paused
        store.answer(admission.PENDING_MAX // 2)
        await asyncio.sleep(0)
        assert connection.is_paused
        store.answer(2)
        await asyncio.sleep(0)
        assert not connection.is_paused
        store.answer(admission.PENDING_MAX)
        await asyncio.sleep(0)
        handler.received(FrameKind.REQUESTS, frame_of(admission.PENDING_MAX))
        assert not connection.is_paused, "what was answered counts no more"

    asyncio.run(main())


def test_a_client_with_too_many_bytes_under_way_is_not_read() -> None:
    async def main() -> None:
        store, connection, handler = serve()
        frame = frame_of(8, Put(b"\x10k", bytes(1 << 20)))
        for _ in range(service.PENDING_BYTES_MAX // len(frame)):
            handler.received(FrameKind.REQUESTS, frame)
        assert not connection.is_paused
        handler.received(FrameKind.REQUESTS, frame)
        assert connection.is_paused
        under_way = len(store.waiting)
        handler.received(FrameKind.REQUESTS, frame_of(1))
        assert len(store.waiting) == under_way, "what had been read already waits as well"
        store.answer(8)
        await asyncio.sleep(0)
        assert connection.is_paused, "not for each answer anew"
        store.answer(len(store.waiting) // 2 + 1)
        await asyncio.sleep(0)
        assert not connection.is_paused

    asyncio.run(main())


def test_a_client_has_less_under_way_beside_many_that_have_and_all_of_it_ends() -> None:
    async def main() -> None:
        store, connection = StillStore(), StillConnection()
        shared = Admission()
        handler = handler_of(store, connection, shared)
        shared.pending.held = admission.PENDING_OF_ALL_MAX
        frame = frame_of(100, Put(b"\x10k", bytes(1_000)))
        frames = 2 * service.FRAMES_BYTES_MAX // len(frame)
        for _ in range(frames):
            handler.received(FrameKind.REQUESTS, frame)
        await asyncio.sleep(0)
        assert len(store.waiting) == 300, "whole frames, until they are PENDING_MIN"
        assert connection.is_paused
        for _ in range(frames):
            store.answer(100)
            for _turn in range(3):
                await asyncio.sleep(0)
        assert sum(len(frame.replies) for frame in connection.frames) == frames * 100
        assert not connection.is_paused
        assert shared.pending.held == admission.PENDING_OF_ALL_MAX

    asyncio.run(main())


def test_what_a_client_that_is_gone_had_under_way_counts_no_more() -> None:
    async def main() -> None:
        store, connection = StillStore(), StillConnection()
        shared = Admission()
        handler = handler_of(store, connection, shared)
        handler.received(FrameKind.REQUESTS, frame_of(100))
        store.answer(10)
        await asyncio.sleep(0)
        assert shared.pending.held == 90
        store.answer(10)
        connection.buffered_bytes = unread.EACH_BYTES_MAX
        store.answer(10)
        await asyncio.sleep(0)
        assert shared.unread.held == unread.EACH_BYTES_MAX
        handler.closed("gone")
        store.answer(70)
        await asyncio.sleep(0)
        assert (shared.pending.held, shared.unread.held) == (0, 0)

    asyncio.run(main())


def test_a_frame_that_cannot_be_read_ends_the_connection_when_its_turn_comes() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1)
        handler.received(FrameKind.REQUESTS, frame_of(2 * service.BEGUN_MAX, Delete(b"\x10k")))
        handler.received(FrameKind.REQUESTS, b"\xc1")
        handler.received(FrameKind.REQUESTS, frame_of(1, Delete(b"\x10k")))
        await asyncio.sleep(0.001)
        assert "an unreadable request" in connection.closed_because
        assert store.served == 2 * service.BEGUN_MAX

    virtual_loop.run(main)


class QuickStore(StillStore):
    """A store that answers reads at once, as a leaseholder does."""

    def __init__(self, value: bytes) -> None:
        super().__init__()
        self.value = value
        self.served = 0

    def submit(self, asked: BatchRequest, reply: Reply) -> None:
        """Answer it."""
        self.served += 1
        reply(BatchReply((GetResult(self.value, Timestamp(1)),)))


class RefusingStore(QuickStore):
    """A store with what it takes to refuse a request."""

    @property
    def context(self) -> "RefusingStore":
        """Stand in for that, too."""
        return self

    node_id = NodeId(1)

    def refusal(self, error: errors.MultiraftError) -> BatchReply:
        """As StoreContext.refusal."""
        return BatchReply((), error=errors.to_wire(error))


class FullConnection(StillConnection):
    """A connection whose other end reads when told to."""

    def send(self, kind: FrameKind, payload: bytes) -> None:
        """Keep it until it is read."""
        super().send(kind, payload)
        self.buffered_bytes += len(payload)


def serve_at_once(size: int) -> tuple[QuickStore, FullConnection, RequestConnection]:
    store, connection = QuickStore(bytes(size)), FullConnection()
    handler = handler_of(store, connection)
    return store, connection, handler


def test_what_is_answered_at_once_leaves_at_once_and_together() -> None:
    async def main(_: VirtualLoop) -> None:
        _store, connection, handler = serve_at_once(1)
        calls = service.REPLIES_UNSENT_MAX - 1
        handler.received(FrameKind.REQUESTS, frame_of(calls))
        assert [len(frame.replies) for frame in connection.frames] == [calls]

    virtual_loop.run(main)


def test_replies_leave_before_they_are_many() -> None:
    async def main(_: VirtualLoop) -> None:
        _store, connection, handler = serve_at_once(1)
        at_once = service.REPLIES_UNSENT_MAX
        handler.received(FrameKind.REQUESTS, frame_of(2 * at_once + 1))
        assert [len(frame.replies) for frame in connection.frames] == [at_once, at_once, 1]

    virtual_loop.run(main)


@pytest.mark.parametrize(
    ("operation", "at_once"),
    [
        (Delete(b"\x10k"), service.BEGUN_MAX),
        (Put(b"\x10k", b""), int(service.BEGUN_MAX / service.LONE_PUT_SHARE)),
    ],
)
def test_after_many_requests_of_a_frame_the_loop_gets_to_run(
    operation: Operation, at_once: int
) -> None:
    """So that what they propose does not wait for the evaluation of all."""

    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1)
        handler.received(FrameKind.REQUESTS, frame_of(2 * at_once + 1, operation))
        assert store.served == at_once
        handler.received(FrameKind.REQUESTS, frame_of(1, operation))
        assert store.served == at_once, "what comes later waits behind it"
        await asyncio.sleep(0)
        assert store.served == 2 * at_once
        await asyncio.sleep(0)
        numbers = [number for frame in connection.frames for number, _ in frame.replies]
        assert numbers == [*range(2 * at_once + 1), 0]

    virtual_loop.run(main)


def test_what_was_not_begun_for_a_client_that_is_gone_is_dropped() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, shared = QuickStore(b""), FullConnection(), Admission()
        handler = handler_of(store, connection, shared)
        for _round in range(2):
            handler.received(FrameKind.REQUESTS, frame_of(service.BEGUN_MAX + 1, Delete(b"\x10k")))
        handler.closed("gone")
        for _turn in range(3):
            await asyncio.sleep(0)
        assert store.served == service.BEGUN_MAX
        assert shared.pending.held == 0
        assert not connection.closed_because

    virtual_loop.run(main)


def test_frames_are_decoded_when_it_is_their_turn() -> None:
    """Requests take ten times the bytes of their frame."""

    async def main(_: VirtualLoop) -> None:
        store, shared = StillStore(), Admission()
        handler = handler_of(store, StillConnection(), shared)
        for calls in (3 * service.BEGUN_MAX, 1, 1):
            handler.received(FrameKind.REQUESTS, frame_of(calls, Delete(b"\x10k")))
        for turn in (1, 2, 3):
            assert len(store.waiting) == turn * service.BEGUN_MAX
            assert shared.pending.held == 3 * service.BEGUN_MAX
            await asyncio.sleep(0)
        assert len(store.waiting) == shared.pending.held == 3 * service.BEGUN_MAX + 2

    virtual_loop.run(main)


def test_what_comes_while_a_turn_is_waited_for_asks_for_no_second_one() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve()
        handler.received(FrameKind.REQUESTS, frame_of(admission.PENDING_MAX, Delete(b"\x10k")))
        handler.received(FrameKind.REQUESTS, frame_of(1, Delete(b"\x10k")))
        await asyncio.sleep(1)
        with mock.patch.object(
            Admission, "queue", autospec=True, side_effect=Admission.queue
        ) as queued:
            store.answer(admission.PENDING_MAX)
            await asyncio.sleep(0)
            assert not store.waiting, "its turn has not come"
            handler.received(FrameKind.REQUESTS, frame_of(1, Delete(b"\x10k")))
            await asyncio.sleep(1)
        assert queued.call_count == 1
        assert len(store.waiting) == 2
        assert not connection.closed_because

    virtual_loop.run(main)


class PageStore(StillStore):
    """A store that answers everything at once with a page of `rows` rows."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.page = ScanResult((b"key", b"value") * rows, None)

    def submit(self, asked: BatchRequest, reply: Reply) -> None:
        """Answer it."""
        reply(BatchReply((self.page,)))


def test_scans_leave_before_they_are_many_so_that_the_client_works_on_them_meanwhile() -> None:
    async def main(_: VirtualLoop) -> None:
        connection = FullConnection()
        store = PageStore(service.ROWS_UNSENT_MAX // 3)
        handler = handler_of(store, connection)
        handler.received(FrameKind.REQUESTS, frame_of(7))
        assert [len(frame.replies) for frame in connection.frames] == [3, 3, 1]

    virtual_loop.run(main)


def test_clients_with_more_than_can_be_begun_at_once_take_turns() -> None:
    async def main(_: VirtualLoop) -> None:
        shared, begun = Admission(), [0] * 40

        class Counting(StillStore):
            def __init__(self, number: int) -> None:
                super().__init__()
                self.number = number

            def submit(self, asked: BatchRequest, reply: Reply) -> None:
                begun[self.number] += 1

        handlers = [
            handler_of(Counting(number), StillConnection(), shared) for number in range(len(begun))
        ]
        for _round in range(3):
            for handler in handlers:
                handler.received(FrameKind.REQUESTS, frame_of(service.BEGUN_MAX, Delete(b"\x10k")))
        at_once = admission.BEGUN_BY_ALL_MAX // service.BEGUN_MAX
        turns = 3 * len(begun)
        for turn in range(at_once, turns + 1, at_once):
            assert sum(begun) == turn * service.BEGUN_MAX, "then the loop gets to run"
            assert max(begun) - min(begun) <= service.BEGUN_MAX, (
                "nobody has two turns before others"
            )
            await asyncio.sleep(0)
        assert begun == [3 * service.BEGUN_MAX] * len(begun)
        assert not shared.is_crowded

    virtual_loop.run(main)


def test_a_request_with_many_operations_counts_for_several() -> None:
    async def main(_: VirtualLoop) -> None:
        store, _connection, handler = serve_at_once(1)
        several = 8
        many = BatchRequest(RangeId(2), (Get(b"\x10k"),) * several * service.OPERATIONS_OF_ONE)
        at_once = service.BEGUN_MAX // several
        frame = encoding.pack(RequestFrame(tuple((number, many) for number in range(3 * at_once))))
        handler.received(FrameKind.REQUESTS, frame)
        assert store.served == at_once
        await asyncio.sleep(0)
        assert store.served == 2 * at_once

    virtual_loop.run(main)


def test_large_replies_leave_others_their_turn_sooner() -> None:
    async def main(_: VirtualLoop) -> None:
        store = QuickStore(bytes(service.ROWS_UNSENT_MAX * service.ROW_BYTES))
        handler = handler_of(store, StillConnection())  # Whose client reads all at once.
        handler.received(FrameKind.REQUESTS, frame_of(service.BEGUN_MAX, Delete(b"\x10k")))
        assert 0 < store.served <= service.BEGUN_MAX // 8
        await asyncio.sleep(0.001)
        assert store.served == service.BEGUN_MAX

    virtual_loop.run(main)


def test_a_client_is_not_read_while_more_of_it_waits_for_its_turn_than_may() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1)
        frame = frame_of(10, Put(b"\x10k", bytes(1_000)))
        fitting = service.FRAMES_BYTES_MAX // len(frame)
        with (
            mock.patch.object(Admission, "is_crowded", True),
            mock.patch.object(Admission, "queue") as queued,
        ):
            for _round in range(fitting):
                handler.received(FrameKind.REQUESTS, frame)
            assert not connection.is_paused
            handler.received(FrameKind.REQUESTS, frame)
            assert connection.is_paused
            while store.served < 10 * (fitting + 1):
                queued.call_args.args[0]()
                connection.buffered_bytes = 0
        assert not connection.is_paused

    virtual_loop.run(main)


def test_what_waited_too_long_for_other_clients_is_refused_and_not_begun() -> None:
    """With more work than can be done, FIFO queues answer everything, and all of it too late."""

    async def main(_: VirtualLoop) -> None:
        shared = Admission()
        store, connection = RefusingStore(b""), FullConnection()
        handler = handler_of(store, connection, shared)
        with (
            mock.patch.object(Admission, "is_crowded", True),
            mock.patch.object(Admission, "queue") as queued,
        ):
            for _round in range(2):
                handler.received(FrameKind.REQUESTS, frame_of(3, Delete(b"\x10k")))
            await asyncio.sleep(service.QUEUED_S_MAX * 1.5)
            handler.received(FrameKind.REQUESTS, frame_of(2, Delete(b"\x10k")))
        (work,) = queued.call_args.args
        work()
        assert store.served == 2, "what came just now"
        codes = [r.error and r.error.code for f in connection.frames for _, r in f.replies]
        assert codes == ["overloaded"] * 6 + [None] * 2
        assert shared.pending.held == 0

    virtual_loop.run(main)


def test_a_client_that_waits_for_each_answer_is_not_refused_however_long_others_take() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection = RefusingStore(b""), FullConnection()
        handler = handler_of(store, connection)
        with (
            mock.patch.object(Admission, "is_crowded", True),
            mock.patch.object(Admission, "queue") as queued,
        ):
            handler.received(FrameKind.REQUESTS, frame_of(1, Delete(b"\x10k")))
            await asyncio.sleep(service.QUEUED_S_MAX * 10)
        (work,) = queued.call_args.args
        work()
        assert [r.error for f in connection.frames for _, r in f.replies] == [None]

    virtual_loop.run(main)


def test_to_refuse_is_work_too_and_others_get_their_turn_in_between() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, shared = RefusingStore(b""), FullConnection(), Admission()
        handler = handler_of(store, connection, shared)
        calls = service.BEGUN_MAX * service.REFUSED_OF_ONE // 2
        with (
            mock.patch.object(Admission, "is_crowded", True),
            mock.patch.object(Admission, "has_queued", True),
            mock.patch.object(Admission, "queue") as queued,
        ):
            for _round in range(7):
                handler.received(FrameKind.REQUESTS, frame_of(calls, Delete(b"\x10k")))
            await asyncio.sleep(service.QUEUED_S_MAX * 2)
            for turn in range(1, 4):
                queued.call_args.args[0]()
                assert sum(len(f.replies) for f in connection.frames) == turn * 2 * calls
        assert store.served == 0, "the last one is to be begun, in its turn"

    virtual_loop.run(main)


def test_what_waited_for_its_own_client_is_not_refused() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1 << 20)
        for _round in range(20):
            handler.received(FrameKind.REQUESTS, frame_of(1))
        await asyncio.sleep(0)
        for _round in range(10):
            await asyncio.sleep(2 * service.QUEUED_S_MAX)
            connection.buffered_bytes = 0
        await asyncio.sleep(1.0)
        assert store.served == 20
        assert not any(r.error for f in connection.frames for _, r in f.replies)

    virtual_loop.run(main)


class SlowStore(RefusingStore):
    """A store that takes a while for each request."""

    def __init__(self, loop: VirtualLoop, seconds: float) -> None:
        super().__init__(b"")
        self._loop = loop
        self._seconds = seconds

    def submit(self, asked: BatchRequest, reply: Reply) -> None:
        """Answer it, later."""
        self._loop.skip(self._seconds)
        super().submit(asked, reply)


def test_who_is_alone_is_not_refused_because_its_own_requests_take_long() -> None:
    async def main(loop: VirtualLoop) -> None:
        store, connection = SlowStore(loop, 0.01), FullConnection()
        handler = handler_of(store, connection)
        for calls in (4 * service.BEGUN_MAX, 1, 1):
            handler.received(FrameKind.REQUESTS, frame_of(calls, Delete(b"\x10k")))
        await asyncio.sleep(1)
        errors = [r.error for f in connection.frames for _, r in f.replies]
        assert errors == [None] * (4 * service.BEGUN_MAX + 2)

    virtual_loop.run(main)


def test_refusals_wait_to_be_read_as_other_replies_do() -> None:
    async def main(loop: VirtualLoop) -> None:
        store, connection, shared = RefusingStore(b""), FullConnection(), Admission()
        handler = handler_of(store, connection, shared)
        shared.queue(lambda: None)
        at_once = admission.BEGUN_BY_ALL_MAX * service.REFUSED_OF_ONE
        with mock.patch.object(Admission, "has_queued", True):
            for calls in (at_once, *[1] * 50):
                handler.received(FrameKind.REQUESTS, frame_of(calls, Delete(b"\x10k")))
            loop.skip(service.QUEUED_S_MAX * 2)
            connection.buffered_bytes = unread.EACH_BYTES_MAX + 1
            await asyncio.sleep(0)
            assert shared.is_crowded, "it was as much work as all may begin"
            for _turn in range(2):
                await asyncio.sleep(0)
            refused = sum(len(f.replies) for f in connection.frames)
            assert refused == at_once, "it was decoded already"
            await asyncio.sleep(unread.SILENT_S_MAX * 1.1)
        assert "slow reader" in connection.closed_because

    virtual_loop.run(main)


def test_what_waited_for_answers_is_not_begun_while_they_are_told() -> None:
    """They may be told from a turn of the store whose batch is not written yet."""

    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve()
        endings: list[Callable[[], None]] = []
        handler.received(FrameKind.REQUESTS, frame_of(admission.PENDING_MAX, Delete(b"\x10k")))
        handler.received(FrameKind.REQUESTS, frame_of(1, Delete(b"\x10k")))
        await asyncio.sleep(1)
        assert connection.is_paused
        with mock.patch.object(store, "at_the_end", endings.append):
            store.answer(admission.PENDING_MAX)
            for ending in endings:
                ending()
        assert not store.waiting
        await asyncio.sleep(0)
        assert len(store.waiting) == 1

    virtual_loop.run(main)


def test_a_mistake_in_one_clients_turn_ends_its_connection_and_others_have_theirs() -> None:
    async def main(loop: VirtualLoop) -> None:
        escaped: list[object] = []
        loop.set_exception_handler(lambda _, context: escaped.append(context["exception"]))
        shared = Admission()
        stores, connections = [StillStore(), StillStore()], [StillConnection(), StillConnection()]
        shared.queue(lambda: None)
        for store, connection in zip(stores, connections, strict=True):
            handler = handler_of(store, connection, shared)
            handler.received(FrameKind.REQUESTS, frame_of(1))
        mistake = RuntimeError("a mistake")
        with mock.patch.object(stores[0], "submit", side_effect=mistake):
            await asyncio.sleep(1)
        assert escaped == [mistake]
        assert "RuntimeError" in connections[0].closed_because
        assert len(stores[1].waiting) == 1

    virtual_loop.run(main)


def test_of_one_frame_only_as_much_is_evaluated_as_the_client_reads() -> None:
    """A frame of a few kilobytes may ask for gigabytes."""

    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1 << 20)
        at_once = unread.EACH_BYTES_MAX >> 20
        calls = 10 * at_once
        handler.received(FrameKind.REQUESTS, frame_of(calls))
        await asyncio.sleep(0)
        assert store.served == at_once
        assert connection.is_paused
        handler.received(FrameKind.REQUESTS, frame_of(1))
        assert store.served == at_once, "what comes later waits behind it"
        for _round in range(11):
            connection.buffered_bytes = 0
            await asyncio.sleep(0.01)
        assert store.served == calls + 1
        await asyncio.sleep(0.01)
        assert not connection.is_paused
        numbers = [number for frame in connection.frames for number, _ in frame.replies]
        assert numbers == [*range(calls), 0]

    virtual_loop.run(main)


def test_beside_many_that_read_nothing_less_is_evaluated_before_it_is_read() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, shared = QuickStore(bytes(1 << 20)), FullConnection(), Admission()
        handler = handler_of(store, connection, shared)
        shared.unread.held = unread.ALL_BYTES_MAX
        handler.received(FrameKind.REQUESTS, frame_of(10))
        for reads in range(1, 11):
            await asyncio.sleep(0.01)
            assert store.served == reads
            connection.buffered_bytes = 0

    virtual_loop.run(main)


def test_a_client_that_reads_a_little_is_waited_for_and_one_that_reads_nothing_is_not() -> None:
    async def main(_: VirtualLoop) -> None:
        store, connection, handler = serve_at_once(1 << 20)
        handler.received(FrameKind.REQUESTS, frame_of(100))
        for _round in range(5):
            await asyncio.sleep(unread.SILENT_S_MAX * 0.9)
            connection.buffered_bytes -= 1
        assert not connection.closed_because
        await asyncio.sleep(unread.SILENT_S_MAX * 1.1)
        assert "slow reader" in connection.closed_because
        handler.closed("as it asked for")
        served = store.served
        connection.buffered_bytes = 0
        await asyncio.sleep(1)
        assert store.served == served

    virtual_loop.run(main)


def test_frames_without_requests_do_not_shorten_the_patience_with_slow_readers() -> None:
    async def main(_: VirtualLoop) -> None:
        _store, connection, handler = serve_at_once(1)
        connection.buffered_bytes = unread.EACH_BYTES_MAX + 1
        for _round in range(10):
            handler.received(FrameKind.REQUESTS, frame_of(0))
        assert not connection.is_paused, "nothing waits"
        handler.received(FrameKind.REQUESTS, frame_of(1))
        assert connection.is_paused
        for _round in range(10):
            handler.received(FrameKind.REQUESTS, frame_of(0))
        await asyncio.sleep(unread.SILENT_S_MAX * 0.9)
        assert not connection.closed_because

    virtual_loop.run(main)


def test_answers_that_become_ready_together_leave_in_one_frame() -> None:
    async def main() -> None:
        store, connection, handler = serve()
        handler.received(FrameKind.REQUESTS, frame_of(10))
        store.answer(4)
        store.answer(3)
        assert not connection.frames
        await asyncio.sleep(0)
        assert [len(frame.replies) for frame in connection.frames] == [7]
        store.answer(3)
        await asyncio.sleep(0)
        assert [len(frame.replies) for frame in connection.frames] == [7, 3]
        numbers = [number for frame in connection.frames for number, _ in frame.replies]
        assert numbers == list(range(10))

    asyncio.run(main())


def test_large_answers_are_cut_into_several_frames() -> None:
    async def main() -> None:
        store, connection, handler = serve()
        handler.received(FrameKind.REQUESTS, frame_of(20))
        store.answer(20, bytes(1 << 20))
        await asyncio.sleep(0)
        assert max(connection.sizes) <= service.REPLY_BYTES_MAX
        numbers = [number for frame in connection.frames for number, _ in frame.replies]
        assert numbers == list(range(20))
        handler.received(FrameKind.REQUESTS, frame_of(1))
        store.answer(1, bytes(service.REPLY_BYTES_MAX + 1))
        await asyncio.sleep(0)
        assert len(connection.frames[-1].replies) == 1, "one alone is never cut"

    asyncio.run(main())


def test_answers_for_a_client_that_is_gone_are_dropped() -> None:
    async def main() -> None:
        store, connection, handler = serve()
        handler.received(FrameKind.REQUESTS, frame_of(4))
        store.answer(1)
        handler.closed("the cable was pulled")
        store.answer(3)
        await asyncio.sleep(0)
        assert not connection.frames

    asyncio.run(main())


def test_a_peers_frames_go_to_the_store_with_the_name_of_the_peer() -> None:
    received: list[tuple[NodeId, bytes]] = []

    class Frames:
        def receive_frame(self, source: NodeId, payload: bytes) -> None:
            received.append((source, payload))

    peer = PeerConnection(Frames(), NodeId(3))  # type: ignore[arg-type]
    peer.received(FrameKind.RAFT, b"frame")
    assert received == [(3, b"frame")]
    with pytest.raises(errors.ProtocolError):
        peer.received(FrameKind.SNAPSHOT, b"")
    peer.closed("over")


@cluster_test()
async def test_a_client_that_sends_much_and_never_reads_is_cut_off_and_others_are_served(
    cluster: Cluster, db: Database
) -> None:
    """The replies pile up at the sender, whose patience ends."""
    await db.put(b"big", bytes(1 << 20))
    member = leader_of(cluster)
    async with connected(cluster, member) as client:
        client.connection.pause_reading()
        for number in range(12):
            calls = [(number * 8 + n, request(Get(plain(b"big")))) for n in range(8)]
            client.ask(*calls)
            await asyncio.sleep(0.01)
        assert await db.get(b"big") == bytes(1 << 20)
        await asyncio.sleep(unread.SILENT_S_MAX + 1)
        client.connection.resume_reading()
        await cluster.until(lambda: bool(client.reasons))
    await db.put(b"k", b"v")
