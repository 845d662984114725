"""The rule by which a leader may serve, alone."""

from multiraft.ids import Term, Timestamp
from multiraft.ranges.lease import Lease

OFFSET = Timestamp(250)


class Source:
    """A core and the support it depends on; counts how often it is asked."""

    def __init__(self, end: int) -> None:
        self.lease_version = 0
        self.version = 0
        self.term = Term(5)
        self.until = Timestamp(end)
        self.asked = 0

    def lease_until(self) -> Timestamp:
        self.asked += 1
        return self.until


def lease_of(source: Source) -> Lease:
    return Lease(source, source)


def test_a_request_is_covered_while_its_time_and_the_offset_lie_below_the_end() -> None:
    lease = lease_of(Source(1_000))
    assert lease.covers(Timestamp(0), OFFSET)
    assert lease.covers(Timestamp(749), OFFSET)
    assert not lease.covers(Timestamp(750), OFFSET), "a clock 250 ahead shows the end already"
    assert not lease.covers(Timestamp(1_001), OFFSET)


def test_without_a_lease_nothing_is_covered() -> None:
    assert not lease_of(Source(0)).covers(Timestamp(0), Timestamp(0))


def test_the_end_is_computed_once_until_something_changes() -> None:
    source = Source(1_000)
    lease = lease_of(source)
    for _ in range(3):
        assert lease.end() == 1_000
    assert source.asked == 1


def test_new_support_is_seen() -> None:
    source = Source(1_000)
    lease = lease_of(source)
    assert lease.end() == 1_000
    source.until = Timestamp(2_000)
    source.version += 1
    assert lease.end() == 2_000


def test_a_leadership_given_up_is_seen_though_support_is_the_same() -> None:
    source = Source(1_000)
    lease = lease_of(source)
    assert lease.covers(Timestamp(0), OFFSET)
    source.until = Timestamp(0)
    source.lease_version += 1
    assert not lease.covers(Timestamp(0), OFFSET)


def test_what_was_told_in_one_term_is_no_promise_of_the_next() -> None:
    """A leader that gave its lease up may be elected again, and die before it looks."""
    source = Source(1_000)
    lease = lease_of(source)
    assert lease.last_told == 0
    assert lease.end() == 1_000
    assert lease.last_told == 1_000
    source.term = Term(6)
    source.until = Timestamp(900)
    source.lease_version += 1
    assert lease.last_told == 0
    assert lease.end() == 900
    assert lease.last_told == 900
