"""Which ranges' voters are too near to each other, and why they stay so.

Purpose
    Judge the places of voters for the queue that mends them and for people who want to know. There
    are far fewer sets of voters than ranges, so each set is judged once and remembered for as long
    as the nodes are the same.
"""

from typing import NamedTuple

import msgspec

from multiraft.cluster import allocator, diversity
from multiraft.cluster.allocator import NodePool
from multiraft.cluster.diversity import Localities
from multiraft.ids import NodeId, RangeId

Voters = tuple[NodeId, ...]

NO_OTHER_HOST = "no live node is on a host without one of them"
UNDER_WAY = "one of them is to move"


class SharedHost(msgspec.Struct, frozen=True):
    """Voters that are lost together with a host, in ranges that are led here."""

    host: str
    nodes: Voters
    ranges: int
    """How many ranges have voters on all of these nodes ..."""
    first_range: RangeId
    """... and one of them."""
    reason: str
    """Why it is still so."""


class _Judgement(NamedTuple):
    """What is known of a set of voters."""

    can_improve: bool
    hosts: dict[str, Voters]
    """Those with several of them."""
    reason: str


class PlacementReview:
    """See the module. Each look at the ranges begins with `begin`."""

    __slots__ = ("_is_needed", "_judgements", "_pool", "_ranges")

    def __init__(self) -> None:
        self._pool = NodePool((), {}, {})
        self._is_needed = False
        self._judgements: dict[Voters, _Judgement] = {}
        self._ranges: dict[Voters, list[RangeId]] = {}
        """Those of the last look that have several voters on one host."""

    def begin(self, live: tuple[NodeId, ...], localities: Localities) -> bool:
        """Forget the ranges, and return whether any can be badly placed with these nodes at all."""
        pool = NodePool(live, localities, {})
        if pool != self._pool:
            self._pool = pool
            self._is_needed = diversity.may_overlap(localities)
            self._judgements.clear()
        self._ranges.clear()
        return self._is_needed

    def can_improve(self, range_id: RangeId, voters: Voters) -> bool:
        """Return whether a voter of this range is to be swapped."""
        judgement = self._judgements.get(voters)
        if judgement is None:
            judgement = self._judgements[voters] = self._judge(voters)
        if judgement.hosts:
            self._ranges.setdefault(voters, []).append(range_id)
        return judgement.can_improve

    def shared_hosts(self) -> tuple[SharedHost, ...]:
        """Return the voters on one host that the last look has found."""
        found: dict[tuple[str, Voters, str], list[RangeId]] = {}
        for voters, range_ids in self._ranges.items():
            judgement = self._judgements[voters]
            for host, nodes in judgement.hosts.items():
                found.setdefault((host, nodes, judgement.reason), []).extend(range_ids)
        return tuple(
            SharedHost(host, nodes, len(range_ids), min(range_ids), reason)
            for (host, nodes, reason), range_ids in sorted(found.items())
        )

    def _judge(self, voters: Voters) -> _Judgement:
        pool = self._pool
        others_overlap = (
            diversity.shared_hosts((*voters, node), pool.localities)
            for node in pool.live
            if node not in voters
        )
        hosts = diversity.shared_hosts(voters, pool.localities)
        has_place = any(overlap == hosts for overlap in others_overlap)
        reason = UNDER_WAY if has_place else NO_OTHER_HOST
        return _Judgement(allocator.can_improve(voters, pool), hosts, reason)
