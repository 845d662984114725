"""How near to each other the nodes are that keep a range, by their localities.

Purpose
    Rank sets of nodes by what they would lose together, so that the allocator can compare them.
Source
    CockroachDB's diversity score, but with hosts before everything else and no average: what is
    counted are pairs, so a set that is better in one tier and worse in a larger one is worse.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from multiraft.ids import NodeId
from multiraft.model import locality
from multiraft.model.locality import TIERS_MAX, Locality

Localities = Mapping[NodeId, Locality]
"""Where nodes are. One that is not named is a host of its own, as one without tiers is."""

Overlap = tuple[int, ...]
"""How many pairs of nodes are on one host, then how many share the largest tier, the two largest,
and so on. Less is better, compared from the left; with nothing but zeros no two share anything."""


def overlap(nodes: Iterable[NodeId], localities: Localities) -> Overlap:
    """Return how near these nodes are to each other."""
    pairs = list(combinations([localities.get(node, ()) for node in nodes], 2))
    shared = Counter(locality.tiers_shared(*pair) for pair in pairs)
    on_one_host = sum(locality.is_same_host(*pair) for pair in pairs)
    at_least = (sum(shared[n] for n in range(d, TIERS_MAX + 1)) for d in range(1, TIERS_MAX + 1))
    return (on_one_host, *at_least)


def may_overlap(localities: Localities) -> bool:
    """Return whether any two nodes share anything: if not, all sets of nodes are equally good."""
    largest = [tiers[0] for tiers in localities.values() if tiers]
    return len(set(largest)) < len(largest)


def shared_hosts(nodes: Sequence[NodeId], localities: Localities) -> dict[str, tuple[NodeId, ...]]:
    """Return the hosts that two or more of these nodes are on, with those nodes."""
    found: dict[str, list[NodeId]] = {}
    for node in nodes:
        where = localities.get(node, ())
        if locality.is_same_host(where, where):
            found.setdefault(locality.show(where), []).append(node)
    return {host: tuple(on_it) for host, on_it in found.items() if len(on_it) > 1}
