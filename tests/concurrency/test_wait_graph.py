from itertools import pairwise, permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency.wait_graph import WaitGraph, WaitGraphStatus
from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta

COUNT = 5


def txn(number: int, priority: int = 0, began: int | None = None) -> TransactionMeta:
    since = number if began is None else began
    return TransactionMeta(bytes([number]) * 16, b"\x10a", priority, Timestamp(since))


TRANSACTIONS = [txn(number) for number in range(COUNT)]
A, B, C, D, E = TRANSACTIONS


class Waiting:
    """A wait whose holder the test changes."""

    def __init__(self, txn: TransactionMeta, holder: TransactionMeta | None) -> None:
        self.txn: TransactionMeta | None = txn
        self.holder = holder


def graph(*edges: tuple[TransactionMeta, TransactionMeta]) -> WaitGraph:
    made = WaitGraph()
    for waiter, holder in edges:
        made.add(Waiting(waiter, holder))
    return made


def test_chain_is_no_circle() -> None:
    made = graph((A, B), (B, C), (A, C))
    assert [made.victim(each.id) for each in (A, B, C)] == [None] * 3
    assert A.id in made
    assert C.id not in made


@pytest.mark.parametrize("size", [2, 3, 5])
def test_youngest_of_a_circle_ends(size: int) -> None:
    members = TRANSACTIONS[:size]
    made = graph(*pairwise([*members, members[0]]))
    assert {made.victim(each.id) for each in members} == {members[-1]}


def test_priority_counts_before_age() -> None:
    old, young = txn(1, priority=0), txn(2, priority=1)
    assert graph((old, young), (young, old)).victim(old.id) == old


def test_who_is_not_on_the_circle_is_not_the_victim() -> None:
    made = graph((A, B), (B, A), (A, E), (E, D), (C, A))
    assert made.victim(A.id) == B
    assert made.victim(C.id) is None


def test_lock_that_changes_hands_closes_a_circle() -> None:
    made = WaitGraph()
    wait = Waiting(A, None)
    made.add(wait)
    made.add(Waiting(B, A))
    assert made.victim(B.id) is None
    wait.holder = B
    assert made.victim(B.id) == B


def test_forgotten_wait_breaks_the_circle() -> None:
    made = WaitGraph()
    waits = [Waiting(A, B), Waiting(A, C), Waiting(B, A)]
    for wait in waits:
        made.add(wait)
    made.remove(waits[2])
    made.remove(waits[2])
    assert made.victim(A.id) is None
    assert made.waits_of(A.id) == tuple(waits[:2])
    made.remove(waits[0])
    made.remove(waits[1])
    assert made.status() == WaitGraphStatus(transactions=0, waits=0)


# Against all paths, spelled out.

some_edges = st.lists(
    st.tuples(st.sampled_from(TRANSACTIONS), st.sampled_from(TRANSACTIONS)).filter(
        lambda edge: edge[0] is not edge[1]
    ),
    max_size=10,
)


def circles(edges: set[tuple[bytes, bytes]]) -> list[set[bytes]]:
    """Return the members of every circle."""
    found = []
    for size in range(2, COUNT + 1):
        for members in permutations([each.id for each in TRANSACTIONS], size):
            if all(edge in edges for edge in pairwise([*members, members[0]])):
                found.append(set(members))
    return found


@settings(max_examples=300, deadline=None)
@given(some_edges)
def test_a_victim_for_every_circle_and_none_without(
    edges: list[tuple[TransactionMeta, TransactionMeta]],
) -> None:
    made = graph(*edges)
    through = circles({(waiter.id, holder.id) for waiter, holder in edges})
    youngest = {each.id: each for each in TRANSACTIONS}
    for each in TRANSACTIONS:
        mine = [members for members in through if each.id in members]
        victim = made.victim(each.id)
        if mine:
            shortest = min(map(len, mine))
            assert victim in [
                min((youngest[member] for member in members), key=lambda meta: meta.precedence)
                for members in mine
                if len(members) == shortest
            ]
        else:
            assert victim is None


@settings(max_examples=300, deadline=None)
@given(some_edges)
def test_circles_never_outlast_their_victims(
    edges: list[tuple[TransactionMeta, TransactionMeta]],
) -> None:
    made = WaitGraph()
    present: list[Waiting] = []
    for waiter, holder in edges:
        wait = Waiting(waiter, holder)
        made.add(wait)
        present.append(wait)
        victims = []
        while (victim := made.victim(waiter.id)) is not None:
            victims.append(victim)
            for each in made.waits_of(victim.id):
                made.remove(each)
            present = [each for each in present if each.txn is not victim]
        left = {(w.txn.id, w.holder.id) for w in present if w.txn and w.holder}
        assert circles(left) == []
        assert len(set(victims)) == len(victims)
