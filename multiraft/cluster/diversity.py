"""How near to each other the nodes are that keep a range, by their localities.

Purpose
    Rank sets of nodes by what they would lose together, so that the allocator can compare them.
Source
    CockroachDB's diversity score, but with hosts before everything else and no average: what is
    counted are pairs, so a set that is better in one tier and worse in a larger one is worse.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations

from multiraft.ids import NodeId
from multiraft.model import locality
from multiraft.model.locality import TIERS_MAX, Locality

Localities = Mapping[NodeId, Locality]
"""Where nodes are. One that is not named is a host of its own, as one without tiers is."""

Overlap = int
"""How many pairs of nodes are on one host, how many share the largest tier, the two largest, and so
on: one number with a digit for each, the first one the highest. Less is better, 0 is nothing."""

_DIGIT_BITS = 16
"""More pairs than any range has."""
_ON_ONE_HOST = 1 << _DIGIT_BITS * TIERS_MAX


class Topology:
    """Where all nodes are. Each pair is compared once."""

    __slots__ = ("_pairs", "localities")

    def __init__(self, localities: Localities) -> None:
        self.localities = localities
        self._pairs: dict[tuple[NodeId, NodeId], Overlap] = {}

    def overlap(self, nodes: Sequence[NodeId]) -> Overlap:
        """Return how near these nodes are to each other."""
        return sum(self.nearness(*pair) for pair in combinations(nodes, 2))

    def nearness(self, one: NodeId, other: NodeId) -> Overlap:
        """Return the overlap of these two."""
        known = self._pairs.get((one, other))
        if known is None:
            known = self._pairs[one, other] = self._compare(one, other)
        return known

    def _compare(self, one: NodeId, other: NodeId) -> Overlap:
        pair = self.localities.get(one, ()), self.localities.get(other, ())
        shared = range(locality.tiers_shared(*pair))
        tiers = sum(1 << _DIGIT_BITS * (TIERS_MAX - 1 - tier) for tier in shared)
        return tiers + (_ON_ONE_HOST if locality.is_same_host(*pair) else 0)

    def may_overlap(self) -> bool:
        """Return whether any two nodes share anything: if not, all sets of nodes are as good."""
        largest = [tiers[0] for tiers in self.localities.values() if tiers]
        return len(set(largest)) < len(largest)

    def shared_hosts(self, nodes: Sequence[NodeId]) -> dict[str, tuple[NodeId, ...]]:
        """Return the hosts that two or more of these nodes are on, with those nodes."""
        return {
            locality.show(self.localities[on_it[0]]): on_it
            for on_it in self._by_host(nodes)
            if len(on_it) > 1
        }

    def hosts(self) -> tuple[tuple[NodeId, ...], ...]:
        """Return all nodes by the host that they are on; one that names none is alone on its."""
        return tuple(self._by_host(self.localities))

    def _by_host(self, nodes: Iterable[NodeId]) -> Iterator[tuple[NodeId, ...]]:
        found: dict[Locality | NodeId, list[NodeId]] = {}
        for node in nodes:
            where = self.localities.get(node, ())
            found.setdefault(where if locality.names_host(where) else node, []).append(node)
        return map(tuple, found.values())
