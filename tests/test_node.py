"""A node as a whole: what it tells of itself, and when it does not start."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster.replicate_queue import ReplicateQueueStatus
from multiraft.ids import NodeId
from multiraft.model.locality import Tier
from multiraft.model.requests import NO_RANGE, NodeStatus, StatusResult
from multiraft.node import NodeSettings, start_node
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

START = """
import asyncio, sys
from pathlib import Path
from multiraft import node
settings = node.NodeSettings(Path(sys.argv[1]), "127.0.0.1:0", bootstrap=True)
asyncio.run(node.run_node(settings))
"""


@cluster_test()
async def test_a_node_tells_what_it_has_done(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"v")
    leader = cluster.leader()
    assert leader is not None
    before = leader.up.status()
    for number in range(10):
        await db.put(b"k%d" % number, b"v")
    await asyncio.sleep(2.0)
    after = leader.up.status()
    assert (after.node_id, after.cluster_id) == (leader.number, "test-cluster")
    assert after.address == leader.address
    assert after.uptime_s == pytest.approx(before.uptime_s + 2.0)
    assert after.memory_bytes > 1 << 20
    assert (after.engine, after.transport) == (None, None), "neither is the real one here"
    store = after.store
    assert store.requests - before.store.requests >= 10
    assert store.turns > before.store.turns
    assert store.syncs > before.store.syncs
    assert (store.replicas, store.takes_part, store.failed) == (2, True, False)
    assert sum(member.up.status().store.leaders for member in cluster.running()) == 2
    assert (store.inflight_bytes, store.held.waiting, store.snapshots.sent) == (0, 0, 0)
    assert {peer.node_id for peer in store.liveness.peers} == {1, 2, 3}
    assert all(peer.support_until > store.clock for peer in store.liveness.peers)
    assert after.links.connected == tuple({1, 2, 3} - {leader.number})
    assert after.links.frames_sent > before.links.frames_sent
    assert after.replication.changes == 0


def test_a_node_is_not_started_at_a_place_that_cannot_be(tmp_path: Path) -> None:
    host = (Tier("host", "a"), Tier("zone", "b"))
    settings = NodeSettings(tmp_path / "data", "127.0.0.1:0", bootstrap=True, locality=host)
    with pytest.raises(errors.ConfigError, match="goes on after 'host'"):
        asyncio.run(start_node(settings))
    settings = NodeSettings(
        tmp_path / "data", "127.0.0.1:0", bootstrap=True, advertise="n1..example:7000"
    )
    with pytest.raises(errors.ConfigError, match=r'"n1\.\.example:7000" is not an address'):
        asyncio.run(start_node(settings))
    assert not settings.directory.exists(), "nothing was made"


@cluster_test()
async def test_peers_that_are_gone_are_no_longer_connected(cluster: Cluster, db: Database) -> None:
    first, _, third = cluster.running()
    await asyncio.sleep(1.0)
    before = first.up.status().links
    assert before.connected == (2, 3)
    await cluster.crash(third.number)
    await asyncio.sleep(3.0)
    status = first.up.status()
    assert status.links.connected == (2,)
    assert status.links.frames_dropped > before.frames_dropped
    silent = [peer for peer in status.store.liveness.peers if peer.node_id == third.number]
    assert [peer.support_for for peer in silent] == [0]


@cluster_test(nodes=1)
async def test_a_change_of_replicas_that_fails_is_told(cluster: Cluster, db: Database) -> None:
    node = cluster.running()[0].up
    queue = node._replication
    assert queue.status() == ReplicateQueueStatus(changes=0, last_problem="")
    replica = node.store.replicas[USER_RANGE_ID]
    assert replica.descriptor is not None
    await queue._change(replica, replica.descriptor, (NodeId(9),))
    assert queue.status() == ReplicateQueueStatus(0, "r2: this cluster has no node n9")
    await queue._change(replica, replica.descriptor, (NodeId(1),))
    assert queue.status().changes == 1


@cluster_test()
async def test_a_node_that_refuses_writes_says_why(cluster: Cluster, db: Database) -> None:
    context = cluster.running()[0].up.store.context
    assert (await db.admin.node_status(context.node_id))["store"]["write_refusal"] == ""
    context.write_refusal = errors.DiskFullError(path="/d", free_bytes=1, reserve_bytes=2)
    refusal = (await db.admin.node_status(context.node_id))["store"]["write_refusal"]
    assert refusal.startswith("/d has 1 bytes free")


@cluster_test()
async def test_any_node_answers_for_itself_whichever_range_is_named(
    cluster: Cluster, db: Database
) -> None:
    for range_id in (NO_RANGE, USER_RANGE_ID):
        for member in cluster.running():
            node_id = member.up.me.node_id
            reply = await db._router.send_to_node(node_id, range_id, (NodeStatus(),), 1.0)
            [result] = reply.results
            assert isinstance(result, StatusResult)
            assert msgspec.json.decode(result.status)["node_id"] == member.number


def test_a_node_does_not_start_without_its_assertions(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    started = subprocess.run(
        [sys.executable, "-O", "-c", START, directory],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert started.returncode == 1
    assert "StartupError: a node does not run with `python -O`" in started.stderr
    assert not directory.exists(), "and it leaves nothing behind"
