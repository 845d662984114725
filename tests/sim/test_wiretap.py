"""What is repeated or late on the wire, and that the database does not mind."""

import asyncio

import pytest

from multiraft.client.database import Database
from multiraft.sim.cluster import Cluster
from multiraft.sim.wiretap import HONEST, Tricks
from tests.support.cluster import cluster_test

ALL_TWICE = Tricks(repeat_chance=1.0, delay_s_max=0.5)
ALL_LATE = Tricks(delay_chance=1.0, delay_s_max=0.05)
SOME_LOST = Tricks(loss_chance=0.2)
SOME_OF_BOTH = Tricks(repeat_chance=0.2, delay_chance=0.1, delay_s_max=1.0)


@cluster_test()
async def test_messages_that_all_come_twice_change_nothing(cluster: Cluster, db: Database) -> None:
    cluster.wiretap.tricks = ALL_TWICE
    for number in range(20):
        await db.put(b"k%d" % number, b"v")
    assert cluster.wiretap.repeated > 20
    cluster.wiretap.tricks = HONEST
    await cluster.until_applied()
    first, second, third = (cluster.contents(n) for n in (1, 2, 3))
    assert first == second == third


@cluster_test()
async def test_messages_that_all_overtake_each_other_only_take_longer(
    cluster: Cluster, db: Database
) -> None:
    cluster.wiretap.tricks = ALL_LATE
    for first in range(0, 20, 5):  # What is put at once shares its messages.
        await asyncio.gather(*(db.put(b"k%d" % n, b"v") for n in range(first, first + 5)))
    assert cluster.wiretap.delayed > 20
    assert [row async for row in db.scan()] == sorted((b"k%d" % n, b"v") for n in range(20))
    cluster.wiretap.tricks = HONEST


@cluster_test()
async def test_messages_that_are_lost_one_by_one_are_made_up_for(
    cluster: Cluster, db: Database
) -> None:
    cluster.wiretap.tricks = SOME_LOST
    for number in range(20):
        await db.put(b"k%d" % number, b"v")
    await cluster.until_applied()
    assert cluster.wiretap.dropped > 5


@cluster_test()
async def test_what_left_before_a_crash_may_come_in_the_next_life(
    cluster: Cluster, db: Database
) -> None:
    leader = cluster.leader()
    assert leader is not None
    cluster.wiretap.tricks = Tricks(repeat_chance=1.0, delay_s_max=5.0)
    await asyncio.gather(*(db.put(b"k%d" % number, b"v") for number in range(10)))
    await cluster.crash(leader.number)
    await cluster.restart(leader.number)
    await asyncio.sleep(6.0)
    await db.put(b"k", b"v")
    cluster.wiretap.tricks = HONEST
    await cluster.until_applied()


@pytest.mark.parametrize("seed", range(1, 6))
def test_splits_and_crashes_with_repeated_and_late_messages(seed: int) -> None:
    @cluster_test(seed=seed)
    async def run(cluster: Cluster, db: Database) -> None:
        cluster.wiretap.tricks = SOME_OF_BOTH
        for number in range(8):
            await db.put(b"k%d" % number, b"v")
            await db.admin.split(b"k%d" % number)
            victim = cluster.random.choice(cluster.running())
            await cluster.crash(victim.number)
            await cluster.restart(victim.number)
        cluster.wiretap.tricks = HONEST
        for range_id in cluster.range_ids():
            await cluster.until_applied(range_id)
        assert len([row async for row in db.scan()]) == 8
        cluster.check_statistics()

    run()
