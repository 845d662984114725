"""Sets of nodes are ranked by what they would lose together."""

from multiraft.cluster import diversity
from multiraft.ids import NodeId
from multiraft.model import locality
from multiraft.model.locality import TIERS_MAX


def named(*texts: str) -> diversity.Localities:
    return {NodeId(n): locality.parse(text) for n, text in enumerate(texts, start=1)}


def overlap(*texts: str) -> tuple[int, ...]:
    """How near nodes at these places are to each other, without the zeros at the end."""
    counted = diversity.overlap(named(*texts), named(*texts))
    assert len(counted) == 1 + TIERS_MAX, "all can be compared"
    return tuple(counted[: max((n + 1 for n, pairs in enumerate(counted) if pairs), default=0)])


def test_nodes_that_share_nothing_have_nothing_to_lose_together() -> None:
    assert overlap() == overlap("host=a") == overlap("host=a", "host=b", "", "") == ()


def test_pairs_on_one_host_are_counted_first_then_pairs_in_each_tier() -> None:
    assert overlap("host=a", "host=a", "host=b") == (1, 1)
    assert overlap("host=a", "host=a", "host=a") == (3, 3)
    assert overlap("zone=x,host=a", "zone=x,host=a", "zone=x,host=b") == (1, 3, 1)
    assert overlap("zone=x,host=a", "zone=x,host=b", "zone=y,host=a") == (0, 1)
    assert overlap("zone=x", "zone=x") == (0, 1)


def test_a_host_weighs_more_than_any_number_of_zones() -> None:
    one_zone = overlap("zone=x,host=a", "zone=x,host=b", "zone=x,host=c")
    one_host = overlap("zone=x,host=a", "zone=x,host=a", "zone=y,host=c")
    assert one_zone < one_host


def test_nothing_can_overlap_as_long_as_no_two_nodes_share_their_largest_tier() -> None:
    assert not diversity.may_overlap(named())
    assert not diversity.may_overlap(named("", "", "host=a", "host=b"))
    assert diversity.may_overlap(named("", "host=a", "host=a"))
    assert diversity.may_overlap(named("zone=x,host=a", "zone=x,host=b"))


def test_hosts_are_shared_by_two_or_more() -> None:
    where = named("zone=x,host=a", "zone=x,host=a", "zone=y,host=a", "zone=x", "zone=x", "")
    assert diversity.shared_hosts(sorted(where), where) == {"zone=x,host=a": (1, 2)}
    assert diversity.shared_hosts(tuple(map(NodeId, (1, 3, 4, 5, 6, 9))), where) == {}
