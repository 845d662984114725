"""Which nodes should keep a range.

Purpose
    Given who votes now and which nodes live, name the voters that the range should have. Only as
    many replicas are moved as needed; ranges are spread by their ID, so that no node gets them all.
Invariants
    - The answer never has fewer voters than now unless there are more than wanted.
    - A live voter stays, unless there are more voters than wanted.
"""

from collections.abc import Iterable

from multiraft.ids import NodeId, RangeId


def wanted_voters(
    range_id: RangeId,
    voters: Iterable[NodeId],
    live: Iterable[NodeId],
    replication_factor: int,
) -> tuple[NodeId, ...]:
    """Return the voters the range should have, sorted; the present ones if nothing can improve.

    The number of voters is kept odd, since an even one tolerates no more failures than one less.
    """
    present = sorted(voters)
    candidates = sorted(set(live) - set(present))
    possible = len(present) + len(candidates)
    target = min(replication_factor, possible if possible % 2 else possible - 1)
    missing = target - len(present)
    if missing <= 0 or not candidates:
        return tuple(present)
    start = range_id % len(candidates)
    rotated = candidates[start:] + candidates[:start]
    return tuple(sorted(present + rotated[:missing]))
