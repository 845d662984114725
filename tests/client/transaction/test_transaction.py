import asyncio
from functools import partial

import pytest

from multiraft import config, errors
from multiraft.client.transaction import Transaction
from multiraft.ids import NodeId, Timestamp
from multiraft.model import encoding, hlc
from multiraft.model.requests import BatchRequest, Get, Scan
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    Refresh,
)
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan


def test_reads_show_own_writes() -> None:
    async def main(bench: Bench) -> None:
        db = bench.db
        bench.cluster.put(b"a", b"old")
        bench.cluster.put(b"z", b"there")
        async with db.transaction() as txn:
            await txn.put(b"a", b"new")
            await txn.put(b"b", b"1")
            assert await txn.delete(b"z") is True
            assert await txn.delete(b"z") is False
            assert await txn.delete(b"nothing") is False
            assert [await txn.increment(b"n"), await txn.increment(b"n", 4)] == [1, 5]
            assert await txn.get(b"a") == b"new"
            assert await txn.get(b"z") is None
            assert await txn.get_many([b"a", b"b", b"z", b"y"]) == {
                b"a": b"new",
                b"b": b"1",
                b"z": None,
                b"y": None,
            }
            assert bench.cluster.value(b"a") == b"old"
        assert await db.get_many([b"a", b"z"]) == {b"a": b"new", b"z": None}
        assert await db.get(b"n") == encoding.pack_counter(5)

    clients.run(main)


def test_scans_show_own_writes_in_both_directions_and_with_limits() -> None:
    async def main(bench: Bench) -> None:
        for key in (b"a", b"c", b"i", b"k", b"q"):
            bench.cluster.put(key, b"old")
        async with bench.db.transaction() as txn:
            await txn.put(b"b", b"new")
            await txn.delete(b"c")
            await txn.put(b"k", b"new")
            await txn.increment(b"r")
            await txn.delete(b"i")
            one = encoding.pack_counter(1)
            rows = [(b"a", b"old"), (b"b", b"new"), (b"k", b"new"), (b"q", b"old"), (b"r", one)]
            assert [row async for row in txn.scan()] == rows
            assert [row async for row in txn.scan(reverse=True)] == rows[::-1]
            for limit in range(7):
                assert [row async for row in txn.scan(limit=limit)] == rows[:limit]
                found = [row async for row in txn.scan(limit=limit, reverse=True)]
                assert found == rows[::-1][:limit]
            assert [row async for row in txn.scan(b"b", b"q")] == rows[1:3]
            assert [row async for row in txn.scan(prefix=b"k")] == rows[2:3]
            assert [page async for page in txn.scan_pages(b"j")] == [rows[2:3], rows[3:]]

    clients.run(main)


def test_a_range_is_deleted_together_with_own_writes_in_it() -> None:
    async def main(bench: Bench) -> None:
        for key in (b"a1", b"a2", b"b", b"q"):
            bench.cluster.put(key, b"v")
        async with bench.db.transaction() as txn:
            await txn.put(b"a3", b"own")
            await txn.delete(b"a1")
            assert await txn.delete_range(prefix=b"a") == 2
            assert await txn.delete_range(prefix=b"a") == 0
        assert [row async for row in bench.db.scan()] == [(b"b", b"v"), (b"q", b"v")]
        assert await bench.db.delete_range(b"b") == 2
        assert [row async for row in bench.db.scan()] == []

    clients.run(main)


def test_a_condition_that_does_not_hold_is_no_end() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"a", b"1")
        async with bench.db.transaction() as txn:
            with pytest.raises(errors.ConditionFailedError) as caught:
                await txn.put(b"a", b"2", expected=None)
            assert caught.value.actual == b"1"
            with pytest.raises(errors.ConditionFailedError):
                await txn.delete(b"a", expected=b"2")
            await txn.put(b"a", b"2", expected=b"1")
            await txn.put(b"a", b"3", expected=b"2")
            await txn.put(b"b", b"new", expected=None)
            assert await txn.delete(b"c", expected=None) is False
        assert (bench.cluster.value(b"a"), bench.cluster.value(b"b")) == (b"3", b"new")

    clients.run(main)


def test_what_is_no_counter_is_not_incremented() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"a", b"1")
        bench.cluster.put(b"n", encoding.pack_counter(encoding.COUNTER_MAX))
        async with bench.db.transaction() as txn:
            with pytest.raises(errors.NotAnIntegerError, match="not an eight-byte counter"):
                await txn.increment(b"a")
            with pytest.raises(errors.NotAnIntegerError, match="does not fit"):
                await txn.increment(b"n")
            assert await txn.increment(b"n", -1) == encoding.COUNTER_MAX - 1

    clients.run(main)


def test_a_transaction_that_only_reads_asks_for_nothing_else() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"a", b"1")
        async with bench.db.transaction() as txn:
            assert await txn.get(b"a") == b"1"
            bench.cluster.put(b"a", b"2")
            assert await txn.get(b"a") == b"1"
            assert await txn.get(b"z") is None
        kinds = {type(op) for _, request in bench.cluster.requests for op in request.operations}
        assert kinds == {Get, Scan}  # The scans are look-ups of ranges.

    clients.run(main)


def test_all_reads_are_at_one_time_that_the_first_part_gets() -> None:
    async def main(bench: Bench) -> None:
        wanted = [b"a", b"b", b"i", b"q"]
        await bench.db.get_many(wanted)
        bench.cluster.requests.clear()
        async with bench.db.transaction() as txn:
            await asyncio.gather(txn.get_many(wanted), *(txn.get(key) for key in wanted))
        reads = [request for _, request in bench.cluster.sent(Get)]
        assert [request.timestamp for request in reads].count(Timestamp(0)) == 1
        assert reads[0].timestamp == 0
        assert len({request.timestamp for request in reads[1:]}) == 1
        assert {request.id for request in reads} == {txn.id}

    clients.run(main)


def test_the_part_that_goes_first_is_not_cut_by_a_split() -> None:
    async def main(bench: Bench) -> None:
        assert await bench.db.get_many([b"a", b"e"]) == {b"a": None, b"e": None}
        bench.cluster.split(b"c")
        bench.cluster.requests.clear()
        async with bench.db.transaction() as txn:
            assert await txn.get_many([b"a", b"e"]) == {b"a": None, b"e": None}
        sent = [(r.timestamp > 0, r.operations) for _, r in bench.cluster.sent(Get)]
        a, e = Get(b"\x10a"), Get(b"\x10e")
        assert sent == [(False, (a, e)), (False, (a,)), (True, (e,))]

    clients.run(main)


def test_an_uncertain_read_moves_the_transaction_and_reads_again() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)
        bench.cluster.put(b"a", b"1")
        async with bench.db.transaction() as txn:
            assert await txn.get(b"a") == b"1"
            bench.cluster.put(b"q", b"2")
            assert await txn.get(b"q") == b"2"
            bench.cluster.put(b"i", b"3")
            assert [row async for row in txn.scan(b"i")] == [(b"i", b"3"), (b"q", b"2")]
        refreshed = [r.operations for _, r in bench.cluster.sent(Refresh)]
        assert [{op.key for op in part if isinstance(op, Refresh)} for part in refreshed] == [
            {b"\x10a"},
            {b"\x10a"},
            {b"\x10q"},
        ]

    clients.run(main)


def test_reads_tell_what_the_clocks_of_nodes_were_at_their_first_answer() -> None:
    async def main(bench: Bench) -> None:
        await bench.db.get_many([b"a", b"q"])
        bench.cluster.requests.clear()
        for _ in range(2):
            begins = bench.cluster.now()
            async with bench.db.transaction() as txn:
                for key in (b"a", b"b", b"q", b"c"):
                    await txn.get(key)
                    bench.cluster.put(b"z", b"time goes on")
            sent = [(n, r.txn.observed, r) for n, r in bench.cluster.sent(Get) if r.txn is not None]
            bench.cluster.requests.clear()
            told = [dict(observed) for _, observed, _ in sent]
            assert told[0] == {}, "nothing is known from a transaction before"
            assert list(told[1]) == [sent[0][0]]
            assert told[2] == told[1], "the first answer counts"
            assert begins < told[1][sent[0][0]] < told[3][sent[2][0]]

    clients.run(main)


def test_a_refresh_that_fails_names_db_run_and_the_key() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.get(b"a")
                bench.cluster.put(b"a", b"changed")
                bench.cluster.put(b"q", b"2")
                await txn.get(b"q")

        with pytest.raises(errors.TransactionRetryError) as caught:
            await work()
        assert "db.run" in str(caught.value)
        assert "/plain/a was written since it was read" in str(caught.value)

    clients.run(main)


def test_a_refresh_of_a_scan_goes_over_all_its_ranges() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            assert [row async for row in txn.scan()] == []
            bench.cluster.split(b"c")
            await txn.put(b"x", b"1")
            bench.cluster.transactions.reads.append((b"\x10x", b"", bench.cluster.now(), b"other"))
        spans = [
            (op.key, op.end)
            for _, request in bench.cluster.sent(Refresh)
            for op in request.operations
            if isinstance(op, Refresh)
        ]
        assert spans[0][0] == b"\x10"
        assert spans[-1] == (b"\x10p", b"\x11")
        assert {b"\x10c", b"\x10h"} <= {start for start, _ in spans}
        assert bench.cluster.value(b"x") == b"1"

    clients.run(main)


def test_the_applications_errors_roll_back_and_pass_unchanged() -> None:
    async def main(bench: Bench) -> None:
        failure = ValueError("mine")

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.put(b"a", b"1")
                await txn.get(b"b", for_update=True)
                raise failure

        with pytest.raises(ValueError, match="mine") as caught:
            await work()
        assert caught.value is failure
        assert bench.cluster.transactions.locks
        await asyncio.sleep(0.1)
        assert not bench.cluster.transactions.locks
        assert bench.cluster.value(b"a") is None

    clients.run(main)


@pytest.mark.parametrize("how", ["commit", "rollback"])
def test_nothing_can_be_done_after_the_end(how: str) -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            await txn.put(b"a", b"1")
            if how == "commit":
                assert await txn.commit() > 0
            else:
                await txn.rollback()
        told = "has committed" if how == "commit" else "was rolled back"
        for use in (txn.get(b"a"), txn.put(b"a", b"2"), txn.commit(), anext(txn.scan())):
            with pytest.raises(errors.TransactionEndedError, match=told):
                await use
        await txn.rollback()
        assert told in repr(txn)
        assert bench.cluster.value(b"a") == (b"1" if how == "commit" else None)

    clients.run(main)


def test_operations_that_are_under_way_at_the_end_are_refused() -> None:
    async def main(bench: Bench) -> None:
        tasks: list[asyncio.Task[bytes | None]] = []

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.put(b"a", b"1")
                tasks.append(asyncio.create_task(txn.get(b"b")))
                await asyncio.sleep(0)

        with pytest.raises(errors.RequestError, match=r"1 operations .* still under way"):
            await work()
        await asyncio.wait(tasks)
        assert bench.cluster.value(b"a") is None

    clients.run(main)


def test_a_second_commit_does_not_disturb_the_one_under_way() -> None:
    async def main(bench: Bench) -> None:
        txn = bench.db.transaction()
        await txn.put(b"a", b"1")
        await txn.put(b"q", b"1")
        first, second = await asyncio.gather(txn.commit(), txn.commit(), return_exceptions=True)
        assert isinstance(first, int), first
        assert isinstance(second, errors.TransactionEndedError)
        await asyncio.sleep(0.1)
        assert (bench.cluster.value(b"a"), bench.cluster.value(b"q")) == (b"1", b"1")

    clients.run(main)


def test_several_tasks_may_use_one_transaction() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            await asyncio.gather(*(txn.increment(b"n") for _ in range(10)))
            results = await asyncio.gather(
                *(txn.put(b"k", b"%d" % n, expected=None) for n in range(3)),
                return_exceptions=True,
            )
        failed = [each for each in results if isinstance(each, errors.ConditionFailedError)]
        assert len(failed) == 2
        assert bench.cluster.value(b"n") == encoding.pack_counter(10)

    clients.run(main)


@pytest.mark.parametrize(
    ("priority", "reason"),
    [(1.5, "must be an int"), (True, "must be an int"), (1 << 63, "64 signed")],
)
def test_what_no_request_can_carry_is_refused_at_once(priority: int, reason: str) -> None:
    async def main(bench: Bench) -> None:
        with pytest.raises(errors.RequestError, match=reason):
            bench.db.transaction(priority=priority)
        async with bench.db.transaction() as txn:
            with pytest.raises(errors.RequestError, match="limit must be an int"):
                await anext(txn.scan(limit=1.5))  # type: ignore[arg-type]
        assert not bench.cluster.requests

    clients.run(main)


def test_limits_are_refused_with_their_numbers() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            await txn.put(b"a", b"1")
            await txn.put(b"b", b"1")
            with pytest.raises(errors.TransactionTooLargeError, match="3 keys; the limit is 2"):
                await txn.put(b"c", b"1")
            with pytest.raises(errors.TransactionTooLargeError, match="bytes; the limit is 100"):
                await txn.put(b"a", bytes(100))
            with pytest.raises(errors.TransactionTooLargeError, match="3 locks; the limit is 2"):
                await txn.get_many([b"d", b"e", b"f"], for_update=True)
        assert bench.cluster.value(b"a") == b"1"

    limits = config.LimitsConfig(transaction_keys_max=2, transaction_bytes_max=100)
    clients.run(main, limits=limits)


def test_a_transaction_ends_when_it_has_lasted_for_too_long() -> None:
    async def main(bench: Bench) -> None:
        async def work() -> None:
            async with bench.db.transaction(deadline_s=60) as txn:
                await txn.get(b"a")
                await asyncio.sleep(5)
                await txn.get(b"b")

        with pytest.raises(errors.TransactionTooLargeError, match=r"5 seconds; the limit is 5"):
            await work()

    clients.run(main, limits=config.LimitsConfig(transaction_s_max=5))


def test_the_deadline_is_for_all_of_it() -> None:
    async def main(bench: Bench) -> None:
        async def work() -> None:
            async with bench.db.transaction(deadline_s=2.0) as txn:
                await txn.put(b"a", b"1")
                await asyncio.sleep(1.5)
                bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
                await txn.get(b"b")

        with pytest.raises(errors.DeadlineExceededError, match="within 2 s"):
            await work()
        assert bench.cluster.value(b"a") is None

    clients.run(main)


def test_a_large_transaction_lays_its_writes_before_the_end() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            for number in range(2_500):
                await txn.put(b"%04d" % number, b"v")
            await txn.put(b"0000", b"again")
            await asyncio.sleep(0.1)
            assert len(bench.cluster.transactions.intents) == 2_000
            assert await txn.get(b"0000") == b"again"
            assert len([row async for row in txn.scan()]) == 2_500
        assert await bench.db.get(b"0000") == b"again"
        assert await bench.db.get(b"2499") == b"v"

    clients.run(main)


def test_a_contended_key_waits_for_its_lock() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as first:
            await first.get(b"a", for_update=True)
            other = asyncio.create_task(bench.db.run(lambda txn: txn.put(b"a", b"other")))
            await asyncio.sleep(0.5)
            assert bench.cluster.value(b"a") is None
            await first.put(b"a", b"first")
        await other
        assert bench.cluster.value(b"a") == b"other"

    clients.run(main)


def test_signs_of_life_are_sent_only_for_those_that_hold_locks_for_long() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            await txn.get(b"a", for_update=True)
            await asyncio.sleep(2.2)
        beats = [r for _, r in bench.cluster.requests if "Heartbeat" in repr(r.operations)]
        assert len(beats) == 3
        assert bench.db.transactions_status().with_locks == 0
        await asyncio.sleep(5)
        assert len(beats) == 3

    clients.run(main)


def test_what_a_late_answer_says_of_an_id_that_was_given_up_does_not_matter() -> None:
    async def main(bench: Bench) -> None:
        aborted = errors.TransactionAbortedError(reason="a deadlock")
        first_ids: list[bytes] = []

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            if request.txn is None or request.id not in first_ids:
                return EVALUATE
            if isinstance(request.operations[0], HeartbeatTransaction):
                return Plan(refusal=aborted, reply_delay_s=0.9)
            if request.txn.is_locking:
                return Plan(refusal=aborted)
            return EVALUATE

        async with bench.db.transaction() as txn:
            await txn.get(b"a", for_update=True)
            first_ids.append(txn.id)
            bench.cluster.intercept = decide
            await asyncio.sleep(1.2)  # A sign of life is on its way.
            await txn.get(b"b", for_update=True)
            second_id = txn.id
            assert second_id not in first_ids
            await asyncio.sleep(1.0)
            assert txn.id == second_id

    clients.run(main)


def test_who_was_aborted_learns_it_from_its_sign_of_life_and_goes_on() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            before = txn.id
            await txn.put(b"b", b"1")
            await txn.get(b"a", for_update=True)
            await asyncio.sleep(1.2)
            bench.cluster.transactions.abort(txn.id)
            await asyncio.sleep(1)
            assert txn.id != before
            assert await txn.get(b"b") == b"1"
            assert not bench.cluster.transactions.locks
            await txn.get(b"a")
            assert bench.cluster.transactions.locks
        assert bench.cluster.value(b"b") == b"1"
        assert not bench.cluster.transactions.locks

    clients.run(main)


def test_who_was_aborted_runs_again_where_that_is_possible() -> None:
    async def main(bench: Bench) -> None:
        runs: list[bytes] = []

        async def work(txn: Transaction) -> None:
            runs.append(txn.id)
            await txn.get(b"a", for_update=True)
            if len(runs) == 1:
                await asyncio.sleep(1.2)
                bench.cluster.transactions.abort(txn.id)
                await asyncio.sleep(1)
            assert txn.id == runs[-1]
            await txn.put(b"a", b"1")

        await bench.db.run(work)
        assert len(runs) == 2

    clients.run(main)


@pytest.mark.parametrize("when", ["read", "lock", "commit", "commit in parallel"])
def test_an_abort_is_no_end_if_nothing_that_was_read_has_changed(when: str) -> None:
    """As that of a deadlock's victim, or of one that was taken for dead."""

    async def main(bench: Bench) -> None:
        await bench.db.get_many([b"a", b"b", b"q"])
        victims: list[bytes] = []

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            last = request.operations[-1]
            is_hit = {
                "read": last == Get(b"\x10b"),
                "lock": request.txn is not None and request.txn.is_locking,
            }.get(when, isinstance(last, EndTransaction) and last.status < 4)
            if is_hit and len(victims) < 2:
                victims.append(request.id)
                return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
            return EVALUATE

        bench.cluster.intercept = decide
        async with bench.db.transaction() as txn:
            await txn.increment(b"a")
            await txn.get(b"b")
            await txn.get(b"a2", for_update=True)
            if when == "commit in parallel":
                await txn.put(b"q", b"1")
        assert len(set(victims)) == 2
        assert txn.id not in victims
        await asyncio.sleep(0.1)
        assert bench.cluster.value(b"a") == encoding.pack_counter(1)
        state = bench.cluster.transactions
        assert not state.locks
        assert not state.intents

    clients.run(main)


def test_an_abort_is_the_end_if_what_was_read_has_changed() -> None:
    async def main(bench: Bench) -> None:
        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            if isinstance(request.operations[-1], EndTransaction) and not changes:
                changes.append(b"a")
                bench.cluster.put(b"a", b"changed")
                return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
            return EVALUATE

        changes: list[bytes] = []
        bench.cluster.intercept = decide

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.increment(b"a")
                await txn.put(b"b", b"1")

        with pytest.raises(errors.TransactionRetryError, match="/plain/a was written"):
            await work()
        assert bench.cluster.value(b"b") is None

    clients.run(main)


def test_a_cancelled_read_leaves_no_lock() -> None:
    async def main(bench: Bench) -> None:
        def slow(_node: NodeId, request: BatchRequest) -> Plan:
            return Plan(reply_delay_s=1.0) if type(request.operations[0]) is Get else EVALUATE

        await bench.db.get(b"a")
        bench.cluster.intercept = slow

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.get(b"a", for_update=True)

        task = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        assert bench.cluster.transactions.locks
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bench.db.close()
        assert not bench.cluster.transactions.locks
        assert bench.cluster.sent(EndTransaction)

    clients.run(main)


def test_a_scan_for_update_locks_what_it_finds() -> None:
    async def main(bench: Bench) -> None:
        for key in (b"a", b"c", b"i", b"q"):
            bench.cluster.put(key, b"old")
        async with bench.db.transaction() as first:
            found = [key async for key, _ in first.scan(b"b", b"p", for_update=True)]
            assert found == [b"c", b"i"]
            others = [
                asyncio.create_task(bench.db.run(partial(Transaction.put, key=key, value=b"new")))
                for key in (b"a", b"b", b"c", b"i", b"q")
            ]
            await asyncio.sleep(0.5)
            assert [task.done() for task in others] == [True, True, False, False, True]
            await first.put(b"b", b"first")
            with pytest.raises(errors.TransactionRetryError, match="/plain/b was written"):
                await first.commit()
        await asyncio.gather(*others)
        assert not bench.cluster.transactions.locks
        async with bench.db.transaction() as second:
            assert [row async for row in second.scan(for_update=True, limit=1)] == [(b"a", b"new")]
            assert len(bench.cluster.transactions.locks) == 1
            found = [key async for key, _ in second.scan(reverse=True, for_update=True)]
            assert found == [b"q", b"i", b"c", b"b", b"a"]
            assert len(bench.cluster.transactions.locks) == 5
            await second.put(b"q", b"second")
        await asyncio.sleep(0.1)
        assert not bench.cluster.transactions.locks

    clients.run(main)


def test_a_scan_for_update_stays_within_the_limit_of_locks() -> None:
    async def main(bench: Bench) -> None:
        for number in range(4):
            bench.cluster.put(b"a%d" % number, b"1")
        async with bench.db.transaction() as txn:
            with pytest.raises(errors.TransactionTooLargeError, match="4 locks; the limit is 3"):
                assert not [row async for row in txn.scan(for_update=True)]
            await txn.put(b"b", b"1")
        await asyncio.sleep(0.1)
        assert bench.cluster.value(b"b") == b"1"

    clients.run(main, limits=config.LimitsConfig(transaction_keys_max=3))


def test_the_bytes_of_locked_keys_are_limited_since_the_end_names_them_all() -> None:
    async def main(bench: Bench) -> None:
        for number in range(3):
            bench.cluster.put(b"%039d" % number, b"1")
        async with bench.db.transaction() as txn:
            assert len([row async for row in txn.scan(for_update=True, limit=2)]) == 2
            too_much = "120 bytes of locked keys; the limit is 100"
            with pytest.raises(errors.TransactionTooLargeError, match=too_much):
                await txn.get(b"%039d" % 2, for_update=True)
            await txn.put(b"b", b"1")
        assert bench.cluster.value(b"b") == b"1"

    clients.run(main, limits=config.LimitsConfig(batch_bytes_max=400))


def test_a_key_that_is_locked_again_counts_once() -> None:
    async def main(bench: Bench) -> None:
        for number in range(2):
            bench.cluster.put(b"a%d" % number, b"1")
        async with bench.db.transaction() as txn:
            for _ in range(3):
                assert len([row async for row in txn.scan(for_update=True)]) == 2
            await txn.get_many([b"a1", b"a1"], for_update=True)

    clients.run(main, limits=config.LimitsConfig(transaction_keys_max=2, batch_bytes_max=24))


@pytest.mark.parametrize("how", ["cancelled", "closed"])
def test_a_scan_for_update_whose_answer_is_not_awaited_leaves_no_lock(how: str) -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"a", b"1")
        await bench.db.get(b"a")

        def slow(_node: NodeId, request: BatchRequest) -> Plan:
            return Plan(reply_delay_s=1.0) if type(request.operations[0]) is Scan else EVALUATE

        bench.cluster.intercept = slow

        async def work() -> None:
            async with bench.db.transaction() as txn:
                assert not [row async for row in txn.scan(for_update=True)]

        task = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        (holder,) = {each.id for each in bench.cluster.transactions.locks.values()}
        if how == "cancelled":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await bench.db.close()
        if how == "closed":
            with pytest.raises(errors.StoppedError):
                await task
        assert bench.cluster.transactions.records[holder].status is TransactionStatus.ABORTED

    clients.run(main)


def test_many_large_values_are_read_in_halves() -> None:
    async def main(bench: Bench) -> None:
        keys = [b"%d" % number for number in range(9)]
        for key in keys:
            bench.cluster.put(key, key)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            if len(request.operations) > 3 and request.txn is not None:
                refusal = errors.BatchTooLargeError(what="bytes", size=9, limit=3)
                return Plan(refusal=refusal)
            return EVALUATE

        bench.cluster.intercept = decide
        async with bench.db.transaction() as txn:
            assert await txn.get_many(keys) == {key: key for key in keys}

    clients.run(main)


def test_who_waits_in_vain_is_told_for_whom() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction(deadline_s=100) as holder:
            await holder.get(b"a", for_update=True)
            told = f"/plain/a has been locked by transaction {holder.id.hex()} for the 20 ms"
            for wait in (
                bench.db.run(lambda txn: txn.put(b"a", b"1"), deadline_s=1.0),
                bench.db.run(lambda txn: txn.get(b"a", for_update=True), deadline_s=1.0),
            ):
                with pytest.raises(errors.DeadlineExceededError, match=told):
                    await wait

    clients.run(main)


def test_a_refresh_covers_a_read_that_it_overtakes() -> None:
    """The read was carried out at the old time, its answer is late; then the key changes."""

    async def main(bench: Bench) -> None:
        await bench.db.get_many([b"a", b"i", b"q"])
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)

        def late(_node: NodeId, request: BatchRequest) -> Plan:
            is_read = request.operations[0] == Get(b"\x10a") and request.txn is not None
            return Plan(reply_delay_s=0.2) if is_read else EVALUATE

        bench.cluster.intercept = late

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.get(b"i")
                reading = asyncio.create_task(txn.get(b"a"))
                await asyncio.sleep(0.1)
                bench.cluster.put(b"a", b"changed")
                bench.cluster.put(b"q", b"uncertain")
                with pytest.raises(errors.TransactionRetryError):
                    await txn.get(b"q")
                await reading

        with pytest.raises(errors.TransactionRetryError, match="/plain/a was written"):
            await work()

    clients.run(main)
