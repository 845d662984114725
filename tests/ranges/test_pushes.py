"""What is done for those who wait for locks, on stores without ranges (support/lock_world.py)."""

import asyncio
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency.lock_waits import Wake
from multiraft.config import Config
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchReply, Operation
from multiraft.model.transaction import IntentRef, TransactionStatus
from multiraft.model.transaction_requests import (
    PushKind,
    PushTransaction,
    QueryTransaction,
    RecoverTransaction,
    ResolveIntent,
    WaitsFor,
)
from multiraft.ranges import pushes
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop
from tests.support.lock_world import NOW, Waiting, World, key, transaction
from tests.support.virtual_time import on_virtual_time

K, L = key(0, "k"), key(0, "l")
HOLDER = transaction(1, K)
LIVES = 1.0
"""Long enough for a waiter to be looked at many times."""


@on_virtual_time
async def test_short_wait_sends_nothing(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    waiting = world.wait(K)
    await asyncio.sleep(0.01)
    world.stores[0].table.release(K, HOLDER.id)
    assert await waiting.within(0.01) is Wake.FREE
    waiting.leave()
    await world.settle()
    assert world.asked == []


@on_virtual_time
async def test_holder_without_a_sign_of_life_is_aborted_and_resolved(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    world.lay(L, HOLDER)
    first, second, reader = world.wait(K), world.wait(L), world.wait(K, limit=20)
    await asyncio.sleep(LIVES)
    assert world.stores[0].table.waiters == 3
    world.dead.add(HOLDER.id)
    for waiting in (first, second, reader):
        assert await waiting.within(LIVES + 0.2) is Wake.FREE
        waiting.leave()
    await world.settle()
    # Every intent of it that was known there, each once.
    assert world.asked_for(ResolveIntent) == 2


@on_virtual_time
async def test_push_says_what_is_in_the_way_and_of_whom(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    pusher = transaction(5, b"")
    waiting = world.wait(K, pusher, limit=20)
    await asyncio.sleep(0.03)
    assert world.asked == [
        PushTransaction(
            K,
            HOLDER,
            NOW,
            NOW,
            PushKind.TIMESTAMP,
            pusher=pusher,
            reason=f"pushed by transaction {pusher.id.hex()}",
        )
    ]
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_only_the_first_of_those_without_locks_pushes_and_none_queries(
    loop: VirtualLoop,
) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    waiting = [world.wait(K, transaction(number, b"")) for number in range(5, 15)]
    await asyncio.sleep(LIVES)
    pushers = {push.pusher for push in world.asked if isinstance(push, PushTransaction)}
    assert pushers == {waiting[0].waiter.txn}
    assert world.asked_for(QueryTransaction) == 0
    assert 8 <= world.asked_for(PushTransaction) <= 20
    waiting[0].leave()
    await asyncio.sleep(LIVES)
    pushers = {push.pusher for push in world.asked if isinstance(push, PushTransaction)}
    assert pushers == {waiting[0].waiter.txn, waiting[1].waiter.txn}
    for each in waiting[1:]:
        each.leave()
    await world.settle()


@on_virtual_time
async def test_who_waits_for_its_own_anchor_asks_late(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    first = world.wait(K)
    second = world.wait(K, transaction(5, K))
    await asyncio.sleep(0.4)
    assert world.asked_for(QueryTransaction) == 0
    await asyncio.sleep(0.4)
    assert world.asked_for(QueryTransaction) > 0
    first.leave()
    second.leave()
    await world.settle()


@on_virtual_time
async def test_who_is_not_known_to_be_waited_for_any_more_once_it_has_asked_pushes_all_the_same(
    loop: VirtualLoop,
) -> None:
    """It asked early, at its own anchor, for the sake of one that has gone on meanwhile."""
    world = World(loop)
    store = world.stores[0].pushes
    now = world.stores[0].context.hlc.now
    mine, behind = transaction(5, K), transaction(6, L)
    store.tell((WaitsFor(behind, mine, now(), now()),))
    world.lay(K, HOLDER)
    waiting = world.wait(K, mine)
    await world.until_asked()
    assert world.asked == [QueryTransaction(K, mine.id, mine.began)]
    store.tell((WaitsFor(behind, HOLDER, now(), now()),))
    assert store.edges_to(mine.id) == ()
    await asyncio.sleep(0.01)
    assert world.asked_for(PushTransaction) == 1
    push = world.asked[-1]
    assert isinstance(push, PushTransaction)
    assert [(edge.waiter, edge.holder) for edge in push.edges] == [(mine, HOLDER)]
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_many_who_wait_for_what_has_ended_need_one_answer(loop: VirtualLoop) -> None:
    """Pitfall (g): a change of hands does not cost a request for everybody in line."""
    world = World(loop, stores=2)
    holder = transaction(1, key(1, "anchor"))
    world.record(holder, TransactionStatus.COMMITTED, at=Timestamp(50))
    names = [key(0, f"{number}") for number in range(20)]
    for name in names[:10]:
        world.lay(name, holder)
    for waiting in [world.wait(name) for name in names[:10]]:
        assert await waiting.within(0.1) is Wake.FREE
        waiting.leave()
    assert world.asked_for(ResolveIntent) == 10
    pushed = world.asked_for(PushTransaction)
    assert pushed <= 10
    for name in names[10:]:
        world.lay(name, holder)
    for waiting in [world.wait(name) for name in names[10:]]:
        assert await waiting.within(0.02) is Wake.FREE
        waiting.leave()
    assert world.asked_for(PushTransaction) == pushed
    resolved = [each for each in world.asked if isinstance(each, ResolveIntent)]
    assert {each.timestamp for each in resolved} == {50}
    await world.settle()


@on_virtual_time
async def test_unreplicated_lock_of_what_has_ended_is_dropped(loop: VirtualLoop) -> None:
    world = World(loop)
    assert world.stores[0].table.take(K, HOLDER, NOW)
    waiting = world.wait(K)
    world.record(HOLDER, TransactionStatus.ABORTED)
    assert await waiting.within(0.1) is Wake.FREE
    waiting.leave()
    await world.settle()
    assert world.asked_for(ResolveIntent) == 0


@on_virtual_time
async def test_what_was_left_staging_is_recovered(loop: VirtualLoop) -> None:
    for is_there, expected in (
        (True, TransactionStatus.COMMITTED),
        (False, TransactionStatus.ABORTED),
    ):
        world = World(loop, stores=2)
        elsewhere = key(1, "x")
        world.lay(K, HOLDER)
        world.lay(elsewhere, HOLDER)
        staged = world.record(HOLDER, TransactionStatus.STAGING, at=Timestamp(40))
        writes = (IntentRef(K, 1), IntentRef(elsewhere, 2))
        record = msgspec.structs.replace(staged, writes=writes)
        world.stores[0].records[HOLDER.id] = record
        world.laid = {(K, HOLDER.id, 1)} | ({(elsewhere, HOLDER.id, 2)} if is_there else set())
        waiting = world.wait(K)
        await asyncio.sleep(LIVES)
        assert world.asked_for(RecoverTransaction) == 0, "it lives"
        world.dead.add(HOLDER.id)
        assert await waiting.within(LIVES + 0.2) is Wake.FREE
        assert world.stores[0].records[HOLDER.id].status is expected
        waiting.leave()
        await world.settle()
        assert world.stores[1].table.locks == 0, "what nobody waits for is resolved too"


@on_virtual_time
async def test_holder_that_commits_while_it_is_pushed_lets_the_pusher_through(
    loop: VirtualLoop,
) -> None:
    """Pitfall (g): a push that meets the end of its transaction does not get stuck."""
    world = World(loop)
    world.lay(K, HOLDER)
    waiting = world.wait(K)
    await world.until_asked()
    record = world.record(HOLDER, TransactionStatus.COMMITTED)
    world.resolve(record)
    assert await waiting.within(0.1) is Wake.FREE
    await asyncio.sleep(0.1)
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_pusher_that_leaves_meanwhile_is_not_looked_for(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    world.record(transaction(9, L), TransactionStatus.PENDING)
    waiting = world.wait(K, transaction(9, L))
    await world.until_asked()
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_read_of_higher_priority_passes_what_will_commit_above_it(loop: VirtualLoop) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    low = world.wait(K, transaction(5, b""), limit=20)
    high = world.wait(K, transaction(6, b"", priority=1), limit=20)
    # It is not the first in line, but may push all the same once it is looked at.
    assert await low.within(1.0) is Wake.FREE
    assert await high.within(1.0) is Wake.FREE
    lock = world.stores[0].table.lock_on(K)
    assert lock is not None
    assert lock.timestamp == 21
    low.leave()
    high.leave()
    await world.settle()


@on_virtual_time
async def test_waiter_does_not_outlive_its_transaction(loop: VirtualLoop) -> None:
    """Pitfall (g): who was aborted while it waits is woken, and lets others by."""
    world = World(loop, stores=2)
    world.lay(K, HOLDER)
    mine = transaction(5, key(1, "mine"))
    waiting = world.wait(K, mine)
    await asyncio.sleep(LIVES)
    world.record(mine, TransactionStatus.ABORTED, reason="somebody else said so")
    assert await waiting.within(LIVES + 0.2) is Wake.ABORTED
    assert waiting.waiter.reason == "somebody else said so"
    await world.settle()


@on_virtual_time
async def test_range_that_cannot_be_asked_is_asked_again(loop: VirtualLoop) -> None:
    world = World(loop, stores=2)
    holder = transaction(1, key(1, "anchor"))
    world.lay(K, holder)
    world.dead.add(holder.id)
    world.stores[1].is_down = True
    waiting = world.wait(K)
    await asyncio.sleep(LIVES)
    assert not waiting.woken.done()
    world.stores[1].is_down = False
    assert await waiting.within(LIVES + 0.2) is Wake.FREE
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_who_outranks_the_holder_pushes_at_once_and_a_writer_to_no_time(
    loop: VirtualLoop,
) -> None:
    world = World(loop)
    world.lay(K, HOLDER)
    waiting = world.wait(K, transaction(5, b"", priority=1))
    await asyncio.sleep(0.001)
    (push,) = world.asked
    assert isinstance(push, PushTransaction)
    assert (push.kind, push.push_to) == (PushKind.ABORT, 0)
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_what_a_dead_client_left_is_waited_for_once_however_much_it_is(
    loop: VirtualLoop,
) -> None:
    world = World(loop)
    table, records = world.stores[0].table, world.stores[0].records
    await asyncio.sleep(Config().ranges.transaction_expiry_ms / 1_000 + 1.0)
    slow, young, unknown = (transaction(number, K) for number in (91, 92, 93))
    world.record(slow, TransactionStatus.PENDING)
    for holder in (slow, unknown):
        world.lay(key(0, f"of {holder.began}"), holder)
    table.lay(L, young, NOW, world.stores[0].context.hlc.now())
    claimed = key(0, "claimed")
    world.lay(claimed, unknown)
    claimant = world.wait(claimed)
    table.release(claimed, unknown.id)
    for waiters in (1, 2):
        left = [transaction(10 * waiters + number, K) for number in range(5)]
        names = [key(0, f"{txn.began}") for txn in left]
        for name, txn in zip(names, left, strict=True):
            world.lay(name, txn)
            world.dead.add(txn.id)
        world.asked.clear()
        for waiting in [world.wait(name) for name in names[:waiters]]:
            assert await waiting.within(0.1) is Wake.FREE
            waiting.leave()
        await asyncio.sleep(0.1)
        assert [records[txn.id].status for txn in left] == [TransactionStatus.ABORTED] * len(left)
        pushed = [push.txn for push in world.asked if isinstance(push, PushTransaction)]
        assert set(pushed) == {*left, slow, unknown}
        assert waiters > 1 or len(pushed) == len(left) + 2, "each once"
    assert table.locks == 3, "what lives, or has only begun, keeps its own"
    claimant.leave()
    await world.settle()


def test_those_that_have_ended_lately_are_known_and_no_more_than_so_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop)
        ended = [transaction(number, L) for number in (1, 2, 3)]
        for holder, pushed in zip((*ended, *reversed(ended)), (1, 2, 3, 3, 3, 4), strict=True):
            world.record(holder, TransactionStatus.COMMITTED)
            world.lay(K, holder)
            is_known = pushed == world.asked_for(PushTransaction)
            waiting = world.wait(K)
            assert await waiting.within(pushes.FIRST_PUSH_S / 2 if is_known else 0.1) is Wake.FREE
            assert world.asked_for(PushTransaction) == pushed
            waiting.leave()
            await asyncio.sleep(LIVES)
        await world.settle()

    monkeypatch.setattr(pushes, "ENDED_KEPT_MAX", 2)
    virtual_loop.run(main, limit_s=10_000)


@on_virtual_time
async def test_of_who_has_ended_nobody_is_told_that_it_waits(loop: VirtualLoop) -> None:
    world = World(loop)
    now = world.stores[0].context.hlc.now()
    behind = transaction(9, L)
    world.stores[0].pushes.tell((WaitsFor(behind, HOLDER, now, now),))
    assert world.stores[0].pushes.status().deadlocks.told == 1
    world.record(HOLDER, TransactionStatus.COMMITTED)
    world.lay(K, HOLDER)
    waiting = world.wait(K)
    assert await waiting.within(0.1) is Wake.FREE
    assert world.stores[0].pushes.status().deadlocks.told == 0
    assert world.stores[0].pushes.status().pushes == world.asked_for(PushTransaction) == 1
    waiting.leave()
    await world.settle()


@on_virtual_time
async def test_only_so_many_push_at_a_time(loop: VirtualLoop) -> None:
    under_way = most = 0

    class Counting(World):
        async def execute(
            self, operations: tuple[Operation, ...], *, deadline_s: float | None = None
        ) -> BatchReply:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await asyncio.sleep(1.0)
                return await super().execute(operations, deadline_s=deadline_s)
            finally:
                under_way -= 1

    world = Counting(loop)
    waiting = []
    for number in range(1, 2 * pushes.CONCURRENT_MAX):
        name = key(0, f"{number}")
        world.lay(name, transaction(number, name))
        waiting.append(world.wait(name))
    await asyncio.sleep(LIVES)
    assert most == pushes.CONCURRENT_MAX
    for each in waiting:
        each.leave()
    await world.settle()


# -- deadlocks -------------------------------------------------------------------------------------


def circle(world: World, size: int) -> list[Waiting]:
    """Let transactions on as many stores as there are wait for each other; the last is youngest."""
    stores = len(world.stores)
    names = [key(number % stores, f"{number}") for number in range(size)]
    members = [transaction(number + 1, name) for number, name in enumerate(names)]
    for name, member in zip(names, members, strict=True):
        world.lay(name, member)
    return [world.wait(names[(n + 1) % size], members[n]) for n in range(size)]


async def the_victim_is_the_youngest(world: World, waits: list[Waiting], within_s: float) -> None:
    assert await waits[-1].within(within_s) is Wake.ABORTED
    assert "deadlock" in waits[-1].waiter.reason
    await asyncio.sleep(3.0)
    # Its locks are resolved, since others wait for them; nobody else had to end.
    assert [each.woken.done() for each in waits] == [False] * (len(waits) - 2) + [True, True]
    assert await waits[-2].woken is Wake.FREE
    for each in waits:
        each.leave()
    await world.settle()
    aborted = [r for store in world.stores for r in store.records.values()]
    assert [record.txn for record in aborted] == [waits[-1].waiter.txn]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_circle_on_one_store_ends_at_once(size: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop)
        await the_victim_is_the_youngest(world, circle(world, size), within_s=0.0)

    virtual_loop.run(main, limit_s=1_000)


@pytest.mark.parametrize(("size", "stores"), [(2, 2), (3, 3), (5, 5), (3, 2), (5, 2)])
def test_circle_over_several_stores_loses_exactly_one(size: int, stores: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop, stores)
        await the_victim_is_the_youngest(world, circle(world, size), within_s=1.0)

    virtual_loop.run(main, limit_s=1_000)


@pytest.mark.parametrize("stores", [1, 2])
def test_victim_that_has_staged_already_is_recovered(stores: int) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop, stores)
        waits = circle(world, 2)
        victim = waits[-1].waiter.txn
        assert victim is not None
        # It stages while the last of its writes waits for the other one.
        staged = world.record(victim, TransactionStatus.STAGING, at=Timestamp(40))
        writes = (IntentRef(victim.anchor, 1), IntentRef(waits[-1].key, 1))
        record = msgspec.structs.replace(staged, writes=writes)
        world.owner(victim.anchor).records[victim.id] = record
        world.laid = {(victim.anchor, victim.id, 1)}
        assert await waits[-1].within(1.0) is Wake.ABORTED
        assert await waits[0].within(1.0) is Wake.FREE
        assert world.owner(victim.anchor).records[victim.id].status is TransactionStatus.ABORTED
        for each in waits:
            each.leave()
        await world.settle()

    virtual_loop.run(main, limit_s=1_000)


@on_virtual_time
async def test_chain_that_takes_its_time_is_no_deadlock(loop: VirtualLoop) -> None:
    world = World(loop, stores=3)
    names = [key(number, "k") for number in range(3)]
    members = [transaction(number + 1, name) for number, name in enumerate(names)]
    for name, member in zip(names, members, strict=True):
        world.lay(name, member)
    waits = [world.wait(names[n + 1], members[n]) for n in range(2)]
    await asyncio.sleep(5.0)
    assert not any(each.woken.done() for each in waits)
    for each in waits:
        each.leave()
    await world.settle()


@on_virtual_time
async def test_lock_that_changes_hands_closes_a_circle(loop: VirtualLoop) -> None:
    world = World(loop)
    one, two, three = (transaction(number, key(0, f"{number}")) for number in (1, 2, 3))
    world.lay(K, one)
    world.lay(L, two)
    # Two waits for the key that three is going to have, three for what two has.
    behind = world.wait(K, two)
    waits = world.wait(L, three)
    await asyncio.sleep(0.01)
    world.stores[0].table.lay(K, three, Timestamp(11), NOW)
    assert await waits.within(0.01) is Wake.ABORTED
    assert await behind.within(0.1) is Wake.FREE
    behind.leave()
    await world.settle()


class Player:
    """A transaction that locks some keys in its order, keeps them for a moment, and ends."""

    def __init__(self, world: World, number: int, wants: list[bytes]) -> None:
        self.world = world
        self.txn = transaction(number, wants[0])
        self.wants = wants
        self.was_victim = False

    async def play(self) -> None:
        status = TransactionStatus.COMMITTED
        for wanted in self.wants:
            if not await self._lock(wanted):
                self.was_victim = True
                status = TransactionStatus.ABORTED
                break
            await asyncio.sleep(0.003)
        if self.txn.id not in self.world.owner(self.txn.anchor).records:
            self.world.record(self.txn, status)
        self.world.resolve(self.world.owner(self.txn.anchor).records[self.txn.id])

    async def _lock(self, wanted: bytes) -> bool:
        table = self.world.owner(wanted).table
        while table.blocks_write(wanted, self.txn.id):
            waiting = self.world.wait(wanted, self.txn)
            why = await waiting.woken
            if why is Wake.FREE and not table.blocks_write(wanted, self.txn.id, waiting.waiter):
                self.world.lay(wanted, self.txn)
            waiting.leave()
            if why is not Wake.FREE:
                return False
        self.world.lay(wanted, self.txn)
        return True


@pytest.mark.parametrize("keys", [64, 512])
def test_a_crowd_with_many_circles_comes_to_an_end(keys: int) -> None:
    """Pitfall (g): looking for circles does not collapse under 128 transactions of 4 locks."""

    async def main(loop: VirtualLoop) -> None:
        world = World(loop, stores=3)
        random = Random(keys)
        names = [key(number % 3, f"{number}") for number in range(keys)]
        players = [Player(world, number + 1, random.sample(names, 4)) for number in range(128)]
        async with asyncio.timeout(5.0):
            await asyncio.gather(*(player.play() for player in players))
        assert 0 < sum(player.was_victim for player in players) < 64
        assert len(world.asked) < 10 * 128 * 4, "the cost of a lock does not grow with the crowd"
        await world.settle()

    virtual_loop.run(main, limit_s=1_000)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 4),
    st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4, unique=True), max_size=8),
    st.integers(0, 1 << 30),
)
def test_everybody_ends_and_nobody_dies_without_a_deadlock(
    stores: int, wants: list[list[int]], seed: int
) -> None:
    async def main(loop: VirtualLoop) -> None:
        world = World(loop, stores)
        players = [
            Player(world, number + 1, [key(name % stores, f"{name}") for name in names])
            for number, names in enumerate(wants)
        ]
        random = Random(seed)

        async def later(player: Player) -> None:
            await asyncio.sleep(random.random() * 0.02)
            await player.play()

        async with asyncio.timeout(20.0):
            await asyncio.gather(*map(later, players))
        await world.settle()
        assert all(store.table.is_empty for store in world.stores)
        victims = sum(player.was_victim for player in players)
        if all(names == sorted(names) for names in wants):
            assert victims == 0, "who locks in one order is in no circle"
        assert victims < max(1, len(players))

    virtual_loop.run(main, limit_s=1_000)
