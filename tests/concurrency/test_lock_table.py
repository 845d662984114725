from collections.abc import Callable
from functools import partial
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.lock_waits import Lock, Waiter, Wake
from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta

KEYS = (b"\x10a", b"\x10b", b"\x10c")
A, B, C = KEYS
NEVER = Timestamp(1 << 62)


def txn(number: int) -> TransactionMeta:
    return TransactionMeta(bytes([number]) * 16, A, 0, at(number))


def at(number: int) -> Timestamp:
    return Timestamp(number)


ONE, TWO, THREE = txn(1), txn(2), txn(3)


class Scenario:
    """A table, what its waiters were told, and what its observer was."""

    def __init__(self, locks_max: int = 100) -> None:
        self.table = LockTable(locks_max, self)
        self.told: list[tuple[str, Wake]] = []
        self.seen: list[str] = []
        self.names: dict[int, str] = {}

    def waiter(self, name: str, order: int, meta: TransactionMeta | None = None) -> Waiter:
        waiter = Waiter(meta, (order, b""), lambda why: self.told.append((name, why)))
        self.names[id(waiter)] = name
        return waiter

    def writer(self, name: str, order: int, key: bytes = A) -> Waiter:
        waiter = self.waiter(name, order)
        assert self.table.wait(waiter, key, 0.0)
        return waiter

    def reader(self, name: str, order: int, limit: int, key: bytes = A) -> Waiter:
        waiter = self.waiter(name, order)
        assert self.table.wait(waiter, key, 0.0, at(limit))
        return waiter

    def take_told(self) -> list[str]:
        told, self.told = self.told, []
        assert all(why is Wake.FREE for _, why in told)
        return [name for name, _ in told]

    def waits(self, table: LockTable, waiter: Waiter) -> None:
        self.seen.append(f"{self.names[id(waiter)]} waits")

    def waits_no_more(self, waiter: Waiter) -> None:
        self.seen.append(f"{self.names[id(waiter)]} goes")

    def taken(self, table: LockTable, lock: Lock) -> None:
        self.seen.append(f"{lock.holder.id[0]} has it")


def test_new_table_blocks_nobody() -> None:
    table = LockTable(10)
    assert table.is_empty
    assert table.complete
    assert not table.blocks_read(A, NEVER)
    assert table.blocks_scan(b"", b"\xff", NEVER) is None
    assert not table.blocks_write(A)


@pytest.mark.parametrize(
    ("limit", "reader", "blocked"),
    [(9, b"", False), (10, b"", True), (11, TWO.id, True), (11, ONE.id, False)],
)
def test_intent_blocks_reads_of_others_at_or_above_it(
    limit: int, reader: bytes, blocked: bool
) -> None:
    table = LockTable(10)
    table.lay(B, ONE, at(10), at(5))
    assert not table.is_empty
    assert table.blocks_read(B, at(limit), reader) is blocked
    assert not table.blocks_read(A, at(limit), reader)
    found = table.blocks_scan(A, C, at(limit), reader)
    assert found is (table.lock_on(B) if blocked else None)
    assert table.blocks_scan(A, B, at(limit), reader) is None


def test_scan_meets_the_first_intent_of_its_span() -> None:
    table = LockTable(10)
    for key in KEYS:
        table.lay(key, ONE, at(10), at(5))
    table.release(A, ONE.id)
    assert table.blocks_scan(A, C, at(10)) is table.lock_on(B)
    assert table.blocks_scan(C, b"\xff", at(10)) is table.lock_on(C)
    assert table.blocks_scan(A, B, at(10)) is None


def test_unreplicated_lock_blocks_writes_but_no_reads() -> None:
    table = LockTable(10)
    assert table.take(A, ONE, at(5))
    assert table.take(A, ONE, at(5))
    assert not table.take(A, TWO, at(5))
    assert not table.blocks_read(A, NEVER)
    assert table.blocks_write(A)
    assert table.blocks_write(A, TWO.id)
    assert not table.blocks_write(A, ONE.id)


def test_released_lock_leaves_nothing() -> None:
    table = LockTable(10)
    table.lay(A, ONE, at(10), at(5))
    table.release(A, TWO.id)
    assert table.locks == 1
    table.release(A, ONE.id)
    assert (table.locks, table.is_empty, table.locks_of(ONE.id)) == (0, True, ())
    assert not table._by_holder


def test_all_readers_and_the_first_writer_are_woken() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    scenario.writer("young", 5)
    scenario.reader("reader", 7, 10)
    old = scenario.writer("old", 3)
    scenario.reader("other", 1, 12)
    assert table.is_first(old) is False
    table.release(A, ONE.id)
    assert scenario.take_told() == ["other", "reader", "old"]
    assert table.waiters == 1
    # The claim keeps others away, until its owner has left.
    assert not table.blocks_write(A, waiter=old)
    assert table.blocks_write(A)
    assert not table.blocks_read(A, NEVER)
    table.leave(old)
    assert scenario.take_told() == ["young"]


def test_who_is_first_counts_readers_too() -> None:
    scenario = Scenario()
    scenario.table.lay(A, ONE, at(10), at(5))
    writer = scenario.writer("writer", 2)
    reader = scenario.reader("reader", 1, 10)
    assert scenario.table.is_first(reader)
    assert not scenario.table.is_first(writer)
    scenario.table.leave(reader)
    assert scenario.table.is_first(writer)
    assert not scenario.table.is_first(reader)


def test_claim_is_given_up_by_who_has_to_wait_elsewhere() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    table.lay(B, TWO, at(10), at(5))
    first = scenario.writer("first", 1)
    scenario.writer("second", 2)
    table.release(A, ONE.id)
    assert scenario.take_told() == ["first"]
    assert table.wait(first, B, 0.0)
    assert scenario.take_told() == ["second"]
    table.release(B, TWO.id)
    assert scenario.take_told() == ["first"]


def test_wait_for_nothing_is_refused_and_keeps_the_claim() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    waiter = scenario.writer("waiter", 1)
    table.release(A, ONE.id)
    assert not table.wait(waiter, B, 0.0)
    assert not table.wait(waiter, A, 0.0)
    assert table.blocks_write(A)
    table.leave(waiter)
    assert table.is_empty


def test_who_comes_back_finds_its_place_before_younger_ones() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    old = scenario.writer("old", 1)
    scenario.writer("young", 2)
    table.leave(old)
    scenario.writer("old again", 1)
    table.release(A, ONE.id)
    assert scenario.take_told() == ["old again"]


def test_equal_order_goes_by_arrival() -> None:
    scenario = Scenario()
    scenario.table.lay(A, ONE, at(10), at(5))
    scenario.writer("one", 1)
    scenario.writer("two", 1)
    scenario.table.release(A, ONE.id)
    assert scenario.take_told() == ["one"]


def test_who_came_first_of_equal_order_is_first_whether_it_reads_or_writes() -> None:
    scenario = Scenario()
    scenario.table.lay(A, ONE, at(10), at(5))
    reader, writer = scenario.reader("reader", 1, 10), scenario.writer("writer", 1)
    assert scenario.table.is_first(reader)
    assert not scenario.table.is_first(writer)


def test_waiter_knows_since_when_it_waits() -> None:
    scenario = Scenario()
    scenario.table.lay(A, ONE, at(10), at(5))
    waiter = scenario.waiter("waiter", 1)
    assert scenario.table.wait(waiter, A, 3.5)
    assert waiter.since == 3.5


def test_intent_that_moves_lets_reads_below_it_through() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    scenario.reader("below", 1, 15)
    scenario.reader("above", 2, 20)
    table.move(A, ONE.id, at(20))
    assert scenario.take_told() == ["below"]
    table.lay(A, ONE, at(21), at(6))
    assert scenario.take_told() == ["above"]
    table.move(B, ONE.id, at(30))
    table.move(A, TWO.id, at(30))
    lock = table.lock_on(A)
    assert lock is not None
    assert (lock.timestamp, lock.laid_at) == (21, 6)


def test_table_remembers_the_greatest_time_that_an_intent_was_moved_to() -> None:
    table = LockTable(10)
    for key, timestamp in ((A, 30), (B, 20)):
        table.lay(key, ONE, at(10), at(5))
        table.move(key, ONE.id, at(timestamp))
    assert table.moved_to == 30
    table.move(A, TWO.id, at(40))
    assert table.moved_to == 30, "nothing of that transaction is there"


def test_what_is_only_claimed_is_neither_moved_nor_released() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    claimant = scenario.writer("claimant", 1)
    table.release(A, ONE.id)
    assert scenario.take_told() == ["claimant"]
    table.move(A, ONE.id, at(20))
    table.release(A, ONE.id)
    assert table.blocks_write(A)
    assert not table.blocks_write(A, waiter=claimant)


def test_what_is_found_in_the_lock_keyspace_does_not_replace_what_is_here() -> None:
    table = LockTable(10)
    table.lay(A, ONE, at(10), at(5))
    table.move(A, ONE.id, at(20))
    table.recall(A, ONE, at(10), at(5))
    assert not table.blocks_read(A, at(19))


def test_intent_that_is_recalled_takes_the_place_of_a_lock_that_is_not_replicated() -> None:
    table = LockTable(1)
    table.lay(A, TWO, at(10), at(5))
    table.lay(B, ONE, at(10), at(5))
    table.release(A, TWO.id)
    assert table.take(B, ONE, at(6))
    table.recall(B, ONE, at(10), at(5))
    assert table.blocks_read(B, at(10))
    table.reconcile(1)
    assert table.complete


def test_own_lock_lets_own_requests_through() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    for name, meta in (("two", TWO), ("three", THREE), ("two too", TWO)):
        assert table.wait(scenario.waiter(name, 1, meta), A, 0.0)
    # Both requests of TWO may go on: neither is in the way of the other here.
    table.release(A, ONE.id)
    assert scenario.take_told() == ["two", "two too"]
    assert not table.blocks_write(A, TWO.id)
    assert table.blocks_write(A, THREE.id)
    table.lay(A, THREE, at(11), at(5))
    assert scenario.take_told() == ["three"]


def test_unreplicated_locks_go_together_or_by_key() -> None:
    scenario = Scenario()
    table = scenario.table
    for key in KEYS:
        assert table.take(key, ONE, at(5))
    table.lay(C, ONE, at(10), at(5))
    scenario.writer("a", 1, A)
    scenario.writer("b", 1, B)
    scenario.writer("c", 1, C)
    table.release_unreplicated(ONE.id, [A, C, b"\x10x"])
    assert scenario.take_told() == ["a"]
    table.release_unreplicated(TWO.id)
    table.release_unreplicated(ONE.id)
    assert scenario.take_told() == ["b"]
    assert [lock.key for lock in table.locks_of(ONE.id)] == [C]


def test_aborted_waiter_is_told_why() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    waiter = scenario.writer("waiter", 1)
    table.abort(waiter, "a circle")
    table.abort(waiter, "again")
    assert scenario.told == [("waiter", Wake.ABORTED)]
    assert waiter.reason == "a circle"
    assert table.waiters == 0


def test_split_moves_locks_claims_and_waiters_away() -> None:
    scenario = Scenario()
    table = scenario.table
    for key in KEYS:
        table.lay(key, ONE, at(10), at(5))
    scenario.writer("a", 1, A)
    claimant = scenario.writer("b", 1, B)
    scenario.writer("b too", 2, B)
    scenario.reader("c", 1, 10, C)
    table.release(B, ONE.id)
    assert scenario.take_told() == ["b"]
    table.remove_from(B)
    assert scenario.told == [("b too", Wake.MOVED), ("c", Wake.MOVED)]
    assert table.locks == 1
    table.leave(claimant)
    assert [lock.key for lock in table.locks_of(ONE.id)] == [A]


def test_end_of_the_term_tells_everybody() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    table.lay(B, ONE, at(10), at(5))
    claimant = scenario.writer("a", 1, A)
    scenario.writer("b", 1, B)
    table.release(A, ONE.id)
    scenario.told.clear()
    table.end()
    assert scenario.told == [("b", Wake.ENDED)]
    assert (table.is_empty, table.locks, table.waiters) == (True, 0, 0)
    table.leave(claimant)
    assert table.is_empty


def test_observer_is_told_of_waits_and_of_new_holders() -> None:
    scenario = Scenario()
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    first = scenario.writer("first", 1)
    second = scenario.writer("second", 2)
    assert second.holder is ONE
    table.release(A, ONE.id)
    assert second.holder is None
    table.lay(A, TWO, at(11), at(5))
    assert second.holder is TWO
    table.lay(A, TWO, at(12), at(5))
    table.leave(first)
    table.leave(second)
    assert second.holder is None
    assert scenario.seen == [
        "first waits",
        "second waits",
        "first goes",
        "2 has it",
        "second goes",
    ]


def test_above_its_bound_it_says_that_it_is_not_complete() -> None:
    scenario = Scenario(locks_max=1)
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    table.lay(B, ONE, at(10), at(5))
    assert not table.complete
    assert not table.take(C, ONE, at(5))
    assert table.lock_on(B) is None
    table.release(A, ONE.id)
    assert not table.is_empty
    table.reconcile(1)
    assert not table.complete
    table.recall(B, ONE, at(10), at(5))
    table.recall(B, ONE, at(10), at(5))
    table.reconcile(1)
    assert table.complete


def test_what_is_here_is_laid_anew_though_there_is_no_room_for_more() -> None:
    table = LockTable(1)
    table.lay(A, ONE, at(10), at(5))
    table.lay(A, ONE, at(20), at(6))
    assert table.complete
    assert not table.blocks_read(A, at(19))
    assert table.blocks_read(A, at(20))


def test_who_has_a_claim_gets_its_lock_though_there_is_no_room_for_more() -> None:
    scenario = Scenario(locks_max=1)
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    scenario.writer("claimant", 1)
    table.release(A, ONE.id)
    table.lay(B, TWO, at(10), at(5))
    assert not table.take(C, THREE, at(6))
    assert table.take(A, THREE, at(6))


@pytest.mark.parametrize("is_aborted", [True, False])
def test_what_is_waited_for_is_kept_above_the_bound_as_long_as_it_is(is_aborted: bool) -> None:
    scenario = Scenario(locks_max=1)
    table = scenario.table
    table.lay(A, ONE, at(10), at(5))
    table.recall(B, ONE, at(10), at(5))
    waiter = scenario.writer("waiter", 1, B)
    other = scenario.writer("other", 2, B)
    table.leave(waiter)
    assert table.locks == 2
    if is_aborted:
        table.abort(other, "enough")
    else:
        table.leave(other)
    assert (table.locks, table.complete) == (1, False)
    table.release(A, ONE.id)
    table.reconcile(0)
    assert table.is_empty


def test_callback_may_do_anything() -> None:
    table = LockTable(10)
    log: list[str] = []
    waiters: dict[str, Waiter] = {}

    def on_first(why: Wake) -> None:
        log.append("first begins")
        table.leave(waiters["reader"])
        table.lay(A, TWO, at(20), at(5))
        assert table.wait(waiters["first"], A, 0.0)
        table.release(A, TWO.id)
        log.append("first ends")

    def on_first_again(why: Wake) -> None:
        log.append("first again")
        table.leave(waiters["first"])

    def first(why: Wake) -> None:
        on_first_again(why) if "first begins" in log else on_first(why)

    calls: dict[str, tuple[int, Callable[[Wake], None]]] = {
        "first": (1, first),
        "second": (2, lambda why: log.append("second")),
        "reader": (3, lambda why: log.append("reader")),
    }
    table.lay(A, ONE, at(10), at(5))
    for name, (order, wake) in calls.items():
        waiters[name] = Waiter(None, (order, b""), wake)
        limit = at(15) if name == "reader" else None
        assert table.wait(waiters[name], A, 0.0, limit)
    # The reader is told first, then leaves nothing to be told twice.
    table.release(A, ONE.id)
    assert log == ["reader", "first begins", "first ends", "first again", "second"]
    table.leave(waiters["second"])
    assert table.is_empty


def test_who_leaves_before_it_is_told_is_not_told() -> None:
    table = LockTable(10)
    log: list[str] = []
    second = Waiter(None, (2, b""), lambda why: log.append("second"))

    def wake_first(why: Wake) -> None:
        log.append("first")
        table.leave(second)

    first = Waiter(None, (1, b""), wake_first)
    table.lay(A, ONE, at(10), at(5))
    assert table.wait(first, A, 0.0, at(10))
    assert table.wait(second, A, 0.0)
    third = Waiter(None, (3, b""), lambda why: log.append("third"))
    assert table.wait(third, A, 0.0)
    table.release(A, ONE.id)
    # The claim of the second went on to the third.
    assert log == ["first", "third"]
    table.leave(third)
    assert table.is_empty


# The obviously correct model: what is locked, who waits, and who may go on, each time from scratch.


class Model:
    def __init__(self) -> None:
        self.locks: dict[bytes, tuple[bytes, Timestamp | None]] = {}
        self.claims: dict[bytes, Waiter] = {}
        self.waiting: dict[int, tuple[Waiter, bytes, Timestamp | None]] = {}

    def blocks(self, waiter: Waiter, key: bytes, limit: Timestamp | None) -> bool:
        mine = waiter.txn.id if waiter.txn else b"-"
        if key in self.locks:
            holder, timestamp = self.locks[key]
            is_above = limit is not None and (timestamp is None or timestamp > limit)
            return holder != mine and not is_above
        if limit is not None or key not in self.claims:
            return False
        claimant = self.claims[key]
        return claimant is not waiter and (claimant.txn is None or claimant.txn.id != mine)

    def woken(self) -> list[Waiter]:
        """Take out who may go on, and give claims to whom they belong."""
        found = []
        for key in KEYS:
            line = [w for w, k, limit in self.waiting.values() if k == key and limit is None]
            if line and key not in self.locks and key not in self.claims:
                self.claims[key] = min(line, key=lambda w: (w.order, w.number))
        for waiter, key, limit in list(self.waiting.values()):
            if not self.blocks(waiter, key, limit):
                del self.waiting[id(waiter)]
                found.append(waiter)
        return found

    def forget(self, waiter: Waiter) -> None:
        self.waiting.pop(id(waiter), None)
        self.claims = {k: w for k, w in self.claims.items() if w is not waiter}


some_key = st.sampled_from(KEYS)
some_txn = st.sampled_from([ONE, TWO, THREE])
some_time = st.integers(1, 4)
some_waiter = st.integers(0, 7)
steps = st.one_of(
    st.tuples(st.just("lay"), some_key, some_txn, some_time),
    st.tuples(st.just("take"), some_key, some_txn),
    st.tuples(st.just("move"), some_key, some_time),
    st.tuples(st.just("release"), some_key),
    st.tuples(st.just("release"), some_key),
    st.tuples(st.just("let go"), some_txn),
    st.tuples(st.just("write"), some_key, some_waiter),
    st.tuples(st.just("write"), some_key, some_waiter),
    st.tuples(st.just("read"), some_key, some_waiter, some_time),
    st.tuples(st.just("leave"), some_waiter),
    st.tuples(st.just("abort"), some_waiter),
    st.tuples(st.just("split"), some_key),
)
scripts = st.lists(steps, min_size=15, max_size=40)
# Some waiters belong to one transaction, some to none.
OWNERS = (ONE, TWO, THREE, THREE, None, None, None, txn(4))


@settings(max_examples=600, deadline=None)
@given(scripts, st.sampled_from([1, 2, 100]))
def test_table_behaves_as_the_model(script: list[tuple], locks_max: int) -> None:  # type: ignore[type-arg]
    table = LockTable(locks_max)
    model = Model()
    told: list[tuple[Waiter, Wake]] = []
    waiters: list[Waiter] = []
    for number, owner in enumerate(OWNERS):
        # Two of one order: then the first to arrive is first.
        waiter = Waiter(owner, (number // 2, b""), lambda why: None)
        waiter.wake = partial(lambda each, why: told.append((each, why)), waiter)
        waiters.append(waiter)

    def recall(key: bytes) -> None:
        """What the owner does with a table that is not complete."""
        if not table.complete and key in model.locks and table.lock_on(key) is None:
            holder, timestamp = model.locks[key]
            assert timestamp is not None, "only intents are spilled"
            table.recall(key, TransactionMeta(holder), timestamp, at(5))

    for name, *rest in script:
        told.clear()
        gone: list[tuple[Waiter, Wake]] = []
        if name == "lay":
            key, owner, time = rest
            table.lay(key, owner, at(time), at(5))
            model.locks[key] = owner.id, at(time)
        elif name == "take":
            key, owner = rest
            recall(key)
            holder = model.locks.get(key)
            if table.take(key, owner, at(5)):
                assert holder is None or holder[0] == owner.id
                model.locks.setdefault(key, (owner.id, None))
            else:
                assert locks_max < len(KEYS) or (holder is not None and holder[0] != owner.id)
        elif name == "move":
            key, time = rest
            moved, timestamp = model.locks.get(key, (b"", None))
            if timestamp is not None:
                table.move(key, moved, at(time))
                model.locks[key] = moved, at(time)
        elif name == "release":
            (key,) = rest
            table.release(key, model.locks.pop(key, (b"", None))[0])
        elif name == "let go":
            (owner,) = rest
            table.release_unreplicated(owner.id)
            model.locks = {k: v for k, v in model.locks.items() if v != (owner.id, None)}
        elif name in ("write", "read"):
            key, which, *limits = rest
            waiter = waiters[which]
            limit = at(limits[0]) if limits else None
            if waiter.place is not None:
                continue
            recall(key)
            blocked = model.blocks(waiter, key, limit)
            mine = waiter.txn.id if waiter.txn else b""
            if limit is None:
                assert table.blocks_write(key, mine, waiter) is blocked
            else:
                assert table.blocks_read(key, limit, mine) is blocked
                found = table.blocks_scan(key, key + b"\x00", limit, mine)
                assert (found is not None) is blocked
            assert table.wait(waiter, key, 0.0, limit) is blocked
            if blocked:
                model.forget(waiter)
                model.waiting[id(waiter)] = waiter, key, limit
        elif name == "leave":
            table.leave(waiters[rest[0]])
            model.forget(waiters[rest[0]])
        elif name == "abort":
            waiter = waiters[rest[0]]
            if id(waiter) in model.waiting:
                gone.append((waiter, Wake.ABORTED))
                model.forget(waiter)
            table.abort(waiter, "because")
        else:
            (start,) = rest
            table.remove_from(start)
            for waiter, key, _ in list(model.waiting.values()):
                if key >= start:
                    gone.append((waiter, Wake.MOVED))
                    model.forget(waiter)
            model.locks = {k: v for k, v in model.locks.items() if k < start}
            model.claims = {k: v for k, v in model.claims.items() if k < start}
        table.reconcile(sum(timestamp is not None for _, timestamp in model.locks.values()))
        expected = gone + [(waiter, Wake.FREE) for waiter in model.woken()]
        by_name = lambda each: (id(each[0]), each[1].value)  # noqa: E731
        assert sorted(told, key=by_name) == sorted(expected, key=by_name)
        check(table, model, waiters)
    for waiter in waiters:
        table.leave(waiter)
        model.forget(waiter)
    for key, (held_by, _) in list(model.locks.items()):
        table.release(key, held_by)
    table.reconcile(0)
    assert (table.is_empty, table.locks, table.waiters) == (True, 0, 0)


def check(table: LockTable, model: Model, waiters: list[Waiter]) -> None:
    for waiter in waiters:
        entry = model.waiting.get(id(waiter))
        assert (None if waiter.place is None else waiter.place.key) == (entry and entry[1])
        claimed = [key for key, claimant in model.claims.items() if claimant is waiter]
        assert ([] if waiter.claim is None else [waiter.claim.key]) == claimed
    assert table.waiters == len(model.waiting)
    missing = 0
    for key in KEYS:
        lock, known = table.lock_on(key), model.locks.get(key)
        if lock is None:
            missing += known is not None
            assert not any(k == key for _, k, _ in model.waiting.values()) or known is None
        else:
            assert known == (lock.holder.id, lock.timestamp)
    assert table.complete is (missing == 0)
    nothing = not model.locks and not model.claims and not model.waiting
    assert table.is_empty is nothing


# Progress: whoever waits gets what it wants, if everybody does what it should.


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.permutations(KEYS), st.integers(1, 3)), max_size=12),
    st.randoms(use_true_random=False),
)
def test_everybody_gets_through(
    jobs: list[tuple[int, list[bytes], int]],
    random: Random,
) -> None:
    table = LockTable(100)
    ready: list[Callable[[], None]] = []
    done: list[int] = []

    def start(number: int, order: int, keys: list[bytes]) -> None:
        """Lock all keys, one after the other in their order, hold them for a while, let go."""
        meta = TransactionMeta(bytes([number]) * 16, A, 0, at(order + 1))
        left = sorted(keys)
        waiter = Waiter(meta, (order, meta.id), lambda why: ready.append(go_on))

        def go_on() -> None:
            if not left:
                table.leave(waiter)
                done.append(number)
                for lock in table.locks_of(meta.id):
                    table.release(lock.key, meta.id)
            elif table.blocks_write(left[0], meta.id, waiter):
                assert table.wait(waiter, left[0], 0.0)
            else:
                assert table.take(left.pop(0), meta, at(5))
                ready.append(go_on)

        ready.append(go_on)

    for number, (order, keys, count) in enumerate(jobs):
        start(number + 1, order, keys[:count])
    while ready:
        ready.pop(random.randrange(len(ready)))()
    assert sorted(done) == list(range(1, len(jobs) + 1))
    assert (table.is_empty, table.waiters) == (True, 0)
