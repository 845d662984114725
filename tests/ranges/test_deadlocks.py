"""What a store knows of deadlocks, without the pushes that ask and tell (support/lock_world.py)."""

import asyncio
from typing import cast

from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.lock_waits import Lock, Waiter
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import WaitsFor
from multiraft.ranges import deadlocks
from multiraft.ranges.deadlocks import Deadlocks
from multiraft.ranges.store import Store
from multiraft.sim.loop import VirtualLoop
from tests.support.lock_world import NOW, World, key, transaction
from tests.support.virtual_time import on_virtual_time

K, L, M = (key(0, name) for name in "klm")
ELSEWHERE = key(1, "anchor")
OLD, MIDDLE, YOUNG = (transaction(number, ELSEWHERE) for number in (1, 2, 3))


class Scene:
    """A lock table that tells of its waits, and who had to end."""

    def __init__(self, loop: VirtualLoop) -> None:
        store = World(loop).stores[0]
        self._store = store
        self.deadlocks = Deadlocks(cast("Store", store), self._end)
        self.table = LockTable(100, self)
        self.ended: list[tuple[TransactionMeta, str]] = []

    def waits(self, table: LockTable, waiter: Waiter) -> None:
        """See lock_table.Observer."""
        self.deadlocks.waits(waiter)

    def waits_no_more(self, waiter: Waiter) -> None:
        """See lock_table.Observer."""
        self.deadlocks.waits_no_more(waiter)

    def taken(self, table: LockTable, lock: Lock) -> None:
        """See lock_table.Observer."""
        self.deadlocks.taken(lock)

    def _end(self, victim: TransactionMeta, reason: str) -> None:
        self.ended.append((victim, reason))
        for waiter in self.deadlocks.waits_of(victim.id):
            self.table.leave(waiter)

    def lay(self, wanted: bytes, holder: TransactionMeta) -> None:
        """Lay an intent."""
        self.table.lay(wanted, holder, Timestamp(10), NOW)

    def wait(self, wanted: bytes, txn: TransactionMeta) -> Waiter:
        """Wait for the lock on a key."""
        waiter = Waiter(txn, (txn.began, txn.id), lambda _: None)
        assert self.table.wait(waiter, wanted, self._store.context.clock.monotonic())
        return waiter

    def edge(self, waiter: TransactionMeta, holder: TransactionMeta) -> WaitsFor:
        """Return a wait elsewhere, as it is told now."""
        now = self._store.context.hlc.now()
        return WaitsFor(waiter, holder, now, now)

    def who_waits_for(self, txn: TransactionMeta) -> list[TransactionMeta]:
        """Return those that are known to, directly or not."""
        return [edge.waiter for edge in self.deadlocks.edges_to(txn.id)]


@on_virtual_time
async def test_circle_is_counted_and_its_victim_told_of_whom_it_waited_for(
    loop: VirtualLoop,
) -> None:
    scene = Scene(loop)
    scene.lay(K, OLD)
    scene.lay(L, YOUNG)
    scene.wait(L, OLD)
    scene.wait(K, YOUNG)
    assert scene.ended == [], "not while the table is at work"
    await asyncio.sleep(0)
    ((victim, reason),) = scene.ended
    assert victim == YOUNG
    assert f"locked by transaction {OLD.id.hex()}, closes a circle" in reason
    status = scene.deadlocks.status()
    assert (status.found, status.transactions, status.waits) == (1, 1, 1)


@on_virtual_time
async def test_who_waits_for_a_claim_only_can_be_told_why_it_has_to_end(loop: VirtualLoop) -> None:
    scene = Scene(loop)
    scene.lay(K, OLD)
    scene.wait(K, MIDDLE)
    behind = scene.wait(K, YOUNG)
    scene.table.release(K, OLD.id)
    assert behind.holder is None
    assert "locked by another transaction" in deadlocks.reason(behind)


@on_virtual_time
async def test_who_waits_for_its_own_anchor_is_not_told_of_before_half_a_second(
    loop: VirtualLoop,
) -> None:
    await asyncio.sleep(10.0)
    scene = Scene(loop)
    scene.lay(K, OLD)
    first = scene.wait(K, transaction(5, K))
    assert not scene.deadlocks.probes(first)
    assert scene.who_waits_for(OLD) == []
    second = scene.wait(K, MIDDLE)
    assert scene.deadlocks.probes(second), "it may hold others"
    assert scene.who_waits_for(OLD) == [MIDDLE]
    await asyncio.sleep(deadlocks.OWN_ANCHOR_S + 0.01)
    assert scene.deadlocks.probes(first)
    assert first.txn in scene.who_waits_for(OLD)


@on_virtual_time
async def test_of_several_waits_for_one_holder_the_first_asks(loop: VirtualLoop) -> None:
    scene = Scene(loop)
    for wanted, holder in ((K, OLD), (L, OLD), (M, MIDDLE)):
        scene.lay(wanted, holder)
    first, second, other = [scene.wait(wanted, YOUNG) for wanted in (K, L, M)]
    assert scene.deadlocks.probes(first)
    assert not scene.deadlocks.probes(second)
    assert scene.deadlocks.probes(other)
    scene.table.leave(first)
    assert scene.deadlocks.probes(second)


@on_virtual_time
async def test_a_wait_for_a_claim_asks_for_nobody_else(loop: VirtualLoop) -> None:
    scene = Scene(loop)
    for wanted in (K, L):
        scene.lay(wanted, OLD)
    scene.wait(K, MIDDLE)
    claimed, locked = [scene.wait(wanted, YOUNG) for wanted in (K, L)]
    assert not scene.deadlocks.probes(locked)
    scene.table.release(K, OLD.id)
    assert claimed.holder is None
    assert scene.deadlocks.probes(locked)


@on_virtual_time
async def test_what_was_told_counts_for_a_while_and_while_its_transactions_live(
    loop: VirtualLoop,
) -> None:
    await asyncio.sleep(10.0)
    scene = Scene(loop)
    scene.deadlocks.tell((scene.edge(MIDDLE, OLD), scene.edge(YOUNG, MIDDLE)))
    assert set(scene.who_waits_for(OLD)) == {MIDDLE, YOUNG}
    scene.deadlocks.forget(YOUNG.id)
    assert scene.who_waits_for(OLD) == [MIDDLE]
    await asyncio.sleep(deadlocks.TOLD_MS / 1_000 - 1.0)
    scene.deadlocks.tell((scene.edge(YOUNG, transaction(9, ELSEWHERE)),))
    assert scene.who_waits_for(OLD) == [MIDDLE]
    await asyncio.sleep(2.0)
    scene.deadlocks.tell((scene.edge(YOUNG, transaction(9, ELSEWHERE)),))
    assert scene.who_waits_for(OLD) == []
    assert scene.deadlocks.status().told == 1


@on_virtual_time
async def test_a_victim_is_ended_by_itself_or_by_who_waits_for_it(loop: VirtualLoop) -> None:
    scene = Scene(loop)
    around = (scene.edge(OLD, MIDDLE), scene.edge(MIDDLE, YOUNG), scene.edge(YOUNG, OLD))
    found = [
        scene.deadlocks.victim(own, tuple(edge for edge in around if edge is not own))
        for own in around
    ]
    assert found == [None, YOUNG, YOUNG], "the first knows, and leaves it to those two"
    assert scene.deadlocks.status().found == 2
    assert scene.deadlocks.victim(around[0], (around[1],)) is None, "no circle"


@on_virtual_time
async def test_a_wait_is_no_older_than_the_lock_that_it_is_for(loop: VirtualLoop) -> None:
    """Else it is taken for one at the same time as waits that were over before."""
    await asyncio.sleep(1.0)
    scene = Scene(loop)
    now = hlc.from_ms(1_000)
    scene.table.lay(K, OLD, Timestamp(10), Timestamp(now - 5))
    waiter = scene.wait(K, YOUNG)
    assert scene.deadlocks.edge_of(waiter).since == now
    scene.table.lay(K, MIDDLE, Timestamp(10), Timestamp(now + 7))
    assert scene.deadlocks.edge_of(waiter).since == now + 7
