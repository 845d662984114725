"""Every way in which a request can fail to be answered at once, and what the router makes of it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from multiraft import errors
from multiraft.client.batch import Batch
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import encoding, hlc, keys, requests
from multiraft.model.requests import BatchRequest, ConditionalPut, Get, Increment, Put, Scan
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import TransactionContext
from multiraft.sim.randomness import SeededRng
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import EVALUATE, LOCK_WAIT_S, Plan

N1, N2, N3, N4 = NodeId(1), NodeId(2), NodeId(3), NodeId(4)


async def warm_up(bench: Bench) -> None:
    """Learn all ranges and their leaders, and forget what was sent meanwhile."""
    for key in (b"a", b"j", b"q"):
        await bench.db.get(key)
    bench.cluster.requests.clear()


def planned(kind: type[requests.Operation], *plans: Plan) -> Callable[..., Plan]:
    """Let the first requests that begin with `kind` meet those fates, in order."""
    left = list(plans)

    def intercept(_node: NodeId, request: BatchRequest) -> Plan:
        return left.pop(0) if left and isinstance(request.operations[0], kind) else EVALUATE

    return intercept


def refusal(error: errors.MultiraftError) -> Plan:
    return Plan(refusal=error)


# -- the short way -------------------------------------------------------------------------------


def test_a_warm_request_takes_one_message_and_no_pursuit() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        pursuits = bench.db.status().pursuits
        await bench.db.put(b"a", b"1")
        assert await bench.db.get(b"a") == b"1"
        assert len(bench.cluster.requests) == 2
        assert bench.db.status().pursuits == pursuits

    clients.run(main)


def test_concurrent_requests_to_a_node_share_a_frame() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        frames = {c.welcome.node_id: c.frames for c in bench.cluster.connections}
        await asyncio.gather(*(bench.db.put(b"a%d" % n, b"") for n in range(50)))
        leader = bench.cluster.leader_of(b"a")
        more = {
            c.welcome.node_id: c.frames - frames[c.welcome.node_id]
            for c in bench.cluster.connections
        }
        assert more == {node: int(node == leader) for node in more}

    clients.run(main)


def test_a_batch_goes_to_its_ranges_in_parallel_and_results_keep_their_order() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"z", b"26")
        batch = (
            Batch().get(b"z").put(b"a", b"1").increment(b"i", 7).get(b"a").delete(b"z").get(b"j")
        )
        assert await bench.db.batch(batch) == [b"26", None, 7, b"1", True, None]
        parts = {r.range_id: len(r.operations) for _, r in bench.cluster.requests}
        assert sorted(parts.values()) == [2, 2, 2]
        ids = {r.id for _, r in bench.cluster.requests}
        assert len(ids) == 3, "parts of a batch are writes of their own (rule S8)"

    clients.run(main)


def test_reads_carry_no_id_and_writes_carry_one_with_a_lower_bound_of_the_clock() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        await bench.db.get(b"a")
        await bench.db.put(b"a", b"1")
        (_, read), (_, write) = bench.cluster.requests
        assert (read.id, read.issued_at) == (b"", 0)
        assert len(write.id) == 16
        assert bench.cluster.now() - (300_000 << 12) < write.issued_at < bench.cluster.now()

    clients.run(main)


# -- refusals ------------------------------------------------------------------------------------


def test_a_moved_leader_costs_one_hop() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.range_of(b"\x10a").leader = N3
        await bench.db.put(b"a", b"1")
        assert [node for node, _ in bench.cluster.requests] == [N2, N3]
        assert [request.attempt for _, request in bench.cluster.requests] == [1, 2]
        assert len({request.id for _, request in bench.cluster.requests}) == 1
        await bench.db.put(b"a", b"2")
        assert bench.cluster.requests[-1][0] == N3, "the new leader is remembered"

    clients.run(main)


def test_without_a_hint_every_replica_is_asked_and_the_leader_found() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.hints = {N1: None, N2: None, N3: None}
        for key in (b"a", b"j", b"q"):
            await bench.db.put(key, b"1")
        assert len(bench.cluster.sent(Put)) <= 3 * 3
        assert bench.loop.time() < 0.1

    clients.run(main)


def test_hints_that_lead_in_a_circle_are_followed_with_pauses() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.range_of(b"\x10a").leader = N4  # nobody that can be asked
        bench.cluster.hints = {N1: N2, N2: N3, N3: N1}
        with pytest.raises(errors.OutcomeUnknownError, match="not leaseholder"):
            await bench.db.put(b"a", b"1", deadline_s=5.0)
        assert 5.0 <= bench.loop.time() < 5.1
        assert len(bench.cluster.sent(Put)) < 200

    clients.run(main)


def test_a_split_costs_one_hop_and_repairs_the_cache() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.split(b"d")
        await bench.db.put(b"e", b"1")
        assert len(bench.cluster.requests) == 2, "no look-up: the refusal brought the descriptors"
        bench.cluster.requests.clear()
        await bench.db.put(b"f", b"1")
        await bench.db.put(b"b", b"1")
        assert len(bench.cluster.requests) == 2

    clients.run(main)


def test_a_part_whose_range_was_split_is_cut_and_keeps_its_id() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.split(b"d")
        batch = Batch().put(b"a", b"1").put(b"e", b"2").increment(b"b").increment(b"f", 2)
        assert await bench.db.batch(batch) == [None, None, 1, 2]
        first, *others = [request for _, request in bench.cluster.requests]
        assert len(first.operations) == 4
        assert [(len(r.operations), r.attempt, r.id) for r in others] == [(2, 2, first.id)] * 2
        assert bench.is_quiet()

    clients.run(main)


def test_a_split_that_is_learned_during_a_look_up_does_not_take_a_batch_apart() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        home = bench.cluster.range_of(keys.PLAIN + b"j")
        is_hidden = True

        def intercept(_node: NodeId, request: BatchRequest) -> Plan:
            if is_hidden and request.range_id == home.descriptor.range_id:
                return refusal(errors.RangeNotFoundError(range_id=request.range_id, node_id=_node))
            return Plan(drop_request=is_hidden and isinstance(request.operations[0], Scan))

        bench.cluster.intercept = intercept
        batch = Batch().put(b"j", b"1").put(b"k", b"1", expected=b"0")
        writing = asyncio.create_task(bench.db.batch(batch))
        await asyncio.sleep(0.5)  # The look-up is under way, and will not be answered.
        right = bench.cluster.split(b"j")
        bench.router.learn([home.descriptor, right.descriptor])
        bench.cluster.requests.clear()
        await asyncio.sleep(1.0)
        is_hidden = False
        with pytest.raises(errors.ConditionFailedError):
            await writing
        assert await bench.db.get(b"j") is None
        assert {len(request.operations) for _, request in bench.cluster.sent(Put)} == {2}

    clients.run(main)


def test_a_key_is_found_while_its_addressing_record_is_missing() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.split(b"d", update_meta=False)
        await bench.db.put(b"e", b"1")
        assert bench.cluster.value(b"e") == b"1"
        assert bench.loop.time() < 0.1

    clients.run(main)


def test_a_key_is_found_when_there_are_no_addressing_records_at_all() -> None:
    async def main(bench: Bench) -> None:
        for key in list(bench.cluster.versions):
            del bench.cluster.versions[key]
        await bench.db.put(b"e", b"1")
        assert bench.cluster.value(b"e") == b"1"

    clients.run(main)


def test_a_range_that_moved_away_completely_is_looked_up_again() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        moved = bench.cluster.range_of(b"\x10a").descriptor.range_id
        bench.cluster.move(moved, (N4, NodeId(5), NodeId(6)))
        await bench.db.put(b"a", b"1")
        assert bench.cluster.requests[-1][0] == N4
        assert bench.loop.time() < 0.1

    clients.run(main, nodes=6)


def test_the_first_range_that_moved_is_found_through_any_node() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.move(RangeId(1), (N4, NodeId(5), NodeId(6)))
        await bench.db.put(b"a", b"1")
        assert bench.cluster.value(b"a") == b"1"

    clients.run(main, nodes=6)


def test_ranges_whose_old_nodes_are_all_gone_are_looked_up_again() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        for range_id in (1, 2):
            bench.cluster.move(RangeId(range_id), (N4, NodeId(5), NodeId(6)))
        for node in (N1, N2, N3):
            bench.cluster.stop(node)
        await bench.db.put(b"a", b"1")
        assert bench.cluster.value(b"a") == b"1"
        assert bench.loop.time() < 1.0

    clients.run(main, nodes=6)


def test_an_old_addressing_record_leads_to_the_nodes_that_know_better() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.move(RangeId(2), (N4, NodeId(5), NodeId(6)))
        bench.cluster.split(b"d", update_meta=False)
        # The left half's leader has written its record, the right one's has not yet.
        bench.cluster.write_meta(bench.cluster.ranges[RangeId(2)].descriptor)
        await bench.db.put(b"e", b"1")
        assert bench.loop.time() < 0.1

    clients.run(main, nodes=6)


def test_where_nobody_knows_better_the_range_is_looked_up_and_asked_with_pauses() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        lookups = bench.db.status().lookups
        error = errors.RangeMismatchError(range_id=RangeId(2), descriptors=[])
        bench.cluster.intercept = planned(Get, *[refusal(error)] * 10_000)
        with pytest.raises(errors.DeadlineExceededError, match=error.message):
            await bench.db.get(b"a", deadline_s=5.0)
        first, second, *_ = [request.operations[0] for _, request in bench.cluster.requests]
        assert (type(first), type(second)) == (Get, Scan)
        asked = [node for node, _ in bench.cluster.sent(Get)]
        assert set(asked) == {N1, N2, N3}
        assert 10 < len(asked) < 100
        assert bench.db.status().lookups > lookups

    clients.run(main)


def test_a_replica_that_is_gone_costs_a_pause_only_if_the_next_one_is_gone_too() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        for gone, pauses in ((1, 0), (2, 1), (3, 2)):
            began = bench.loop.time()
            error = errors.RangeNotFoundError(range_id=RangeId(2), node_id=N2)
            bench.cluster.intercept = planned(Get, *[refusal(error)] * gone)
            bench.cluster.requests.clear()
            assert await bench.db.get(b"a") is None
            passed_ms = 1_000 * (bench.loop.time() - began)
            asked = [node for node, _ in bench.cluster.sent(Get)]
            assert len(set(asked[:gone])) == gone, "each before any is asked again"
            assert (passed_ms >= 100) is bool(pauses)
            assert passed_ms < 50 + 400 * pauses

    clients.run(main, backoff_ms_min=100)


def test_who_waits_for_a_lock_comes_again_at_once_and_to_the_same_node() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        error = errors.LockWaitError(key="k", holder="", waited_ms=1)
        bench.cluster.intercept = planned(Get, *[refusal(error)] * 5)
        began = bench.loop.time()
        assert await bench.db.get(b"a") is None
        assert bench.loop.time() - began == pytest.approx(5 * LOCK_WAIT_S)
        assert [node for node, _ in bench.cluster.sent(Get)] == [N2] * 6

    clients.run(main)


def test_a_part_of_many_keys_is_looked_up_once() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        away = refusal(errors.RangeNotFoundError(range_id=RangeId(2), node_id=N2))
        bench.cluster.intercept = planned(Put, away)
        await bench.db.put_many({b"a%d" % n: b"" for n in range(100)})
        assert len(bench.cluster.sent(Scan)) == 1

    clients.run(main)


def test_an_overloaded_range_is_left_alone_for_as_long_as_it_asks() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        began = bench.loop.time()
        overloaded = refusal(errors.OverloadedError(what="r2", retry_after_ms=400))
        bench.cluster.intercept = planned(Put, overloaded)
        await bench.db.put(b"a", b"1")
        assert 0.4 <= bench.loop.time() - began <= 0.8

    clients.run(main)


def test_a_refused_clock_lowers_what_later_requests_claim() -> None:
    async def main(bench: Bench) -> None:
        ahead = refusal(errors.ClockOffsetError(ahead_ms=900, limit_ms=250))
        await warm_up(bench)
        bad_clock = hlc.to_us(bench.cluster.now()) + 10_000_000
        bench.router._observe(hlc.from_us(bad_clock))
        bench.cluster.intercept = planned(Put, ahead)
        await bench.db.put(b"a", b"1")
        (_, first), (_, second) = bench.cluster.sent(Put)
        assert first.issued_at > bench.cluster.now() > second.issued_at

    clients.run(main)


@pytest.mark.parametrize(
    "error",
    [
        errors.OverloadedError(what="r2", retry_after_ms=400),
        errors.ClockOffsetError(ahead_ms=900, limit_ms=250),
    ],
    ids=lambda error: error.code,
)
def test_a_write_gets_no_younger_however_often_it_is_sent(error: errors.MultiraftError) -> None:
    """S12: its first attempt may have been carried out, and that is looked for from then on."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = planned(Put, *[refusal(error)] * 3)
        await bench.db.put(b"a", b"1")
        first, *later = [request.issued_at for _, request in bench.cluster.sent(Put)]
        assert len(later) == 3
        assert max(later) <= first

    clients.run(main)


def test_what_is_sent_for_a_transaction_is_as_old_as_that_says() -> None:
    async def main(bench: Bench) -> None:
        call = bench.router.start_in_transaction(
            (Put(keys.PLAIN + b"a", b"1"),),
            TransactionContext(TransactionMeta(b"t" * 16, keys.PLAIN + b"a")),
            issued_at=Timestamp(5),
            timestamp=Timestamp(7),
            deadline=bench.router.now() + 1.0,
        )
        await call.future
        assert {request.issued_at for _, request in bench.cluster.sent(Put)} == {5}

    clients.run(main)


@pytest.mark.parametrize(
    ("deadline_s", "least_ms", "most_ms"), [(0.01, 0, 0), (1.0, 500, 950), (60.0, 1_500, 2_900)]
)
def test_a_range_may_wait_for_locks_as_long_as_it_can_still_tell_of_it(
    deadline_s: float, least_ms: int, most_ms: int
) -> None:
    """Before the deadline, and before the attempt is given up; 0 is for no time to tell it."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        await bench.db.put(b"a", b"1", deadline_s=deadline_s)
        ((_, request),) = bench.cluster.sent(Put)
        assert least_ms <= request.wait_ms_max <= most_ms

    clients.run(main)


def test_a_definite_error_is_raised_at_once() -> None:
    async def main(bench: Bench) -> None:
        await bench.db.put(b"a", b"text")
        with pytest.raises(errors.NotAnIntegerError):
            await bench.db.increment(b"a")
        assert len(bench.cluster.sent(Increment)) == 1

    clients.run(main)


def test_a_full_disk_is_reported_if_nothing_can_have_been_written() -> None:
    async def main(bench: Bench) -> None:
        full = refusal(errors.DiskFullError(path="/d", free_bytes=1, reserve_bytes=2))
        bench.cluster.intercept = planned(Put, full)
        with pytest.raises(errors.DiskFullError):
            await bench.db.put(b"a", b"1")

    clients.run(main)


def test_a_full_disk_after_a_lost_reply_is_not_taken_for_the_end() -> None:
    async def main(bench: Bench) -> None:
        full = refusal(errors.DiskFullError(path="/d", free_bytes=1, reserve_bytes=2))
        bench.cluster.intercept = planned(Put, Plan(drop_reply=True), full)
        await bench.db.put(b"a", b"1")
        assert [r.attempt for _, r in bench.cluster.sent(Put)][:3] == [1, 2, 3]

    clients.run(main)


def test_a_store_that_failed_is_avoided() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = planned(
            Put, refusal(errors.StoreFailedError(reason="a sync failed"))
        )
        await bench.db.put(b"a", b"1")
        assert bench.cluster.requests[1][0] != bench.cluster.requests[0][0]

    clients.run(main)


# -- nodes that do not answer --------------------------------------------------------------------


def test_a_broken_connection_makes_its_calls_go_on_elsewhere() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = planned(Put, Plan(breaks_connection=True))
        await bench.db.put(b"a", b"1")
        assert sum(bench.cluster.evaluations.values()) == 1

    clients.run(main)


@pytest.mark.parametrize("callers", [1, 10, 100])
def test_a_dead_leader_is_replaced_as_soon_as_another_leads(callers: int) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        began = bench.loop.time()
        bench.cluster.stop(N2)
        bench.cluster.hints = {N1: None, N3: None}
        bench.loop.call_later(1.5, setattr, bench.cluster.range_of(b"\x10a"), "leader", N3)
        await asyncio.gather(*(bench.db.put(b"a%d" % n, b"1") for n in range(callers)))
        assert 1.5 <= bench.loop.time() - began < 1.6, "all go on when the first is answered"
        assert bench.cluster.evaluations.total() == callers
        probes = sum(n != N2 for n, _ in bench.cluster.sent(Put)) - callers
        assert probes < 20 * callers + 100, "many at first, then few between them all"

    clients.run(main)


def test_a_connection_that_breaks_as_it_is_made_does_not_take_calls_with_it() -> None:
    async def main(bench: Bench) -> None:
        assert await bench.db.get(b"a") is None
        pool = bench.router.connections
        observe = pool.observe
        broken: list[NodeId] = []

        def break_the_first(clock: Timestamp) -> None:
            newest = bench.cluster.connections[-1]
            if not broken and newest.welcome.node_id not in pool.links:
                broken.append(newest.welcome.node_id)
                newest.break_("reset by peer")
            observe(clock)

        pool.observe = break_the_first
        began_s = bench.loop.time()
        await bench.db.put(b"i", b"1")
        assert broken
        assert bench.loop.time() - began_s < 1.0

    clients.run(main)


def test_a_silent_leader_is_given_up_after_the_attempt_timeout() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        began = bench.loop.time()
        bench.cluster.intercept = lambda node, _: (
            Plan(drop_request=True) if node == N2 else EVALUATE
        )
        bench.loop.call_later(1.0, setattr, bench.cluster.range_of(b"\x10a"), "leader", N3)
        await bench.db.put(b"a", b"1")
        assert 3.0 <= bench.loop.time() - began < 3.2
        assert bench.cluster.evaluations.total() == 1

    clients.run(main)


def test_a_node_that_is_down_is_not_connected_to_over_and_over() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.stop(N2)
        with pytest.raises(errors.OutcomeUnknownError):
            await bench.db.put(b"a", b"1", deadline_s=10.0)  # N2 leads, for ever
        assert bench.router.connections.peers[N2].failures < 20

    clients.run(main)


def test_an_answer_with_too_few_results_is_not_believed() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = planned(Increment, Plan(drops_results=True))
        assert await bench.db.increment(b"a") == 1
        assert len(bench.cluster.sent(Increment)) > 1

    clients.run(main)


def test_a_range_that_is_known_is_reached_while_the_first_range_is_down() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.stop(N1)  # It leads the first range, for ever.
        bench.cluster.hints = {N3: None}
        bench.cluster.range_of(b"\x10a").leader = N4
        bench.loop.call_later(2.0, setattr, bench.cluster.range_of(b"\x10a"), "leader", N3)
        bench.cluster.stop(N2)
        await bench.db.put(b"a", b"1")
        assert bench.loop.time() < 4.0

    clients.run(main)


def test_a_range_whose_replicas_answer_is_not_looked_up_where_nobody_does() -> None:
    """One node led it and the first range; the first range is the later one to have a leader."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        began, lookups = bench.loop.time(), bench.db.status().lookups
        bench.cluster.ranges[RangeId(1)].leader = N2
        bench.cluster.hints = {N1: N2, N3: N2}
        bench.cluster.stop(N2)

        def elect() -> None:
            bench.cluster.range_of(b"\x10a").leader = N3
            bench.cluster.hints = {}

        bench.loop.call_later(1.0, elect)
        await bench.db.put(b"a", b"1")
        assert bench.loop.time() - began < 1.1
        assert bench.db.status().lookups == lookups

    clients.run(main)


# -- once, and only what is certain --------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_counters_are_exact_though_a_fifth_of_the_replies_is_lost(seed: int) -> None:
    async def main(bench: Bench) -> None:
        rng = SeededRng(seed)
        lost = (Plan(drop_reply=True), Plan(breaks_connection=True))

        def lossy(_node: NodeId, request: BatchRequest) -> Plan:
            if not isinstance(request.operations[0], Increment) or rng.below(5):
                return EVALUATE
            return lost[rng.below(2)]

        bench.cluster.intercept = lossy
        counters = [bytes([ord("a") + n]) for n in range(20)]

        async def count(times: int) -> None:
            for n in range(times):
                await bench.db.increment(counters[n % len(counters)])

        await asyncio.gather(*(count(40) for _ in range(5)))
        totals = [encoding.unpack_counter(bench.cluster.value(k) or b"") for k in counters]
        assert totals == [10] * len(counters)
        assert set(bench.cluster.evaluations.values()) == {1}
        assert bench.is_quiet()

    clients.run(main, seed=seed, deadline_s=600.0)


def test_not_written_is_believed_only_from_the_newest_attempt() -> None:
    """Rule S7: attempt 1 is stuck, attempt 2 fails, the holder lets go, attempt 1 arrives."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"held")
        bench.cluster.intercept = planned(ConditionalPut, Plan(request_delay_s=5.0))
        with pytest.raises(errors.ConditionFailedError):
            await bench.db.put(b"a", b"me", expected=None)
        assert [r.attempt for _, r in bench.cluster.sent(ConditionalPut)] == [1, 2, 3]
        bench.cluster.put(b"a", None)
        await asyncio.sleep(6.0)
        assert bench.cluster.value(b"a") is None, "attempt 1 found the outcome of attempt 2"

    clients.run(main)


def test_a_late_not_written_of_an_older_attempt_is_ignored() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"held")
        # Attempt 1 fails at once but its reply comes late. Attempt 2 is evaluated after that reply
        # has arrived, when the key is free.
        bench.cluster.intercept = planned(
            ConditionalPut, Plan(reply_delay_s=3.5), Plan(request_delay_s=1.0)
        )
        bench.loop.call_later(1.0, bench.cluster.put, b"a", None)
        await bench.db.put(b"a", b"me", expected=None)
        assert bench.cluster.value(b"a") == b"me"

    clients.run(main)


def test_a_late_not_written_is_believed_if_no_newer_attempt_was_sent() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"held")
        bench.cluster.intercept = planned(ConditionalPut, Plan(reply_delay_s=3.0 + 0.2))
        bench.cluster.stop(N1)
        bench.cluster.stop(N3)
        began = bench.loop.time()
        with pytest.raises(errors.ConditionFailedError):
            await bench.db.put(b"a", b"me", expected=None)
        assert 3.1 < bench.loop.time() - began < 3.3
        assert len(bench.cluster.sent(ConditionalPut)) == 1

    clients.run(main, backoff_ms_min=2_000)


def test_a_late_written_of_an_older_attempt_is_believed() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        began = bench.loop.time()
        bench.cluster.intercept = planned(
            Put, Plan(reply_delay_s=4.0), Plan(drop_request=True), Plan(drop_request=True)
        )
        await bench.db.put(b"a", b"1")
        assert 3.9 < bench.loop.time() - began < 4.1
        assert bench.is_quiet()

    clients.run(main)


def test_a_late_refusal_of_an_attempt_that_was_given_up_changes_nothing() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        late = Plan(reply_delay_s=3.5, refusal=errors.OverloadedError(what="r2", retry_after_ms=50))
        bench.cluster.intercept = planned(Put, late)
        bench.cluster.stop(N1)
        bench.cluster.stop(N3)
        # The refusal arrives while the pursuit pauses between the first and the second attempt.
        await bench.db.put(b"a", b"1")
        assert len(bench.cluster.sent(Put)) == 2
        assert bench.loop.time() > 4.0, "the pause was not cut short by a second pursuit"
        assert bench.is_quiet()

    clients.run(main, backoff_ms_min=2_000)


def test_a_late_refusal_does_not_disturb_a_newer_attempt() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        late = Plan(reply_delay_s=3.5, refusal=errors.OverloadedError(what="r2", retry_after_ms=50))
        bench.cluster.intercept = planned(Put, late, EVALUATE, Plan(reply_delay_s=1.0))
        await bench.db.put(b"a", b"1")
        assert [node for node, _ in bench.cluster.sent(Put)].count(N2) == 2
        assert len(bench.cluster.sent(Put)) == 3

    clients.run(main)


# -- deadlines -----------------------------------------------------------------------------------

Act = Callable[[Bench], Awaitable[object]]


def put(bench: Bench) -> Awaitable[object]:
    return bench.db.put(b"a", b"1", deadline_s=2.0)


def get(bench: Bench) -> Awaitable[object]:
    return bench.db.get(b"a", deadline_s=2.0)


def everywhere(plan: Plan) -> Callable[..., Plan]:
    return lambda _node, _request: plan


SILENCE = everywhere(Plan(drop_request=True))
OVERLOAD = everywhere(refusal(errors.OverloadedError(what="n", retry_after_ms=10)))
NO_LEADER = everywhere(refusal(errors.NotLeaseholderError(range_id=RangeId(2), leaseholder=None)))


@pytest.mark.parametrize(
    ("act", "intercept", "expected"),
    [
        (get, SILENCE, errors.DeadlineExceededError),
        (put, SILENCE, errors.OutcomeUnknownError),
        (put, OVERLOAD, errors.DeadlineExceededError),
        # A leader that lost its term says so for commands that may yet be committed (rule S17).
        (put, NO_LEADER, errors.OutcomeUnknownError),
        (get, NO_LEADER, errors.DeadlineExceededError),
    ],
)
def test_the_deadline_says_whether_something_may_have_been_written(
    act: Act, intercept: Callable[..., Plan], expected: type[errors.MultiraftError]
) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = intercept
        began = bench.loop.time()
        with pytest.raises(expected):
            await act(bench)
        assert 2.0 <= bench.loop.time() - began <= 2.1
        assert bench.is_quiet()

    clients.run(main)


def test_a_write_that_could_not_be_sent_was_not_written() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        for node in (N1, N2, N3):
            bench.cluster.stop(node)
        await asyncio.sleep(0)
        with pytest.raises(errors.DeadlineExceededError, match="is down"):
            await bench.db.put(b"a", b"1", deadline_s=2.0)

    clients.run(main)


def test_a_batch_of_which_one_part_was_written_has_an_unknown_outcome_at_the_deadline() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = lambda node, _: EVALUATE if node == N2 else OVERLOAD(node, None)
        with pytest.raises(errors.OutcomeUnknownError):
            await bench.db.batch(Batch().put(b"a", b"1").put(b"j", b"1"), deadline_s=1.0)

    clients.run(main)


def test_a_batch_of_which_one_part_is_unknown_has_an_unknown_outcome_at_the_deadline() -> None:
    """Its first attempt may have been carried out: nobody can tell any more (rule S12)."""

    async def main(bench: Bench) -> None:
        await warm_up(bench)
        too_old = refusal(errors.OutcomeUnknownError(reason="the request is too old"))
        bench.cluster.intercept = lambda node, _: too_old if node == N2 else OVERLOAD(node, None)
        with pytest.raises(errors.OutcomeUnknownError):
            await bench.db.batch(Batch().put(b"a", b"1").put(b"j", b"1"), deadline_s=1.0)

    clients.run(main)


def test_a_batch_of_which_one_part_ended_without_a_write_was_not_written() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)

        def overload_the_other(node: NodeId, request: BatchRequest) -> Plan:
            return (
                EVALUATE
                if type(request.operations[0]) is ConditionalPut
                else OVERLOAD(node, request)
            )

        bench.cluster.intercept = overload_the_other
        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.batch(Batch().put(b"a", b"1", expected=b"0").put(b"j", b"1"))
        assert [bench.cluster.value(key) for key in (b"a", b"j")] == [None, None]

    clients.run(main)


def test_a_transactions_call_on_an_idle_client_ends_at_its_deadline() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        await asyncio.sleep(5.0)
        bench.cluster.intercept = SILENCE
        began = bench.router.now()
        call = bench.router.start_in_transaction(
            (Get(b"\x10a"),),
            TransactionContext(TransactionMeta(bytes(16), b"\x10a", 0, Timestamp(5))),
            issued_at=Timestamp(77),
            timestamp=Timestamp(80),
            deadline=began + 2.0,
        )
        with pytest.raises(errors.DeadlineExceededError):
            await call.future
        assert 2.0 <= bench.router.now() - began <= 2.1
        assert {request.issued_at for _, request in bench.cluster.requests} == {77}

    clients.run(main)


def test_a_node_that_does_not_answer_for_itself_leaves_nothing_behind() -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.intercept = SILENCE
        with pytest.raises(errors.NodeUnavailableError, match="no reply within 1 s"):
            await bench.router.send_to_node(N2, RangeId(2), (Get(b"\x10a"),), 1.0)
        link = await bench.router.connections.open(N2)
        assert link.pending == {}
        bench.cluster.intercept = everywhere(refusal(errors.StoppedError(what="n2")))
        with pytest.raises(errors.StoppedError):
            await bench.router.send_to_node(N2, RangeId(2), (Get(b"\x10a"),), 1.0)

    clients.run(main)


def test_a_part_that_was_cut_remembers_that_an_attempt_is_unanswered() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"text")
        first = Plan(drop_request=True)  # For all the client knows it is still under way.
        bench.cluster.intercept = planned(Increment, first)
        bench.loop.call_later(1.0, bench.cluster.split, b"d")
        bench.loop.call_later(2.0, setattr, bench.cluster, "intercept", overload_puts)
        batch = Batch().increment(b"a").put(b"e", b"1")
        with pytest.raises(errors.OutcomeUnknownError):
            await bench.db.batch(batch, deadline_s=5.0)

    def overload_puts(node: NodeId, request: BatchRequest) -> Plan:
        is_cut = isinstance(request.operations[0], Put)
        return OVERLOAD(node, request) if is_cut else EVALUATE

    clients.run(main)


def test_an_attempt_whose_late_reply_says_not_written_is_accounted_for() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"held")
        overloaded = refusal(errors.OverloadedError(what="r2", retry_after_ms=400))
        bench.cluster.intercept = planned(
            ConditionalPut, Plan(reply_delay_s=3.5), *[overloaded] * 100
        )
        with pytest.raises(errors.DeadlineExceededError):
            await bench.db.put(b"a", b"me", expected=None, deadline_s=5.0)

    clients.run(main)


def test_a_batch_raises_its_first_error_once_all_parts_have_ended() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.put(b"a", b"text")
        bench.cluster.intercept = planned(Put, Plan(request_delay_s=1.0))
        with pytest.raises(errors.NotAnIntegerError):
            await bench.db.batch(Batch().put(b"j", b"1").increment(b"a"))
        assert bench.cluster.value(b"j") == b"1", "the other part was not abandoned"

    clients.run(main)


# -- what is left behind -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "intercept", [SILENCE, OVERLOAD, NO_LEADER, everywhere(Plan(reply_delay_s=1.0))]
)
@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.5, 3.5])
def test_a_cancelled_call_leaves_nothing_behind(
    intercept: Callable[..., Plan], after_s: float
) -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = intercept
        task = asyncio.ensure_future(bench.db.batch(Batch().put(b"a", b"1").put(b"j", b"2")))
        await asyncio.sleep(after_s)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert bench.is_quiet()
        await asyncio.sleep(0.2)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert bench.router._sweeper is None, "without calls there is no timer"

    clients.run(main)


def test_a_call_that_is_cancelled_in_the_iteration_it_was_made_is_not_sent() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        call = bench.router.start((Put(keys.PLAIN + b"a", b"1"),))
        call.abandon()
        await asyncio.sleep(1.0)
        assert bench.cluster.requests == []

    clients.run(main)


def test_calls_that_wait_for_an_answer_and_those_that_rest_are_pending_until_it_is_closed() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        overloaded = refusal(errors.OverloadedError(what="r3", retry_after_ms=60_000))
        bench.cluster.intercept = lambda node, _: (
            Plan(drop_request=True) if node == N2 else overloaded
        )
        waits, rests = (
            bench.router.start((Get(keys.PLAIN + key),), deadline_s=100.0) for key in (b"a", b"j")
        )
        await asyncio.sleep(0.1)
        status = bench.router.status()
        assert (status.calls_pending, status.parts_pursued) == (2, 1)
        await bench.router.close()
        for call in (waits, rests):
            assert isinstance(call.future.exception(), errors.StoppedError)

    clients.run(main)


def test_closing_ends_open_calls_and_refuses_new_ones() -> None:
    async def main(bench: Bench) -> None:
        await warm_up(bench)
        bench.cluster.intercept = SILENCE
        waiting = [asyncio.ensure_future(bench.db.put(key, b"1")) for key in (b"a", b"j")]
        await asyncio.sleep(4.0)
        await bench.db.close()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [errors.StoppedError] * 2
        with pytest.raises(errors.StoppedError):
            await bench.db.get(b"a")
        await asyncio.sleep(0.1)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert bench.cluster.connections == []

    clients.run(main)


def test_a_thousand_calls_for_an_unknown_range_make_a_few_look_ups() -> None:
    async def main(bench: Bench) -> None:
        await asyncio.gather(*(bench.db.get(b"a%d" % n) for n in range(1_000)))
        assert len({r.operations for _, r in bench.cluster.sent(Scan)}) <= 8

    clients.run(main)


def test_one_look_up_brings_the_neighbours_along() -> None:
    async def main(bench: Bench) -> None:
        for n in range(10):
            await bench.db.get(b"k%d" % n)
        assert len(bench.cluster.sent(Scan)) == 1
        assert len(bench.cluster.sent(Get)) <= 10 + 3 * 10

    clients.run(main, splits=tuple(b"k%d" % n for n in range(10)))
