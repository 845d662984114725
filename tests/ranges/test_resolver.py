"""Intents of ended transactions are resolved range by range, until all are."""

import asyncio
from typing import cast

import pytest

from multiraft import errors
from multiraft.client.router import Router
from multiraft.ids import RangeId, Timestamp
from multiraft.model.requests import BatchReply, Operation, PutResult
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import ResolveIntent
from multiraft.ranges import resolver
from multiraft.ranges.resolver import Resolver, ResolverStatus
from multiraft.ranges.store import Store
from multiraft.sim.loop import VirtualLoop
from tests.support.lock_world import MiniStore, World
from tests.support.virtual_time import on_virtual_time

COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED
AT = Timestamp(50)
ONE, TWO = b"1" * 16, b"2" * 16


class Range:
    """What the cache knows of the range of a key: its first letter numbers it."""

    def __init__(self, range_id: int) -> None:
        self.range_id = RangeId(range_id)


class Ranges:
    """A router whose ranges answer when they are told to."""

    def __init__(self) -> None:
        self.addressing = self
        self.batches: list[tuple[Operation, ...]] = []
        self.may_answer = asyncio.Event()
        self.error: errors.MultiraftError | None = None
        self.unknown = False

    def cached(self, key: bytes, *, before: bool) -> Range | None:
        return None if self.unknown else Range(key[1])

    async def execute(
        self, operations: tuple[Operation, ...], *, deadline_s: float | None = None
    ) -> BatchReply:
        self.batches.append(operations)
        await self.may_answer.wait()
        if self.error is not None:
            raise self.error
        return BatchReply((PutResult(),) * len(operations))

    def take_batches(self) -> list[list[bytes]]:
        """Return the keys of what was sent since the last call."""
        batches, self.batches = self.batches, []
        return [
            [each.key for each in batch if isinstance(each, ResolveIntent)] for batch in batches
        ]


def keys(letter: str, count: int, start: int = 0) -> list[bytes]:
    return [b"\x10" + f"{letter}{number:04}".encode() for number in range(start, start + count)]


def made(loop: VirtualLoop, pending_max: int = 1_000) -> tuple[Ranges, Resolver]:
    ranges = Ranges()
    store = MiniStore(World(loop), 0)
    return ranges, Resolver(cast("Store", store), cast("Router", ranges), pending_max)


@on_virtual_time
async def test_each_range_has_one_batch_under_way_and_the_rest_goes_together(
    loop: VirtualLoop,
) -> None:
    ranges, resolver = made(loop)
    resolver.add(ONE, COMMITTED, AT, [*keys("a", 2), *keys("b", 1)])
    await asyncio.sleep(0.01)
    assert ranges.take_batches() == [keys("a", 2), keys("b", 1)]
    resolver.add(ONE, COMMITTED, AT, keys("a", 1, start=2))
    resolver.add(TWO, ABORTED, Timestamp(0), keys("a", 1, start=3))
    await asyncio.sleep(0.01)
    assert ranges.take_batches() == []
    assert resolver.status() == ResolverStatus(pending=5, ranges=2, resolved=0, left=0)
    ranges.may_answer.set()
    await asyncio.sleep(0.01)
    assert ranges.batches == [
        (
            ResolveIntent(keys("a", 3)[2], ONE, COMMITTED, AT),
            ResolveIntent(keys("a", 4)[3], TWO, ABORTED),
        )
    ]
    assert resolver.status() == ResolverStatus(pending=0, ranges=0, resolved=5, left=0)


@on_virtual_time
async def test_what_is_known_is_not_taken_twice(loop: VirtualLoop) -> None:
    ranges, resolver = made(loop)
    resolver.add(ONE, COMMITTED, AT, keys("a", 2))
    resolver.add(ONE, COMMITTED, AT, keys("a", 3), is_awaited=True)
    assert resolver.status().pending == 3
    ranges.may_answer.set()
    await asyncio.sleep(0.01)
    assert ranges.take_batches() == [keys("a", 3)]
    resolver.add(ONE, COMMITTED, AT, keys("a", 1))
    await asyncio.sleep(0.01)
    assert ranges.take_batches() == [keys("a", 1)]


@on_virtual_time
async def test_range_that_cannot_be_reached_is_tried_again_ever_less_often(
    loop: VirtualLoop,
) -> None:
    ranges, resolver = made(loop)
    ranges.may_answer.set()
    ranges.error = errors.DeadlineExceededError(deadline_s=1.0, last_error="")
    resolver.add(ONE, ABORTED, Timestamp(0), keys("a", 2))
    await asyncio.sleep(60.0)
    assert set(map(tuple, ranges.take_batches())) == {tuple(keys("a", 2))}
    await asyncio.sleep(20.0)
    assert 9 <= len(ranges.take_batches()) <= 11
    ranges.error = None
    await asyncio.sleep(2.0)
    assert ranges.take_batches() == [keys("a", 2)]
    assert resolver.status() == ResolverStatus(pending=0, ranges=0, resolved=2, left=0)


@on_virtual_time
async def test_what_has_moved_goes_to_the_range_that_it_is_in_now(loop: VirtualLoop) -> None:
    ranges, resolver = made(loop)
    ranges.may_answer.set()
    ranges.unknown = True
    ranges.error = errors.OutcomeUnknownError(reason="")
    resolver.add(ONE, COMMITTED, AT, [*keys("a", 1), *keys("b", 1)])
    await asyncio.sleep(0.01)
    assert ranges.take_batches() == [[*keys("a", 1), *keys("b", 1)]]
    ranges.unknown = False
    await asyncio.sleep(0.2)
    ranges.take_batches()
    ranges.error = None
    await asyncio.sleep(2.0)
    assert sorted(ranges.take_batches()) == [keys("a", 1), keys("b", 1)]
    assert resolver.status().pending == 0


@on_virtual_time
async def test_what_can_never_be_done_is_given_up(loop: VirtualLoop) -> None:
    ranges, resolver = made(loop)
    ranges.may_answer.set()
    ranges.error = errors.RequestError("no")
    resolver.add(ONE, COMMITTED, AT, keys("a", 1))
    await asyncio.sleep(10.0)
    assert len(ranges.take_batches()) == 1
    assert resolver.status() == ResolverStatus(pending=0, ranges=0, resolved=0, left=1)


@on_virtual_time
async def test_memory_is_bounded_but_who_waits_is_served(loop: VirtualLoop) -> None:
    ranges, resolver = made(loop, pending_max=3)
    resolver.add(ONE, COMMITTED, AT, keys("a", 5))
    assert not resolver.has_room
    assert resolver.status().left == 2
    resolver.add(ONE, COMMITTED, AT, keys("a", 5), is_awaited=True)
    assert resolver.status().pending == 5
    ranges.may_answer.set()
    await asyncio.sleep(0.01)
    assert resolver.has_room


@on_virtual_time
async def test_batches_and_ranges_under_way_are_bounded(loop: VirtualLoop) -> None:
    ranges, resolved = made(loop, pending_max=10_000)
    resolved.add(ONE, COMMITTED, AT, keys("a", resolver.BATCH_MAX + 1))
    for letter in "bcdefghijklmnopqrstuvwxyz":
        resolved.add(ONE, COMMITTED, AT, keys(letter, 1))
    await asyncio.sleep(0.01)
    batches = ranges.take_batches()
    assert len(batches) == resolver.RANGES_CONCURRENT_MAX
    assert len(batches[0]) == resolver.BATCH_MAX
    ranges.may_answer.set()
    await asyncio.sleep(0.01)
    assert resolved.status().pending == 0


def test_only_what_has_ended_is_resolved() -> None:
    async def main() -> None:
        _, resolver = made(cast("VirtualLoop", asyncio.get_running_loop()))
        with pytest.raises(AssertionError, match="has ended"):
            resolver.add(ONE, TransactionStatus.STAGING, AT, keys("a", 1))

    asyncio.run(main())
