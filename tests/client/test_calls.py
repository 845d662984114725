import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from multiraft import errors
from multiraft.client.calls import MUTATIONS, WRITES, Call, Part, wrote
from multiraft.client.connections import Link
from multiraft.client.range_cache import CachedRange
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import requests
from multiraft.model.descriptor import initial_descriptor
from multiraft.model.requests import (
    AdminTransfer,
    BatchReply,
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Increment,
    IncrementResult,
    NodeStatus,
    Operation,
    Put,
    PutResult,
    RangeStatus,
    Result,
    Scan,
)
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import OBSERVED_MAX, TransactionContext
from multiraft.sim import loop as virtual_loop
from multiraft.sim.loop import VirtualLoop


class Desk:
    """A call of three operations in two parts, and who looks after them."""

    def __init__(self) -> None:
        operations = (Get(b"a"), Increment(b"z", 1), Get(b"b"))
        future: asyncio.Future[BatchReply] = asyncio.get_running_loop().create_future()
        self.call = Call(self, operations, future, 1.0, 1.0, Timestamp(0), None)
        self.left = Part(self, self.call, (0, 2), (operations[0], operations[2]))
        self.right = Part(self, self.call, (1,), (operations[1],))
        self.right.is_mutation = True

    def unsettled(self, part: Part, error: errors.MultiraftError, reply: BatchReply | None) -> None:
        raise AssertionError("not in these tests")

    def forget(self, part: Part) -> None:
        raise AssertionError("not in these tests")

    def answered(self, part: Part) -> None:
        raise AssertionError("not in these tests")


K = b"\x10k"
LEFT = BatchReply((GetResult(b"1", Timestamp(1)), GetResult(b"2", Timestamp(1))), Timestamp(7))
RIGHT = BatchReply((IncrementResult(5),), Timestamp(9))


def run(main: Callable[[Desk], Coroutine[Any, Any, None]]) -> None:
    async def with_desk(_loop: VirtualLoop) -> None:
        await main(Desk())

    virtual_loop.run(with_desk)


def test_results_come_in_the_order_of_the_operations() -> None:
    async def main(desk: Desk) -> None:
        desk.right.replied(0, RIGHT)
        assert not desk.call.future.done()
        desk.left.replied(0, LEFT)
        reply = await desk.call.future
        assert reply == BatchReply(
            (LEFT.results[0], RIGHT.results[0], LEFT.results[1]), Timestamp(9)
        )

    run(main)


def test_an_unknown_outcome_is_worse_than_any_other_error() -> None:
    async def main(desk: Desk) -> None:
        desk.left.fail(errors.InvalidSpanError(start="b", end="a"))
        desk.right.fail(errors.OutcomeUnknownError(reason="too old"))
        with pytest.raises(errors.OutcomeUnknownError):
            await desk.call.future

    run(main)


def test_of_several_errors_the_first_operations_is_raised() -> None:
    async def main(desk: Desk) -> None:
        desk.right.fail(errors.NotAnIntegerError(key="z", reason="text"))
        desk.left.fail(errors.InvalidSpanError(start="b", end="a"))
        with pytest.raises(errors.InvalidSpanError):
            await desk.call.future

    run(main)


def test_that_a_transaction_must_move_is_the_least_of_its_errors() -> None:
    async def main(desk: Desk) -> None:
        desk.left.fail(errors.TransactionPushedError(timestamp=Timestamp(9)))
        desk.right.fail(errors.TransactionAbortedError(reason="a circle"))
        with pytest.raises(errors.TransactionAbortedError):
            await desk.call.future

    run(main)


@pytest.mark.parametrize(
    ("attempts_open", "expected"),
    [(0, errors.DeadlineExceededError), (1, errors.OutcomeUnknownError)],
)
def test_an_expired_call_tells_whether_an_attempt_is_unanswered(
    attempts_open: int, expected: type[errors.MultiraftError]
) -> None:
    async def main(desk: Desk) -> None:
        desk.left.attempts_open = 1  # A read that may be under way changes nothing.
        desk.right.attempts_open = attempts_open
        desk.call.expire()
        with pytest.raises(expected):
            await desk.call.future

    run(main)


def test_a_part_that_is_cut_hands_its_history_on() -> None:
    async def main(desk: Desk) -> None:
        part = desk.left
        part.id, part.issued_at, part.attempt, part.attempts_open = b"i" * 16, Timestamp(3), 2, 1
        other = part.split_off((2,))
        part.keep_only((0,))
        assert (part.operations, other.operations) == ((Get(b"a"),), (Get(b"b"),))
        history = (other.id, other.issued_at, other.attempt, other.attempts_open)
        assert history == (b"i" * 16, 3, 2, 1)

    run(main)


def test_what_arrives_after_the_end_changes_nothing() -> None:
    async def main(desk: Desk) -> None:
        desk.call.abandon()
        desk.left.fail(errors.InvalidSpanError(start="b", end="a"))
        assert not desk.call.future.done()
        desk.call.expire()
        desk.call.future.exception()

    run(main)


# -- several attempts ------------------------------------------------------------------------------


class FakeLink:
    """A connection that keeps who waits for which reply."""

    def __init__(self, node_id: int, first_id: int) -> None:
        self.node_id = NodeId(node_id)
        self.pending: dict[int, Part] = {}
        self._next_id = first_id

    def call(self, request: BatchRequest, part: Part) -> int:
        call_id, self._next_id = self._next_id, self._next_id + 1
        self.pending[call_id] = part
        return call_id

    def forget(self, call_id: int) -> None:
        self.pending.pop(call_id, None)


class TwoNodes(Desk):
    """The same desk, with two nodes to send parts to; it notes which of them are unsettled."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = FakeLink(1, 10), FakeLink(2, 20)
        self.pursued: list[Part] = []

    def unsettled(self, part: Part, error: errors.MultiraftError, reply: BatchReply | None) -> None:
        self.pursued.append(part)

    def send(self, part: Part, link: FakeLink, bounds: tuple[bytes | None, ...] = ()) -> int:
        part.send(cast("Link", link), RANGE, 1.0, bounds=bounds or None)
        return part.call_id


RANGE = CachedRange(initial_descriptor(RangeId(2), b"", b"~", (NodeId(1), NodeId(2))))


def run_on_two(main: Callable[[TwoNodes], Coroutine[Any, Any, None]]) -> None:
    async def with_desk(_loop: VirtualLoop) -> None:
        await main(TwoNodes())

    virtual_loop.run(with_desk)


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (errors.RangeMismatchError(range_id=RangeId(2), descriptors=[]), "deadline_exceeded"),
        (errors.RangeNotFoundError(range_id=RangeId(2), node_id=NodeId(1)), "deadline_exceeded"),
        (errors.OverloadedError(what="r2", retry_after_ms=10), "deadline_exceeded"),
        (errors.ClockOffsetError(ahead_ms=600, limit_ms=500), "deadline_exceeded"),
        (errors.DiskFullError(path="d", free_bytes=1, reserve_bytes=2), "deadline_exceeded"),
        (errors.LockWaitError(key="k", holder="t", waited_ms=10), "deadline_exceeded"),
        # It may have been proposed before its leader lost the term.
        (errors.NotLeaseholderError(range_id=RangeId(2), leaseholder=None), "outcome_unknown"),
    ],
    ids=lambda given: given.code if isinstance(given, errors.MultiraftError) else "",
)
def test_what_was_refused_before_it_was_evaluated_leaves_nothing_open(
    refusal: errors.MultiraftError, expected: str
) -> None:
    async def main(desk: TwoNodes) -> None:
        call_id = desk.send(desk.right, desk.one)
        desk.right.replied(call_id, BatchReply((), error=errors.to_wire(refusal)))
        assert desk.pursued == [desk.right]
        desk.call.expire()
        error = desk.call.future.exception()
        assert isinstance(error, errors.MultiraftError)
        assert error.code == expected

    run_on_two(main)


@pytest.mark.parametrize(
    ("refusal", "is_open"),
    [
        (errors.TransactionPushedError(timestamp=Timestamp(9)), False),
        (errors.TransactionAbortedError(reason="a circle"), False),
        (errors.OutcomeUnknownError(reason="too old"), True),
    ],
    ids=lambda given: given.code if isinstance(given, errors.MultiraftError) else "",
)
def test_a_part_of_a_transaction_that_was_refused_closes_the_whole_call(
    refusal: errors.MultiraftError, is_open: bool
) -> None:
    async def main(desk: TwoNodes) -> None:
        desk.call.txn = TransactionContext(TransactionMeta(b"t" * 16))
        desk.left.is_mutation = True
        written = desk.send(desk.left, desk.one)
        refused = desk.send(desk.right, desk.two)
        desk.left.replied(written, LEFT)
        desk.right.replied(refused, BatchReply((), error=errors.to_wire(refusal)))
        assert isinstance(desk.call.future.exception(), type(refusal))
        assert desk.call.is_open is is_open

    run_on_two(main)


def test_a_late_answer_tells_nothing_of_the_clock_of_the_node_that_was_asked_since() -> None:
    async def main(desk: TwoNodes) -> None:
        observed = desk.call.observed = dict[NodeId, Timestamp]()
        first, _ = desk.send(desk.right, desk.one), desk.send(desk.right, desk.two)
        late = errors.NotLeaseholderError(range_id=RangeId(2), leaseholder=None)
        desk.right.replied(first, BatchReply((), clock=Timestamp(5), error=errors.to_wire(late)))
        assert observed == {}

    run_on_two(main)


def test_no_more_clocks_are_noted_than_a_request_may_tell() -> None:
    async def main(desk: TwoNodes) -> None:
        full = {NodeId(100 + number): Timestamp(1) for number in range(OBSERVED_MAX)}
        desk.call.observed = dict(full)
        call_id = desk.send(desk.right, desk.one)
        desk.right.replied(call_id, BatchReply(RIGHT.results, clock=Timestamp(5)))
        assert desk.call.observed == full

    run_on_two(main)


def test_a_connection_that_breaks_late_does_not_disturb_a_newer_attempt() -> None:
    async def main(desk: TwoNodes) -> None:
        first, second = desk.send(desk.right, desk.one), desk.send(desk.right, desk.two)
        broken = errors.NodeUnavailableError(target="n1", reason="it is down")
        desk.right.unanswered(first, broken)
        assert desk.pursued == []
        desk.right.unanswered(second, broken)
        assert desk.pursued == [desk.right]

    run_on_two(main)


def test_a_late_answer_to_a_read_is_as_good_as_one_in_time() -> None:
    async def main(desk: TwoNodes) -> None:
        first, _ = desk.send(desk.left, desk.one), desk.send(desk.left, desk.two)
        desk.right.replied(0, RIGHT)
        desk.left.replied(first, LEFT)
        assert (await desk.call.future).results[0] == LEFT.results[0]

    run_on_two(main)


def test_a_late_answer_to_a_scan_that_was_cut_elsewhere_is_not_believed() -> None:
    async def main(desk: TwoNodes) -> None:
        first = desk.send(desk.left, desk.one, (b"m", None))
        second = desk.send(desk.left, desk.two, (b"k", None))
        desk.right.replied(0, RIGHT)
        desk.left.replied(first, LEFT)
        assert not desk.call.future.done()
        desk.left.replied(second, LEFT)
        assert desk.call.future.done()

    run_on_two(main)


def test_a_part_that_was_cut_waits_for_none_of_its_earlier_attempts() -> None:
    """Their answers are about more than this part."""

    async def main(desk: TwoNodes) -> None:
        for link in (desk.one, desk.two):
            desk.send(desk.left, link)
        desk.left.split_off((2,))
        desk.left.keep_only((0,))
        assert (desk.one.pending, desk.two.pending) == ({}, {})

    run_on_two(main)


# -- what was written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operations", "results", "expected"),
    [
        ((Put(K, b"v"),), (PutResult(),), True),
        ((Increment(K, 1),), (IncrementResult(1),), True),
        ((Delete(K),), (DeleteResult(True),), True),
        ((Delete(K),), (DeleteResult(False),), False),
        ((Get(K),), (GetResult(b"v", Timestamp(1)),), False),
        ((ConditionalPut(K, b"v", None),), (ConditionalPutResult(True),), True),
        ((ConditionalPut(K, b"v", None),), (ConditionalPutResult(False, b"x"),), False),
        # Removing what is absent succeeds and leaves no trace.
        ((ConditionalPut(K, None, None),), (ConditionalPutResult(True),), False),
        ((ConditionalPut(K, None, b"v"),), (ConditionalPutResult(True),), True),
        ((Delete(K), Put(K, b"v")), (DeleteResult(False), PutResult()), True),
        # One failed condition, and the whole part writes nothing, whatever else is in it.
        (
            (Put(K, b"v"), ConditionalPut(K, b"v", None)),
            (PutResult(), ConditionalPutResult(False, b"x")),
            False,
        ),
    ],
)
def test_what_counts_as_written(
    operations: tuple[Operation, ...], results: tuple[Result, ...], expected: bool
) -> None:
    assert wrote(operations, results) is expected


def test_everything_but_reads_and_status_leaves_its_outcome_open() -> None:
    assert set(requests.WRITES) == WRITES
    assert not MUTATIONS & {Get, Scan, RangeStatus, NodeStatus}
    assert AdminTransfer in MUTATIONS
