import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from multiraft import errors
from multiraft.client.calls import MUTATIONS, WRITES, Call, Part, wrote
from multiraft.ids import Timestamp
from multiraft.model import requests
from multiraft.model.requests import (
    AdminTransfer,
    BatchReply,
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
