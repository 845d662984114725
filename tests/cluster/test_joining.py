"""A new store is let in with what it tells of itself; what it must not tell is refused."""

import pytest

from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster import joining, registry
from multiraft.cluster.registry import Join
from multiraft.ids import NodeId
from multiraft.model import encoding, locality
from multiraft.model.locality import Locality, Tier
from multiraft.net.inproc import InprocTransport
from multiraft.net.transport import NodeAddress
from multiraft.ranges import bootstrap
from multiraft.sim.cluster import Cluster
from multiraft.storage.identity import Identity
from multiraft.storage.memory import MemoryEngine
from tests.support.cluster import cluster_test

ALPHA = locality.parse("zone=b,host=alpha")


async def join(
    cluster: Cluster, engine: MemoryEngine, where: Locality, address: str = "n4:7000"
) -> Identity:
    transport = InprocTransport(cluster.network, "n4", cluster.errors.append)
    return await joining.join(engine, transport, ["n1:7000"], Join(address, where))


@cluster_test()
async def test_where_a_new_node_listens_and_is_is_written_down_for_all(
    cluster: Cluster, db: Database
) -> None:
    engine = MemoryEngine(sync_delay_s=lambda: 0.0)
    me = await join(cluster, engine, ALPHA)
    entry = NodeAddress(NodeId(4), "n4:7000", ALPHA)
    assert me.node_id == entry.node_id
    assert bootstrap.read_nodes(engine)[-1] == entry, "at the new node"
    assert await registry.find(db._router, entry.node_id) == entry, "and in the registry"
    for member in cluster.running():
        assert await member.up.meet(entry.node_id), "where any member finds it"
        assert member.up.addresses.get(entry.node_id) == entry


@cluster_test()
async def test_a_node_that_tells_what_cannot_be_is_not_let_in(
    cluster: Cluster, db: Database
) -> None:
    twice = (Tier("zone", "a"), Tier("zone", "b"))
    with pytest.raises(errors.StartupError, match=r"zone=a,zone=b names 'zone' twice"):
        await join(cluster, MemoryEngine(sync_delay_s=lambda: 0.0), twice)
    with pytest.raises(errors.StartupError, match=r'"n4\.\.example:7000" is not an address'):
        await join(cluster, MemoryEngine(sync_delay_s=lambda: 0.0), ALPHA, "n4..example:7000")
    assert await registry.find(db._router, NodeId(4)) is None


@cluster_test()
async def test_a_node_does_not_start_where_it_was_while_a_copy_of_it_runs(
    cluster: Cluster, db: Database
) -> None:
    """The others know where the copy runs, the directory that was copied does not (rule A7)."""
    old = NodeAddress(NodeId(3), "old-n3:7000")
    others = [cluster.members[number] for number in (1, 2)]
    known = [*(NodeAddress(other.node_id, other.address) for other in others), old]
    transport = InprocTransport(cluster.network, "old-n3", cluster.errors.append)
    me = cluster.members[3].up.me
    with pytest.raises(errors.WrongClusterError, match="runs already, at n3:7000"):
        await joining.check_moved(transport, known, me, old.address)
    await cluster.crash(1)
    cluster.network.isolate("n2")
    await joining.check_moved(transport, known, me, old.address)
    cluster.network.rejoin("n2")
    await cluster.restart(1)
    await cluster.crash(3)
    await joining.check_moved(transport, known, me, old.address)


def test_a_join_of_a_node_that_knows_no_localities_is_understood() -> None:
    assert registry.unpack_join(encoding.pack(["n4:7000"])) == Join("n4:7000")


@cluster_test(localities=("host=a", "host=b", "host=c"))
async def test_a_node_that_is_started_with_another_locality_is_known_by_that(
    cluster: Cluster, db: Database
) -> None:
    mover = cluster.members[3]
    mover.locality = ALPHA
    await cluster.crash(3)
    await cluster.restart(3)

    def known() -> list[Locality]:
        entries = [member.up.addresses.get(mover.node_id) for member in cluster.running()]
        return [entry.locality for entry in entries if entry is not None]

    await cluster.until(lambda: known() == [ALPHA] * 3)
    shown = {info.node_id: info.locality for info in await db.admin.nodes()}
    assert shown == {1: "host=a", 2: "host=b", 3: "zone=b,host=alpha"}
    await cluster.crash(1)
    kept = bootstrap.read_nodes(cluster.members[1].engine)
    assert kept[-1] == NodeAddress(mover.node_id, mover.address, ALPHA), "also for the next start"


@cluster_test(localities=("host=a", "host=b", "host=c"))
async def test_a_node_that_is_told_nothing_is_where_it_was(cluster: Cluster, db: Database) -> None:
    mover = cluster.members[3]
    mover.locality = None
    await cluster.crash(3)
    await cluster.restart(3)
    assert locality.show(mover.up.locality) == "host=c"
    assert (await db.admin.node_status(mover.node_id))["locality"] == "host=c"
    mover.locality = ()
    await cluster.crash(3)
    await cluster.restart(3)
    assert mover.up.locality == (), "but nothing is something to be told"
