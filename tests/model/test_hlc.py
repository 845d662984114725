import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.model.hlc import HybridClock

START_US = 1_000_000
OFFSET_MS = 250
LOGICAL_MAX = (1 << hlc.LOGICAL_BITS) - 1


class StillClock:
    """A clock that shows what it is set to."""

    def __init__(self) -> None:
        self.us = START_US

    def monotonic(self) -> float:
        return self.us / 1e6

    def wall_us(self) -> int:
        return self.us


def clocks() -> tuple[StillClock, HybridClock]:
    clock = StillClock()
    return clock, HybridClock(clock, OFFSET_MS)


def test_a_timestamp_is_microseconds_and_twelve_logical_bits() -> None:
    assert hlc.from_us(1) == 1 << 12
    assert hlc.from_ms(1) == hlc.from_us(1_000)
    assert hlc.to_us(Timestamp(hlc.from_us(77) + LOGICAL_MAX)) == 77
    assert hlc.MAX == (1 << 64) - 1
    assert hlc.to_us(hlc.MAX) == (1 << 52) - 1


def test_now_shows_the_wall_clock_when_it_has_moved_on() -> None:
    clock, hybrid = clocks()
    assert hybrid.now() == hlc.from_us(START_US)
    clock.us += 5
    assert hybrid.now() == hlc.from_us(START_US + 5)
    assert hybrid.last == hlc.from_us(START_US + 5)


def test_now_counts_logically_while_the_wall_clock_stands_or_goes_back() -> None:
    clock, hybrid = clocks()
    first = hybrid.now()
    assert hybrid.now() == first + 1
    clock.us -= 1_000_000
    assert hybrid.now() == first + 2
    assert hybrid.wall() == hlc.from_us(START_US - 1_000_000), "the wall clock alone may go back"


def test_a_logical_part_that_is_used_up_carries_into_the_microseconds() -> None:
    _, hybrid = clocks()
    hybrid.forward(Timestamp(hlc.from_us(START_US) + LOGICAL_MAX))
    assert hybrid.now() == hlc.from_us(START_US + 1)


def test_now_is_above_every_time_of_this_nodes_own_state() -> None:
    _, hybrid = clocks()
    far = hlc.from_us(START_US + 3_600_000_000)
    hybrid.forward(far)
    assert hybrid.last == far
    assert hybrid.now() == far + 1
    hybrid.forward(Timestamp(5))
    assert hybrid.last == far + 1, "an older time changes nothing"


def test_a_peers_clock_is_taken_in_up_to_the_maximum_offset() -> None:
    _, hybrid = clocks()
    limit = Timestamp(hlc.from_us(START_US) + hlc.from_ms(OFFSET_MS))
    hybrid.forward_from_peer(limit)
    assert hybrid.now() == limit + 1


def test_a_peer_that_is_too_far_ahead_is_refused_and_not_taken_in() -> None:
    _, hybrid = clocks()
    before = hybrid.now()
    with pytest.raises(errors.ClockOffsetError) as raised:
        hybrid.forward_from_peer(hlc.from_us(START_US + 400_000))
    assert raised.value.facts == {"ahead_ms": 400, "limit_ms": OFFSET_MS}
    assert hybrid.last == before
    with pytest.raises(errors.ClockOffsetError):
        hybrid.forward_from_peer(Timestamp(hlc.from_us(START_US) + hlc.from_ms(OFFSET_MS) + 1))


def test_a_peer_that_is_far_ahead_of_a_clock_that_was_set_back_is_no_news() -> None:
    """What is below the HLC says nothing, however far it is from the wall clock by now."""
    clock, hybrid = clocks()
    before = hybrid.now()
    clock.us -= 900_000
    hybrid.forward_from_peer(before)
    assert hybrid.last == before


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("wall"), st.integers(-500_000, 500_000)),
            st.tuples(st.just("own"), st.integers(-1_000_000, 1_000_000)),
            st.tuples(st.just("peer"), st.integers(-1_000_000, 1_000_000)),
        ),
        max_size=40,
    )
)
def test_now_is_always_above_all_that_was_said_and_heard(script: list[tuple[str, int]]) -> None:
    clock, hybrid = clocks()
    greatest = 0
    for what, difference_us in script:
        heard = hlc.from_us(START_US + difference_us)
        if what == "wall":
            clock.us = START_US + difference_us
        elif what == "own":
            hybrid.forward(heard)
            greatest = max(greatest, heard)
        else:
            try:
                hybrid.forward_from_peer(heard)
            except errors.ClockOffsetError:
                assert heard > hybrid.wall() + hybrid.offset_max
            else:
                greatest = max(greatest, heard)
        now = hybrid.now()
        assert now > greatest
        greatest = now


class SteppedClock(StillClock):
    """A clock whose wall was set by `stepped_us`, which the monotonic clock does not follow."""

    def __init__(self) -> None:
        super().__init__()
        self.stepped_us = 0

    def wall_us(self) -> int:
        return self.us + self.stepped_us


def test_time_goes_on_when_the_wall_clock_is_set_back() -> None:
    clock = SteppedClock()
    hybrid = HybridClock(clock, OFFSET_MS)
    hybrid.now()
    clock.stepped_us = -900_000
    clock.us += 400_000
    assert hlc.to_us(hybrid.now()) == START_US + 400_000


def test_a_wall_clock_that_is_set_forward_is_followed() -> None:
    clock = SteppedClock()
    hybrid = HybridClock(clock, OFFSET_MS)
    hybrid.now()
    clock.stepped_us = 90_000
    assert hlc.to_us(hybrid.now()) == START_US + 90_000
