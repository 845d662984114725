"""Commands in flight: who waits for which index, and for how many bytes."""

import pytest

from multiraft import errors
from multiraft.ids import Index, Term
from multiraft.ranges.messages import Command
from multiraft.ranges.proposals import Proposal, Proposals


class Nobody:
    """A waiter that is told nothing here: telling is the replica's."""

    def applied(self) -> None:
        raise AssertionError("not told by Proposals")

    def failed(self, error: errors.MultiraftError) -> None:
        raise AssertionError("not told by Proposals")


def proposal(term: int, size_bytes: int) -> Proposal:
    return Proposal(Term(term), Command(), [(Command(), Nobody())], size_bytes)


def test_a_proposal_is_taken_by_its_index_and_only_once() -> None:
    proposals = Proposals(Term(5))
    first, second = proposal(5, 10), proposal(5, 20)
    proposals.add(Index(11), first)
    proposals.add(Index(12), second)
    assert proposals.take(Index(12)) is second
    assert proposals.take(Index(12)) is None
    assert proposals.take(Index(11)) is first
    assert proposals.take(Index(13)) is None


def test_a_proposal_is_taken_whatever_the_term_of_the_entry_at_its_index() -> None:
    """S17: who applies an entry of another term there must learn that somebody waits in vain."""
    proposals = Proposals(Term(5))
    proposals.add(Index(11), proposal(5, 10))
    taken = proposals.take(Index(11))
    assert taken is not None
    assert taken.term == Term(5)


def test_two_proposals_at_one_index_are_our_mistake() -> None:
    proposals = Proposals(Term(5))
    proposals.add(Index(11), proposal(5, 10))
    with pytest.raises(AssertionError, match="two proposals"):
        proposals.add(Index(11), proposal(6, 10))


def test_bytes_in_flight_follow_what_is_added_taken_and_drained() -> None:
    proposals = Proposals(Term(5))
    for index, size in ((11, 10), (12, 20), (13, 30)):
        proposals.add(Index(index), proposal(5, size))
    assert (len(proposals), proposals.size_bytes) == (3, 60)
    proposals.take(Index(12))
    assert (len(proposals), proposals.size_bytes) == (2, 40)
    proposals.take(Index(99))
    assert proposals.size_bytes == 40
    proposals.drain()
    assert (len(proposals), proposals.size_bytes) == (0, 0)


def test_draining_gives_everything_in_log_order() -> None:
    proposals = Proposals(Term(5))
    added = [proposal(5, size) for size in (1, 2, 3)]
    for index, each in enumerate(added, 11):
        proposals.add(Index(index), each)
    assert proposals.drain() == added
    assert proposals.drain() == []
