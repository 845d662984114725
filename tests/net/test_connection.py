"""One end of a TCP connection on virtual time: the test holds the other end of the wire."""

import asyncio
from collections.abc import Awaitable, Callable

import msgspec
import pytest

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net import frames, handshake
from multiraft.net.sides import AcceptingSide, Admissions, ConnectingSide
from multiraft.net.tcp import TcpConnection
from multiraft.net.transport import FrameKind, Hello
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from tests.support.peers import Door, Recorder, client_hello, server_welcome
from tests.support.wire import Wire

CONFIG = NetConfig(send_buffer_bytes_max=10_000, frame_bytes_max=8_000)
HELLO_FRAME = frames.encode(FrameKind.HELLO, handshake.encode_hello(client_hello()))
WELCOME_FRAME = frames.encode(FrameKind.WELCOME, handshake.encode_welcome(server_welcome()))


class Accepted:
    """An accepting end and what surrounds it."""

    def __init__(
        self,
        loop: VirtualLoop,
        door: Door | None = None,
        *,
        config: NetConfig = CONFIG,
        can_half_close: bool = True,
    ) -> None:
        self.door = door or Door()
        self.admissions = Admissions(config.connections_max)
        self.side = AcceptingSide(self.door.accept, self.admissions, self.door.on_error)
        self.connection = TcpConnection(loop, config, self.side, config.hello_bytes_max)
        self.wire = Wire(self.connection, can_half_close=can_half_close)

    async def open(self) -> Recorder:
        """Shake hands; return the handler."""
        self.wire.feed(HELLO_FRAME)
        await turn()
        (handler,) = self.door.handlers
        self.wire.writes.clear()
        return handler


async def turn() -> None:
    """Let everything run that is ready."""
    for _ in range(3):
        await asyncio.sleep(0)


def on_virtual_time(test: Callable[[VirtualLoop], Awaitable[None]]) -> Callable[[], None]:
    """Make a plain test of a coroutine that wants the virtual loop."""

    def run() -> None:
        async def main(loop: VirtualLoop) -> None:
            await test(loop)

        virtual_loop.run(main)

    run.__name__ = test.__name__
    run.__doc__ = test.__doc__
    return run


@on_virtual_time
async def test_a_hello_is_answered_and_the_handler_gets_what_follows(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    end.wire.feed(HELLO_FRAME + frames.encode(FrameKind.REQUESTS, b"early"))
    await turn()
    assert end.wire.writes == [WELCOME_FRAME]
    assert end.door.handlers[0].frames == [(FrameKind.REQUESTS, b"early")]
    assert end.connection.hello == client_hello()
    assert end.connection.welcome == server_welcome()
    assert end.connection.peer_address == "192.0.2.1:5000"


@on_virtual_time
async def test_a_stream_torn_at_any_byte_opens_and_delivers_all_the_same(loop: VirtualLoop) -> None:
    stream = HELLO_FRAME + frames.encode(FrameKind.RAFT, b"payload")
    for cut in range(len(stream)):
        end = Accepted(loop)
        end.wire.feed(stream[:cut])
        end.wire.feed(stream[cut:])
        assert end.door.handlers[0].frames == [(FrameKind.RAFT, b"payload")], cut
        end.connection.abort()


@on_virtual_time
async def test_a_stranger_that_drips_bytes_is_closed_when_its_time_is_over(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop)
    for at in range(len(HELLO_FRAME) - 1):
        await asyncio.sleep(4.9 / len(HELLO_FRAME))
        end.wire.feed(HELLO_FRAME[at : at + 1])
    assert not end.wire.is_lost
    await asyncio.sleep(5.01 - loop.time())
    assert end.wire.is_lost
    assert end.wire.goodbye().reason == "no handshake within 5000 ms"
    assert end.admissions.refused == 1
    assert end.admissions.present == 0


@on_virtual_time
async def test_no_timer_outlives_the_handshake(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    await asyncio.sleep(60.0)
    assert not end.wire.is_lost


@on_virtual_time
async def test_a_stranger_may_not_announce_more_than_a_hello(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    end.wire.feed((CONFIG.hello_bytes_max + 1).to_bytes(4, "big"))
    await turn()
    assert end.wire.is_lost
    assert "at most 4096 are accepted here" in end.wire.goodbye().reason
    assert end.wire.goodbye().code == "protocol"


@on_virtual_time
async def test_after_the_handshake_the_limit_is_that_of_frames(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.feed_frame(FrameKind.REQUESTS, bytes(CONFIG.frame_bytes_max))
    assert len(handler.frames) == 1
    end.wire.feed((CONFIG.frame_bytes_max + 1).to_bytes(4, "big"))
    assert "8001 bytes is announced" in await handler.end()


@on_virtual_time
async def test_a_refusal_by_the_acceptor_is_sent_with_its_code(loop: VirtualLoop) -> None:
    end = Accepted(loop, Door(refusal=errors.WrongClusterError("n3 was replaced")))
    end.wire.feed(HELLO_FRAME)
    await turn()
    assert end.wire.is_lost
    assert end.wire.goodbye() == handshake.Goodbye("n3 was replaced", "wrong_cluster")
    assert end.admissions.last_refusal == "192.0.2.1:5000: n3 was replaced"
    assert end.door.errors == []


@on_virtual_time
async def test_an_acceptor_that_fails_is_reported_and_costs_one_connection(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop, Door(refusal=ZeroDivisionError("a mistake")))
    end.wire.feed(HELLO_FRAME)
    await turn()
    assert end.wire.is_lost
    assert end.wire.goodbye().reason == "internal error: ZeroDivisionError"
    assert [type(error) for error in end.door.errors] == [ZeroDivisionError]


@on_virtual_time
async def test_one_connection_over_the_limit_is_refused_unread(loop: VirtualLoop) -> None:
    config = msgspec.structs.replace(CONFIG, connections_max=1)
    first = Accepted(loop, config=config)
    second = TcpConnection(loop, config, first.side, config.hello_bytes_max)
    wire = Wire(second)
    await turn()
    assert wire.is_lost
    assert wire.goodbye().code == "overloaded"
    first.connection.abort()
    await turn()
    third = TcpConnection(loop, config, first.side, config.hello_bytes_max)
    assert not Wire(third).is_closing()


@on_virtual_time
async def test_a_connection_that_arrives_while_the_listener_stops_is_refused(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop)
    end.side.stop()
    wire = Wire(TcpConnection(loop, CONFIG, end.side, CONFIG.hello_bytes_max))
    await turn()
    assert wire.is_lost
    assert wire.goodbye().code == "stopped"


class Connecting:
    """A connecting end and what surrounds it."""

    def __init__(self, loop: VirtualLoop, hello: Hello | None = None) -> None:
        self.door = Door()
        self.side = ConnectingSide(
            loop, "there:1", hello or client_hello(), self.door, self.door.on_error
        )
        self.connection = TcpConnection(loop, CONFIG, self.side, CONFIG.welcome_bytes_max)
        self.wire = Wire(self.connection)


@on_virtual_time
async def test_the_connecting_side_speaks_first_and_opens_on_the_welcome(
    loop: VirtualLoop,
) -> None:
    end = Connecting(loop)
    await turn()
    assert end.wire.writes == [HELLO_FRAME]
    end.wire.feed(WELCOME_FRAME + frames.encode(FrameKind.REPLIES, b"hi"))
    await end.side.opened
    assert end.door.handlers[0].frames == [(FrameKind.REPLIES, b"hi")]


@on_virtual_time
async def test_a_goodbye_in_place_of_the_welcome_is_the_error_of_connect(
    loop: VirtualLoop,
) -> None:
    end = Connecting(loop)
    end.wire.feed_frame(FrameKind.GOODBYE, handshake.encode_goodbye("full", "overloaded"))
    with pytest.raises(errors.NodeUnavailableError, match="there:1 is not reachable: full"):
        await end.side.opened
    await turn()
    assert end.wire.is_lost


@on_virtual_time
async def test_a_welcome_from_another_cluster_is_refused_by_the_connecting_side(
    loop: VirtualLoop,
) -> None:
    end = Connecting(loop, msgspec.structs.replace(client_hello(), cluster_id="mine"))
    end.wire.feed(WELCOME_FRAME)
    with pytest.raises(errors.WrongClusterError, match="mine was expected"):
        await end.side.opened
    await turn()
    assert end.wire.goodbye().code == "wrong_cluster"


@on_virtual_time
async def test_an_end_during_the_handshake_is_the_error_of_connect(loop: VirtualLoop) -> None:
    end = Connecting(loop)
    end.wire.hang_up()
    with pytest.raises(errors.NodeUnavailableError, match="same on both ends"):
        await end.side.opened
    other = Connecting(loop)
    other.wire.lose(ConnectionResetError("reset"))
    with pytest.raises(errors.NodeUnavailableError, match="broke: reset"):
        await other.side.opened


@on_virtual_time
async def test_a_frame_leaves_at_once_in_one_write(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    for number in range(100):
        end.connection.send(FrameKind.RAFT, b"%d" % number)
        assert len(end.wire.writes) == number + 1
    assert [payload for _, payload in end.wire.frames()] == [b"%d" % n for n in range(100)]
    assert end.connection.buffered_bytes == 0


@on_virtual_time
async def test_a_slow_reader_is_closed_and_what_waits_stays_bounded(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.takes = False
    sent = 0
    while not end.connection.ended:
        end.connection.send(FrameKind.REPLIES, bytes(1_000))
        sent += 1_000
        await asyncio.sleep(0)
    assert CONFIG.send_buffer_bytes_max - 1_013 <= sent <= CONFIG.send_buffer_bytes_max + 1_000
    assert (await handler.end()).startswith("slow reader: ")
    await turn()
    assert end.wire.is_lost


@on_virtual_time
async def test_a_flood_within_one_loop_iteration_is_bounded_too(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.takes = False
    for _ in range(1_000):
        end.connection.send(FrameKind.REPLIES, bytes(1_000))
    assert end.connection.buffered_bytes <= CONFIG.send_buffer_bytes_max + 1_013
    assert (await handler.end()).startswith("slow reader: ")


@on_virtual_time
async def test_sending_after_the_end_does_nothing(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    end.wire.lose(None)
    end.connection.send(FrameKind.RAFT, b"late")
    await turn()
    assert end.wire.writes == []
    assert end.connection.buffered_bytes == 0


@on_virtual_time
async def test_a_frame_that_no_receiver_would_accept_is_our_mistake(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    with pytest.raises(AssertionError, match="over the limit"):
        end.connection.send(FrameKind.RAFT, bytes(CONFIG.frame_bytes_max + 1))


@on_virtual_time
async def test_close_sends_what_was_queued_then_the_reason_then_waits_for_the_peer(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.connection.send(FrameKind.REPLIES, b"last")
    end.connection.close("enough")
    assert handler.reasons == [], "closed is never called from within close"
    await turn()
    assert handler.reasons == ["enough"]
    assert end.wire.frames()[0] == (FrameKind.REPLIES, b"last")
    assert end.wire.goodbye().reason == "enough"
    assert end.wire.is_half_closed
    assert not end.wire.is_lost
    end.wire.hang_up()
    await turn()
    assert end.wire.is_lost
    assert handler.reasons == ["enough"]


@on_virtual_time
async def test_a_peer_that_does_not_hang_up_is_cut_off(loop: VirtualLoop) -> None:
    for can_half_close in (True, False):
        end = Accepted(loop, can_half_close=can_half_close)
        await end.open()
        end.wire.takes = False
        end.connection.close("enough")
        await asyncio.sleep(0.99)
        assert not end.wire.is_lost
        await asyncio.sleep(0.02)
        assert end.wire.is_lost
        assert end.admissions.present == 0


@on_virtual_time
async def test_frames_after_the_end_are_not_delivered(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.connection.close("enough")
    end.wire.feed_frame(FrameKind.REQUESTS, b"late")
    end.wire.feed(b"garbage that nobody parses")
    await turn()
    assert handler.frames == []
    assert handler.reasons == ["enough"]


@on_virtual_time
async def test_a_handler_that_closes_gets_no_further_frame_of_the_same_read(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop)
    handler = await end.open()
    received = handler.received

    def close_on_the_first(kind: FrameKind, payload: bytes) -> None:
        received(kind, payload)
        end.connection.close("one is enough")

    handler.received = close_on_the_first  # type: ignore[method-assign]
    end.wire.feed(frames.encode(FrameKind.RAFT, b"1") + frames.encode(FrameKind.RAFT, b"2"))
    await turn()
    assert handler.frames == [(FrameKind.RAFT, b"1")]


@on_virtual_time
async def test_the_peers_goodbye_ends_the_connection_with_its_reason(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.feed_frame(FrameKind.GOODBYE, handshake.encode_goodbye("n2 is stopping"))
    await turn()
    assert handler.reasons == ["n2 is stopping"]
    assert end.wire.writes == [], "a goodbye is not answered"
    end.wire.hang_up()
    await turn()
    assert end.wire.is_lost


@on_virtual_time
async def test_a_stream_that_ends_inside_a_frame_says_so(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.feed(frames.encode(FrameKind.RAFT, b"abc")[:-1])
    end.wire.hang_up()
    assert await handler.end() == "the other end closed the connection 15 bytes into a frame"
    assert handler.frames == []


@on_virtual_time
async def test_damage_ends_the_connection_with_the_reason_on_both_ends(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    damaged = bytearray(frames.encode(FrameKind.RAFT, b"abc"))
    damaged[-1] ^= 1
    end.wire.feed(frames.encode(FrameKind.RAFT, b"good") + damaged)
    assert handler.frames == [(FrameKind.RAFT, b"good")]
    assert "does not match its checksum" in await handler.end()
    assert end.wire.goodbye().reason == handler.reasons[0]
    assert end.door.errors == []


@on_virtual_time
async def test_a_second_hello_is_refused(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.feed(HELLO_FRAME)
    assert await handler.end() == "HELLO came after the handshake"


@on_virtual_time
async def test_a_handler_that_fails_is_reported_and_costs_its_connection_only(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop, Door(fails_on=b"poison"))
    handler = await end.open()
    end.wire.feed(frames.encode(FrameKind.RAFT, b"poison") + frames.encode(FrameKind.RAFT, b"x"))
    assert await handler.end() == "internal error: ZeroDivisionError"
    assert handler.frames == []
    assert [type(error) for error in end.door.errors] == [ZeroDivisionError]


@on_virtual_time
async def test_an_error_of_a_request_that_escapes_a_handler_is_reported_as_a_mistake(
    loop: VirtualLoop,
) -> None:
    end = Accepted(loop)
    handler = await end.open()

    def fail(kind: FrameKind, payload: bytes) -> None:
        raise errors.StoppedError(what="the store")

    handler.received = fail  # type: ignore[method-assign]
    end.wire.feed_frame(FrameKind.RAFT, b"x")
    assert await handler.end() == "internal error: StoppedError"
    assert [type(error) for error in end.door.errors] == [errors.StoppedError]


@on_virtual_time
async def test_a_handler_that_fails_in_closed_is_reported(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()

    def fail(reason: str) -> None:
        raise ZeroDivisionError(reason)

    handler.closed = fail  # type: ignore[method-assign]
    end.wire.lose(None)
    await turn()
    assert [type(error) for error in end.door.errors] == [ZeroDivisionError]
    assert end.admissions.present == 0


@on_virtual_time
async def test_a_broken_connection_tells_the_handler_once(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    handler = await end.open()
    end.wire.lose(ConnectionResetError("reset by peer"))
    end.connection.close("too late")
    await turn()
    assert handler.reasons == ["the connection broke: reset by peer"]


@on_virtual_time
async def test_reading_can_be_paused_and_resumed(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    end.connection.pause_reading()
    end.connection.pause_reading()
    assert not end.wire.reads
    end.connection.resume_reading()
    assert end.wire.reads


@on_virtual_time
async def test_closing_reads_on_so_that_the_peers_end_is_seen(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    end.connection.pause_reading()
    end.connection.close("enough")
    end.connection.pause_reading()
    assert end.wire.reads


@on_virtual_time
async def test_pausing_a_connection_that_is_gone_does_nothing(loop: VirtualLoop) -> None:
    end = Accepted(loop)
    await end.open()
    end.wire.lose(None)
    end.connection.pause_reading()
    end.connection.resume_reading()
    end.connection.abort()
    await turn()
