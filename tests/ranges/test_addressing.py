"""Meta follows the descriptors: owed by whoever leads, written by generation, once (rule L6)."""

import asyncio

import msgspec

from multiraft.client.database import Database
from multiraft.config import LimitsConfig
from multiraft.model import encoding, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import BatchReply, PutMeta
from multiraft.mvcc import reads
from multiraft.mvcc.reader import EngineReader
from multiraft.raft.messages import Configuration
from multiraft.ranges.bootstrap import FIRST_RANGE_ID, USER_RANGE_ID
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command
from multiraft.ranges.proposals import Waiter
from multiraft.sim.cluster import FAST, Cluster
from tests.support.cluster import cluster_test
from tests.support.serving import leader_of


class Refusing(Leaseholder):
    """A leaseholder whose core takes no proposal, as during a transfer."""

    __slots__ = ()

    def propose(
        self, command: Command, waiter: Waiter, configuration: Configuration | None = None
    ) -> bool:
        return False


def records(cluster: Cluster) -> dict[bytes, RangeDescriptor]:
    return cluster.meta_records()


async def until_nothing_is_owed(cluster: Cluster) -> None:
    def settled() -> bool:
        return all(
            replica.descriptor is not None
            and replica.applied.meta_generation == replica.descriptor.generation
            for range_id in cluster.range_ids()
            for replica in cluster.replicas(range_id)
        )

    await cluster.until(settled)


def versions_of_records(cluster: Cluster) -> int:
    """Return how many versions all addressing records have: each write makes one."""
    reader = EngineReader(leader_of(cluster, FIRST_RANGE_ID).engine)
    replica = leader_of(cluster, FIRST_RANGE_ID).replica(FIRST_RANGE_ID)
    assert reads.newest(reader, keys.meta_key(keys.MIN)) is not None
    return replica.applied.stats.versions


@cluster_test()
async def test_meta_has_both_halves_after_a_split_and_every_replica_remembers_that(
    cluster: Cluster, db: Database
) -> None:
    left, right = await db.admin.split(b"m")
    await until_nothing_is_owed(cluster)
    found = records(cluster)
    assert found[left.start] == left
    assert found[right.start] == right
    assert sorted(found) == [keys.MIN, left.start, right.start]


@cluster_test()
async def test_what_is_remembered_is_not_written_again_by_the_next_leader(
    cluster: Cluster, db: Database
) -> None:
    left, right = await db.admin.split(b"m")
    await until_nothing_is_owed(cluster)
    before = versions_of_records(cluster)
    for range_id in (left.range_id, right.range_id):
        target = cluster.followers(range_id)[0]
        await db.admin.transfer(range_id, target.up.me.node_id)
    await cluster.until_served()
    await asyncio.sleep(2.0)
    assert versions_of_records(cluster) == before


@cluster_test()
async def test_the_next_leader_writes_what_a_dead_one_owed(cluster: Cluster, db: Database) -> None:
    """L6.1: meta cannot be written while the left leader lives; it dies; nobody tells the heirs."""
    leader = leader_of(cluster)
    # The first range commits nothing, so no record can be written. Range IDs are drawn before.
    await db.admin.split(b"c")
    await until_nothing_is_owed(cluster)
    cluster.wiretap.drop = lambda _, __, envelope: envelope.range_id == FIRST_RANGE_ID
    left, right = await db.admin.split(b"m")
    assert records_are_old(cluster, right)
    await cluster.crash(leader.number)
    await asyncio.sleep(3.0)
    cluster.wiretap.drop = None
    await cluster.until_served()
    await until_nothing_is_owed(cluster)
    found = records(cluster)
    assert found[left.start] == left
    assert found[right.start] == right
    await cluster.restart(leader.number)


def records_are_old(cluster: Cluster, right: RangeDescriptor) -> bool:
    reader = EngineReader(leader_of(cluster).engine)
    return reads.newest(reader, keys.meta_key(right.start)) is None


@cluster_test()
async def test_a_split_is_found_by_new_clients_while_meta_does_not_know_it(
    cluster: Cluster, db: Database
) -> None:
    """Stale addressing costs a hop, never an error or a wrong answer."""
    await db.put(b"x", b"on the right")
    await db.admin.split(b"c")
    await until_nothing_is_owed(cluster)
    for member in cluster.members.values():
        member.up.store.descriptor_changed = lambda replica: None  # type: ignore[method-assign]
    _, right = await db.admin.split(b"m")
    await db.admin.split(b"p")
    assert records_are_old(cluster, right)
    async with cluster.connect(name="newcomer") as other:
        assert await other.get(b"x") == b"on the right"
        await other.put(b"n", b"too")
        assert [row async for row in other.scan()] == [(b"n", b"too"), (b"x", b"on the right")]


@cluster_test()
async def test_records_never_go_back_to_an_earlier_generation(
    cluster: Cluster, db: Database
) -> None:
    left, _ = await db.admin.split(b"m")
    await until_nothing_is_owed(cluster)
    stale = msgspec.structs.replace(left, generation=left.generation - 1, end=keys.END)
    first = leader_of(cluster, FIRST_RANGE_ID)
    for descriptor, expected in (
        (stale, left),
        (msgspec.structs.replace(left, generation=left.generation + 5), None),
    ):
        operation = PutMeta(
            keys.meta_key(left.start), encoding.pack(descriptor), descriptor.generation
        )
        replies: list[BatchReply] = cluster.submit(
            first.number, (operation,), range_id=FIRST_RANGE_ID
        )
        await cluster.until(lambda replies=replies: bool(replies))  # type: ignore[misc]
        assert replies[0].error is None, "a late writer is not told of an error"
        assert records(cluster)[left.start] == (expected or descriptor)


@cluster_test()
async def test_a_record_that_cannot_be_written_is_tried_without_haste(
    cluster: Cluster, db: Database
) -> None:
    """While the range cannot remember, its leader does not write meta over and over."""
    await db.admin.split(b"c")
    await until_nothing_is_owed(cluster)
    before = versions_of_records(cluster)
    for member in cluster.members.values():
        for replica in member.up.store.replicas.values():
            if replica.leaseholder is not None and replica.range_id == USER_RANGE_ID:
                replica.applied = msgspec.structs.replace(replica.applied, meta_generation=0)
                replica.leaseholder.__class__ = Refusing
                member.up.store.addressing.look_at(replica)
    await asyncio.sleep(5.0)
    assert versions_of_records(cluster) - before < 15
    assert not cluster.errors


SHORT_VALUES = msgspec.structs.replace(FAST, limits=LimitsConfig(value_bytes_max=64))


@cluster_test(config=SHORT_VALUES)
async def test_a_record_is_no_value_of_an_application_however_short_those_have_to_be(
    cluster: Cluster, db: Database
) -> None:
    await db.admin.split(b"m" * SHORT_VALUES.limits.key_bytes_max)
    await db.admin.split(b"n" * SHORT_VALUES.limits.key_bytes_max)
    await until_nothing_is_owed(cluster)
    assert len(records(cluster)) == 4
