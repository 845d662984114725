"""Transactions that fight over few keys, in any order, while leaders change and nodes crash.

Whatever happens, somebody commits every few seconds, nothing is counted twice, and nothing stays
locked.
"""

import asyncio
import random
from itertools import pairwise

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.sim.cluster import Cluster
from tests.support.cluster import cluster_test

KEYS = [b"k%02d" % number for number in range(12)]
SEED = 3
"""With it, one is to end for a deadlock that has staged its commit already."""
CALLERS = 10
LASTS_S = 10.0
PAUSE_S_MAX = 4.0
"""Between two commits: a crash costs an election, a deadlock a second at most."""


class Fight:
    """The callers, and what has become of what they did."""

    def __init__(self, cluster: Cluster, db: Database, seed: int) -> None:
        self.cluster = cluster
        self.db = db
        self.seed = seed
        self.commits = [cluster.loop.time()]
        self.is_over = False

    async def call(self, number: int) -> None:
        """Count three keys up, again and again, some of them locked before."""
        draw = random.Random(self.seed * 100 + number)
        while not self.is_over:
            keys = draw.sample(KEYS, 3)
            locks = draw.random() < 0.5

            async def count(
                txn: Transaction, keys: list[bytes] = keys, locks: bool = locks
            ) -> None:
                found = [await txn.get(key, for_update=locks) for key in keys]
                for key, value in zip(keys, found, strict=True):
                    await txn.put(key, b"%d" % (int(value or b"0") + 1))

            await self.db.run(count)
            self.commits.append(self.cluster.loop.time())

    async def hurt(self) -> None:
        """Crash nodes and move leaders, one at a time."""
        draw = random.Random(self.seed)
        while not self.is_over:
            await asyncio.sleep(draw.uniform(0.3, 1.5))
            member = draw.choice(list(self.cluster.members.values()))
            if draw.random() < 0.4:
                await self.cluster.crash(member.number)
                await asyncio.sleep(draw.uniform(0.0, 1.0))
                await self.cluster.restart(member.number)
            else:
                range_id = draw.choice([each for each in self.cluster.range_ids() if each > 1])
                try:
                    await self.db.admin.transfer(range_id, member.node_id, deadline_s=3.0)
                except errors.MultiraftError:
                    continue  # It could not take over just then.


@cluster_test(seed=SEED)
async def test_somebody_always_gets_on(cluster: Cluster, db: Database) -> None:
    for start in (KEYS[4], KEYS[8]):
        await db.admin.split(start)
    await cluster.until_served()
    cluster.slow_down(sync_s=0.0005, link_s=0.0003)
    fight = Fight(cluster, db, SEED)
    async with asyncio.TaskGroup() as group:
        group.create_task(fight.hurt())
        for number in range(CALLERS):
            group.create_task(fight.call(number))
        await asyncio.sleep(LASTS_S)
        fight.is_over = True
    pauses = [after - before for before, after in pairwise(fight.commits)]
    assert max(pauses) < PAUSE_S_MAX
    counts = [int(await db.get(key) or b"0") for key in KEYS]
    assert sum(counts) == 3 * (len(fight.commits) - 1)
    await asyncio.sleep(3.0)
    for info in await db.admin.locks():
        assert info.status is not None
        assert (info.status.locks, info.status.waiters) == (0, 0)
