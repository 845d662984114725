"""Which ranges' voters are too near to each other, and why they stay so.

Purpose
    Judge the places of voters for the queue that mends them and for people who want to know. There
    are far fewer sets of voters than ranges, so each set is judged once and remembered for as long
    as the nodes are the same.
"""

from typing import NamedTuple

import msgspec

from multiraft.cluster import allocator
from multiraft.cluster.allocator import NodePool
from multiraft.cluster.diversity import Localities, Topology
from multiraft.ids import NodeId, RangeId

Voters = tuple[NodeId, ...]

JUDGED_PER_LOOK_MAX = 256
"""So many sets take a few milliseconds; those of more are judged in the next looks."""

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

    __slots__ = ("_is_needed", "_judgements", "_left", "_pool", "_ranges")

    def __init__(self) -> None:
        self._pool = NodePool((), Topology({}), {})
        self._is_needed = False
        self._judgements: dict[Voters, _Judgement] = {}
        self._left = 0
        """How many sets of voters may still be judged in this look."""
        self._ranges: dict[Voters, list[RangeId]] = {}
        """Those of the last look that have several voters on one host."""

    def begin(self, live: tuple[NodeId, ...], localities: Localities) -> NodePool:
        """Forget the ranges; return the nodes as they are now."""
        if localities != self._pool.topology.localities:
            topology = Topology(localities)
            self._is_needed = topology.may_overlap()
            self._pool = NodePool(live, topology, {})
            self._judgements.clear()
        elif live != self._pool.live:
            self._pool = self._pool._replace(live=live)
            self._judgements.clear()
        self._left = JUDGED_PER_LOOK_MAX
        self._ranges.clear()
        return self._pool

    @property
    def is_needed(self) -> bool:
        """Whether any voters can be badly placed with these nodes at all."""
        return self._is_needed

    def can_improve(self, range_id: RangeId, voters: Voters) -> bool:
        """Return whether a voter of this range is known to be better swapped."""
        judgement = self._judgements.get(voters)
        if judgement is None:
            if not self._left:
                return False  # Another look will tell.
            self._left -= 1
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
        hosts = pool.topology.shared_hosts(voters)
        has_place = any(
            pool.topology.shared_hosts((*voters, node)) == hosts
            for node in pool.live
            if hosts and node not in voters
        )
        reason = UNDER_WAY if has_place else NO_OTHER_HOST
        return _Judgement(allocator.can_improve(voters, pool), hosts, reason)
