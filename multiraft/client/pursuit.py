"""The long way: bring a part to its end when its first attempt did not, or could not be made.

Purpose
    Find the range, choose a replica, connect, send, wait; learn from the refusal, and again, until
    the part has ended or its call has passed its deadline (the router's sweep ends it then).
Invariants
    - A refusal that brings new facts (a hint, descriptors) is followed at once; one that brings
      none is followed by a pause that grows, with jitter.
    - While a range has no leader, the parts that wait for it make some thirty rounds a second
      between them, and all go on when the first is answered.
    - Every replica is tried before any is tried again, but for one that another calls the leader.
    - After a round in which no majority of the replicas answered as such, the range is looked up
      anew; not while a majority answers, for then there will be a leader among them, perhaps long
      before the first range has one.
"""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.client.calls import Part
from multiraft.client.range_cache import CachedRange
from multiraft.ids import NodeId

if TYPE_CHECKING:
    from multiraft.client.router import Router

_HINTS_FOLLOWED_AT_ONCE = 3

_PROBE_INTERVAL_MS = 50

_LONGER_THAN_A_SWEEP_S = 1.0
"""A pause in which the router's sweep ends a part whose deadline is near."""


class Pursuit:
    """See the module. Runs as a task of its own; there is none for a part that is answered well."""

    __slots__ = (
        "_failures",
        "_hint",
        "_hops",
        "_is_probing",
        "_members",
        "_part",
        "_pause_s",
        "_router",
        "_stale",
        "_target",
        "_tried",
    )

    def __init__(self, router: "Router", part: Part) -> None:
        self._router = router
        self._part = part
        self._tried: set[NodeId] = set()
        self._members: set[NodeId] = set()
        """Who of those tried has a replica of the range that merely does not lead."""
        self._hint: NodeId | None = None
        self._hops = 0
        self._failures = 0
        self._pause_s = 0.0
        self._is_probing = False
        self._target: CachedRange | None = None
        self._stale: CachedRange | None = None

    async def run(self, error: errors.MultiraftError | None) -> None:
        """Pursue the part; `error` is why its first attempt failed, None if none was made."""
        part = self._part
        if error is not None:
            self._target = part.target
            self._learn(error, part.node_id)
        while not part.has_ended:
            await self._rest()
            failure = await self._attempt()
            if failure is not None:
                self._learn(*failure)

    async def _attempt(self) -> tuple[errors.MultiraftError, NodeId | None] | None:
        """Make one attempt. Return why it failed and at which node, None when the part ended."""
        part, router = self._part, self._router
        node_id: NodeId | None = None
        try:
            target = self._target = await self._locate()
            node_id = self._choose(target)
            if node_id is None:
                return self._everybody_failed(target), None
            link = await router.connections.open(node_id)
        except errors.MultiraftError as error:
            return error, node_id
        router.date(part)
        waiter = part.waiter = router.loop.create_future()
        router.send(part, link, target)
        try:
            error_or_none = await waiter
        finally:
            part.waiter = None
        return None if error_or_none is None else (error_or_none, node_id)

    async def _locate(self) -> CachedRange:
        """Find the range of every operation, and leave to others what is not in the first one's."""
        part, stale = self._part, self._stale
        self._stale = None
        found: list[CachedRange] = []
        for operation in part.operations:
            key, before = self._router.anchor(part.call, operation)
            target = await self._router.addressing.find(
                key, part.call.deadline, before=before, stale=stale
            )
            stale = None  # One look-up tells what has changed.
            found.append(target)
        # While the later ones were awaited, others may have learned of a split. What one range
        # holds must not be taken apart, so all are looked up again in one state of the cache.
        groups: dict[int, list[int]] = {}
        targets: dict[int, CachedRange] = {}
        for index, operation, earlier in zip(part.indices, part.operations, found, strict=True):
            key, before = self._router.anchor(part.call, operation)
            target = self._router.addressing.cached(key, before=before) or earlier
            targets[target.range_id] = target
            groups.setdefault(target.range_id, []).append(index)
        (first, mine), *others = groups.items()
        if others:
            if part.call.is_whole:
                raise self._must_be_cut(targets[first])
            for range_id, indices in others:
                self._router.launch(part.split_off(indices), targets[range_id])
            part.keep_only(mine)
        return targets[first]

    def _must_be_cut(self, target: CachedRange) -> errors.MultiraftError:
        """End a part that only makes sense as a whole; whoever made the call knows what to do.

        It is a definite end only if every attempt was refused: otherwise one of them may have been
        evaluated before the range was split.
        """
        part = self._part
        error: errors.MultiraftError = errors.RangeMismatchError(
            range_id=target.range_id, descriptors=[]
        )
        if part.is_mutation and part.attempts_open > 0:
            reason = "its range was split while an attempt had no answer"
            error = errors.OutcomeUnknownError(reason=reason)
        part.fail(error)
        return error

    def _choose(self, target: CachedRange) -> NodeId | None:
        """Return the node to ask next; None when each has been tried in this round."""
        if self._hint is not None:
            node_id, self._hint = self._hint, None
            return node_id
        if target.leader is not None and target.leader not in self._tried:
            return target.leader
        is_down = self._router.connections.is_down
        left = [r.node_id for r in target.descriptor.replicas if r.node_id not in self._tried]
        candidates = [node_id for node_id in left if not is_down(node_id)] or left
        return candidates[self._router.rng.below(len(candidates))] if candidates else None

    def _everybody_failed(self, target: CachedRange) -> errors.MultiraftError:
        self._begin_round()
        self._stale = target
        return self._part.call.last_error or errors.NodeUnavailableError(
            target=f"r{target.range_id}", reason="no replica answers"
        )

    # -- what a refusal teaches --------------------------------------------------------------------

    def _learn(self, error: errors.MultiraftError, node_id: NodeId | None) -> None:
        self._part.call.last_error = error
        if node_id is None:
            self._pause_to_probe()
            return
        handler = LESSONS.get(type(error), Pursuit._node_failed)
        handler(self, error, node_id)

    def _not_leaseholder(self, error: errors.MultiraftError, node_id: NodeId) -> None:
        assert isinstance(error, errors.NotLeaseholderError), "dispatched by type"
        leader = error.leaseholder
        self._tried.add(node_id)
        self._members.add(node_id)
        self._forget_leader(node_id)
        if leader is None or leader == node_id:
            self._end_round()
            return
        self._hint = leader
        self._router.addressing.cache.set_leader(error.range_id, leader)
        self._hops += 1
        if self._hops > _HINTS_FOLLOWED_AT_ONCE:
            self._pause_to_probe()

    def _wrong_range(self, error: errors.MultiraftError, node_id: NodeId) -> None:
        assert isinstance(error, errors.RangeMismatchError), "dispatched by type"
        self._router.addressing.learn(error.descriptors)
        if self._knows_better():
            self._begin_round()  # Another range, with replicas of its own.
            return
        # This node knows no more than we do. Its range's other replicas may, or the records.
        self._tried.add(node_id)
        self._stale = self._target
        self._pause()

    def _no_replica(self, _error: errors.MultiraftError, node_id: NodeId) -> None:
        self._tried.add(node_id)
        self._forget_leader(node_id)
        self._stale = self._target
        if self._failures:
            self._pause()
        self._failures += 1

    def _overloaded(self, error: errors.MultiraftError, _node_id: NodeId) -> None:
        assert isinstance(error, errors.OverloadedError), "dispatched by type"
        most_ms = max(1, error.retry_after_ms)
        self._pause_s = (most_ms + self._router.rng.below(most_ms)) / 1_000

    def _lock_wait(self, _error: errors.MultiraftError, node_id: NodeId) -> None:
        self._hint = node_id  # At once: it has kept its place in the queue.
        if self._part.is_mutation and not self._router.can_be_told(self._part):
            # It would wait beyond the deadline, and write when its call has long ended.
            self._pause_s = _LONGER_THAN_A_SWEEP_S

    def _busy(self, _error: errors.MultiraftError, _node_id: NodeId) -> None:
        self._pause()

    def _node_failed(self, _error: errors.MultiraftError, node_id: NodeId) -> None:
        self._tried.add(node_id)
        self._forget_leader(node_id)
        self._end_round()

    def _knows_better(self) -> bool:
        """Return whether any operation would now go elsewhere than it went, or be cut otherwise."""
        assert self._target is not None, "a range was asked"
        for operation in self._part.operations:
            key, before = self._router.anchor(self._part.call, operation)
            known = self._router.addressing.cached(key, before=before)
            if known is not None and known.descriptor != self._target.descriptor:
                return True
        return False

    def _forget_leader(self, node_id: NodeId) -> None:
        assert self._target is not None, "a range was asked"
        known = self._router.addressing.cache.by_id(self._target.range_id)
        if known is not None and known.leader == node_id:
            known.leader = None

    def _begin_round(self) -> None:
        self._tried.clear()
        self._members.clear()

    def _end_round(self) -> None:
        """If every replica has been tried: pause, then they may be tried again."""
        assert self._target is not None, "a range was asked"
        replicas = [replica.node_id for replica in self._target.descriptor.replicas]
        if not self._tried.issuperset(replicas):
            return
        if 2 * len(self._members.intersection(replicas)) <= len(replicas):
            self._stale = self._target
        self._begin_round()
        self._pause_to_probe()

    def _pause_to_probe(self) -> None:
        """Pause until it is this part's turn to ask whether the range has a leader again.

        However many wait, together they ask about once per `_PROBE_INTERVAL_MS`, and whoever finds
        the leader wakes the others: a new leader is found soon, and not buried in requests.
        """
        others = self._router.pursued_parts
        self._pause(at_most_ms=_PROBE_INTERVAL_MS * max(1, others))
        self._is_probing = True

    async def _rest(self) -> None:
        """Make the pause that the last refusal asked for."""
        pause_s, self._pause_s = self._pause_s, 0.0
        is_probing, self._is_probing = self._is_probing, False
        if is_probing and self._target is not None:
            await self._router.wait_for_leader(self._target.range_id, pause_s)
        elif pause_s:
            await asyncio.sleep(pause_s)

    def _pause(self, *, at_most_ms: int | None = None) -> None:
        settings = self._router.settings
        most_ms = min(settings.backoff_ms_max, settings.backoff_ms_min << min(self._failures, 20))
        if at_most_ms is not None:
            most_ms = max(settings.backoff_ms_min, min(most_ms, at_most_ms))
        self._failures += 1
        self._pause_s = (most_ms + self._router.rng.below(most_ms)) / 2_000


LESSONS: dict[
    type[errors.MultiraftError], Callable[[Pursuit, errors.MultiraftError, NodeId], None]
] = {
    errors.NotLeaseholderError: Pursuit._not_leaseholder,
    errors.RangeMismatchError: Pursuit._wrong_range,
    errors.RangeNotFoundError: Pursuit._no_replica,
    errors.OverloadedError: Pursuit._overloaded,
    errors.LockWaitError: Pursuit._lock_wait,
    errors.ConflictingChangeError: Pursuit._busy,
    errors.DiskFullError: Pursuit._busy,
    errors.ClockOffsetError: Pursuit._busy,
}
