"""What is particular to connections within a process: time, order, and the same objects."""

import asyncio

import pytest

from multiraft import errors
from multiraft.config import NetConfig
from multiraft.net.inproc import InprocConnection, InprocTransport
from multiraft.net.links import InprocNetwork, Link
from multiraft.net.transport import FrameKind
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from tests.support.peers import Door, Frame, Recorder, client_hello


class ScriptedLink:
    """A link that takes as long as the test says; None breaks the connection."""

    def __init__(self) -> None:
        self.delays: list[float | None] = []
        self.sizes: list[int] = []

    def delay_s(self, size_bytes: int) -> float | None:
        self.sizes.append(size_bytes)
        return self.delays.pop(0) if self.delays else 0.0


class Cluster:
    """Node a connected to node b."""

    def __init__(self, config: NetConfig | None = None) -> None:
        self.links: dict[tuple[str, str], ScriptedLink] = {}
        self.network = InprocNetwork(config, self._make_link)
        self.door = Door()
        self.caller = Door()
        self.a = InprocTransport(self.network, "a", self.caller.on_error)
        self.b = InprocTransport(self.network, "b", self.door.on_error)
        self.address = ""

    def _make_link(self, source: str, destination: str) -> Link:
        self.links[source, destination] = link = ScriptedLink()
        return link

    async def join(self) -> tuple[InprocConnection, Recorder, Recorder]:
        """Connect; return a's end and both handlers."""
        self.address = (await self.b.listen("10.0.0.2:0", self.door.accept)).address
        connection = await self.a.connect(self.address, client_hello(), self.caller)
        return connection, self.caller.handlers[-1], self.door.handlers[-1]


def texts(frames: list[Frame]) -> list[bytes]:
    return [payload for _, payload in frames]


def test_payloads_arrive_as_the_same_objects_and_never_from_within_send() -> None:
    async def main(loop: VirtualLoop) -> None:
        connection, _, there = await Cluster().join()
        payload = bytes(1_000)
        connection.send(FrameKind.RAFT, payload)
        assert there.frames == []
        (frame,) = await there.got(1)
        assert frame[1] is payload

    virtual_loop.run(main)


def test_frames_of_one_iteration_are_one_batch_to_the_link() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, _, there = await cluster.join()
        for _ in range(3):
            connection.send(FrameKind.RAFT, bytes(100))
        await there.got(3)
        assert cluster.links["a", "b"].sizes[-1] == 300

    virtual_loop.run(main)


def test_a_slow_link_delays_without_reordering() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, _, there = await cluster.join()
        cluster.links["a", "b"].delays = [0.5, 0.0, 0.7]
        for payload in (b"1", b"2", b"3"):
            connection.send(FrameKind.RAFT, payload)
            await asyncio.sleep(0)
        await asyncio.sleep(0.49)
        assert there.frames == []
        assert connection.buffered_bytes == 3
        assert texts(await there.got(2)) == [b"1", b"2"]
        assert loop.time() == pytest.approx(0.5)
        assert texts(await there.got(3)) == [b"1", b"2", b"3"]
        assert loop.time() == pytest.approx(0.7)
        assert connection.buffered_bytes == 0

    virtual_loop.run(main)


def test_a_link_may_break_the_connection_at_both_ends() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        cluster.links["a", "b"].delays = [None]
        connection.send(FrameKind.RAFT, b"lost")
        assert await here.end() == await there.end() == "the connection broke"
        assert there.frames == []

    virtual_loop.run(main)


def test_a_cut_holds_one_direction_until_it_heals() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        cluster.network.cut("a", "b")
        connection.send(FrameKind.RAFT, b"held")
        there.connection.send(FrameKind.RAFT, b"passes")
        assert texts(await here.got(1)) == [b"passes"]
        await asyncio.sleep(60.0)
        connection.send(FrameKind.RAFT, b"held too")
        await asyncio.sleep(0)
        assert there.frames == []
        assert connection.buffered_bytes == 12
        cluster.network.heal("a", "b")
        assert texts(await there.got(2)) == [b"held", b"held too"]

    virtual_loop.run(main)


def test_frames_on_their_way_when_the_link_is_cut_are_held_too() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, _, there = await cluster.join()
        cluster.links["a", "b"].delays = [1.0]
        connection.send(FrameKind.RAFT, b"on its way")
        await asyncio.sleep(0.5)
        cluster.network.cut("a", "b")
        await asyncio.sleep(5.0)
        assert there.frames == []
        cluster.network.heal("a", "b")
        assert texts(await there.got(1)) == [b"on its way"]

    virtual_loop.run(main)


def test_a_cut_link_does_not_hold_without_limit() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(NetConfig(send_buffer_bytes_max=1_000))
        connection, here, there = await cluster.join()
        cluster.network.cut("a", "b")
        for _ in range(11):
            connection.send(FrameKind.RAFT, bytes(100))
            await asyncio.sleep(0)
        assert (await here.end()).startswith("slow reader: 1100 bytes")
        cluster.network.heal("a", "b")
        assert await there.end() == "the connection broke: reset by the other end"
        assert there.frames == []

    virtual_loop.run(main)


def test_an_isolated_node_neither_hears_nor_is_heard_until_it_rejoins() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        cluster.network.isolate("b")
        connection.send(FrameKind.RAFT, b"to b")
        there.connection.send(FrameKind.RAFT, b"from b")
        await asyncio.sleep(1.0)
        assert (here.frames, there.frames) == ([], [])
        with pytest.raises(errors.NodeUnavailableError, match="no answer in time"):
            await cluster.a.connect(cluster.address, client_hello(), cluster.caller)
        assert loop.time() == pytest.approx(3.0)
        cluster.network.rejoin("b")
        assert texts(await there.got(1)) == [b"to b"]
        assert texts(await here.got(1)) == [b"from b"]
        await asyncio.sleep(1.0)
        assert len(cluster.door.hellos) == 1, "the attempt that was given up does not arrive"

    virtual_loop.run(main)


def test_a_goodbye_crosses_a_cut_link_when_it_heals() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        cluster.network.cut("a", "b")
        connection.close("I am done")
        assert await here.end() == "I am done"
        await asyncio.sleep(10.0)
        assert there.reasons == []
        cluster.network.heal("a", "b")
        assert await there.end() == "I am done"

    virtual_loop.run(main)


def test_connections_between_two_nodes_can_be_broken() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        connection.send(FrameKind.RAFT, b"lost")
        cluster.network.break_connections("b", "c")
        assert here.reasons == []
        cluster.network.break_connections("b", "a")
        assert await here.end() == await there.end() == "the connection broke"
        assert there.frames == []
        again = await cluster.a.connect(cluster.address, client_hello(), cluster.caller)
        again.send(FrameKind.RAFT, b"works")
        assert texts(await cluster.door.handlers[1].got(1)) == [b"works"]

    virtual_loop.run(main)


def test_a_crashed_node_hears_nothing_and_its_peers_see_a_reset() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        connection, here, there = await cluster.join()
        there.connection.send(FrameKind.RAFT, b"never left")
        connection.send(FrameKind.RAFT, b"never read")
        cluster.network.crash("b")
        assert await here.end() == "the connection broke: reset by the other end"
        assert (here.frames, there.frames, there.reasons) == ([], [], [])
        with pytest.raises(errors.NodeUnavailableError, match="nobody listens"):
            await cluster.a.connect(cluster.address, client_hello(), cluster.caller)
        restarted = InprocTransport(cluster.network, "b", cluster.door.on_error)
        await restarted.listen(cluster.address, cluster.door.accept)
        await cluster.a.connect(cluster.address, client_hello(), cluster.caller)

    virtual_loop.run(main)


def test_a_connection_that_reaches_a_node_after_its_crash_is_refused() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        await cluster.join()
        cluster.links["a", "b"].delays = [1.0]
        attempt = asyncio.ensure_future(
            cluster.a.connect(cluster.address, client_hello(), cluster.caller)
        )
        await asyncio.sleep(0.5)
        cluster.network.crash("b")
        with pytest.raises(errors.NodeUnavailableError):
            await attempt
        assert len(cluster.door.hellos) == 1

    virtual_loop.run(main)


def test_ports_that_were_not_named_are_all_different() -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster()
        found = [(await cluster.b.listen("h:0", cluster.door.accept)).address for _ in range(3)]
        assert len(set(found)) == 3

    virtual_loop.run(main)


def test_the_links_of_a_name_that_does_not_come_again_are_forgotten() -> None:
    network = InprocNetwork()
    kept = network.link("a", "b")
    gone = [network.link("a", "c"), network.link("c", "a")]
    network.forget("c")
    assert network.link("a", "b") is kept
    assert all(link not in gone for link in (network.link("a", "c"), network.link("c", "a")))
