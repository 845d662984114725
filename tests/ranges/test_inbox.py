"""Messages of other stores: handled as they come, or in order behind those that wait."""

import asyncio
from collections.abc import Callable

import pytest

from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term
from multiraft.raft.messages import PreVote
from multiraft.ranges import inbox
from multiraft.ranges.inbox import Inbox, InboxStatus
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.slices import SLICE_MAX
from multiraft.sim.loop import VirtualLoop
from tests.support.virtual_time import on_virtual_time

SOURCE = NodeId(2)
FRAME_BYTES = 1_000


class Delivered:
    """An inbox, and what it has delivered."""

    def __init__(self) -> None:
        self.terms: list[int] = []
        self.inbox = Inbox(self._deliver, self._guard)

    def _deliver(self, source: NodeId, envelope: GroupEnvelope) -> None:
        assert source == SOURCE
        self.terms.append(envelope.message.term)

    def _guard(self, action: Callable[[], None]) -> None:
        action()

    def take(self, terms: range) -> None:
        self.inbox.take(SOURCE, tuple(envelope(term) for term in terms), FRAME_BYTES)


def envelope(term: int) -> GroupEnvelope:
    message = PreVote(Term(term), Index(1), Term(1))
    return GroupEnvelope(RangeId(term), ReplicaId(2), ReplicaId(1), message, b"")


@on_virtual_time
async def test_few_messages_are_handled_as_they_come(loop: VirtualLoop) -> None:
    delivered = Delivered()
    for first in range(0, 10 * SLICE_MAX, SLICE_MAX):
        delivered.take(range(first, first + SLICE_MAX))
        delivered.inbox.handled_at_once = 0
    assert delivered.terms == list(range(10 * SLICE_MAX))
    assert delivered.inbox.status() == InboxStatus(0, 0)


@on_virtual_time
async def test_frames_that_come_together_are_not_all_handled_in_one_go(loop: VirtualLoop) -> None:
    delivered = Delivered()
    for first in range(0, 10 * SLICE_MAX, SLICE_MAX):
        delivered.take(range(first, first + SLICE_MAX))
    assert len(delivered.terms) == SLICE_MAX
    assert delivered.inbox.status() == InboxStatus(9 * FRAME_BYTES, 0)
    await asyncio.sleep(0)
    assert len(delivered.terms) == 2 * SLICE_MAX
    await asyncio.sleep(1)
    assert delivered.terms == list(range(10 * SLICE_MAX))
    assert delivered.inbox.status() == InboxStatus(0, 0)


@on_virtual_time
async def test_what_comes_while_others_wait_is_handled_behind_them(loop: VirtualLoop) -> None:
    delivered = Delivered()
    delivered.take(range(3 * SLICE_MAX))
    delivered.inbox.handled_at_once = 0
    delivered.take(range(3 * SLICE_MAX, 3 * SLICE_MAX + 1))
    assert not delivered.terms
    await asyncio.sleep(0)
    assert len(delivered.terms) == SLICE_MAX
    await asyncio.sleep(1)
    assert delivered.terms == list(range(3 * SLICE_MAX + 1))


def test_what_finds_no_room_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "WAITING_BYTES_MAX", 2 * FRAME_BYTES)

    @on_virtual_time
    async def main(loop: VirtualLoop) -> None:
        delivered = Delivered()
        delivered.take(range(2 * SLICE_MAX))
        delivered.take(range(2 * SLICE_MAX, 2 * SLICE_MAX + 5))
        delivered.take(range(1_000, 1_007))
        assert delivered.inbox.status() == InboxStatus(2 * FRAME_BYTES, 7)
        await asyncio.sleep(1)
        assert delivered.terms == list(range(2 * SLICE_MAX + 5))
        delivered.take(range(5))
        assert delivered.terms[-5:] == list(range(5))

    main()
