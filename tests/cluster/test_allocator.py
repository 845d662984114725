"""Who should keep a range: enough nodes, on hosts of their own, and no more moves than needed."""

from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.cluster import allocator
from multiraft.cluster.allocator import NodePool
from multiraft.cluster.diversity import Topology
from multiraft.ids import NodeId, RangeId
from multiraft.model import locality

R1 = RangeId(1)


def ids(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def pool(
    hosts: str, *, dead: Iterable[int] = (), replicas: Mapping[int, int] | None = None
) -> NodePool:
    """Nodes from n1 on, a letter for the host of each; '-' for one that has told nothing."""
    numbers = range(1, len(hosts) + 1)
    return NodePool(
        ids(*(n for n in numbers if n not in dead)),
        Topology(
            {
                NodeId(n): () if host == "-" else locality.parse(f"host={host}")
                for n, host in zip(numbers, hosts, strict=True)
            }
        ),
        {NodeId(n): count for n, count in (replicas or {}).items()},
    )


def wanted(
    voters: Iterable[int], nodes: NodePool, *, range_id: RangeId = R1, factor: int = 3
) -> tuple[NodeId, ...]:
    present = ids(*voters)
    return allocator.wanted_voters(range_id, present, nodes, factor, leader=present[0])


# -- adding ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "hosts", "expected"),
    [
        ((1,), "abc", (1, 2, 3)),
        ((1,), "aabbcc", (1, 3, 5)),
        ((1,), "aaab", (1, 2, 4)),
        ((1, 2), "aab", (1, 2, 3)),
        ((1,), "aaa", (1, 2, 3)),
        ((1,), "a-a-", (1, 2, 4)),
        ((1,), "ab", (1,)),
        ((1, 2), "ab", (1, 2)),
    ],
)
def test_what_lacks_is_added_on_other_hosts_if_there_are_any(
    voters: tuple[int, ...], hosts: str, expected: tuple[int, ...]
) -> None:
    assert wanted(voters, pool(hosts), range_id=RangeId(0)) == expected


def test_the_dead_are_not_added_and_not_given_up() -> None:
    assert wanted((1,), pool("abcde", dead=(2, 3))) == (1, 4, 5)
    assert wanted((1, 2, 3), pool("abcd", dead=(2,))) == (1, 2, 3)


def test_among_equal_places_the_nodes_with_fewest_replicas_are_chosen() -> None:
    nodes = pool("aabbcc", replicas={3: 9, 4: 2, 5: 0, 6: 1})
    assert wanted((1,), nodes) == (1, 4, 5)


def test_a_better_place_weighs_more_than_any_number_of_replicas() -> None:
    assert wanted((1,), pool("aabc", replicas={3: 1_000, 4: 1_000})) == (1, 3, 4)


def test_without_localities_ranges_are_spread_by_their_ids() -> None:
    chosen = {wanted((1,), pool("-" * 7), range_id=RangeId(n)) for n in range(6)}
    assert len(chosen) > 2
    assert len({node for voters in chosen for node in voters}) == 7


# -- swapping --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("voters", "hosts", "expected"),
    [
        ((1, 2, 3), "aabc", (1, 3, 4)),
        ((1, 2, 3), "aaabc", (1, 3, 4)),
        ((1, 2, 3), "abc", (1, 2, 3)),
        ((1, 2, 3), "aab", (1, 2, 3)),
        ((1, 2, 3), "aabbb", (1, 2, 3)),
        ((1, 2, 3), "aab-", (1, 3, 4)),
        ((1, 2, 3), "-----", (1, 2, 3)),
        ((1, 2, 3, 4, 5), "aabcdef", (1, 3, 4, 5, 6)),
    ],
)
def test_of_two_on_one_host_one_is_swapped_if_another_host_is_there(
    voters: tuple[int, ...], hosts: str, expected: tuple[int, ...]
) -> None:
    assert wanted(voters, pool(hosts), range_id=RangeId(0)) == expected


def test_only_live_nodes_take_part_in_a_swap_and_the_dead_one_goes() -> None:
    assert wanted((1, 2, 3), pool("aabc", dead=(4,))) == (1, 2, 3)
    assert wanted((1, 2, 3), pool("aabc", dead=(1,))) == (2, 3, 4), "though it is said to lead"


def test_the_leader_stays_if_either_may_go() -> None:
    for leader in ids(1, 2):
        chosen = allocator.wanted_voters(R1, ids(1, 2, 3), pool("aabc"), 3, leader)
        assert chosen == ids(leader, 3, 4)


def test_the_place_of_one_that_goes_is_taken_by_the_node_with_fewest_replicas() -> None:
    assert wanted((1, 2, 3), pool("aabcd", replicas={4: 3, 5: 2})) == (1, 3, 5)


def test_of_those_that_may_go_it_is_the_one_with_most_replicas() -> None:
    for most, rest in ((2, (1, 3, 4, 5)), (3, (1, 2, 4, 5))):
        voters = (1, 2, 3, 4)
        assert wanted(voters, pool("baacd", replicas={2: 5, 3: 5} | {most: 6})) == rest


def test_zones_are_spread_as_hosts_are_but_hosts_come_first() -> None:
    zones = ("zone=x,host=1", "zone=x,host=2", "zone=x,host=3", "zone=y,host=4", "zone=y,host=4")
    places = {NodeId(n): locality.parse(text) for n, text in enumerate(zones, start=1)}
    nodes = NodePool(ids(1, 2, 3, 4, 5), Topology(places), {})
    assert wanted((1, 2, 3), nodes, range_id=RangeId(0)) == (1, 3, 4)
    assert wanted((3, 4, 5), nodes, range_id=RangeId(0)) == (1, 3, 5)
    assert wanted((1, 3, 4), nodes) == (1, 3, 4), "one host of zone y is all there is"


# -- always ----------------------------------------------------------------------------------------

places = st.one_of(
    st.sampled_from(["", "zone=x", "zone=y"]),
    st.builds("zone={},host={}".format, st.sampled_from("xy"), st.sampled_from("abc")),
    st.builds("host={}".format, st.sampled_from("abc")),
)


@given(st.lists(places, min_size=1, max_size=8), st.data())
def test_swaps_come_to_an_end_with_enough_voters_on_hosts_of_their_own(
    where: list[str], data: st.DataObject
) -> None:
    numbers = ids(*range(1, len(where) + 1))
    topology = Topology({n: locality.parse(text) for n, text in zip(numbers, where, strict=True)})
    live = data.draw(st.lists(st.sampled_from(numbers), unique=True, min_size=1))
    some = st.lists(st.sampled_from(numbers), unique=True, min_size=1, max_size=5)
    voters = tuple(sorted(data.draw(some)))
    factor = data.draw(st.sampled_from((1, 3, 5)))
    replicas = {n: data.draw(st.integers(0, 3)) for n in numbers}
    nodes = NodePool(tuple(sorted(live)), topology, replicas)
    range_id = RangeId(data.draw(st.integers(0, 9)))
    leader = voters[0]
    reach = {*voters, *live}
    while (then := allocator.wanted_voters(range_id, voters, nodes, factor, leader)) != voters:
        assert set(then) <= reach
        assert list(then) == sorted(set(then))
        if len(then) == len(voters):
            assert len({*then} - {*voters}) == 1
            assert topology.overlap(then) < topology.overlap(voters), "so this ends"
            assert allocator.can_improve(voters, nodes)
        else:
            assert {*then} > {*voters}, "nobody goes as long as somebody lacks"
        voters = then
    assert len(voters) >= min(factor, len(reach) - (len(reach) + 1) % 2)
    assert not allocator.can_improve(voters, nodes)
    for node in {*live} - {*voters}:
        shared = topology.shared_hosts(voters)
        if topology.shared_hosts((*voters, node)) == shared:
            assert shared == {}, f"n{node} would have a host of its own"
