"""Linearizability without a search, for values that were written only once.

Purpose
    Where a value has a single writer, its readers are known, and in any order they follow it with
    no other write between: a cluster. Clusters that conditional writes or increments tie together
    are a block. Operations have an order exactly if the blocks have one, which two numbers of each
    decide: when its first operation ended, and when its last one began.
Invariants
    - `False` is certain whatever else the history holds: what is left out only restricts orders.
    - `True` is given only if nothing was left out.
Source
    Gibbons and Korach, "Testing shared memories" (1997), section 4, extended to read-modify-write.
"""

import bisect
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from multiraft.testing.checkers.effects import (
    ADD,
    IMPOSSIBLE,
    JUNK,
    MISMATCH,
    READ,
    SWAP,
    Action,
    Effect,
)


class _Cluster:
    """One write and the reads of its value."""

    __slots__ = (
        "effect",
        "first_end",
        "follows",
        "is_needed",
        "last_start",
        "next",
        "written_from",
    )

    def __init__(self, effect: Effect, start: float, end: float, *, is_needed: bool) -> None:
        self.effect = effect
        self.written_from = start
        self.first_end = end
        self.last_start = start
        self.is_needed = is_needed
        """Whether its write happened for certain."""
        self.next: _Cluster | None = None
        """The one that takes this one's value as its condition."""
        self.follows = False


class _ContradictionError(Exception):
    """No order exists."""


def judge(actions: Sequence[Action]) -> bool | None:
    """Return whether an order explains the answers, or None where that takes a search."""
    blocks = _Blocks(actions)
    try:
        blocks.build()
        zones = [blocks.zone(first) for first in blocks.clusters if _begins(first)]
        if blocks.tied != blocks.met:
            return False  # A ring of conditions, each of which needs the next one first.
    except _ContradictionError:
        return False
    if _collide(zones):
        return False
    return True if blocks.is_exact else None


def _begins(cluster: _Cluster) -> bool:
    return cluster.is_needed and not cluster.follows


class _Blocks:
    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = actions
        self.is_exact = True
        self.tied = 0
        """Clusters that follow another one."""
        self.met = 0
        """Of those, the ones that `zone` came by."""
        start = _Cluster(Effect(READ), -math.inf, -math.inf, is_needed=True)
        self.clusters = [start]
        self._writers: dict[Any, list[_Cluster]] = {None: [start]}
        self._adds_unseen = any(_is_unseen_add(action.effect) for action in actions)

    def build(self) -> None:
        """Put all operations into clusters and tie these together."""
        for action in self._actions:
            if action.effect.kind not in (READ, MISMATCH) and not _is_unseen_add(action.effect):
                self._add_write(action)
        if self._adds_unseen:
            self.is_exact = False
        for action in self._actions:
            if action.effect.kind == READ:
                self._add_read(action)
            elif action.effect.kind == MISMATCH:
                self.is_exact = False
        waiting = [cluster for cluster in self.clusters if cluster.is_needed]
        while waiting:
            waiting += self._tie(waiting.pop())

    def zone(self, first: _Cluster) -> tuple[float, float]:
        """Return the first end and the last start of a block, whose own order must be possible."""
        first_end, last_start = math.inf, -math.inf
        cluster: _Cluster | None = first
        while cluster is not None:
            if cluster.first_end < last_start:
                raise _ContradictionError
            first_end = min(first_end, cluster.first_end)
            last_start = max(last_start, cluster.last_start)
            self.met += cluster.follows
            cluster = cluster.next
        return first_end, last_start

    def _add_write(self, action: Action) -> None:
        operation = action.operation
        cluster = _Cluster(
            action.effect, operation.invoked, operation.deadline, is_needed=not action.is_optional
        )
        self.clusters.append(cluster)
        if action.effect.leaves is not JUNK:
            self._writers.setdefault(action.effect.leaves, []).append(cluster)

    def _writer(self, value: Any) -> _Cluster | None:  # noqa: ANN401
        """Return the only one that can have written the value, or None if there are several."""
        if self._adds_unseen and isinstance(value, int):
            return None
        writers = self._writers.get(value, ())
        if not writers:
            raise _ContradictionError
        if len(writers) > 1:
            self.is_exact = False
            return None
        return writers[0]

    def _add_read(self, action: Action) -> None:
        writer = self._writer(action.effect.expected)
        if writer is None:
            return
        operation = action.operation
        if operation.deadline < writer.written_from:
            raise _ContradictionError
        writer.first_end = min(writer.first_end, operation.deadline)
        writer.last_start = max(writer.last_start, operation.invoked)
        writer.is_needed = True

    def _tie(self, cluster: _Cluster) -> Iterator[_Cluster]:
        """Put a cluster behind the one whose value it needs; yield that if it was in doubt."""
        needed = self._needs(cluster.effect)
        if needed is IMPOSSIBLE:
            return
        before = self._writer(needed)
        if before is None:
            return
        if before.next is not None:
            raise _ContradictionError  # Two that took one value's place.
        before.next = cluster
        cluster.follows = True
        self.tied += 1
        if not before.is_needed:
            before.is_needed = True
            yield before

    def _needs(self, effect: Effect) -> Any:  # noqa: ANN401
        """Return the value that a write needs to find, or IMPOSSIBLE if it is not just one."""
        if effect.kind == SWAP:
            return effect.expected
        if effect.kind != ADD:
            return IMPOSSIBLE
        if effect.observes is not IMPOSSIBLE:
            return effect.observes
        # It found 0 or nothing.
        if not self._adds_unseen and 0 not in self._writers:
            return None
        self.is_exact = False
        return IMPOSSIBLE


def _is_unseen_add(effect: Effect) -> bool:
    return effect.kind == ADD and effect.expected is None


def _collide(zones: Iterable[tuple[float, float]]) -> bool:
    """Whether two blocks must each come before the other.

    One comes before the other if its first end lies before the other's last start. If any blocks
    form a ring of that, two of them do.
    """
    zones = sorted(zones)
    forward = [zone for zone in zones if zone[0] < zone[1]]
    for one, other in itertools.pairwise(forward):
        if other[0] < one[1]:
            return True
    for first_end, last_start in zones:
        if first_end < last_start:
            continue
        at = bisect.bisect_left(forward, (last_start, -math.inf)) - 1
        if at >= 0 and first_end < forward[at][1]:
            return True
    return False
