"""What one request costs a client in Python, without sockets: `pytest bench/bench_client.py`.

A node in the same process answers every frame at once. Each measurement makes CALLS requests from a
number of concurrent callers; divide by CALLS to get the cost of one, and take off what
`test_the_answering_node_alone` says about the node's share.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop
from pytest_benchmark.fixture import BenchmarkFixture

import multiraft
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    Get,
    GetResult,
    Operation,
    Put,
    PutResult,
    ReplyFrame,
    RequestFrame,
    Result,
    ScanResult,
)
from multiraft.model.transaction_requests import EndTransaction, RecordResult
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

CALLS = 6_400
NODE = NodeId(1)
VALUE = bytes(256)
NOW = hlc.from_us(1_700_000_000_000_000)
FIRST = initial_descriptor(RangeId(1), keys.MIN, keys.FIRST_RANGE_END, (NODE,))
MIDDLE = keys.PLAIN + b"m"
SECOND = initial_descriptor(RangeId(2), keys.PLAIN, MIDDLE, (NODE,))
THIRD = initial_descriptor(RangeId(3), MIDDLE, keys.END, (NODE,))

ANSWERS: dict[type[Operation], Result] = {
    Get: GetResult(VALUE, NOW),
    Put: PutResult(),
    EndTransaction: RecordResult(None),
}
RECORD = ScanResult(
    tuple(
        part
        for descriptor in (SECOND, THIRD)
        for part in (keys.meta_key(descriptor.start), encoding.pack(descriptor))
    ),
    None,
)


def answer(payload: bytes) -> bytes:
    """Do a node's share: decode a frame of requests, encode one of replies."""
    return encoding.pack(
        ReplyFrame(
            tuple(
                (
                    call_id,
                    BatchReply(
                        tuple(ANSWERS.get(type(o), RECORD) for o in request.operations), NOW, NOW
                    ),
                )
                for call_id, request in encoding.unpack_request_frame(payload).calls
            )
        )
    )


class Loopback:
    """A connection whose other end answers in the next loop iteration."""

    buffered_bytes = 0
    peer_address = ""

    def __init__(self, hello: Hello) -> None:
        self.hello = hello
        self.welcome = Welcome(
            PROTOCOL_VERSION, "bench", NODE, NOW, FIRST, (NodeAddress(NODE, "here:1"),)
        )
        self.handler: Handler | None = None
        self._loop = asyncio.get_running_loop()

    def send(self, _kind: FrameKind, payload: bytes) -> None:
        """Answer in the next iteration."""
        assert self.handler is not None
        self._loop.call_soon(self.handler.received, FrameKind.REPLIES, answer(payload))

    def pause_reading(self) -> None:
        """Nothing piles up."""

    def resume_reading(self) -> None:
        """Nothing piles up."""

    def close(self, reason: str = "") -> None:
        """Nothing is open."""

    async def wait_closed(self) -> None:
        """Nothing is open."""


class LoopbackTransport:
    """Reaches the one node there is."""

    async def listen(self, address: str, accept: Acceptor) -> Listener:
        """Nobody listens."""
        raise AssertionError("nobody listens here")

    async def connect(
        self, address: str, hello: Hello, make_handler: Callable[[Connection], Handler]
    ) -> Connection:
        """Connect, whatever the address."""
        connection = Loopback(hello)
        connection.handler = make_handler(connection)
        return connection


def measure(
    benchmark: BenchmarkFixture,
    callers: int,
    call: Callable[[multiraft.Database], Coroutine[Any, Any, object]],
) -> None:
    async def work(db: multiraft.Database) -> None:
        for _ in range(CALLS // callers):
            await call(db)

    async def all_work(db: multiraft.Database) -> None:
        await asyncio.gather(*(work(db) for _ in range(callers)))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def opened() -> multiraft.Database:
            db = multiraft.connect("here:1", transport=LoopbackTransport())
            await db.open()
            await db.get(b"warm up")
            return db

        db = runner.run(opened())
        benchmark(lambda: runner.run(all_work(db)))
        runner.run(db.close())


several_callers = pytest.mark.parametrize("callers", [1, 16, 64, 256])


@several_callers
def test_get(benchmark: BenchmarkFixture, callers: int) -> None:
    measure(benchmark, callers, lambda db: db.get(b"key-12345"))


@several_callers
def test_put(benchmark: BenchmarkFixture, callers: int) -> None:
    measure(benchmark, callers, lambda db: db.put(b"key-12345", VALUE))


async def update(txn: multiraft.Transaction) -> None:
    """Read a key and write it: one range, so one phase."""
    await txn.get(b"key-12345")
    await txn.put(b"key-12345", VALUE)


async def transfer(txn: multiraft.Transaction) -> None:
    """Read and write a key in each of two ranges: in parallel."""
    await txn.get(b"key-12345")
    await txn.get(b"nothing")
    await txn.put(b"key-12345", VALUE)
    await txn.put(b"nothing", VALUE)


@several_callers
def test_update_in_a_transaction(benchmark: BenchmarkFixture, callers: int) -> None:
    measure(benchmark, callers, lambda db: db.run(update))


@several_callers
def test_transfer_in_a_transaction(benchmark: BenchmarkFixture, callers: int) -> None:
    measure(benchmark, callers, lambda db: db.run(transfer))


@several_callers
def test_the_answering_node_alone(benchmark: BenchmarkFixture, callers: int) -> None:
    """The node's share of `test_put`: take it off."""
    request = BatchRequest(
        RangeId(2), (Put(keys.PLAIN + b"key-12345", VALUE),), bytes(16), 1, Timestamp(NOW)
    )
    payload = encoding.pack(RequestFrame(tuple((n, request) for n in range(callers))))

    def answer_all() -> None:
        for _ in range(CALLS // callers):
            answer(payload)

    benchmark(answer_all)
