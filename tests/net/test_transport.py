"""The contract of transport.Transport, kept by sockets on either loop and within a process."""

import asyncio

import msgspec
import pytest

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.ids import NodeId
from multiraft.net.inproc import InprocTransport
from multiraft.net.links import InprocNetwork
from multiraft.net.tcp import TcpTransport
from multiraft.net.transport import FrameKind, Listener, Transport
from tests.support.peers import CLUSTER, Door, client_hello, run_on, server_welcome

CONFIG = NetConfig(send_buffer_bytes_max=1 << 20, connect_timeout_ms=20_000)


class Pair:
    """Two transports that reach each other, and an acceptor for the first."""

    def __init__(self, carrier: str, config: NetConfig = CONFIG, door: Door | None = None) -> None:
        self.door = door or Door(echoes=True)
        self.caller = Door()
        self.server: Transport
        self.client: Transport
        if carrier == "inproc":
            network = InprocNetwork(config)
            self.server = InprocTransport(network, "n2", self.door.on_error)
            self.client = InprocTransport(network, "client", self.caller.on_error)
        else:
            self.server = TcpTransport(config, self.door.on_error)
            self.client = TcpTransport(config, self.caller.on_error)

    async def close(self, listener: Listener) -> None:
        """Leave nothing behind."""
        await listener.close()
        for handler in (*self.door.handlers, *self.caller.handlers):
            handler.connection.close()
            await handler.connection.wait_closed()


@pytest.fixture(
    params=[
        pytest.param("asyncio", marks=pytest.mark.integration),
        pytest.param("uvloop", marks=pytest.mark.integration),
        "inproc",
    ]
)
def carrier(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_frames_cross_in_order_in_both_directions(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        connection = await pair.client.connect(listener.address, client_hello(), pair.caller)
        payloads = [bytes([number % 256]) * number for number in range(500)]
        for payload in payloads:
            connection.send(FrameKind.REQUESTS, payload)
        echoes = await pair.caller.handlers[0].got(len(payloads))
        assert echoes == [(FrameKind.REPLIES, payload) for payload in payloads]
        assert pair.door.handlers[0].frames == [(FrameKind.REQUESTS, p) for p in payloads]
        assert connection.welcome == server_welcome()
        assert pair.door.hellos == [client_hello()]
        await pair.close(listener)

    run_on(carrier, main)


def test_a_frame_of_the_greatest_size_crosses(carrier: str) -> None:
    async def main() -> None:
        config = NetConfig()
        pair = Pair(carrier, config)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        connection = await pair.client.connect(listener.address, client_hello(), pair.caller)
        payload = bytes(config.frame_bytes_max)
        connection.send(FrameKind.SNAPSHOT, payload)
        ((_, echo),) = await pair.caller.handlers[0].got(1)
        assert echo == payload
        await pair.close(listener)

    run_on(carrier, main)


def test_closing_a_listener_tells_both_ends_why(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        await pair.client.connect(listener.address, client_hello(), pair.caller)
        await pair.client.connect(listener.address, client_hello(), pair.caller)
        await listener.close()
        for handler in (*pair.door.handlers, *pair.caller.handlers):
            assert await handler.end() == "the node is stopping"
            await handler.connection.wait_closed()
        with pytest.raises(errors.NodeUnavailableError):
            await pair.client.connect(listener.address, client_hello(), pair.caller)
        # Closing first leaves the address in TIME_WAIT, which must not keep a restarted node out.
        await (await pair.server.listen(listener.address, pair.door.accept)).close()

    run_on(carrier, main)


def test_the_reason_of_a_close_reaches_the_other_end_behind_the_frames(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, door=Door())
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        connection = await pair.client.connect(listener.address, client_hello(), pair.caller)
        connection.send(FrameKind.REQUESTS, b"last words")
        connection.close("I am done")
        assert await pair.caller.handlers[0].end() == "I am done"
        await pair.door.handlers[0].got(1)
        assert await pair.door.handlers[0].end() == "I am done"
        await pair.close(listener)

    run_on(carrier, main)


def test_an_address_that_is_taken_is_named(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        with pytest.raises(errors.AddressInUseError, match=listener.address):
            await pair.server.listen(listener.address, pair.door.accept)
        await listener.close()
        again = await pair.server.listen(listener.address, pair.door.accept)
        assert again.address == listener.address
        await again.close()

    run_on(carrier, main)


def test_an_address_where_nobody_listens_is_unavailable(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        with pytest.raises(errors.NodeUnavailableError, match=r"127\.0\.0\.1:1 is not reachable"):
            await pair.client.connect("127.0.0.1:1", client_hello(), pair.caller)

    run_on(carrier, main)


def test_something_that_is_no_address_is_refused(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        with pytest.raises(errors.ConfigError, match="has no port"):
            await pair.client.connect("localhost", client_hello(), pair.caller)
        with pytest.raises(errors.ConfigError, match="has no host"):
            await pair.server.listen(":7000", pair.door.accept)

    run_on(carrier, main)


def test_the_wrong_cluster_node_or_version_is_refused_with_what_was_found(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        hello = client_hello()
        with pytest.raises(errors.WrongClusterError, match=f"other was expected.*{CLUSTER}"):
            await pair.client.connect(
                listener.address, msgspec.structs.replace(hello, cluster_id="other"), pair.caller
            )
        with pytest.raises(errors.WrongClusterError, match="n9 was expected, but n2 answered"):
            await pair.client.connect(
                listener.address,
                msgspec.structs.replace(hello, target_node_id=NodeId(9)),
                pair.caller,
            )
        with pytest.raises(errors.ProtocolError, match="version 9, this one speaks version 1"):
            await pair.client.connect(
                listener.address, msgspec.structs.replace(hello, protocol_version=9), pair.caller
            )
        assert pair.caller.handlers == pair.door.handlers == []
        await pair.close(listener)

    run_on(carrier, main)


def test_an_acceptor_refuses_with_its_own_reason(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, door=Door(refusal=errors.StoppedError(what="node n2")))
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        with pytest.raises(errors.NodeUnavailableError, match="node n2 is closed"):
            await pair.client.connect(listener.address, client_hello(), pair.caller)
        await pair.close(listener)

    run_on(carrier, main)


def test_one_connection_over_the_limit_is_refused_until_another_goes(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, msgspec.structs.replace(CONFIG, connections_max=2))
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        first = await pair.client.connect(listener.address, client_hello(), pair.caller)
        await pair.client.connect(listener.address, client_hello(), pair.caller)
        with pytest.raises(errors.NodeUnavailableError, match="accepts 2 connections"):
            await pair.client.connect(listener.address, client_hello(), pair.caller)
        first.close()
        await pair.door.handlers[0].end()
        # The place is free once the carrier is gone, a few iterations after the end.
        while True:
            try:
                await pair.client.connect(listener.address, client_hello(), pair.caller)
                break
            except errors.NodeUnavailableError:
                continue
        await pair.close(listener)

    run_on(carrier, main)


def test_a_handler_that_fails_costs_its_connection_and_nothing_else(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, door=Door(fails_on=b"poison", echoes=True))
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        bad = await pair.client.connect(listener.address, client_hello(), pair.caller)
        good = await pair.client.connect(listener.address, client_hello(), pair.caller)
        bad.send(FrameKind.REQUESTS, b"poison")
        assert await pair.caller.handlers[0].end() == "internal error: ZeroDivisionError"
        assert [type(error) for error in pair.door.errors] == [ZeroDivisionError]
        good.send(FrameKind.REQUESTS, b"fine")
        assert await pair.caller.handlers[1].got(1) == [(FrameKind.REPLIES, b"fine")]
        await pair.close(listener)

    run_on(carrier, main)


def test_a_peer_that_never_reads_is_closed_and_what_waits_is_bounded(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, door=Door())
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        reader = await pair.client.connect(listener.address, client_hello(), pair.caller)
        reader.pause_reading()
        server_end = pair.door.handlers[0]
        most = 0
        while not server_end.reasons:
            server_end.connection.send(FrameKind.REPLIES, bytes(65_536))
            most = max(most, server_end.connection.buffered_bytes)
            await asyncio.sleep(0)
        assert server_end.reasons[0].startswith("slow reader: ")
        assert most <= CONFIG.send_buffer_bytes_max + 2 * 65_536
        reader.close()
        await pair.close(listener)

    run_on(carrier, main)


def test_a_paused_reader_gets_everything_after_it_resumes(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier, door=Door())
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        reader = await pair.client.connect(listener.address, client_hello(), pair.caller)
        handler = pair.caller.handlers[0]
        reader.pause_reading()
        server_end = pair.door.handlers[0].connection
        for number in range(10):
            server_end.send(FrameKind.REPLIES, b"%d" % number)
        for _ in range(20):
            await asyncio.sleep(0)
        assert handler.frames == []
        reader.resume_reading()
        assert await handler.got(10) == [(FrameKind.REPLIES, b"%d" % n) for n in range(10)]
        assert server_end.buffered_bytes == 0
        await pair.close(listener)

    run_on(carrier, main)


def test_a_cancelled_connect_leaves_no_connection_behind(carrier: str) -> None:
    async def main() -> None:
        pair = Pair(carrier)
        listener = await pair.server.listen("127.0.0.1:0", pair.door.accept)
        for iterations in range(8):
            attempt = asyncio.ensure_future(
                pair.client.connect(listener.address, client_hello(), pair.caller)
            )
            for _ in range(iterations):
                await asyncio.sleep(0)
            if attempt.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await attempt
        await listener.close()
        for handler in (*pair.door.handlers, *pair.caller.handlers):
            await handler.end()
            await handler.connection.wait_closed()

    run_on(carrier, main)
