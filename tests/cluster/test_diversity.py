"""Sets of nodes are ranked by what they would lose together."""

from multiraft.cluster.diversity import Topology
from multiraft.ids import NodeId
from multiraft.model import locality


def of(*texts: str) -> Topology:
    """Nodes from n1 on at these places."""
    return Topology({NodeId(n): locality.parse(text) for n, text in enumerate(texts, start=1)})


def overlap(*texts: str) -> int:
    """How near nodes at these places are to each other."""
    topology = of(*texts)
    return topology.overlap(tuple(topology.localities))


def test_nodes_that_share_nothing_have_nothing_to_lose_together() -> None:
    assert overlap() == overlap("host=a") == overlap("host=a", "host=b", "", "") == 0
    assert Topology({}).overlap((NodeId(1), NodeId(2))) == 0, "of whom nothing is known"


def test_sets_are_ranked_by_pairs_on_one_host_then_by_pairs_in_each_tier() -> None:
    apart = ("region=1,zone=x,host=a", "region=2,zone=x,host=b", "region=3,zone=x,host=c")
    region = ("region=1,zone=x,host=a", "region=1,zone=y,host=b", "region=3,zone=x,host=c")
    zone = ("region=1,zone=x,host=a", "region=1,zone=x,host=b", "region=3,zone=x,host=c")
    all_regions = ("region=1,zone=x,host=a", "region=1,zone=y,host=b", "region=1,zone=z,host=c")
    host = ("region=1,zone=x,host=a", "region=1,zone=x,host=a", "region=3,zone=x,host=c")
    ranked = [overlap(*each) for each in (apart, region, zone, all_regions, host)]
    assert ranked == sorted(set(ranked)), "the worst last"
    assert ranked[0] == 0


def test_a_pair_counts_whichever_comes_first() -> None:
    texts = ("zone=x,host=a", "zone=x,host=a", "zone=x,host=b", "zone=y,host=b")
    assert overlap(*texts) == overlap(*reversed(texts))


def test_nothing_can_overlap_as_long_as_no_two_nodes_share_their_largest_tier() -> None:
    assert not of().may_overlap()
    assert not of("", "", "host=a", "host=b").may_overlap()
    assert of("", "host=a", "host=a").may_overlap()
    assert of("zone=x,host=a", "zone=x,host=b").may_overlap()


def test_hosts_are_shared_by_two_or_more() -> None:
    where = of("zone=x,host=a", "zone=x,host=a", "zone=y,host=a", "zone=x", "zone=x", "")
    assert where.shared_hosts(tuple(where.localities)) == {"zone=x,host=a": (1, 2)}
    assert where.shared_hosts(tuple(map(NodeId, (1, 3, 4, 5, 6, 9)))) == {}
    assert where.hosts() == ((1, 2), (3,), (4,), (5,), (6,))
    assert of(*["host=a"] * 3).shared_hosts(tuple(map(NodeId, (1, 2, 3)))) == {"host=a": (1, 2, 3)}
