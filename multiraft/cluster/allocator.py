"""Which nodes should keep a range.

Purpose
    Given who votes now and what is known of the nodes, name the voters that the range should have.
    Only as many replicas are moved as needed: those that lack are added, and if none lacks, one may
    be swapped for another. Those nodes are chosen that have least in common with the other voters,
    so that who loses a host loses one replica of a range; then those that keep the fewest ranges.
Invariants
    - The answer never has fewer voters than now.
    - A voter goes only if the others have strictly less in common with the one that takes its
      place; so swaps come to an end, and nothing moves to and fro.
    - Localities never keep a range from getting its voters: the best of bad places will do.
    - Two voters stay on one host only if no live node is on a host without any.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from multiraft.cluster.diversity import Overlap, Topology
from multiraft.ids import NodeId, RangeId


class NodePool(NamedTuple):
    """What is known of the nodes that may keep ranges."""

    live: tuple[NodeId, ...]
    topology: Topology
    replicas: Mapping[NodeId, int]
    """How many ranges each of them keeps; of those that are known here."""


class _Swap(NamedTuple):
    """One voter for another."""

    old: NodeId
    new: NodeId
    change: Overlap
    """How much more all voters have in common then."""


def wanted_voters(
    range_id: RangeId,
    voters: Iterable[NodeId],
    pool: NodePool,
    replication_factor: int,
    leader: NodeId,
) -> tuple[NodeId, ...]:
    """Return the voters the range should have, sorted; the present ones if nothing can improve.

    The number of voters is kept odd, since an even one tolerates no more failures than one less.
    """
    present = tuple(sorted(voters))
    candidates = _candidates(range_id, present, pool)
    possible = len(present) + len(candidates)
    target = min(replication_factor, possible if possible % 2 else possible - 1)
    if target <= len(present):
        return _swapped(present, candidates, pool, leader)
    while len(present) < target:
        best = min(
            (node for node in candidates if node not in present),
            key=lambda node: (
                pool.topology.overlap((*present, node)),
                pool.replicas.get(node, 0),
            ),
        )
        present = (*present, best)
    return tuple(sorted(present))


def can_improve(voters: Sequence[NodeId], pool: NodePool) -> bool:
    """Return whether some voter would be swapped, in whichever range these are the voters of."""
    candidates = [node for node in pool.live if node not in voters]
    return any(_improvements(voters, candidates, pool.topology))


def _candidates(range_id: RangeId, present: Iterable[NodeId], pool: NodePool) -> list[NodeId]:
    """Return the nodes that may be added, from another one on for each range."""
    candidates = sorted(set(pool.live) - set(present))
    start = range_id % len(candidates) if candidates else 0
    return candidates[start:] + candidates[:start]


def _swapped(
    voters: tuple[NodeId, ...], candidates: Sequence[NodeId], pool: NodePool, leader: NodeId
) -> tuple[NodeId, ...]:
    """Return the voters after the best swap; the same if none leaves less in common."""

    def rank(swap: _Swap) -> tuple[Overlap, bool, bool, int]:
        """The dead go first, and last the leader, who would have to hand over before."""
        imbalance = pool.replicas.get(swap.new, 0) - pool.replicas.get(swap.old, 0)
        return swap.change, swap.old in pool.live, swap.old == leader, imbalance

    best = min(_improvements(voters, candidates, pool.topology), key=rank, default=None)
    return voters if best is None else tuple(sorted({*voters, best.new} - {best.old}))


def _improvements(
    voters: Sequence[NodeId], candidates: Sequence[NodeId], topology: Topology
) -> Iterator[_Swap]:
    """Yield the swaps after which the voters have strictly less in common."""
    nearness = topology.nearness
    for old in voters:
        others = [voter for voter in voters if voter != old]
        now = sum(nearness(old, other) for other in others)
        if now:
            for new in candidates:
                change = sum(nearness(new, other) for other in others) - now
                if change < 0:
                    yield _Swap(old, new, change)
