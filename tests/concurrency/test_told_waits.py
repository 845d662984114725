from itertools import pairwise, permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.concurrency.told_waits import ToldWaits, victim_among
from multiraft.ids import Timestamp
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import WaitsFor

COUNT = 5
NOW = Timestamp(10)
TRANSACTIONS = [
    TransactionMeta(bytes([number]) * 16, b"\x10a", 0, Timestamp(number)) for number in range(COUNT)
]
A, B, C, D, E = TRANSACTIONS


def wait(waiter: TransactionMeta, holder: TransactionMeta, since: int = 1, at: int = 5) -> WaitsFor:
    return WaitsFor(waiter, holder, Timestamp(at), Timestamp(since))


def told(*edges: WaitsFor, maximum: int = 100) -> ToldWaits:
    made = ToldWaits(maximum)
    made.tell(edges, NOW)
    return made


def test_edges_lead_to_the_transaction_from_wherever_they_are_known() -> None:
    made = told(wait(A, B), wait(B, C), wait(E, A))
    more = [wait(D, E), wait(C, D)]
    found = made.edges_to(C.id, 100, more)
    assert found == (wait(B, C), wait(A, B), wait(E, A), wait(D, E), wait(C, D))
    assert made.edges_to(A.id, 100) == (wait(E, A),)
    assert made.edges_to(E.id, 100) == ()


def test_who_is_waited_for_itself_comes_first_where_there_is_no_room() -> None:
    made = told(wait(A, C), wait(B, C), wait(D, B))
    assert made.edges_to(C.id, 3) == (wait(A, C), wait(B, C), wait(D, B))
    assert made.edges_to(C.id, 2) == (wait(B, C), wait(A, C))


def test_wait_counts_as_it_was_seen_last() -> None:
    made = told(wait(A, B, at=3), wait(A, B, at=2))
    assert made.edges_to(B.id, 100) == (wait(A, B, at=3),)
    assert made.edges_to(B.id, 100, [wait(A, B, at=4)]) == (wait(A, B, at=4),)
    assert made.edges_to(B.id, 100, [wait(A, B, at=1)]) == (wait(A, B, at=3),)
    assert made.count == 1


def test_wait_that_was_over_when_the_next_began_is_forgotten() -> None:
    made = told(wait(A, B, at=3), wait(A, C, at=6))
    made.tell([wait(A, D, since=4)], NOW)
    assert B.id not in made
    assert [made.edges_to(each.id, 100) for each in (B, C, D)] == [
        (),
        (wait(A, C, at=6),),
        (wait(A, D, since=4),),
    ]


def test_nothing_is_seen_in_the_future() -> None:
    assert told(wait(B, C, at=100)).edges_to(C.id, 100) == (wait(B, C, at=NOW),)


def test_what_was_told_is_forgotten_with_age() -> None:
    made = told(wait(A, B, at=2), wait(B, C, at=3))
    made.expire(Timestamp(2))
    assert made.count == 2
    made.expire(Timestamp(3))
    assert made.edges_to(C.id, 100) == (wait(B, C, at=3),)
    made.expire(NOW)
    assert made.count == 0
    assert C.id not in made


def test_what_was_told_least_lately_gives_way() -> None:
    made = told(wait(B, A), wait(C, A), wait(B, A, at=6), wait(D, A), maximum=2)
    assert [edge.waiter for edge in made.edges_to(A.id, 100)] == [B, D]
    assert made.count == 2


def test_ended_transaction_is_forgotten() -> None:
    made = told(wait(A, B), wait(B, C), wait(C, D))
    made.forget(B.id)
    assert made.edges_to(D.id, 100) == (wait(C, D),)
    assert made.count == 1


def test_circle_has_one_victim_whichever_wait_is_looked_at() -> None:
    edges = [wait(A, B), wait(B, C), wait(C, A), wait(D, A), wait(A, E)]
    assert [victim_among(edges, edge) for edge in edges] == [C, C, C, None, None]


def test_waits_that_never_were_at_one_moment_are_no_circle() -> None:
    own = wait(B, A, since=6, at=9)
    assert victim_among([wait(A, B, at=5)], own) is None
    assert victim_among([wait(A, B, at=6)], own) == B


def test_circle_that_is_over_does_not_hide_one_that_lasts() -> None:
    # C has waited for A, and does not any more; A and B are in each other's way.
    own = wait(A, B, since=1, at=9)
    edges = [wait(B, C, since=1, at=3), wait(C, A, since=1, at=3), wait(B, A, since=4, at=8)]
    assert victim_among(edges, own) == B


# Against all paths at all moments, spelled out.

some_edges = st.lists(
    st.builds(
        lambda pair, times: wait(pair[0], pair[1], since=min(times), at=max(times)),
        st.tuples(st.sampled_from(TRANSACTIONS), st.sampled_from(TRANSACTIONS)).filter(
            lambda pair: pair[0] is not pair[1]
        ),
        st.tuples(st.integers(0, 9), st.integers(0, 9)),
    ),
    min_size=1,
    max_size=10,
    unique_by=lambda edge: (edge.waiter.id, edge.holder.id),
)


def circles(edges: list[WaitsFor], moment: int) -> list[list[tuple[bytes, bytes]]]:
    """Return the steps of every circle of that moment."""
    there = {(e.waiter.id, e.holder.id) for e in edges if e.since <= moment <= e.seen_at}
    found = []
    for size in range(2, COUNT + 1):
        for members in permutations([each.id for each in TRANSACTIONS], size):
            steps = list(pairwise([*members, members[0]]))
            if all(step in there for step in steps):
                found.append(steps)
    return found


@settings(max_examples=300, deadline=None)
@given(some_edges)
def test_victim_is_on_a_circle_of_one_moment(edges: list[WaitsFor]) -> None:
    for own in edges:
        step = own.waiter.id, own.holder.id
        victim = victim_among(edges, own)
        moments = [
            moment
            for moment in {edge.since for edge in edges}  # when circles close
            if any(step in circle for circle in circles(edges, moment))
        ]
        if not moments:
            assert victim is None
            continue
        assert victim is not None
        around = circles(edges, max(moments))
        members = {own.waiter.id}
        # Circles that share a member are one knot.
        while more := {
            name
            for circle in around
            if any(waiter in members for waiter, _ in circle)
            for name, _ in circle
            if name not in members
        }:
            members |= more
        knot = [each for each in TRANSACTIONS if each.id in members]
        assert victim == min(knot, key=lambda meta: meta.precedence)
