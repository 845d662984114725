from multiraft import errors
from multiraft.client.database import Database
from multiraft.cluster.disk_guard import DiskGuard
from multiraft.config import StorageConfig
from multiraft.model.requests import Put
from multiraft.sim.cluster import Cluster
from multiraft.sim.inspection import Member
from tests.support.cluster import cluster_test

RESERVE = StorageConfig().free_reserve_bytes


def set_free(member: Member, free_bytes: int) -> None:
    """Let the disk of a node have so much free space from now on."""
    member.engine.free_bytes = lambda: free_bytes  # type: ignore[method-assign]


def refuses(member: Member) -> bool:
    return member.up.store.context.write_refusal is not None


@cluster_test()
async def test_a_leader_whose_disk_fills_up_hands_over_before_it_refuses_a_write(
    cluster: Cluster, db: Database
) -> None:
    leader = cluster.leader()
    assert leader is not None
    set_free(leader, RESERVE - 1)

    def another_leads() -> bool:
        assert cluster.leader() is not leader or not refuses(leader)
        return cluster.leader() not in (None, leader)

    await cluster.until(another_leads)
    await db.put(b"k", b"v")
    assert await db.get(b"k") == b"v"


@cluster_test()
async def test_when_all_disks_are_full_writes_are_refused_and_reads_are_not(
    cluster: Cluster, db: Database
) -> None:
    members = cluster.members.values()
    await db.put(b"k", b"v")
    for member in members:
        set_free(member, RESERVE - 1)
    await cluster.until(lambda: all(map(refuses, members)) and cluster.leader() is not None)
    leader = cluster.leader()
    assert leader is not None
    replies = cluster.submit(leader.number, (Put(b"\x10k", b"w"),))
    await cluster.until(lambda: bool(replies))
    reply = replies[0]
    assert reply.error is not None
    assert reply.error.code == errors.DiskFullError.code
    assert str(RESERVE) in reply.error.message
    assert await db.get(b"k") == b"v"

    for member in members:
        set_free(member, RESERVE)
    await cluster.until(lambda: not any(map(refuses, members)))
    await db.put(b"k", b"w")
    assert await db.get(b"k") == b"w"


@cluster_test()
async def test_writes_are_refused_at_once_below_half_the_reserve(
    cluster: Cluster, db: Database
) -> None:
    member = cluster.members[1]
    guard = DiskGuard(member.up.store)
    set_free(member, RESERVE // 2)
    assert guard.look()
    assert not refuses(member)
    set_free(member, RESERVE // 2 - 1)
    assert guard.look()
    assert refuses(member)
    set_free(member, RESERVE)
    assert not guard.look()
    assert not refuses(member)
