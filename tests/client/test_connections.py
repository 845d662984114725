import asyncio
from collections.abc import Awaitable, Callable

import pytest

from multiraft import errors
from multiraft.client import connections
from multiraft.client.connections import Connections, Link
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding
from multiraft.model.requests import BatchReply, BatchRequest, Get, Put, ReplyFrame
from multiraft.net.transport import FrameKind, Welcome
from multiraft.sim import loop as virtual_loop
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.randomness import SeededRng
from tests.support.fake_cluster import FakeCluster, FakeConnection, FakeTransport, Plan

N1, N2, N3 = NodeId(1), NodeId(2), NodeId(3)
REQUEST = BatchRequest(RangeId(2), (Get(b"\x10a"),))


class Asker:
    """A caller that remembers how its calls ended."""

    def __init__(self) -> None:
        self.expires = 1e9
        self.replies: dict[int, BatchReply] = {}
        self.failures: dict[int, errors.MultiraftError] = {}

    def replied(self, call_id: int, reply: BatchReply) -> None:
        assert call_id not in self.replies, "a call is answered once"
        self.replies[call_id] = reply

    def unanswered(self, call_id: int, error: errors.MultiraftError) -> None:
        assert call_id not in self.failures, "a call is answered once"
        self.failures[call_id] = error


class Desk:
    """Connections to a cluster, and what they reported."""

    def __init__(self, loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        self.cluster = FakeCluster(clock)
        self.transport = FakeTransport(self.cluster)
        self.welcomes: list[Welcome] = []
        self.clocks: list[Timestamp] = []
        self.pool = Connections(
            self.transport,
            clock,
            SeededRng(),
            seeds=("c1-n1:7000",),
            on_welcome=self.welcomes.append,
            on_clock=self.clocks.append,
        )

    async def link(self, node_id: NodeId) -> tuple[Link, FakeConnection]:
        link = await self.pool.open(node_id)
        [connection] = [c for c in self.cluster.connections if c.welcome.node_id == node_id]
        return link, connection


def run(main: Callable[[Desk], Awaitable[None]]) -> None:
    async def with_desk(loop: VirtualLoop) -> None:
        desk = Desk(loop)
        await desk.pool.refresh()
        await main(desk)
        await desk.pool.close()

    virtual_loop.run(with_desk)


def test_a_welcome_tells_where_all_nodes_are() -> None:
    async def main(desk: Desk) -> None:
        assert sorted(desk.pool.peers) == [N1, N2, N3]
        assert desk.pool.cluster_id == "c1"
        assert len(desk.welcomes) == 1

    run(main)


def test_a_node_is_connected_to_once_however_many_ask() -> None:
    async def main(desk: Desk) -> None:
        links = await asyncio.gather(*(desk.pool.open(N2) for _ in range(10)))
        assert len(set(map(id, links))) == 1
        assert desk.transport.attempts == ["c1-n1:7000", "c1-n2:7000"]

    run(main)


def test_one_who_is_cancelled_while_connecting_does_not_disturb_the_others() -> None:
    async def main(desk: Desk) -> None:
        first = asyncio.ensure_future(desk.pool.open(N2))
        second = asyncio.ensure_future(desk.pool.open(N2))
        await asyncio.sleep(0)
        first.cancel()
        assert (await second).node_id == N2

    run(main)


def test_calls_of_one_iteration_share_a_frame_and_each_gets_its_reply() -> None:
    async def main(desk: Desk) -> None:
        link, connection = await desk.link(N2)
        asker = Asker()
        sent = [link.call(REQUEST, asker) for _ in range(10)]
        assert connection.frames == 0
        await asyncio.sleep(0.1)
        assert connection.frames == 1
        assert sorted(asker.replies) == sent
        assert desk.clocks[-1] == max(r.clock for r in asker.replies.values())

    run(main)


def test_many_calls_and_large_calls_are_spread_over_frames() -> None:
    async def main(desk: Desk) -> None:
        link, connection = await desk.link(N2)
        asker = Asker()
        for _ in range(connections.FRAME_CALLS_MAX + 1):
            link.call(REQUEST, asker)
        await asyncio.sleep(0.1)
        assert connection.frames == 2
        large = BatchRequest(RangeId(2), (Put(b"\x10a", bytes(3 << 20)),), b"i" * 16)
        for _ in range(4):
            link.call(large, asker)
        await asyncio.sleep(0.1)
        assert connection.frames == 2 + 2
        assert len(asker.replies) == connections.FRAME_CALLS_MAX + 1 + 4

    run(main)


def test_while_the_node_does_not_read_calls_wait_here() -> None:
    async def main(desk: Desk) -> None:
        link, connection = await desk.link(N2)
        connection.buffered_bytes = connections.BUFFERED_BYTES_MAX + 1
        asker = Asker()
        kept, forgotten = link.call(REQUEST, asker), link.call(REQUEST, asker)
        await asyncio.sleep(1.0)
        assert connection.frames == 0
        link.forget(forgotten)
        connection.buffered_bytes = 0
        await asyncio.sleep(1.0)
        assert connection.frames == 1
        assert list(asker.replies) == [kept]
        assert len(desk.cluster.requests) == 1, "what was forgotten in time is not sent"

    run(main)


def test_a_broken_connection_fails_its_calls_and_the_next_open_makes_another() -> None:
    async def main(desk: Desk) -> None:
        link, connection = await desk.link(N2)
        desk.cluster.intercept = lambda _node, _request: Plan(drop_reply=True)
        asker = Asker()
        call_id = link.call(REQUEST, asker)
        await asyncio.sleep(0.1)
        connection.break_("reset by peer")
        await asyncio.sleep(0)
        assert isinstance(asker.failures[call_id], errors.NodeUnavailableError)
        assert "n2 is not reachable: reset by peer" in str(asker.failures[call_id])
        assert await desk.pool.open(N2) is not link

    run(main)


def test_a_connection_that_breaks_as_it_is_made_is_given_to_nobody() -> None:
    async def main(desk: Desk) -> None:
        observe = desk.pool.observe

        def break_now(clock: Timestamp) -> None:
            desk.pool.observe = observe
            desk.cluster.connections[-1].break_("reset by peer")

        desk.pool.observe = break_now
        waiting = [asyncio.ensure_future(desk.pool.open(N2)) for _ in range(2)]
        for opening in waiting:
            with pytest.raises(errors.NodeUnavailableError, match="reset by peer"):
                await opening
        assert N2 not in desk.pool.links
        assert await desk.pool.open(N2) is desk.pool.links[N2]

    run(main)


def test_a_forgotten_call_is_not_answered() -> None:
    async def main(desk: Desk) -> None:
        link, connection = await desk.link(N2)
        asker = Asker()
        link.forget(link.call(REQUEST, asker))
        late = link.call(REQUEST, asker)
        await asyncio.sleep(0)
        link.forget(late)
        await asyncio.sleep(0.1)
        connection.break_("gone")
        await asyncio.sleep(0.1)
        assert (asker.replies, asker.failures) == ({}, {})

    run(main)


def test_a_reply_to_an_unknown_call_is_ignored_and_an_alien_frame_is_not() -> None:
    async def main(desk: Desk) -> None:
        link, _ = await desk.link(N2)
        link.received(FrameKind.REPLIES, encoding.pack(ReplyFrame(((999, BatchReply(())),))))
        with pytest.raises(errors.ProtocolError, match="RAFT"):
            link.received(FrameKind.RAFT, b"")

    run(main)


def test_a_node_that_cannot_be_reached_is_left_alone_for_longer_each_time() -> None:
    async def main(desk: Desk) -> None:
        desk.cluster.down = {N3}
        began = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() < began + 60.0:
            with pytest.raises(errors.NodeUnavailableError, match="it is down"):
                await desk.pool.open(N3)
            await asyncio.sleep(0.01)
        assert 30 <= desk.transport.attempts.count("c1-n3:7000") <= 80
        desk.cluster.down.clear()
        await asyncio.sleep(2.0)
        assert (await desk.pool.open(N3)).node_id == N3
        assert desk.pool.peers[N3].failures == 0

    run(main)


def test_a_node_nobody_has_heard_of_is_unavailable() -> None:
    async def main(desk: Desk) -> None:
        with pytest.raises(errors.NodeUnavailableError, match="address is not known"):
            await desk.pool.open(NodeId(9))

    run(main)


def test_a_node_that_joined_later_is_asked_for_and_found() -> None:
    async def main(desk: Desk) -> None:
        joined = NodeId(4)
        desk.cluster.node_ids = (*desk.cluster.node_ids, joined)
        both = await asyncio.gather(desk.pool.open(joined), desk.pool.open(joined))
        assert [link.node_id for link in both] == [joined, joined]
        assert len(desk.welcomes) == 3, "of the start, of the question, and of the new node"

    run(main)


def test_a_node_that_moved_is_found_at_its_new_address() -> None:
    async def main(desk: Desk) -> None:
        desk.pool.peers[N2].address = "elsewhere:1"
        with pytest.raises(errors.NodeUnavailableError):
            await desk.pool.open(N2)
        await desk.pool.refresh()
        assert (await desk.pool.open(N2)).node_id == N2

    run(main)


def test_refresh_asks_a_connected_node_then_known_ones_then_the_seeds() -> None:
    async def main(desk: Desk) -> None:
        await desk.pool.refresh()
        assert desk.transport.attempts == ["c1-n1:7000"]
        assert len(desk.welcomes) == 2
        desk.cluster.stop(N1)
        await asyncio.sleep(0)
        await desk.pool.refresh()
        assert len(desk.welcomes) == 3
        assert desk.transport.attempts[-1] in {"c1-n2:7000", "c1-n3:7000"}
        for node_id in (N2, N3):
            desk.cluster.stop(node_id)
        await asyncio.sleep(0)
        with pytest.raises(errors.NodeUnavailableError, match="it is down"):
            await desk.pool.refresh()
        assert desk.transport.attempts[-1] == "c1-n1:7000"

    run(main)


def test_a_node_that_does_not_answer_a_refresh_is_passed_over() -> None:
    async def main(desk: Desk) -> None:
        _, connection = await desk.link(N1)
        connection.is_mute = True
        await desk.pool.refresh()
        assert len(desk.welcomes) == 2

    run(main)


def test_a_node_that_does_not_know_the_first_range_is_not_the_last_to_be_asked() -> None:
    async def main(desk: Desk) -> None:
        desk.cluster.newcomers.add(N1)
        await desk.pool.refresh()
        *_, of_connected, of_known = desk.welcomes
        assert (of_connected.node_id, of_connected.first_range) == (N1, None)
        assert of_known.node_id != N1
        assert of_known.first_range is not None

    run(main)


def test_a_cluster_in_which_nobody_knows_the_first_range_has_answered() -> None:
    async def main(desk: Desk) -> None:
        desk.cluster.newcomers.update((N1, N2, N3))
        await desk.pool.refresh()
        assert {welcome.node_id for welcome in desk.welcomes[1:]} == {N1, N2, N3}

    run(main)


def test_closing_ends_what_is_under_way() -> None:
    async def main(desk: Desk) -> None:
        link, _ = await desk.link(N1)
        asker = Asker()
        desk.cluster.intercept = lambda _node, _request: Plan(drop_reply=True)
        call_id = link.call(REQUEST, asker)
        opening = asyncio.ensure_future(desk.pool.open(N2))
        await asyncio.sleep(0)
        await desk.pool.close()
        assert call_id in asker.failures
        with pytest.raises(asyncio.CancelledError):
            await opening
        with pytest.raises(errors.StoppedError):
            await desk.pool.open(N3)
        with pytest.raises(errors.StoppedError):
            await desk.pool.refresh()

    run(main)
