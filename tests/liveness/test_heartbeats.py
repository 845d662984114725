"""The driver among real peers, on virtual time: starts, restarts, bad disks, links and clocks."""

import asyncio
from collections.abc import Callable
from unittest import mock

import pytest

from multiraft import errors
from multiraft.ids import NO_EPOCH, Epoch, NodeId, Timestamp
from multiraft.liveness.heartbeats import PeerStatus
from multiraft.liveness.messages import SupportReply, SupportRequest
from multiraft.liveness.offsets import OffsetBounds
from multiraft.liveness.support import Change
from multiraft.model import hlc
from multiraft.model.hlc import HybridClock
from multiraft.sim.clock import VirtualClock
from multiraft.sim.loop import VirtualLoop
from tests.liveness.stores import LATENCY_S, Disk, Network, Node, start_cluster
from tests.support.virtual_time import on_virtual_time

HEARTBEAT_S = 0.2
SUPPORT_S = 1.0
ALL_KINDS = ("SupportRequest", "SupportReply", "ClockReading")
SETTLED_S = 1.1
"""Five heartbeats, and the replies to the last."""


def seen(node: Node, change: Change) -> list[NodeId]:
    """Return for which nodes the host was told of `change`, and forget it."""
    found = [other for other, each in node.changes if each is change]
    node.changes = [(other, each) for other, each in node.changes if each is not change]
    return found


def in_ms(node: Node, milliseconds: int) -> Timestamp:
    """Return the node's wall clock that much later."""
    return Timestamp(node.hlc.wall() + hlc.from_ms(milliseconds))


async def until_true(loop: VirtualLoop, condition: Callable[[], bool]) -> float:
    """Wait for `condition`, at most 30 s, and return how long it took."""
    began = loop.time()
    for _ in range(3_000):
        if condition():
            return loop.time() - began
        await asyncio.sleep(0.01)
    raise AssertionError("it did not become true in 30 s")


@on_virtual_time
async def test_stores_support_each_other_right_after_a_fresh_start(loop: VirtualLoop) -> None:
    nodes = await start_cluster(loop, 3)
    assert loop.time() == 0, "a fresh store need not wait"
    await asyncio.sleep(HEARTBEAT_S + 0.01)
    for node in nodes:
        for other in nodes:
            assert node.is_supported_by(other.node_id)
            assert node.liveness.support_for(other.node_id) == Epoch(1)


@on_virtual_time
async def test_cost_per_interval_depends_on_pairs_of_stores_only(loop: VirtualLoop) -> None:
    nodes = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    node = nodes[0]
    node.sent.clear()
    before = node.disk.syncs
    await asyncio.sleep(100 * HEARTBEAT_S)
    peers = 2
    assert node.sent == {kind: 100 * peers for kind in ALL_KINDS}
    assert node.disk.syncs - before <= 2 * 100


@on_virtual_time
async def test_the_version_grows_with_every_extension(loop: VirtualLoop) -> None:
    node, *_ = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    before = node.liveness.version
    seen(node, Change.SUPPORT_FROM_EXTENDED)
    await asyncio.sleep(HEARTBEAT_S)
    assert sorted(seen(node, Change.SUPPORT_FROM_EXTENDED)) == [1, 2]
    assert node.liveness.version > before


@on_virtual_time
async def test_a_single_store_supports_itself(loop: VirtualLoop) -> None:
    (node,) = await start_cluster(loop, 1)
    await asyncio.sleep(10 * SUPPORT_S)
    assert node.is_supported_by(node.node_id)
    assert node.sent.total() == 0


@on_virtual_time
async def test_status_tells_of_every_peer(loop: VirtualLoop) -> None:
    node, *_ = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    status = node.liveness.status()
    assert status.running
    assert not status.sync_under_way
    epoch, until = node.liveness.support_from(NodeId(2))
    latency_us = round(LATENCY_S * 1e6)
    assert status.peers[1] == PeerStatus(
        NodeId(2), Epoch(1), epoch, until, OffsetBounds(-latency_us, latency_us)
    )


@on_virtual_time
async def test_a_peer_that_is_removed_is_answered_but_not_counted(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    a.liveness.remove_peer(b.node_id)
    await asyncio.sleep(3 * SUPPORT_S)
    assert seen(a, Change.SUPPORT_FROM_ENDED) == [b.node_id]
    assert [peer.node_id for peer in a.liveness.status().peers] == [a.node_id]
    assert not a.is_supported_by(b.node_id)
    assert b.is_supported_by(a.node_id)
    assert b.liveness.support_for(a.node_id) == NO_EPOCH


@on_virtual_time
async def test_a_store_that_was_stopped_says_nothing_and_loses_support(
    loop: VirtualLoop,
) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    until = b.liveness.support_from(a.node_id)[1]
    a.liveness.stop()
    a.sent.clear()
    a.changes.clear()
    await until_true(loop, lambda: b.liveness.support_for(a.node_id) == NO_EPOCH)
    await asyncio.sleep(SUPPORT_S)
    assert b.hlc.last > until
    assert seen(b, Change.SUPPORT_FOR_WITHDRAWN) == [a.node_id]
    assert seen(b, Change.SUPPORT_FROM_ENDED) == [a.node_id]
    assert a.sent.total() == 0
    assert a.changes == []
    assert not a.liveness.status().running


@on_virtual_time
async def test_a_stop_during_a_sync_is_the_end(loop: VirtualLoop) -> None:
    a, _ = await start_cluster(loop, 2)
    a.disk.sync_delay_s = 0.1
    await asyncio.sleep(HEARTBEAT_S + 0.01)
    assert a.liveness.status().sync_under_way
    a.liveness.stop()
    a.sent.clear()
    a.changes.clear()
    await asyncio.sleep(SETTLED_S)
    assert a.sent.total() == 0
    assert a.changes == []


@on_virtual_time
async def test_a_host_that_stops_when_it_is_told_of_a_change_is_obeyed(loop: VirtualLoop) -> None:
    a, _ = await start_cluster(loop, 2)
    await asyncio.sleep(HEARTBEAT_S / 2)
    a.stops_at = (Change.SUPPORT_FROM_EXTENDED,)
    a.sent.clear()
    await asyncio.sleep(SETTLED_S)
    assert a.sent.total() == 0


@on_virtual_time
async def test_a_host_that_stops_during_a_heartbeat_is_obeyed(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    b.liveness.stop()
    a.stops_at = (Change.SUPPORT_FROM_ENDED,)
    await until_true(loop, lambda: not a.liveness.status().running)
    a.sent.clear()
    await asyncio.sleep(SETTLED_S)
    assert a.sent.total() == 0
    assert not a.failures


# Restarts of either side


@on_virtual_time
async def test_a_restarted_asker_waits_for_its_clock_and_asks_at_new_epochs(
    loop: VirtualLoop,
) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    promised = a.liveness.support_from(b.node_id)[1]
    a.crash()
    seen(b, Change.SUPPORT_FOR_REGAINED)
    a = a.restarted()
    began = loop.time()
    await a.start()
    assert loop.time() - began < SUPPORT_S
    assert a.hlc.wall() > promised
    assert a.liveness.support_for(b.node_id) == Epoch(1), "what it granted is remembered"
    await asyncio.sleep(0.1)
    assert a.liveness.support_from(b.node_id)[0] == Epoch(2)
    assert b.liveness.support_for(a.node_id) == Epoch(2)
    assert seen(b, Change.SUPPORT_FOR_WITHDRAWN) == [a.node_id]
    assert seen(b, Change.SUPPORT_FOR_REGAINED) == [a.node_id]


@on_virtual_time
async def test_a_restarted_supporter_keeps_what_it_granted(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    b.crash()
    b = b.restarted()
    await b.start()
    await asyncio.sleep(SETTLED_S)
    assert seen(b, Change.SUPPORT_FOR_WITHDRAWN) == [b.node_id]
    assert b.liveness.support_for(a.node_id) == Epoch(1)
    assert a.liveness.support_from(b.node_id)[0] == Epoch(1)


@on_virtual_time
async def test_an_asker_whose_clock_was_set_back_waits_longer(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    promised = a.liveness.support_from(b.node_id)[1]
    a.crash()
    a.clock.step_wall(-5.0)
    a = a.restarted()
    began = loop.time()
    await a.start()
    assert 5.0 < loop.time() - began < 5.0 + SUPPORT_S
    assert a.hlc.now() > promised


@on_virtual_time
async def test_a_clock_that_is_hours_behind_is_told_rather_than_waited_for(
    loop: VirtualLoop,
) -> None:
    a, _ = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    a.crash()
    a.clock.step_wall(-8 * 3600.0)
    a = a.restarted()
    began = loop.time()
    with pytest.raises(errors.StartupError, match="28,80"):
        await a.start()
    assert loop.time() - began < 1
    assert not a.liveness.status().running


@on_virtual_time
async def test_a_supporter_whose_clock_was_set_back_stays_above_its_withdrawal(
    loop: VirtualLoop,
) -> None:
    """Rule S3, first schedule: a fast clock withdraws early, and is corrected afterwards."""
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    promised = a.liveness.support_from(b.node_id)[1]
    b.clock.step_wall(1.5)
    b.liveness.remove_peer(a.node_id)
    a.network.cut.add((a.node_id, b.node_id))
    await until_true(loop, lambda: b.liveness.support_for(a.node_id) == NO_EPOCH)
    b.crash()
    b.clock.step_wall(-1.5)
    assert b.clock.wall_us() < hlc.to_us(promised), "without the wait it would vote below"
    b = b.restarted()
    await b.start()
    assert b.hlc.now() > promised


@on_virtual_time
async def test_the_clock_stays_above_what_was_stored_even_if_the_wall_is_set_back_later(
    loop: VirtualLoop,
) -> None:
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(SETTLED_S)
    promised = a.liveness.support_from(a.node_id)[1]
    a.crash()
    a = a.restarted()
    await a.start()
    a.clock.step_wall(-60.0)
    assert a.hlc.now() > promised


@on_virtual_time
async def test_a_wall_clock_that_shows_the_end_of_the_wait_once_does_not_take_the_hlc_back(
    loop: VirtualLoop,
) -> None:
    """Somebody sets it forward and back again while a start looks at it."""
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(SETTLED_S)
    promised = a.liveness.support_from(a.node_id)[1]
    a.crash()
    a.clock.step_wall(-60.0)
    a = a.restarted()
    with mock.patch.object(HybridClock, "wall", return_value=Timestamp(promised + 1)):
        await a.start()
    assert a.hlc.wall() < promised < a.hlc.last


@on_virtual_time
async def test_while_it_waits_it_neither_asks_nor_answers(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    b.liveness.stop()
    a.crash()
    a = a.restarted()
    a.sent.clear()
    starting = asyncio.create_task(a.start())
    await asyncio.sleep(0.1)
    stranger = NodeId(7)
    a.liveness.receive(stranger, SupportRequest(Epoch(9), in_ms(a, 5_000)))
    await asyncio.sleep(0.1)
    assert not starting.done()
    assert a.sent.total() == 0
    assert not a.liveness.status().running
    await starting
    await asyncio.sleep(0.1)
    assert a.liveness.support_for(stranger) == NO_EPOCH


@on_virtual_time
async def test_a_cancelled_start_leaves_it_stopped(loop: VirtualLoop) -> None:
    escaped: list[object] = []
    loop.set_exception_handler(lambda _, context: escaped.append(context))
    a, _ = await start_cluster(loop, 2)
    a.crash()
    a = a.restarted()
    a.disk.sync_delay_s = 1.0
    starting = asyncio.create_task(a.start())
    await asyncio.sleep(0.1)
    starting.cancel()
    await asyncio.sleep(5.0)
    assert starting.cancelled()
    assert not a.liveness.status().running
    assert not a.liveness.status().sync_under_way
    assert escaped == []


@on_virtual_time
async def test_a_grant_that_was_not_durable_was_never_acknowledged(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    b.disk.sync_delay_s = 0.5
    await asyncio.sleep(0.1)
    assert not a.is_supported_by(b.node_id)
    b.crash()
    await asyncio.sleep(1.0)
    assert not a.is_supported_by(b.node_id)
    b = b.restarted()
    assert b.liveness.support_for(a.node_id) == NO_EPOCH


# Disks that stall or fail


@on_virtual_time
async def test_a_store_with_a_stalled_disk_asks_nobody_and_loses_its_support(
    loop: VirtualLoop,
) -> None:
    a, b, c = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    a.disk.sync_delay_s = 5.0
    await asyncio.sleep(HEARTBEAT_S)
    a.disk.sync_delay_s = 0.0
    until = a.liveness.support_from(b.node_id)[1]
    a.sent.clear()
    await until_true(loop, lambda: b.liveness.support_for(a.node_id) == NO_EPOCH)
    assert b.hlc.last > until
    await asyncio.sleep(HEARTBEAT_S)
    assert a.liveness.status().sync_under_way
    assert sorted(seen(a, Change.SUPPORT_FROM_ENDED)) == [1, 2, 3]
    assert not any(a.is_supported_by(node.node_id) for node in (a, b, c))
    assert b.is_supported_by(c.node_id)
    assert c.is_supported_by(b.node_id)
    await asyncio.sleep(5.0)
    for node in (a, b, c):
        assert a.is_supported_by(node.node_id)
        assert a.liveness.support_from(node.node_id)[0] == Epoch(2)


@on_virtual_time
async def test_while_it_is_stalled_no_syncs_pile_up(loop: VirtualLoop) -> None:
    a, *_ = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    a.disk.sync_delay_s = 20.0
    await asyncio.sleep(HEARTBEAT_S)
    before = a.disk.syncs
    written = a.disk.engine.unsynced_count
    await asyncio.sleep(15.0)
    assert a.disk.syncs == before
    assert a.disk.engine.unsynced_count == written


async def fail_disk(loop: VirtualLoop, fail: Callable[[Disk], None]) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    fail(a.disk)
    a.sent.clear()
    a.changes.clear()
    await asyncio.sleep(SETTLED_S + HEARTBEAT_S)
    assert [type(error) for error in a.failures] == [errors.StoreFailedError]
    assert a.sent.total() == 0
    assert a.changes == [], "what may not be durable is told to nobody"
    assert not a.liveness.status().running
    assert b.liveness.support_for(a.node_id) == NO_EPOCH
    assert not b.failures


@on_virtual_time
async def test_a_failed_write_stops_the_store(loop: VirtualLoop) -> None:
    await fail_disk(loop, lambda disk: disk.engine.fail_next_write("injected"))


@on_virtual_time
async def test_a_failed_sync_stops_the_store(loop: VirtualLoop) -> None:
    await fail_disk(loop, lambda disk: disk.engine.fail_next_sync("injected"))


@pytest.mark.parametrize("method", ["tick", "take_effects", "synced"])
def test_a_broken_invariant_stops_the_store_wherever_it_shows(method: str) -> None:
    """No caller waits for these callbacks of the loop, so nobody else would notice."""

    @on_virtual_time
    async def broken(loop: VirtualLoop) -> None:
        a, b = await start_cluster(loop, 2)
        await asyncio.sleep(SETTLED_S)
        mistake = AssertionError("a grant was shortened")
        with mock.patch.object(a.liveness._support.__class__, method, side_effect=mistake):
            b.liveness.stop()
            await asyncio.sleep(2 * HEARTBEAT_S)
        assert a.failures == [mistake]
        assert not a.liveness.status().running

    broken()


@on_virtual_time
async def test_a_start_on_a_failing_disk_raises(loop: VirtualLoop) -> None:
    a, _ = await start_cluster(loop, 2)
    a.crash()
    a = a.restarted()
    a.disk.engine.fail_next_sync("injected")
    with pytest.raises(errors.StoreFailedError, match="injected"):
        await a.start()
    assert not a.liveness.status().running


# Links


@on_virtual_time
async def test_a_one_way_partition_ends_support_both_ways_and_spares_the_third(
    loop: VirtualLoop,
) -> None:
    """What n1 says does not reach n2: neither its requests nor its replies."""
    a, b, c = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    a.network.cut.add((a.node_id, b.node_id))
    until = a.liveness.support_from(b.node_id)[1]
    await until_true(loop, lambda: b.liveness.support_for(a.node_id) == NO_EPOCH)
    assert b.hlc.last > until
    await asyncio.sleep(HEARTBEAT_S)
    assert not a.is_supported_by(b.node_id)
    assert not b.is_supported_by(a.node_id)
    assert a.liveness.support_for(b.node_id) == Epoch(1), "n1 hears n2 well"
    a.network.cut.clear()
    await asyncio.sleep(2 * HEARTBEAT_S)
    assert a.liveness.support_from(b.node_id)[0] == Epoch(2)
    assert b.liveness.support_from(a.node_id)[0] == Epoch(1)
    for node in (a, b):
        assert node.liveness.support_from(c.node_id)[0] == Epoch(1), "epochs belong to pairs"
        assert c.liveness.support_from(node.node_id)[0] == Epoch(1)


@on_virtual_time
async def test_a_short_partition_ends_nothing(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    a.network.cut |= {(a.node_id, b.node_id), (b.node_id, a.node_id)}
    await asyncio.sleep(SUPPORT_S - 2 * HEARTBEAT_S)
    a.network.cut.clear()
    await asyncio.sleep(SETTLED_S)
    for node in (a, b):
        assert not seen(node, Change.SUPPORT_FOR_WITHDRAWN)
        assert not seen(node, Change.SUPPORT_FROM_ENDED)


@on_virtual_time
async def test_a_new_peer_is_asked_without_waiting_for_the_next_beat(loop: VirtualLoop) -> None:
    network = Network(loop, (NodeId(1),))
    a = Node(NodeId(1), network, Disk(), VirtualClock(loop))
    b = Node(NodeId(2), network, Disk(), VirtualClock(loop))
    await a.start()
    await b.start()
    await asyncio.sleep(HEARTBEAT_S + HEARTBEAT_S / 10)
    a.liveness.add_peer(b.node_id)
    await asyncio.sleep(HEARTBEAT_S / 2)
    assert a.is_supported_by(b.node_id)


@on_virtual_time
async def test_what_a_new_peer_is_asked_for_is_durable_first(loop: VirtualLoop) -> None:
    """Rule S3: a restart waits for all that was ever asked for, at epochs above all of them."""
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(SETTLED_S)
    a.disk.sync_delay_s = 0.05
    a.liveness.add_peer(NodeId(2))
    await asyncio.sleep(0.04)
    assert a.liveness.status().sync_under_way
    assert a.sent["SupportRequest"] == 0
    await asyncio.sleep(0.02)
    assert a.sent["SupportRequest"] == 1


@on_virtual_time
async def test_what_arrives_during_a_sync_is_answered_with_the_next(loop: VirtualLoop) -> None:
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(SETTLED_S - 0.09)
    a.disk.sync_delay_s = 0.04
    until = in_ms(a, 1_000)
    for number in (2, 3):
        a.deliver(NodeId(number), a.hlc.wall(), SupportRequest(Epoch(1), until))
        await asyncio.sleep(0.01)
    assert a.sent["SupportReply"] == 0
    await asyncio.sleep(0.03)
    assert a.sent["SupportReply"] == 1
    await asyncio.sleep(0.04)
    assert a.sent["SupportReply"] == 2


@on_virtual_time
async def test_requests_that_arrive_together_share_a_sync(loop: VirtualLoop) -> None:
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(0.1)
    before = a.disk.syncs
    until = in_ms(a, 1_000)
    for number in range(2, 50):
        a.deliver(NodeId(number), a.hlc.wall(), SupportRequest(Epoch(1), until))
    await asyncio.sleep(0.01)
    assert a.disk.syncs == before + 1
    assert a.sent["SupportReply"] == 48


@on_virtual_time
async def test_a_doubled_request_is_answered_again_without_a_sync(loop: VirtualLoop) -> None:
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(0.1)
    request = SupportRequest(Epoch(1), in_ms(a, 1_000))
    a.deliver(NodeId(2), a.hlc.wall(), request)
    await asyncio.sleep(0.01)
    before = a.disk.syncs
    a.deliver(NodeId(2), a.hlc.wall(), request)
    await asyncio.sleep(0.01)
    assert a.sent["SupportReply"] == 2
    assert a.disk.syncs == before


@on_virtual_time
async def test_a_reply_of_an_older_epoch_changes_nothing(loop: VirtualLoop) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    before = a.liveness.support_from(b.node_id), a.liveness.version
    a.deliver(b.node_id, b.hlc.now(), SupportReply(NO_EPOCH, a.hlc.now()))
    assert (a.liveness.support_from(b.node_id), a.liveness.version) == before


# Pauses and clocks


@on_virtual_time
async def test_a_pause_of_the_whole_machine_withdraws_nothing(loop: VirtualLoop) -> None:
    """Rule L4: all timers run before the renewals that wait are read."""
    nodes = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    loop.skip(5.0)
    assert not nodes[0].is_supported_by(nodes[1].node_id), "a paused leader has no lease"
    await asyncio.sleep(SETTLED_S)
    for node in nodes:
        assert not seen(node, Change.SUPPORT_FOR_WITHDRAWN)
        assert not seen(node, Change.SUPPORT_FROM_ENDED)
        assert all(node.is_supported_by(other.node_id) for other in nodes)


@on_virtual_time
async def test_a_dead_store_loses_its_support_when_it_ends_and_not_with_the_next_beat(
    loop: VirtualLoop,
) -> None:
    network = Network(loop, (NodeId(1), NodeId(2)))
    asker, supporter = (Node(n, network, Disk(), VirtualClock(loop)) for n in network.cluster)
    await asker.start()
    await asyncio.sleep(HEARTBEAT_S / 2)  # The supporter's beats lie between the asker's.
    await supporter.start()
    await asyncio.sleep(SETTLED_S - HEARTBEAT_S / 4)  # No request is on its way.
    until = asker.liveness.support_from(supporter.node_id)[1]
    asker.crash()
    await until_true(loop, lambda: not supporter.liveness.support_for(asker.node_id))
    assert 0 < hlc.to_us(Timestamp(supporter.hlc.wall() - until)) < 20_000


@on_virtual_time
async def test_each_of_several_dead_stores_loses_its_support_when_its_own_ends(
    loop: VirtualLoop,
) -> None:
    (a,) = await start_cluster(loop, 1)
    await asyncio.sleep(SETTLED_S + HEARTBEAT_S / 10)
    untils = {NodeId(number): in_ms(a, 980 + 20 * number) for number in (2, 3, 4)}
    for node, until in untils.items():
        a.deliver(node, a.hlc.wall(), SupportRequest(Epoch(1), until))
    await asyncio.sleep(HEARTBEAT_S)
    assert all(a.liveness.support_for(node) for node in untils)
    for node, until in untils.items():
        while a.liveness.support_for(node):  # noqa: ASYNC110  virtual time: nothing is polled in vain
            await asyncio.sleep(0.001)
        assert 0 < hlc.to_us(Timestamp(a.hlc.wall() - until)) < 10_000


@on_virtual_time
async def test_a_clock_jump_within_the_offset_disturbs_nothing(loop: VirtualLoop) -> None:
    nodes = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    nodes[0].clock.step_wall(0.19)
    await asyncio.sleep(5.0)
    nodes[0].clock.step_wall(-0.38)
    await asyncio.sleep(5.0)
    for node in nodes:
        assert not seen(node, Change.SUPPORT_FOR_WITHDRAWN)
        assert not seen(node, Change.SUPPORT_FROM_ENDED)
        assert not node.failures
        assert node.refused == 0


async def jump_beyond_the_offset(loop: VirtualLoop, seconds: float) -> None:
    """The node that jumped stops by itself; the others go on, with each other's support."""
    a, b, c = await start_cluster(loop, 3)
    await asyncio.sleep(SETTLED_S)
    a.clock.step_wall(seconds)
    assert await until_true(loop, lambda: bool(a.failures)) < 2 * SUPPORT_S
    assert [type(error) for error in a.failures] == [errors.StoreFailedError]
    await asyncio.sleep(3 * SUPPORT_S)
    for node, other in ((b, c), (c, b)):
        assert not node.failures
        assert node.is_supported_by(other.node_id)
        assert node.liveness.support_from(other.node_id)[0] == Epoch(1)
        assert node.liveness.support_for(a.node_id) == NO_EPOCH


@on_virtual_time
async def test_a_clock_that_jumps_ahead_beyond_the_offset_stops_its_node(loop: VirtualLoop) -> None:
    await jump_beyond_the_offset(loop, 0.4)


@on_virtual_time
async def test_a_clock_that_jumps_back_beyond_the_offset_stops_its_node(loop: VirtualLoop) -> None:
    await jump_beyond_the_offset(loop, -0.4)


@on_virtual_time
async def test_of_two_nodes_whose_clocks_differ_none_stops_and_none_supports(
    loop: VirtualLoop,
) -> None:
    a, b = await start_cluster(loop, 2)
    await asyncio.sleep(SETTLED_S)
    a.clock.step_wall(0.4)
    await asyncio.sleep(5.0)
    assert not a.failures
    assert not b.failures
    assert b.refused > 0
    assert not a.is_supported_by(b.node_id)
