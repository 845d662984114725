import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from multiraft import config, errors
from multiraft.client.transaction import Transaction
from multiraft.ids import NodeId
from multiraft.model import encoding, hlc
from multiraft.model.requests import BatchRequest, Get, Put
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import (
    EndTransaction,
    QueryIntent,
    RecoverTransaction,
    Refresh,
    ResolveIntent,
)
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, Plan

KEYS = (b"a", b"i", b"q")
Body = Callable[[Transaction], Coroutine[Any, Any, int]]


async def warm_up(bench: Bench) -> None:
    """Let the client know all ranges and who leads them."""
    await bench.db.get_many(KEYS)
    bench.cluster.requests.clear()


def ends(bench: Bench) -> list[EndTransaction]:
    return [
        operation
        for _, request in bench.cluster.requests
        for operation in request.operations
        if isinstance(operation, EndTransaction)
    ]


def is_commit(request: BatchRequest) -> bool:
    last = request.operations[-1]
    return isinstance(last, EndTransaction) and last.status is not TransactionStatus.ABORTED


def first_time(matches: Callable[[BatchRequest], bool], plan: Plan) -> Callable[..., Plan]:
    """Give that fate to the first request that matches."""
    done: list[BatchRequest] = []

    def decide(_node: NodeId, request: BatchRequest) -> Plan:
        if not done and matches(request):
            done.append(request)
            return plan
        return EVALUATE

    return decide


def is_clean(bench: Bench) -> bool:
    state = bench.cluster.transactions
    return not state.intents and not state.locks


async def transfer(txn: Transaction) -> int:
    """Write in two ranges what depends on what was read in both."""
    await txn.increment(b"a", -1)
    return await txn.increment(b"q", 1)


async def insert(txn: Transaction) -> int:
    """Write two keys of one range, after a read there."""
    await txn.put(b"a", b"1", expected=None)
    await txn.put(b"e", b"1")
    return 0


def counted(bench: Bench) -> list[int | None]:
    async_values = (bench.cluster.value(b"a"), bench.cluster.value(b"q"))
    return [encoding.unpack_counter(value or b"") for value in async_values]


# -- in one phase ----------------------------------------------------------------------------------


def test_writes_of_one_range_are_one_part_that_leaves_no_lock() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            await txn.put(b"b", b"1")
            await txn.increment(b"a")
            await txn.delete(b"c")
            await txn.put(b"d", b"2")
        (commit,) = [request for _, request in bench.cluster.requests if is_commit(request)]
        (end,) = ends(bench)
        assert end.one_phase
        assert end.key == b"\x10b"
        assert end.is_movable
        assert end.read_spans == ((b"\x10a", b""), (b"\x10c", b""))
        assert commit.id == txn.id
        assert commit.txn is not None
        assert commit.txn.meta.anchor == end.key
        assert bench.cluster.value(b"d") == b"2"
        assert bench.db.transactions_status().in_background == 0

    clients.run(main)


def test_a_blind_write_takes_whatever_time_its_range_has() -> None:
    async def main(bench: Bench) -> None:
        async with bench.db.transaction() as txn:
            await txn.put(b"a", b"1")
        (end,) = [each for each in ends(bench) if each.one_phase][:1]
        assert (end.is_movable, end.read_spans) == (True, ())
        commit = next(request for _, request in bench.cluster.requests if is_commit(request))
        assert commit.timestamp == 0

    clients.run(main)


def test_what_was_read_elsewhere_is_refreshed_before_the_time_moves() -> None:
    """T23: the time of the writes does not leave that of the reads behind."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            await txn.get(b"q")
            await txn.put(b"a", b"1")
            await bench.db.get(b"a")
            bench.cluster.transactions.reads.append((b"\x10a", b"", bench.cluster.now(), b"other"))
        assert [end.one_phase for end in ends(bench)] == [True, True]
        assert not ends(bench)[0].is_movable
        assert len(bench.cluster.sent(Refresh)) == 1
        assert bench.cluster.value(b"a") == b"1"

    clients.run(main)


def test_a_lost_reply_is_asked_for_again_and_nothing_happens_twice() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        for plan in (Plan(drop_reply=True), Plan(breaks_connection=True), Plan(drop_request=True)):
            bench.cluster.intercept = first_time(is_commit, plan)
            await bench.db.run(lambda txn: txn.increment(b"a"))
        assert bench.cluster.value(b"a") == encoding.pack_counter(3)
        assert set(bench.cluster.evaluations.values()) == {1}
        assert is_clean(bench)

    clients.run(main)


def test_a_range_that_was_split_takes_the_long_way() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.split(b"c")
        await bench.db.run(insert)
        assert await bench.db.get_many([b"a", b"e"]) == {b"a": b"1", b"e": b"1"}
        assert [end.one_phase for end in ends(bench)] == [True, False, False]

    clients.run(main)


def test_a_commit_whose_reply_was_lost_in_a_split_is_found_at_the_anchor() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = first_time(is_commit, Plan(drop_reply=True))
        task = asyncio.create_task(bench.db.run(insert))
        await asyncio.sleep(1)
        assert bench.cluster.value(b"a") == b"1"
        bench.cluster.split(b"c")
        await task
        assert sum(bench.cluster.evaluations.values()) == 1
        assert ends(bench)[-1].status is TransactionStatus.ABORTED

    clients.run(main)


def test_a_commit_that_is_stuck_is_prevented_before_the_next_attempt() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = first_time(is_commit, Plan(request_delay_s=6))
        attempts: list[bytes] = []

        async def work(txn: Transaction) -> None:
            attempts.append(txn.id)
            await txn.put(b"a", b"%d" % len(attempts))
            await txn.put(b"e", b"%d" % len(attempts))

        task = asyncio.create_task(bench.db.run(work))
        await asyncio.sleep(1)
        bench.cluster.split(b"c")
        await task
        await asyncio.sleep(10)
        assert len(attempts) == 2
        assert await bench.db.get_many([b"a", b"e"]) == {b"a": b"2", b"e": b"2"}

    clients.run(main)


def test_a_commit_that_may_yet_happen_is_prevented_when_a_refresh_fails() -> None:
    """Attempt 1 is stuck, attempt 2 is pushed, the refresh fails, then attempt 1 arrives."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []
        stuck = first_time(is_commit, Plan(request_delay_s=3.5))

        async def work(txn: Transaction) -> None:
            runs.append(txn.id)
            await txn.get(b"q")
            await txn.put(b"a%d" % len(runs), b"a fresh key in each attempt")

        def decide(node: NodeId, request: BatchRequest) -> Plan:
            if is_commit(request) and request.attempt == 2:
                bench.cluster.put(b"q", b"changed")
                return Plan(refusal=errors.TransactionPushedError(timestamp=bench.cluster.now()))
            return stuck(node, request)

        bench.cluster.intercept = decide
        await bench.db.run(work)
        await asyncio.sleep(5)
        assert len(runs) == 2
        assert bench.cluster.value(b"a1") is None
        assert bench.cluster.value(b"a2") is not None

    clients.run(main)


def test_locks_in_other_ranges_are_let_go_after_the_commit() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            await txn.get_many([b"a", b"q"], for_update=True)
            await txn.put(b"b", b"1")
        assert ends(bench)[-1].one_phase
        await asyncio.sleep(0.1)
        assert [r.operations[0] for _, r in bench.cluster.sent(ResolveIntent)] == [
            ResolveIntent(
                b"\x10q",
                txn.id,
                TransactionStatus.COMMITTED,
                bench.cluster.transactions.written[txn.id, b"\x10b"],
            )
        ]
        assert is_clean(bench)

    clients.run(main)


# -- in parallel -----------------------------------------------------------------------------------


def test_writes_of_two_ranges_are_staged_in_one_round() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        assert await bench.db.run(transfer) == 1
        sent = [request for _, request in bench.cluster.sent(Put)]
        assert len(sent) == 2
        await asyncio.sleep(0.1)
        staging, committed = ends(bench)
        assert staging.status is TransactionStatus.STAGING
        assert committed.status is TransactionStatus.COMMITTED
        assert committed.timestamp == staging.timestamp == sent[0].timestamp
        assert {(ref.key, ref.sequence) for ref in staging.writes} == {
            (b"\x10a", 1),
            (b"\x10q", 1),
        }
        assert counted(bench) == [-1, 1]
        assert is_clean(bench)

    clients.run(main)


def test_an_intent_that_was_moved_up_makes_it_stage_anew() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            await transfer(txn)
            bench.cluster.transactions.reads.append((b"\x10q", b"", bench.cluster.now(), b"other"))
        await asyncio.sleep(0.1)
        assert counted(bench) == [-1, 1]
        staged = [end for end in ends(bench) if end.status is TransactionStatus.STAGING]
        assert len(staged) == 2
        assert staged[0].timestamp < staged[1].timestamp
        assert len(bench.cluster.sent(Put)) == 2

    clients.run(main)


def test_a_record_that_was_pushed_makes_its_part_come_again() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            await transfer(txn)
            bench.cluster.transactions.reads.append((b"\x10a", b"", bench.cluster.now(), b"other"))
        await asyncio.sleep(0.1)
        assert counted(bench) == [-1, 1]
        staged = [end for end in ends(bench) if end.status is TransactionStatus.STAGING]
        assert {ref.sequence for ref in staged[-1].writes} == {1, 2}

    clients.run(main)


@pytest.mark.parametrize("lost", ["a", "q", "both"])
def test_lost_replies_of_a_parallel_commit(lost: str) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        seen: set[tuple[int, bytes]] = set()

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            first = request.operations[0]
            if isinstance(first, Put) and (request.range_id, first.key) not in seen:
                seen.add((request.range_id, first.key))
                if lost in {"both", first.key[1:].decode()}:
                    return Plan(drop_reply=True)
            return EVALUATE

        bench.cluster.intercept = decide
        assert await bench.db.run(transfer) == 1
        await asyncio.sleep(0.1)
        assert counted(bench) == [-1, 1]
        assert is_clean(bench)

    clients.run(main)


@pytest.mark.parametrize("committed", [True, False])
def test_a_recovery_is_faster_than_the_coordinator(committed: bool) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            return await transfer(txn)

        def is_other_half(request: BatchRequest) -> bool:
            return isinstance(request.operations[0], Put) and not is_commit(request)

        plan = Plan(drop_reply=True) if committed else Plan(drop_request=True)
        bench.cluster.intercept = first_time(is_other_half, plan)
        task = asyncio.create_task(bench.db.run(work))
        await asyncio.sleep(1)
        record = bench.cluster.transactions.records[runs[0]]
        assert record.status is TransactionStatus.STAGING
        bench.cluster.transactions.decide(record, committed=committed)
        assert await task == 1
        await asyncio.sleep(1)
        assert len(runs) == (1 if committed else 2)
        assert counted(bench) == [-1, 1]
        assert is_clean(bench)

    clients.run(main)


def test_a_staged_transaction_that_cannot_move_is_ended_at_its_record() -> None:
    """T23: what was read has changed, so it cannot commit at the later time."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)

        async def work() -> None:
            async with bench.db.transaction() as txn:
                await txn.get(b"i")
                await transfer(txn)
                bench.cluster.put(b"i", b"changed")
                bench.cluster.transactions.reads.append(
                    (b"\x10q", b"", bench.cluster.now(), b"other")
                )

        with pytest.raises(errors.TransactionRetryError, match="/plain/i was written"):
            await work()
        await asyncio.sleep(0.1)
        assert is_clean(bench)
        aborted = ends(bench)[-1]
        assert aborted.status is TransactionStatus.ABORTED
        assert aborted.timestamp == ends(bench)[0].timestamp
        assert not bench.cluster.sent(RecoverTransaction)

    clients.run(main)


def test_a_commit_that_was_left_open_is_recovered_by_its_own_coordinator() -> None:
    """The anchor's part is staged, then refused for good; nobody knows of the other part."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            return await transfer(txn)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            first = request.operations[0]
            if isinstance(first, Put) and not is_commit(request) and len(runs) == 1:
                if request.attempt == 1:
                    return Plan(drop_reply=True)
                return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
            return EVALUATE

        bench.cluster.intercept = decide
        assert await bench.db.run(work) == 1
        assert len(runs) == 1
        assert bench.cluster.sent(QueryIntent)
        assert bench.cluster.sent(RecoverTransaction)
        await asyncio.sleep(0.1)
        assert counted(bench) == [-1, 1]

    clients.run(main)


# -- deadlines and cancellation --------------------------------------------------------------------


@pytest.mark.parametrize("body", [insert, transfer])
@pytest.mark.parametrize("is_open", [True, False])
def test_at_the_deadline_it_is_unknown_only_if_it_may_have_happened(
    body: Body, is_open: bool
) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        refusal = errors.OverloadedError(what="r", retry_after_ms=10)
        plan = Plan(drop_reply=True) if is_open else Plan(refusal=refusal)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            is_end = isinstance(request.operations[-1], EndTransaction)
            return plan if is_end else EVALUATE

        bench.cluster.intercept = decide
        told = errors.OutcomeUnknownError if is_open else errors.DeadlineExceededError
        with pytest.raises(told, match="within 2 s"):
            await bench.db.run(body, deadline_s=2.0)

    clients.run(main)


@pytest.mark.parametrize("body", [insert, transfer])
@pytest.mark.parametrize("is_carried_out", [True, False])
def test_time_is_kept_to_find_out_what_became_of_a_commit(body: Body, is_carried_out: bool) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        plan = Plan(drop_reply=is_carried_out, drop_request=not is_carried_out)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            return plan if is_commit(request) else EVALUATE

        bench.cluster.intercept = decide
        before = bench.loop.time()
        if is_carried_out:
            await bench.db.run(body, deadline_s=2.0)
        else:
            with pytest.raises(errors.DeadlineExceededError, match="within 2 s; last: n"):
                await bench.db.run(body, deadline_s=2.0)
        assert 1.5 < bench.loop.time() - before < 2.0
        bench.cluster.intercept = lambda _node, _request: EVALUATE
        await asyncio.sleep(10)
        assert (await bench.db.get(b"a") is not None) is is_carried_out

    clients.run(main)


def test_half_a_parallel_commit_is_known_not_to_have_happened() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        refusal = errors.OverloadedError(what="r", retry_after_ms=10)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            is_half = isinstance(request.operations[0], Put) and not is_commit(request)
            return Plan(refusal=refusal) if is_half else EVALUATE

        bench.cluster.intercept = decide
        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.run(transfer, deadline_s=2.0)
        await asyncio.sleep(0.1)
        assert is_clean(bench)
        assert bench.cluster.value(b"a") is None

    clients.run(main)


@pytest.mark.parametrize("delay_s", [0.0, 0.04, 0.08, 0.12, 0.16, 0.19])
@pytest.mark.parametrize("body", [insert, transfer])
def test_a_cancelled_commit_leaves_no_lock(body: Body, delay_s: float) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = lambda _node, _request: Plan(
            request_delay_s=0.05, reply_delay_s=0.05
        )
        task = asyncio.create_task(bench.db.run(body))
        await asyncio.sleep(delay_s)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(2)
        assert is_clean(bench)
        values = [bench.cluster.value(key) for key in (b"a", b"e", b"q")]
        if body is insert:
            assert values in ([None, None, None], [b"1", b"1", None])
        else:
            assert counted(bench) in ([None, None], [-1, 1])
        assert bench.is_quiet()

    clients.run(main)


def test_closing_waits_for_what_is_in_the_background() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        assert await bench.db.run(transfer) == 1
        assert bench.db.transactions_status().in_background == 1
        await bench.db.close()
        assert is_clean(bench)
        assert counted(bench) == [-1, 1]

    clients.run(main)


def test_closing_does_not_wait_for_ever() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        assert await bench.db.run(transfer) == 1
        bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
        before = bench.loop.time()
        await bench.db.close()
        assert bench.loop.time() - before < 1.1

    clients.run(main)


def test_a_database_that_is_closed_ends_its_transactions() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = lambda _node, r: (
            Plan(drop_reply=True) if type(r.operations[0]) is not Get else EVALUATE
        )
        task = asyncio.create_task(bench.db.run(transfer))
        await asyncio.sleep(0.5)
        await bench.db.close()
        with pytest.raises(errors.StoppedError):
            await task
        with pytest.raises(errors.StoppedError):
            bench.db.transaction()

    clients.run(main)


def test_closing_rolls_back_what_holds_locks() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        txn = bench.db.transaction()
        await txn.get(b"a", for_update=True)
        await bench.db.close()
        assert is_clean(bench)
        with pytest.raises(errors.TransactionEndedError, match="was rolled back"):
            await txn.get(b"a")

    clients.run(main)


@pytest.mark.parametrize("body", [insert, transfer])
@pytest.mark.parametrize("locking", [False, True])
def test_a_transaction_may_be_cancelled_between_any_two_steps(body: Body, locking: bool) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)

        async def work(txn: Transaction) -> int:
            if locking:
                await txn.get(b"q", for_update=True)
            return await body(txn)

        is_done = False
        steps = 0
        while not is_done:
            task = asyncio.create_task(bench.db.run(work))
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            is_done = not task.cancelled()
            await asyncio.sleep(1)
            assert is_clean(bench), steps
            assert bench.is_quiet()
            values = [bench.cluster.value(key) for key in (b"a", b"e", b"q")]
            if body is transfer:
                credit, debit = (encoding.unpack_counter(v or bytes(8)) for v in values[::2])
                assert credit is not None
                assert debit is not None
                assert credit == -debit
            else:
                assert values in ([None, None, None], [b"1", b"1", None])
                for key in (b"a", b"e"):
                    bench.cluster.put(key, None)
            steps += 1
        assert steps > 10

    clients.run(main)


def test_uncertainty_within_a_commit_does_not_matter() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.transactions.uncertainty = hlc.from_ms(500)
        await warm_up(bench)
        bench.cluster.put(b"a", encoding.pack_counter(5))
        assert await bench.db.run(transfer) == 1
        await asyncio.sleep(0.1)
        assert counted(bench) == [4, 1]

    clients.run(main)


def test_what_is_pushed_for_ever_while_an_attempt_is_open_is_ended_and_runs_again() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []
        stuck = first_time(is_commit, Plan(drop_request=True))

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            return await txn.increment(b"a")

        def decide(node: NodeId, request: BatchRequest) -> Plan:
            if is_commit(request) and request.attempt == 1 and request.id != runs[0]:
                return EVALUATE
            if is_commit(request) and len(ends(bench)) > 1:
                refusal = errors.TransactionPushedError(timestamp=bench.cluster.now())
                return Plan(refusal=refusal)
            return stuck(node, request)

        bench.cluster.intercept = decide
        assert await bench.db.run(work) == 1
        assert len(runs) == 2
        assert bench.cluster.value(b"a") == encoding.pack_counter(1)

    clients.run(main)


def test_a_write_that_was_refused_after_the_commit_began_is_not_taken_for_laid() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []

        def is_early(request: BatchRequest) -> bool:
            return isinstance(request.operations[-1], Put)

        refusal = errors.TransactionAbortedError(reason="a deadlock")
        plan = Plan(refusal=refusal, reply_delay_s=0.5)
        bench.cluster.intercept = first_time(is_early, plan)

        async def work(txn: Transaction) -> int:
            runs.append(txn.id)
            for number in range(1_200):
                await txn.put(b"%04d" % number, b"v")
            return len(runs)

        assert await bench.db.run(work) == 2
        await asyncio.sleep(1)
        assert is_clean(bench)
        assert len([row async for row in bench.db.scan()]) == 1_200

    clients.run(main)


@pytest.mark.parametrize("what", ["write", "commit"])
def test_closing_while_writes_are_being_laid(what: str) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)

        def is_early(request: BatchRequest) -> bool:
            return isinstance(request.operations[-1], Put)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            return Plan(request_delay_s=5) if is_early(request) else EVALUATE

        bench.cluster.intercept = decide

        async def work(txn: Transaction) -> None:
            for number in range(4_000 if what == "write" else 1_000):
                await txn.put(b"%04d" % number, b"v")

        task = asyncio.create_task(bench.db.run(work))
        await asyncio.sleep(0.5)
        await bench.db.close()
        with pytest.raises((errors.StoppedError, errors.TransactionEndedError)):
            await task
        await asyncio.sleep(10)
        bench.cluster.transactions.abandon()
        assert is_clean(bench)
        assert bench.cluster.value(b"0000") is None

    clients.run(main)


def test_an_abort_while_writes_are_being_laid() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        early: list[BatchRequest] = []

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            if isinstance(request.operations[-1], Put):
                early.append(request)
                if len(early) <= 3:
                    return Plan(request_delay_s=2)
                if len(early) == 4:
                    return Plan(refusal=errors.TransactionAbortedError(reason="a deadlock"))
            return EVALUATE

        bench.cluster.intercept = decide
        async with bench.db.transaction() as txn:
            before = txn.id
            for number in range(4_500):
                await txn.put(b"%04d" % number, b"v")
            assert txn.id != before
        await asyncio.sleep(3)
        bench.cluster.transactions.abandon()
        assert is_clean(bench)
        assert len([row async for row in bench.db.scan()]) == 4_500

    clients.run(main)


def test_a_record_that_a_recovery_has_committed_is_believed() -> None:
    """Pitfall (f): COMMITTED is no surprise to a coordinator that others have overtaken."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = first_time(is_commit, Plan(drop_reply=True))
        task = asyncio.create_task(bench.db.run(transfer))
        await asyncio.sleep(1)
        (record,) = bench.cluster.transactions.records.values()
        bench.cluster.transactions.decide(record, committed=True)
        assert await task == 1
        await asyncio.sleep(0.1)
        assert counted(bench) == [-1, 1]
        assert is_clean(bench)

    clients.run(main)


def test_what_is_split_while_an_earlier_attempt_is_open_is_ended_first() -> None:
    """Attempt 1 is stuck, attempt 2 is pushed and refreshes, then the range is split."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        runs: list[bytes] = []
        stuck = first_time(is_commit, Plan(request_delay_s=3.5))

        async def work(txn: Transaction) -> None:
            runs.append(txn.id)
            await txn.put(b"a%d" % len(runs), b"1")
            await txn.put(b"e%d" % len(runs), b"1")

        def decide(node: NodeId, request: BatchRequest) -> Plan:
            if is_commit(request) and request.attempt == 2 and len(runs) == 1:
                bench.cluster.split(b"c")
                return Plan(refusal=errors.TransactionPushedError(timestamp=bench.cluster.now()))
            return stuck(node, request)

        bench.cluster.intercept = decide
        await bench.db.run(work)
        await asyncio.sleep(5)
        assert len(runs) == 2
        assert [key async for key, _ in bench.db.scan()] == [b"a2", b"e2"]

    clients.run(main)


def test_the_search_for_a_definite_end_may_be_cancelled() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)

        def decide(_node: NodeId, request: BatchRequest) -> Plan:
            is_end = isinstance(request.operations[-1], EndTransaction) and not is_commit(request)
            if is_end:
                return Plan(request_delay_s=0.5)
            is_first = is_commit(request) and request.attempt == 1
            return Plan(request_delay_s=5) if is_first else EVALUATE

        bench.cluster.intercept = decide
        task = asyncio.create_task(bench.db.run(insert))
        await asyncio.sleep(1)
        bench.cluster.split(b"c")
        await asyncio.sleep(2.2)
        assert ends(bench)[-1].status is TransactionStatus.ABORTED
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(10)
        assert is_clean(bench)
        assert bench.cluster.value(b"a") is None

    clients.run(main)


def test_more_than_one_part_may_hold_is_not_tried_in_one_phase() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        async with bench.db.transaction() as txn:
            for number in range(5):
                await txn.put(b"%d" % number, b"1")
        assert not any(end.one_phase for end in ends(bench))
        assert len([row async for row in bench.db.scan()]) == 5

    clients.run(main, limits=config.LimitsConfig(batch_operations_max=5))
