"""Transactions of the real client on a real cluster, on virtual time."""

import asyncio
from functools import partial

import msgspec
import pytest

import multiraft
from multiraft import errors
from multiraft.client.transaction import Transaction
from multiraft.config import KIB, LimitsConfig
from multiraft.model import encoding
from multiraft.testing import Cluster, simulated
from multiraft.testing.cluster import SETTINGS

ACCOUNTS = [b"account/%d" % number for number in range(6)]


async def locks(db: multiraft.Database) -> int:
    """Return how many locks there are, anywhere."""
    ranges = [info.status for info in await db.admin.locks()]
    assert None not in ranges, "every range tells"
    return sum(status.locks for status in ranges if status is not None)


async def numbers(db: multiraft.Database, prefix: bytes) -> list[int]:
    found = [encoding.unpack_counter(value) async for _, value in db.scan(prefix=prefix)]
    assert None not in found
    return [number for number in found if number is not None]


async def move(txn: Transaction, source: bytes, target: bytes, mark: bytes) -> None:
    await txn.increment(source, -1)
    await txn.increment(target, 1)
    await txn.increment(mark)


async def disturb(cluster: Cluster) -> None:
    """Split, hand over and crash, for as long as this runs."""
    while True:
        await asyncio.sleep(cluster.random.uniform(0.05, 0.3))
        key = cluster.random.choice(ACCOUNTS)
        what = cluster.random.choice(["split", "transfer", "transfer", "crash"])
        node = cluster.leader(key)
        if what == "split":
            await cluster.split(key)
        elif what == "transfer" and node is not None:
            others = [number for number in cluster.nodes if number != node]
            await cluster.transfer(key, cluster.random.choice(others))
        elif node is not None:
            await cluster.crash(node)
            await asyncio.sleep(0.5)
            await cluster.restart(node)


@simulated(seeds=3)
async def test_transfers_happen_once_while_ranges_split_and_move(
    cluster: Cluster, db: multiraft.Database
) -> None:
    storm = asyncio.create_task(disturb(cluster))

    async def customer(number: int) -> int:
        async with cluster.connect(name=f"customer{number}", deadline_s=30.0) as mine:
            for count in range(25):
                source, target = cluster.random.sample(ACCOUNTS, 2)
                mark = b"mark/%d/%d" % (number, count)
                await mine.run(partial(move, source=source, target=target, mark=mark))
                await asyncio.sleep(0.1)
        return 25

    done = sum(await asyncio.gather(*map(customer, range(4))))
    storm.cancel()
    await asyncio.wait([storm])
    await cluster.until_served()
    assert await numbers(db, b"mark/") == [1] * done
    assert sum(await numbers(db, b"account/")) == 0
    assert await locks(db) == 0


@simulated(seeds=3)
async def test_whatever_is_cancelled_leaves_no_lock_and_no_half(
    cluster: Cluster, db: multiraft.Database
) -> None:
    await cluster.split(ACCOUNTS[3])
    for count in range(60):
        mark = b"mark/%d" % count
        source, target = cluster.random.sample(ACCOUNTS, 2)
        work = partial(move, source=source, target=target, mark=mark)
        task = asyncio.create_task(db.run(work))
        await asyncio.sleep(cluster.random.uniform(0, 0.02))
        task.cancel()
        await asyncio.wait([task])
    await asyncio.sleep(0.5)
    assert await locks(db) == 0
    assert sum(await numbers(db, b"account/")) == 0
    assert set(await numbers(db, b"mark/")) == {1}


@simulated()
async def test_a_client_that_vanishes_blocks_nobody_for_long(
    cluster: Cluster, db: multiraft.Database
) -> None:
    vanished = cluster.connect(name="vanished")
    await vanished.open()
    txn = vanished.transaction(deadline_s=100)
    await txn.get(b"a", for_update=True)
    await txn.put(b"b", b"never seen")
    cluster.partition(["vanished"])
    before = asyncio.get_running_loop().time()
    await db.put(b"a", b"1")
    assert asyncio.get_running_loop().time() - before < 4.0
    cluster.heal()
    with pytest.raises(errors.TransactionRetryError):
        await txn.commit()
    assert await db.get(b"b") is None


@simulated(seeds=3)
async def test_who_scans_for_update_takes_turns_and_need_not_run_again(
    cluster: Cluster, db: multiraft.Database
) -> None:
    """As workers at a queue: each of a burst wants the first job, and gets another one."""
    jobs = [b"job/%02d" % number for number in range(12)]
    await db.put_many(dict.fromkeys(jobs, b"x"))
    runs = 0

    async def claim(txn: Transaction) -> bytes:
        nonlocal runs
        runs += 1
        (row,) = [row async for row in txn.scan(prefix=b"job/", limit=1, for_update=True)]
        await txn.delete(row[0])
        return row[0]

    claimed = await asyncio.gather(*(db.run(claim) for _ in jobs))
    assert sorted(claimed) == jobs
    assert runs == len(jobs)
    await asyncio.sleep(0.5)
    assert await locks(db) == 0


@pytest.mark.parametrize("deadline_s", [0.25, 1.0, 3.0])
@simulated()
async def test_who_waits_up_to_its_deadline_is_told_for_whom(
    cluster: Cluster, db: multiraft.Database, deadline_s: float
) -> None:
    async with db.transaction(deadline_s=30.0) as holder, cluster.connect() as other:
        await other.get(b"a")
        old, new = cluster.leader(b"a"), cluster.nodes[0]
        await cluster.transfer(b"a", new if new != old else cluster.nodes[1])
        await holder.get(b"a", for_update=True)
        told = f"/plain/a has been locked by transaction {holder.id.hex()}"
        with pytest.raises(errors.DeadlineExceededError, match=told):
            await other.run(lambda txn: txn.put(b"a", b"1"), deadline_s=deadline_s)
        with pytest.raises(errors.DeadlineExceededError, match=told):
            await other.put(b"a", b"1", deadline_s=deadline_s)
    await asyncio.sleep(3.0)
    assert await db.get(b"a") is None, "nothing was written, nor will be"


@simulated(seeds=3)
async def test_what_a_scan_has_locked_is_free_at_once_if_its_answer_was_lost(
    cluster: Cluster, db: multiraft.Database
) -> None:
    """Nobody else wants these keys, so nobody would ever find that they are locked for nothing."""
    await db.put_many({b"job/%02d" % number: b"x" for number in range(12)})

    async def scan() -> None:
        async with db.transaction() as txn:
            assert [row async for row in txn.scan(prefix=b"job/", for_update=True)]

    cluster.slow_down(link_s=0.05)
    scanning = asyncio.create_task(scan())
    await asyncio.sleep(0.11)
    scanning.cancel()
    cluster.slow_down()
    assert await locks(db) == 12
    await asyncio.sleep(0.5)
    assert await locks(db) == 0


@simulated(config=msgspec.structs.replace(SETTINGS, limits=LimitsConfig(scan_keys_max=1)))
async def test_a_scan_for_update_goes_on_behind_the_longest_key_under_another_id(
    cluster: Cluster, db: multiraft.Database
) -> None:
    longest = bytes(LimitsConfig().key_bytes_max)
    await db.put_many({longest: b"1", b"next": b"2"})
    vanished = cluster.connect(name="vanished")
    await vanished.open()
    async with vanished.transaction(deadline_s=100) as txn:
        rows = txn.scan(for_update=True)
        assert await anext(rows) == (longest, b"1")
        cluster.partition(["vanished"])
        await db.put(longest, b"other")
        cluster.heal()
        await asyncio.sleep(2.0)  # It learns that it was aborted, and goes on.
        assert await anext(rows) == (b"next", b"2")
        await rows.aclose()


@simulated(seeds=3)
async def test_two_that_lock_each_others_keys_both_commit(
    cluster: Cluster, db: multiraft.Database
) -> None:
    await cluster.split(b"m")
    runs = 0

    async def lock_both(txn: Transaction, first: bytes, second: bytes) -> None:
        nonlocal runs
        runs += 1
        await txn.get(first, for_update=True)
        await asyncio.sleep(0.05)
        await txn.get(second, for_update=True)
        await txn.increment(first)
        await txn.increment(second)

    await asyncio.gather(
        db.run(lambda txn: lock_both(txn, b"a", b"z")),
        db.run(lambda txn: lock_both(txn, b"z", b"a")),
    )
    assert runs == 3
    assert [*(await numbers(db, b"a")), *(await numbers(db, b"z"))] == [2, 2]


@simulated(seeds=3)
async def test_of_two_that_see_nobody_on_call_one_leaves(
    cluster: Cluster, db: multiraft.Database
) -> None:
    """Write skew over a predicate: each may leave only if another stays."""
    await cluster.split(b"doctor/b")
    for name in (b"a", b"b"):
        await db.put(b"doctor/" + name, b"on call")

    async def leave(txn: Transaction, name: bytes) -> bool:
        on_call = [key async for key, _ in txn.scan(prefix=b"doctor/")]
        if len(on_call) < 2:
            return False
        await txn.delete(b"doctor/" + name)
        return True

    left = await asyncio.gather(
        db.run(lambda txn: leave(txn, b"a")), db.run(lambda txn: leave(txn, b"b"))
    )
    assert sorted(left) == [False, True]


@simulated()
async def test_a_transaction_of_many_megabytes(cluster: Cluster, db: multiraft.Database) -> None:
    await cluster.split(b"big/2")
    value = bytes(100_000)

    async def write(txn: Transaction) -> None:
        for number in range(50):
            await txn.put(b"big/%02d" % number, value)
        assert len([key async for key, _ in txn.scan(prefix=b"big/")]) == 50

    await db.run(write)
    assert len([key async for key, _ in db.scan(prefix=b"big/")]) == 50
    assert await db.delete_range(prefix=b"big/") == 50
    assert [key async for key, _ in db.scan()] == []


@pytest.mark.parametrize("writes_more", [True, False])
@simulated(
    config=msgspec.structs.replace(SETTINGS, limits=LimitsConfig(batch_operations_max=1_500))
)
async def test_more_than_one_part_may_hold_goes_on_under_another_id(
    cluster: Cluster, db: multiraft.Database, writes_more: bool
) -> None:
    vanished = cluster.connect(name="vanished")
    await vanished.open()
    async with vanished.transaction(deadline_s=100) as txn:
        before = txn.id
        for number in range(2_000):
            await txn.put(b"%04d" % number, b"v")
        await asyncio.sleep(0.1)
        cluster.partition(["vanished"])
        await db.put(b"0000", b"other")
        cluster.heal()
        await asyncio.sleep(2.0)  # It learns that it was aborted, and goes on.
        assert txn.id != before
        if writes_more:
            await txn.put(b"more", b"v")
    rows = [row async for row in db.scan()]
    assert len(rows) == 2_000 + writes_more
    assert {value for _, value in rows} == {b"v"}


SMALL_BATCHES = LimitsConfig(key_bytes_max=500, value_bytes_max=2_000, batch_bytes_max=8_000)


@pytest.mark.parametrize("is_split", [False, True])
@simulated(config=msgspec.structs.replace(SETTINGS, limits=SMALL_BATCHES))
async def test_more_bytes_than_a_batch_may_have_are_read_and_moved_to_another_time(
    cluster: Cluster, db: multiraft.Database, is_split: bool
) -> None:
    if is_split:
        await cluster.split(b"m")
    async with db.transaction() as txn:
        for number in range(20):
            start = b"%03d" % number + bytes(400)
            assert [row async for row in txn.scan(start, start + b"z")] == []
        await db.get(b"z")  # So that it has to commit at a later time.
        await txn.put(b"z", b"v")
    assert await db.get(b"z") == b"v"


@pytest.mark.parametrize("is_split", [False, True])
@simulated(config=msgspec.structs.replace(SETTINGS, limits=SMALL_BATCHES))
async def test_more_bytes_than_a_batch_may_have_are_written(
    cluster: Cluster, db: multiraft.Database, is_split: bool
) -> None:
    if is_split:
        await cluster.split(b"m")
    async with db.transaction() as txn:
        await txn.put(b"z", b"v")
        for number in range(20):
            await txn.put(b"%03d" % number, bytes(1_500))
    assert len([key async for key, _ in db.scan()]) == 21


LONG_KEYS = LimitsConfig(key_bytes_max=64 * KIB)


@pytest.mark.parametrize("writes", [300, 900])
@simulated(seeds=1, config=msgspec.structs.replace(SETTINGS, limits=LONG_KEYS))
async def test_small_writes_that_each_name_a_long_anchor_are_laid(
    cluster: Cluster, db: multiraft.Database, writes: int
) -> None:
    await cluster.split(b"m")
    async with db.transaction() as txn:
        await txn.put(b"z" * LONG_KEYS.key_bytes_max, b"v")
        for number in range(writes):
            await txn.put(b"%03d" % number, b"v")
    assert len([key async for key, _ in db.scan()]) == 1 + writes


@simulated(seeds=1)
async def test_a_read_that_goes_on_when_its_transaction_has_ended_locks_nothing(
    cluster: Cluster, db: multiraft.Database
) -> None:
    """As what is left of an `asyncio.gather` of which another part has failed."""
    async with db.transaction() as holder:
        await holder.get(b"k", for_update=True)
        txn = db.transaction()
        await txn.get(b"a", for_update=True)
        waiting = asyncio.create_task(txn.get(b"k", for_update=True))
        await asyncio.sleep(0.3)
        await txn.rollback()
        await asyncio.sleep(0.3)
    with pytest.raises(errors.TransactionEndedError):
        await waiting
    await asyncio.sleep(1.0)
    assert await locks(db) == 0
    assert db.transactions_status().with_locks == 0


@simulated(seeds=2)
async def test_what_is_written_once_a_node_has_answered_costs_a_reader_nothing(
    cluster: Cluster, db: multiraft.Database
) -> None:
    names = [b"hot/%d" % number for number in range(8)]
    await db.put_many(dict.fromkeys(names, b"0"))
    runs = 0

    async def read(txn: Transaction) -> list[bytes | None]:
        nonlocal runs
        runs += 1
        found = []
        for name in names:
            found.append(await txn.get(name))
            await db.put_many(dict.fromkeys(names, b"1"))
        return found

    assert await db.run(read) == [b"0"] * 8
    assert (runs, db.transactions_status().refreshes) == (1, 0)
