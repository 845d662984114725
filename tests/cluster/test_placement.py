"""Who reviews the places of voters tells what is wrong, and why it stays so."""

import pytest

from multiraft.cluster import allocator, placement
from multiraft.cluster.placement import NO_OTHER_HOST, UNDER_WAY, PlacementReview, SharedHost
from multiraft.ids import NodeId, RangeId
from multiraft.model import locality
from multiraft.model.locality import Locality


def ids(*numbers: int) -> tuple[NodeId, ...]:
    return tuple(NodeId(number) for number in numbers)


def on(hosts: str) -> dict[NodeId, Locality]:
    return {NodeId(n): locality.parse(f"host={host}") for n, host in enumerate(hosts, start=1)}


def test_nothing_need_be_reviewed_where_nodes_share_nothing() -> None:
    review = PlacementReview()
    for hosts, is_needed in (("", False), ("abc", False), ("aab", True), ("abc", False)):
        nodes = review.begin(ids(1, 2, 3), on(hosts))
        assert (nodes.live, nodes.topology.localities) == (ids(1, 2, 3), on(hosts))
        assert review.is_needed is is_needed
    assert review.shared_hosts() == ()


def test_ranges_on_a_shared_host_are_counted_with_the_reason() -> None:
    review = PlacementReview()
    review.begin(ids(1, 2, 3), on("aabc"))
    for number, voters in ((7, ids(1, 2, 3)), (5, ids(1, 2, 3)), (6, ids(1, 3, 4))):
        assert not review.can_improve(RangeId(number), voters)
    assert review.shared_hosts() == (SharedHost("host=a", ids(1, 2), 2, RangeId(5), NO_OTHER_HOST),)
    review.begin(ids(1, 2, 3, 4), on("aabc"))
    assert review.shared_hosts() == (), "nothing was looked at yet"
    assert review.can_improve(RangeId(5), ids(1, 2, 3))
    assert review.shared_hosts() == (SharedHost("host=a", ids(1, 2), 1, RangeId(5), UNDER_WAY),)


def test_ranges_with_other_voters_elsewhere_are_counted_together() -> None:
    review = PlacementReview()
    review.begin(ids(1, 2, 3, 4), on("aabb"))
    for number, voters in ((5, ids(1, 2, 3)), (6, ids(1, 2, 4)), (7, ids(1, 3, 4))):
        review.can_improve(RangeId(number), voters)
    assert review.shared_hosts() == (
        SharedHost("host=a", ids(1, 2), 2, RangeId(5), NO_OTHER_HOST),
        SharedHost("host=b", ids(3, 4), 1, RangeId(7), NO_OTHER_HOST),
    )


def test_a_set_of_voters_is_judged_once_as_long_as_the_nodes_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    judged: list[tuple[NodeId, ...]] = []
    monkeypatch.setattr(allocator, "can_improve", lambda voters, _pool: judged.append(voters))
    review = PlacementReview()
    for _ in range(2):
        review.begin(ids(1, 2, 3), on("aabc"))
        for number in range(3):
            review.can_improve(RangeId(number), ids(1, 2, 3))
    assert judged == [ids(1, 2, 3)]
    review.begin(ids(1, 2, 3), on("abbc"))
    review.can_improve(RangeId(1), ids(1, 2, 3))
    assert judged == [ids(1, 2, 3)] * 2


def test_of_many_sets_of_voters_some_are_left_to_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(placement, "JUDGED_PER_LOOK_MAX", 1)
    review = PlacementReview()
    found = []
    for _ in range(2):
        review.begin(ids(1, 2, 3, 4, 5), on("aabbc"))
        voters = (ids(1, 2, 3), ids(1, 3, 4))
        found.append([review.can_improve(RangeId(7), each) for each in voters])
    assert found == [[True, False], [True, True]]
