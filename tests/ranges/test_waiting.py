"""Who waits for a transaction is let through: when it ends, dies, or waits itself."""

import asyncio
from collections.abc import Sequence

import msgspec
import pytest

from multiraft.client.database import Database
from multiraft.config import RangesConfig
from multiraft.ids import RangeId
from multiraft.model.requests import RangeLocks, StatusResult
from multiraft.model.transaction_requests import HeartbeatTransaction
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim import loop as virtual_loop
from multiraft.sim.cluster import FAST, Cluster
from multiraft.sim.loop import VirtualLoop
from tests.support.cluster import cluster_test
from tests.support.serving import Asked, answered, ask, get, holder_of, leader_of, plain, put, scan
from tests.support.transactions import ABORTED, COMMITTED, STAGING, Transaction, record_of

EXPIRY_S = RangesConfig().transaction_expiry_ms / 1_000
CLEANED_S = EXPIRY_S + 0.5
"""An abandoned transaction stands in nobody's way for longer."""


class Stopwatch:
    def __init__(self, cluster: Cluster) -> None:
        self.loop = cluster.loop
        self.since = cluster.loop.time()

    @property
    def passed_s(self) -> float:
        return self.loop.time() - self.since


async def ranges_on_nodes(cluster: Cluster, db: Database, names: Sequence[bytes]) -> list[RangeId]:
    """Split before each name, and lead the ranges on one node after the other."""
    ranges = [(await db.admin.split(name))[1].range_id for name in names]
    await cluster.until_served()
    for number, range_id in enumerate(ranges):
        target = cluster.members[number % len(cluster.members) + 1].node_id
        await db.admin.transfer(range_id, target)
    await cluster.until_served()
    return ranges


async def keep_alive(txn: Transaction, range_id: RangeId = USER_RANGE_ID) -> None:
    """Send signs of life until cancelled."""
    while True:
        await txn.do(HeartbeatTransaction(txn.meta.anchor), range_id=range_id)
        await asyncio.sleep(0.5)


async def both(db: Database) -> tuple[bytes | None, bytes | None]:
    a, z = await asyncio.gather(db.get(b"a"), db.get(b"z"))
    return a, z


async def nothing_is_locked(cluster: Cluster) -> None:
    def unlocked() -> bool:
        return all(
            replica.applied.stats.locks == 0
            for range_id in cluster.range_ids()
            for replica in cluster.replicas(range_id)
        )

    await cluster.until(unlocked)
    await asyncio.sleep(1.0)
    for member in cluster.running():
        status = member.up.store.context.pushes.status()
        assert (status.waiting, status.deadlocks.waits) == (0, 0)
        assert member.up.store.context.resolver.status().pending == 0


# -- abandoned transactions ------------------------------------------------------------------------


@cluster_test()
async def test_intents_without_a_record_are_removed(cluster: Cluster, db: Database) -> None:
    right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
    await db.put(b"a", b"old")
    await db.put(b"z", b"old")
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new", b"b": b"new", b"c": b"new"})
    await txn.laid_down({b"z": b"new"}, range_id=right)
    watch = Stopwatch(cluster)
    assert await both(db) == (b"old", b"old")
    assert watch.passed_s < CLEANED_S
    # Nobody waited for these.
    await nothing_is_locked(cluster)


@cluster_test()
async def test_transaction_whose_heartbeat_stops_is_aborted(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new"})
    alive = asyncio.create_task(keep_alive(txn))
    waiting = asyncio.create_task(db.put(b"a", b"later"))
    await asyncio.sleep(3 * EXPIRY_S)
    assert not waiting.done(), "it lives"
    alive.cancel()
    watch = Stopwatch(cluster)
    await waiting
    assert watch.passed_s < CLEANED_S
    asked = txn.query()
    await answered(cluster, asked)
    assert record_of(asked).status is ABORTED
    assert "no sign of life" in record_of(asked).reason
    assert await db.get(b"a") == b"later"
    await nothing_is_locked(cluster)


@pytest.mark.parametrize("is_complete", [True, False])
def test_transaction_left_staging_is_decided_by_what_is_there(is_complete: bool) -> None:
    @cluster_test()
    async def main(cluster: Cluster, db: Database) -> None:
        right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
        await db.put(b"a", b"old")
        await db.put(b"z", b"old")
        txn = Transaction(cluster, b"a")
        at = max(
            await txn.laid_down({b"a": b"new"}),
            await txn.laid_down({b"z": b"new"}, range_id=right),
        )
        if not is_complete:
            txn.laid[b"y"] = txn.sequence
        await txn.ended(STAGING, at)
        watch = Stopwatch(cluster)
        expected = b"new" if is_complete else b"old"
        assert await both(db) == (expected, expected)
        assert watch.passed_s < CLEANED_S
        await nothing_is_locked(cluster)
        asked = txn.query()
        await answered(cluster, asked)
        status = COMMITTED if is_complete else ABORTED
        assert record_of(asked).status is status
        # Whoever stages it now, or lays what was missing, comes too late.
        late = txn.end(STAGING, at)
        await answered(cluster, late)
        if is_complete:
            assert record_of(late).status is COMMITTED
        else:
            assert late.code == "transaction_aborted"
            await txn.laid_down({b"y": b"new"}, range_id=right)
            assert await db.get(b"y") is None
        await nothing_is_locked(cluster)

    main()


@pytest.mark.parametrize("delay_ms", [0, 4, 8, 12, 16, 20, 24, 28, 32])
def test_recovery_and_a_coordinator_that_stages_again_agree(delay_ms: int) -> None:
    @cluster_test(seed=delay_ms + 1)
    async def main(cluster: Cluster, db: Database) -> None:
        right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
        txn = Transaction(cluster, b"a")
        at = await txn.laid_down({b"a": b"new"})
        txn.laid[b"z"] = 2
        await txn.ended(STAGING, at)
        cluster.slow_down(sync_s=0.003, link_s=0.002)
        await asyncio.sleep(EXPIRY_S)
        # Two that wait in different ranges find it, while the coordinator goes on.
        reads = [asyncio.create_task(db.get(key)) for key in (b"a", b"a")]
        await asyncio.sleep(delay_ms / 1_000)
        laid = await txn.laid_down({b"z": b"new"}, range_id=right)
        staged = txn.end(STAGING, max(at, laid))
        await answered(cluster, staged)
        has_committed = False
        if staged.code == "":
            # All that it names lies there: it has committed, if it was not recovered before.
            has_committed = record_of(staged).status in (STAGING, COMMITTED)
        else:
            assert staged.code == "transaction_aborted"
        expected = b"new" if has_committed else None
        assert await asyncio.gather(*reads) == [expected] * 2
        assert await db.get(b"z") == expected
        await nothing_is_locked(cluster)

    main()


@cluster_test()
async def test_two_recoveries_of_one_transaction_agree(cluster: Cluster, db: Database) -> None:
    right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
    txn = Transaction(cluster, b"a")
    at = max(
        await txn.laid_down({b"a": b"new"}),
        await txn.laid_down({b"z": b"new"}, range_id=right),
    )
    await txn.ended(STAGING, at)
    cluster.slow_down(sync_s=0.01, link_s=0.01)
    found = await asyncio.gather(*(db.get(key) for key in (b"a", b"z", b"a", b"z")))
    assert found == [b"new"] * 4
    recoveries = [m.up.store.context.pushes.status().recoveries for m in cluster.running()]
    assert sum(recoveries) >= 2, "both ranges had somebody waiting"
    await nothing_is_locked(cluster)


@cluster_test()
async def test_a_thousand_intents_of_one_that_died_go_together(
    cluster: Cluster, db: Database
) -> None:
    txn = Transaction(cluster, b"0")
    names = [str(number).encode() for number in range(1_000)]
    await txn.laid_down(dict.fromkeys(names, b"v"))
    watch = Stopwatch(cluster)
    assert [row async for row in db.scan()] == []
    assert watch.passed_s < CLEANED_S
    await nothing_is_locked(cluster)
    pushes = sum(m.up.store.context.pushes.status().pushes for m in cluster.running())
    assert pushes < 60


@cluster_test()
async def test_a_client_that_dies_with_a_thousand_transactions_holds_nobody_up_for_long(
    cluster: Cluster, db: Database
) -> None:
    names = [f"{number:04}".encode() for number in range(1_000)]
    right = (await ranges_on_nodes(cluster, db, [b"0500"]))[0]
    watch = Stopwatch(cluster)
    asked = []
    for name, other in zip(names, reversed(names), strict=True):
        txn = Transaction(cluster, name)
        homes = [right if key >= b"0500" else USER_RANGE_ID for key in (name, other)]
        asked.append(txn.lay({name: b"v"}, range_id=homes[0]))
        if txn.id[0] % 2:
            asked.append(txn.lay({other + b"+": b"v"}, range_id=homes[1]))
    await answered(cluster, *asked)
    cluster.slow_down(sync_s=0.001, link_s=0.0005)
    assert [row async for row in db.scan()] == []
    assert watch.passed_s < CLEANED_S
    await nothing_is_locked(cluster)


# -- holders that live -----------------------------------------------------------------------------


@cluster_test()
async def test_holder_that_commits_while_it_is_pushed(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    at = await txn.laid_down({b"a": b"new"})
    reads = [asyncio.create_task(db.get(b"a")) for _ in range(3)]
    await asyncio.sleep(1.0)
    assert not any(read.done() for read in reads)
    await txn.ended(STAGING, at)
    await txn.ended(COMMITTED, at)
    assert await asyncio.gather(*reads) == [b"new"] * 3
    await nothing_is_locked(cluster)


@pytest.mark.parametrize("has_read", [True, False])
def test_reader_of_higher_priority_does_not_wait(has_read: bool) -> None:
    @cluster_test()
    async def main(cluster: Cluster, db: Database) -> None:
        await read_past_an_intent(cluster, db, has_read=has_read)

    main()


async def read_past_an_intent(cluster: Cluster, db: Database, *, has_read: bool) -> None:
    await db.put(b"a", b"old")
    holder = Transaction(cluster, b"a")
    at = await holder.laid_down({b"a": b"new"})
    reader = Transaction(cluster, b"", priority=1)
    if has_read:
        assert await reader.get(b"b") is None
    watch = Stopwatch(cluster)
    assert await reader.get(b"a") == b"old"
    assert watch.passed_s < 0.5
    pushed = holder.end(STAGING, at)
    await answered(cluster, pushed)
    assert pushed.code == "transaction_pushed"
    assert pushed.reply.error is not None
    commit_at = pushed.reply.error.facts["timestamp"]
    assert commit_at > max(reader.read_at, reader.uncertainty_limit)
    assert (await holder.ended(STAGING, commit_at)).status is STAGING
    assert (await holder.ended(COMMITTED, commit_at)).status is COMMITTED
    assert await reader.get(b"a") == b"old"
    assert await db.get(b"a") == b"new"
    await nothing_is_locked(cluster)


@cluster_test()
async def test_waiter_whose_range_is_split_or_led_elsewhere_goes_on_waiting_there(
    cluster: Cluster, db: Database
) -> None:
    txn = Transaction(cluster, b"a")
    at = await txn.laid_down({b"a": b"new", b"z": b"new"})
    alive = asyncio.create_task(keep_alive(txn))
    reads = [asyncio.create_task(db.get(key)) for key in (b"a", b"z")]
    await asyncio.sleep(0.1)
    right = (await db.admin.split(b"m"))[1].range_id
    await cluster.until_served()
    await asyncio.sleep(0.5)
    others = [m for m in cluster.running() if m is not leader_of(cluster, right)]
    await db.admin.transfer(right, others[0].node_id)
    await cluster.until_served()
    await asyncio.sleep(0.5)
    assert not any(read.done() for read in reads)
    assert holder_of(leader_of(cluster, right), right).locks.locks == 1
    await txn.ended(STAGING, at)
    await txn.ended(COMMITTED, at)
    alive.cancel()
    assert await asyncio.gather(*reads) == [b"new"] * 2
    await nothing_is_locked(cluster)


@cluster_test()
async def test_pusher_dies_and_the_next_leader_lets_its_waiters_through(
    cluster: Cluster, db: Database
) -> None:
    right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new"})
    await txn.laid_down({b"z": b"new"}, range_id=right)
    reads = [asyncio.create_task(db.get(b"z")) for _ in range(3)]
    await asyncio.sleep(0.2)
    leader = leader_of(cluster, right)
    watch = Stopwatch(cluster)
    await cluster.crash(leader.number)
    assert await asyncio.gather(*reads) == [None] * 3
    assert watch.passed_s < CLEANED_S + 2.0, "time for an election"
    await cluster.restart(leader.number)
    assert await db.get(b"a") is None
    await nothing_is_locked(cluster)


# -- deadlocks -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "ranges"), [(2, 1), (2, 2), (3, 1), (3, 3), (5, 2), (5, 5)])
def test_circle_of_transactions_loses_exactly_one(size: int, ranges: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        cluster = Cluster(loop, nodes=3, seed=size * 10 + ranges)
        await cluster.start()
        async with cluster.connect() as db:
            await lose_one(cluster, db, size, ranges)
        await cluster.stop()

    virtual_loop.run(main, limit_s=10_000)


def test_circle_is_found_though_the_lock_table_knows_but_one_lock() -> None:
    async def main(loop: VirtualLoop) -> None:
        config = msgspec.structs.replace(FAST, ranges=RangesConfig(locks_max=1))
        cluster = Cluster(loop, nodes=3, seed=1, config=config)
        await cluster.start()
        async with cluster.connect() as db:
            await lose_one(cluster, db, size=5, ranges=2)
        await cluster.stop()

    virtual_loop.run(main, limit_s=10_000)


def test_intent_is_met_though_the_lock_table_knows_only_a_lock_of_its_key() -> None:
    async def main(loop: VirtualLoop) -> None:
        config = msgspec.structs.replace(FAST, ranges=RangesConfig(locks_max=1))
        cluster = Cluster(loop, nodes=3, seed=1, config=config)
        await cluster.start()
        async with cluster.connect() as db:
            await commit_behind_a_lock(cluster, db)
        await cluster.stop()

    virtual_loop.run(main, limit_s=10_000)


async def commit_behind_a_lock(cluster: Cluster, db: Database) -> None:
    await db.put(b"k", b"old")
    other = Transaction(cluster, b"other")
    await other.laid_down({b"other": b"fills the table"})
    txn = Transaction(cluster, b"k")
    await txn.laid_down({b"k": b"new"})
    await other.ended(ABORTED, 0)
    # There is room again, and the scan locks the key that the transaction has written.
    locking = txn.send(scan(b"k", b"l"), is_locking=True)
    await answered(cluster, locking)
    assert locking.rows == (plain(b"k"), b"old")
    assert holder_of(leader_of(cluster)).locks.lock_on(plain(b"k")) is not None
    # With this it has committed, though its record does not say so yet.
    await txn.ended(STAGING, txn.laid_at)
    single, several = asyncio.create_task(db.get(b"k")), asyncio.create_task(rows_of(db))
    await asyncio.sleep(0.1)
    assert not single.done()
    assert not several.done()
    await txn.ended(COMMITTED, txn.laid_at)
    assert await single == b"new"
    assert await several == [(b"k", b"new")]


async def rows_of(db: Database) -> list[tuple[bytes, bytes]]:
    return [row async for row in db.scan(b"k", b"l")]


async def lose_one(cluster: Cluster, db: Database, size: int, ranges: int) -> None:
    starts = [f"r{number}".encode() for number in range(ranges)]
    ids = await ranges_on_nodes(cluster, db, starts)
    names = [starts[number % ranges] + f"-{number}".encode() for number in range(size)]
    homes = [ids[number % ranges] for number in range(size)]
    members = []
    for name, home in zip(names, homes, strict=True):
        member = Transaction(cluster, name)
        await member.laid_down({name: b"mine"}, range_id=home)
        members.append(member)
        await asyncio.sleep(0.001)
    watch = Stopwatch(cluster)
    beats = [
        asyncio.create_task(keep_alive(m, home)) for m, home in zip(members, homes, strict=True)
    ]

    async def lay_next(number: int) -> Asked:
        other = (number + 1) % size
        while True:
            asked = members[number].lay({names[other]: b"theirs"}, range_id=homes[other])
            await answered(cluster, asked)
            if asked.code != "lock_wait":
                return asked

    laying = [asyncio.create_task(lay_next(number)) for number in range(size)]
    # The youngest ends, and lets the one through that waits for it.
    assert (await laying[-1]).code == "transaction_aborted"
    assert watch.passed_s < (0.1 if ranges == 1 else 2.0)
    assert (await laying[-2]).code == ""
    for number in range(size - 2, -1, -1):
        # Each one that has got through commits, and lets the next one do so.
        assert (await laying[number]).code == ""
        asked = members[number].query(range_id=homes[number])
        await answered(cluster, asked)
        at = members[number].laid_at
        reply = (await laying[number]).reply
        at = max(at, reply.timestamp)
        await members[number].ended(STAGING, at, range_id=homes[number])
        await members[number].ended(COMMITTED, at, range_id=homes[number])
    for beat in beats:
        beat.cancel()
    victim = members[-1].query(range_id=homes[-1])
    await answered(cluster, victim)
    assert record_of(victim).status is ABORTED
    assert "deadlock" in record_of(victim).reason
    await nothing_is_locked(cluster)


@cluster_test()
async def test_circle_through_a_transaction_that_is_staging_ends(
    cluster: Cluster, db: Database
) -> None:
    right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
    old, young = Transaction(cluster, b"a"), Transaction(cluster, b"z", began=1 << 63)
    await old.laid_down({b"a": b"old"})
    at = await young.laid_down({b"z": b"young"}, range_id=right)
    # The young one commits in parallel: its record stands STAGING while its last write waits.
    last = young.lay({b"a": b"young"}, at=at)
    assert (await young.ended(STAGING, at, range_id=right)).status is STAGING
    beats = [
        asyncio.create_task(keep_alive(old)),
        asyncio.create_task(keep_alive(young, right)),
    ]
    watch = Stopwatch(cluster)
    waits = old.lay({b"z": b"old"}, range_id=right)
    await answered(cluster, waits)
    assert waits.code == ""
    assert watch.passed_s < 1.0
    for beat in beats:
        beat.cancel()
    await answered(cluster, last)
    asked = young.query(range_id=right)
    await answered(cluster, asked)
    assert record_of(asked).status is ABORTED
    await old.ended(ABORTED)
    assert await both(db) == (None, None)
    await nothing_is_locked(cluster)


@cluster_test()
async def test_nobody_asks_while_nobody_waits(cluster: Cluster, db: Database) -> None:
    txn = Transaction(cluster, b"a")
    await txn.laid_down({b"a": b"new"})
    before = [member.up.store.requests for member in cluster.running()]
    await asyncio.sleep(10.0)
    assert [member.up.store.requests for member in cluster.running()] == before
    member = leader_of(cluster)
    write = ask(cluster, member, put(b"a", b"later"))
    read = ask(cluster, member, get(b"a"))
    await answered(cluster, write, read)
    late = txn.end(STAGING, txn.laid_at)
    await answered(cluster, late)
    assert late.code == "transaction_aborted"
    await nothing_is_locked(cluster)


@cluster_test()
async def test_locks_and_transactions_are_shown_with_who_waits_and_why(
    cluster: Cluster, db: Database
) -> None:
    right = (await ranges_on_nodes(cluster, db, [b"m"]))[0]
    one = Transaction(cluster, b"a")
    await one.laid_down({b"a": b"1", b"b": b"1"})
    await asyncio.sleep(0.01)
    two = Transaction(cluster, b"z")
    await two.laid_down({b"z": b"2"}, range_id=right)
    blocked = two.lay({b"a": b"2"})
    read = asyncio.create_task(db.get(b"a"))
    await asyncio.sleep(0.4)
    system, left, upper = await db.admin.locks()
    assert system.status is not None
    assert left.status is not None
    assert upper.status is not None
    assert system.status.keys == ()
    assert (left.status.locks, left.status.waiters, left.status.is_complete) == (2, 2, True)
    a, b = left.status.keys
    assert (a.key, a.kind, a.transaction, a.anchor) == (
        plain(b"a"),
        "intent",
        one.id.hex(),
        plain(b"a"),
    )
    assert 0.4 <= a.held_s < 0.6
    assert [(w.transaction, w.why) for w in a.waiters] == [(two.id.hex(), "writes"), ("", "reads")]
    assert all(0.3 < waiter.waits_s < 0.5 for waiter in a.waiters)
    assert b.waiters == ()
    assert [lock.key for lock in upper.status.keys] == [plain(b"z")]
    first, second = await db.admin.transactions()
    assert (first.id, first.locks, first.status) == (one.id.hex(), 2, "pending")
    assert (first.waited_for_by, first.requests_waiting) == ((two.id.hex(),), 2)
    assert [wait.key for wait in second.waits] == [plain(b"a")]
    assert 0.6 < first.age_s < 0.9
    await one.ended(ABORTED)
    await answered(cluster, blocked)
    await two.ended(ABORTED, range_id=right)
    assert await read is None
    follower = next(m for m in cluster.running() if m is not leader_of(cluster))
    asked = ask(cluster, follower, RangeLocks(), issued_at=0)
    assert isinstance(asked.reply.results[0], StatusResult)
    assert b'"is_leaseholder":false' in asked.reply.results[0].status
    await nothing_is_locked(cluster)
