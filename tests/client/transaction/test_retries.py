import asyncio
from itertools import pairwise

import pytest

from multiraft import errors
from multiraft.client.transaction import Transaction
from multiraft.model import encoding
from multiraft.model.requests import Get
from tests.support import clients
from tests.support.clients import Bench


def contexts(bench: Bench) -> list[tuple[bytes, int, bool]]:
    """What the gets of transactions say of them: ID, age, and whether they lock."""
    found = [r.txn for _, r in bench.cluster.sent(Get) if r.txn is not None]
    return [(txn.meta.id, txn.meta.began, txn.is_locking) for txn in found]


def test_the_next_attempt_has_another_id_the_same_age_and_locks_what_it_wrote() -> None:
    async def main(bench: Bench) -> None:
        await bench.db.get_many([b"a", b"q"])
        bench.cluster.requests.clear()
        seen: list[Transaction] = []

        async def work(txn: Transaction) -> int:
            seen.append(txn)
            await txn.get(b"q")
            total = await txn.increment(b"a")
            if len(seen) == 1:
                await bench.db.increment(b"a", 10)
            return total

        assert await bench.db.run(work) == 11
        assert len(seen) == 2
        first, second = seen[0].id, seen[1].id
        assert first != second
        (age,) = {began for _, began, _ in contexts(bench)}
        assert age > 0
        assert contexts(bench) == [
            (first, age, False),
            (first, age, False),
            (second, age, False),
            (second, age, True),
        ]
        with pytest.raises(errors.TransactionRetryError):
            await seen[0].get(b"a")

    clients.run(main)


def test_what_any_attempt_before_has_locked_or_written_is_locked_when_it_is_read() -> None:
    async def main(bench: Bench) -> None:
        attempts = 0

        async def disturbed(txn: Transaction, written: bytes) -> None:
            await txn.get(b"q")
            await txn.put(written, b"1")
            await bench.db.put_many({b"q": b"%d" % attempts, written: b"0"})

        async def work(txn: Transaction) -> None:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await txn.get(b"a", for_update=True)
                await disturbed(txn, b"b")
            elif attempts == 2:
                await disturbed(txn, b"c")
            else:
                bench.cluster.requests.clear()
                for key in (b"a", b"b", b"c", b"q"):
                    await txn.get(key)

        await bench.db.run(work)
        assert attempts == 3
        assert [is_locking for _, _, is_locking in contexts(bench)] == [True, True, True, False]

    clients.run(main)


def test_everybody_who_wants_the_same_key_gets_it() -> None:
    async def main(bench: Bench) -> None:
        async def work(txn: Transaction) -> None:
            await txn.increment(b"a")
            await txn.increment(b"q")

        await asyncio.gather(*(bench.db.run(work) for _ in range(20)))
        await asyncio.sleep(0.1)
        for key in (b"a", b"q"):
            assert await bench.db.get(key) == encoding.pack_counter(20)

    clients.run(main)


def test_what_is_raised_because_of_a_retry_is_retried() -> None:
    async def main(bench: Bench) -> None:
        runs: list[bytes] = []

        async def work(txn: Transaction) -> None:
            runs.append(txn.id)
            try:
                await txn.get(b"a")
                if len(runs) == 1:
                    bench.cluster.put(b"a", b"changed")
                await txn.get(b"a", for_update=True)
            except errors.MultiraftError as error:
                raise ValueError("the application wraps what it gets") from error

        await bench.db.run(work)
        assert len(runs) == 2

    clients.run(main)


def test_a_retry_that_the_function_swallows_is_retried_all_the_same() -> None:
    async def main(bench: Bench) -> None:
        runs: list[bytes] = []

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            await txn.get(b"a")
            if len(runs) == 1:
                bench.cluster.put(b"a", b"changed")
            try:
                await txn.get(b"a", for_update=True)
            except errors.RetryableError:
                return 0
            return len(runs)

        assert await bench.db.run(work) == 2

    clients.run(main)


def test_a_function_that_swallows_why_its_own_commit_failed_runs_again() -> None:
    async def main(bench: Bench) -> None:
        runs: list[bytes] = []

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            await txn.get(b"a")
            if len(runs) == 1:
                bench.cluster.put(b"a", b"changed")
            await txn.put(b"a", b"%d" % len(runs))
            try:
                await txn.commit()
            except errors.RetryableError:
                await txn.rollback()
            return len(runs)

        assert await bench.db.run(work) == 2
        assert bench.cluster.value(b"a") == b"2"

    clients.run(main)


def test_the_functions_own_errors_are_not_retried() -> None:
    async def main(bench: Bench) -> None:
        runs: list[bytes] = []
        failure = LookupError("no such account")

        async def work(txn: Transaction) -> None:
            runs.append(txn.id)
            await txn.put(b"a", b"1")
            raise failure

        with pytest.raises(LookupError) as caught:
            await bench.db.run(work)
        assert caught.value is failure
        assert len(runs) == 1
        assert await bench.db.get(b"a") is None

    clients.run(main)


def test_a_condition_that_does_not_hold_may_be_dealt_with() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"name/ann", b"1")

        async def register(txn: Transaction) -> str:
            for name in ("ann", "ann2"):
                try:
                    await txn.put(b"name/" + name.encode(), b"2", expected=None)
                except errors.ConditionFailedError:
                    continue
                return name
            raise AssertionError("unreachable")

        assert await bench.db.run(register) == "ann2"
        assert await bench.db.get(b"name/ann2") == b"2"
        with pytest.raises(errors.ConditionFailedError):
            await bench.db.run(lambda txn: txn.put(b"name/ann", b"3", expected=None))

    clients.run(main)


def test_the_function_may_end_its_transaction_by_itself() -> None:
    async def main(bench: Bench) -> None:
        async def commit(txn: Transaction) -> int:
            await txn.put(b"a", b"1")
            return await txn.commit()

        async def roll_back(txn: Transaction) -> str:
            await txn.put(b"a", b"2")
            await txn.rollback()
            return "not today"

        assert await bench.db.run(commit) > 0
        assert await bench.db.run(roll_back) == "not today"
        assert await bench.db.get(b"a") == b"1"

    clients.run(main)


def test_a_transaction_inside_another_is_its_own() -> None:
    async def main(bench: Bench) -> None:
        async def outer(txn: Transaction) -> None:
            await txn.put(b"a", b"outer")
            await bench.db.run(lambda inner: inner.put(b"b", b"inner"))
            raise LookupError

        with pytest.raises(LookupError):
            await bench.db.run(outer)
        assert await bench.db.get_many([b"a", b"b"]) == {b"a": None, b"b": b"inner"}

    clients.run(main)


def test_the_deadline_is_for_all_attempts_and_tells_what_was_in_the_way() -> None:
    async def main(bench: Bench) -> None:
        async def never(txn: Transaction) -> None:
            await txn.get(b"a")
            bench.cluster.put(b"a", b"changed")
            await asyncio.sleep(0.3)
            await txn.get(b"a", for_update=True)

        before = bench.loop.time()
        with pytest.raises(errors.DeadlineExceededError, match="/plain/a was written"):
            await bench.db.run(never, deadline_s=1.5)
        assert bench.loop.time() - before <= 1.6

    clients.run(main)


def test_a_function_that_is_cancelled_is_rolled_back() -> None:
    async def main(bench: Bench) -> None:
        async def work(txn: Transaction) -> None:
            await txn.get(b"a", for_update=True)
            await asyncio.sleep(100)

        task = asyncio.create_task(bench.db.run(work, deadline_s=1000))
        await asyncio.sleep(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0.1)
        assert not bench.cluster.transactions.locks

    clients.run(main)


def test_those_who_come_later_lock_what_others_have_lost_at_once() -> None:
    async def main(bench: Bench) -> None:
        db = bench.db
        runs = 0

        async def work(txn: Transaction) -> None:
            nonlocal runs
            runs += 1
            await txn.get(b"q")
            await txn.increment(b"a")
            if runs == 1:
                await db.increment(b"a", 10)

        await db.run(work)
        bench.cluster.requests.clear()
        for _ in range(3):
            await db.run(lambda txn: txn.increment(b"a"))
            await asyncio.sleep(0.6)
        await db.run(lambda txn: txn.get_many([b"a", b"q"]))
        locking = [True, True, True, True, False]
        assert [is_locking for _, _, is_locking in contexts(bench)] == locking
        bench.cluster.requests.clear()
        await db.run(lambda txn: txn.get(b"a"))
        assert [is_locking for _, _, is_locking in contexts(bench)] == [False]

    clients.run(main)


def test_the_first_retry_is_at_once_and_the_pauses_grow() -> None:
    async def main(bench: Bench) -> None:
        began: list[float] = []

        async def never(txn: Transaction) -> None:
            began.append(bench.loop.time())
            await txn.get(b"a")
            bench.cluster.put(b"a", b"changed")
            await txn.get(b"a", for_update=True)

        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.run(never, deadline_s=20.0)
        pauses = [after - before for before, after in pairwise(began)]
        assert pauses[0] < 0.001
        assert 0 < pauses[1] <= 0.011
        assert 0.1 < max(pauses) <= 0.501
        assert 40 < len(began) < 200

    clients.run(main)
