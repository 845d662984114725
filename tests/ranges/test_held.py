"""Messages that wait for a split: order, limits, and when they are too old."""

from multiraft.config import RangesConfig
from multiraft.ids import Index, NodeId, RangeId, ReplicaId, Term
from multiraft.raft.messages import Message, PreVote
from multiraft.ranges.held import Held, HeldMessages
from multiraft.ranges.messages import GroupEnvelope

RIGHT, OTHER = RangeId(9), RangeId(11)
HOLD_S = 2.0


class ManualClock:
    """A clock that goes when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s

    def wall_us(self) -> int:
        raise AssertionError("nothing here may read the wall clock")


def envelope(range_id: RangeId, number: int) -> GroupEnvelope:
    message: Message = PreVote(Term(number), Index(1), Term(1))
    return GroupEnvelope(range_id, ReplicaId(1), ReplicaId(2), message, b"m")


def holding(limit: int = 4) -> tuple[HeldMessages, ManualClock]:
    clock = ManualClock()
    config = RangesConfig(hold_messages_ms=int(HOLD_S * 1_000), hold_messages_max=limit)
    return HeldMessages(config, clock), clock


def numbers(taken: list[Held]) -> list[int]:
    return [held.envelope.message.term for held in taken]


def test_messages_come_back_once_in_the_order_of_their_arrival() -> None:
    held, _ = holding()
    for number in (1, 2, 3):
        held.hold(NodeId(number), envelope(RIGHT, number))
    taken = held.take(RIGHT)
    assert [(h.source, h.envelope) for h in taken] == [
        (NodeId(number), envelope(RIGHT, number)) for number in (1, 2, 3)
    ]
    assert held.take(RIGHT) == []
    assert len(held) == 0


def test_messages_for_other_ranges_go_on_waiting() -> None:
    held, _ = holding()
    held.hold(NodeId(1), envelope(RIGHT, 1))
    held.hold(NodeId(1), envelope(OTHER, 2))
    held.hold(NodeId(1), envelope(RIGHT, 3))
    assert numbers(held.take(RIGHT)) == [1, 3]
    assert numbers(held.take(OTHER)) == [2]


def test_of_too_many_messages_the_newest_are_held() -> None:
    held, _ = holding(limit=4)
    for number in range(1, 8):
        held.hold(NodeId(1), envelope(RIGHT, number))
    assert len(held) == 4
    assert held.dropped == 3
    assert numbers(held.take(RIGHT)) == [4, 5, 6, 7]


def test_a_message_that_waited_too_long_is_not_replayed() -> None:
    held, clock = holding()
    held.hold(NodeId(1), envelope(RIGHT, 1))
    clock.now_s += HOLD_S / 2
    held.hold(NodeId(1), envelope(RIGHT, 2))
    clock.now_s += HOLD_S / 2
    assert numbers(held.take(RIGHT)) == [2]


def test_stale_messages_make_room_when_the_next_one_comes() -> None:
    held, clock = holding()
    for number in (1, 2, 3):
        held.hold(NodeId(1), envelope(RIGHT, number))
    clock.now_s += HOLD_S
    held.hold(NodeId(1), envelope(OTHER, 4))
    assert len(held) == 1
    assert held.dropped == 3
