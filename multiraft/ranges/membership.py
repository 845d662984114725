"""Changing who keeps a range: learners, snapshots, a joint configuration, clean-up.

Purpose
    Bring a range from its present voters to the wanted ones in steps that are each one command:
    add learners, wait until they have caught up, enter a joint configuration, leave it, remove
    those that were demoted. Every step can be taken up by another leader, so a change that lost its
    leader goes on where it stands when it is asked for again.
Invariants
    - Joint consensus with demotion first: a voter never leaves in one step.
    - A joint configuration is left by whoever leads, asked or not; a leader that is on its way out
      hands over first.
    - No old voter is removed before meta has the configuration that names the new ones (rule L6),
      nor before it knows of its demotion, if it can be reached: a replica that takes itself for a
      voter and has a leader asks nobody whether it is a member still.
Source
    Raft thesis 4.2, 4.3; safety rules S4, S5, A5, L6.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from multiraft import errors
from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch
from multiraft.ids import NodeId, ReplicaId
from multiraft.model.descriptor import RangeDescriptor, ReplicaDescriptor, ReplicaKind
from multiraft.raft import fortification
from multiraft.raft.progress import ProgressState
from multiraft.ranges import state
from multiraft.ranges.change import LatchedChange
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.messages import Command, DescriptorTrigger

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

POLL_S = 0.02
CATCH_UP_TIMEOUT_S = 60.0
STEP_TIMEOUT_S = 10.0
LAG_ENTRIES_MAX = 64
"""A learner that is no further behind may become a voter."""


class MembershipChange:
    """One change of one range, driven by its leader. Also finishes what a former one began."""

    __slots__ = ("_holder", "_replica", "_store", "_wanted")

    def __init__(
        self, store: "Store", replica: "Replica", holder: Leaseholder, wanted: frozenset[NodeId]
    ) -> None:
        self._store = store
        self._replica = replica
        self._holder = holder
        self._wanted = wanted

    async def run(self) -> RangeDescriptor:
        """Carry the change out; return the descriptor that has the wanted voters and no others.

        Raises NotLeaseholderError when leadership moves on the way, which it must if this node is
        to leave: ask again there. ConflictingChangeError when a learner does not catch up.
        """
        await self._leave_joint()
        if _voter_nodes(self._descriptor) != self._wanted:
            await self._add_learners()
            await self._catch_up()
            await self._enter_joint()
            await self._leave_joint()
        await self._meta_knows()
        await self._demoted_know()
        await self._remove_learners()
        return self._descriptor

    @property
    def _descriptor(self) -> RangeDescriptor:
        if self._replica.leaseholder is not self._holder:
            raise self._holder.lost()
        descriptor = self._replica.descriptor
        assert descriptor is not None, "a leader is initialised"
        return descriptor

    # -- the steps -------------------------------------------------------------------------------

    async def _add_learners(self) -> None:
        descriptor = self._descriptor
        missing = [n for n in sorted(self._wanted) if descriptor.replica_on(n) is None]
        if missing:
            first = descriptor.next_replica_id
            learners = tuple(
                ReplicaDescriptor(node, ReplicaId(first + offset), ReplicaKind.LEARNER)
                for offset, node in enumerate(missing)
            )
            await self._step(
                descriptor,
                (*descriptor.replicas, *learners),
                ReplicaId(first + len(missing)),
            )

    async def _catch_up(self) -> None:
        """Wait until every future voter follows closely."""
        learners = [
            r.replica_id
            for r in self._descriptor.replicas
            if r.node_id in self._wanted and r.kind is ReplicaKind.LEARNER
        ]

        def caught_up() -> bool:
            leadership = self._replica.core.leadership
            if leadership is None:
                return False
            least = self._replica.core.commit_index - LAG_ENTRIES_MAX
            return all(
                (progress := leadership.progress.get(learner)) is not None
                and progress.state is ProgressState.REPLICATE
                and progress.match_index >= least
                for learner in learners
            )

        await self._until(caught_up, CATCH_UP_TIMEOUT_S, f"replicas {learners} did not catch up")

    async def _enter_joint(self) -> None:
        descriptor = self._descriptor

        def turned(replica: ReplicaDescriptor) -> ReplicaDescriptor:
            stays = replica.node_id in self._wanted
            if replica.kind is ReplicaKind.VOTER and not stays:
                return msgspec.structs.replace(replica, kind=ReplicaKind.OUTGOING)
            if replica.kind is ReplicaKind.LEARNER and stays:
                return msgspec.structs.replace(replica, kind=ReplicaKind.INCOMING)
            return replica

        await self._step(descriptor, tuple(turned(r) for r in descriptor.replicas))

    async def _leave_joint(self) -> None:
        """Wait until the joint configuration, if there is one, has been left; see leave_joint."""
        await self._until(
            lambda: not self._descriptor.is_joint,
            STEP_TIMEOUT_S,
            "the joint configuration could not be left yet",
        )

    async def _meta_knows(self) -> None:
        await self._until(
            lambda: self._replica.applied.meta_generation >= self._descriptor.generation,
            STEP_TIMEOUT_S,
            "the addressing record could not be written yet",
        )

    async def _demoted_know(self) -> None:
        """Wait a while for learners to know that they are learners, those that can be told.

        Who never had the range's state has nothing to unlearn, and whose support has ended both
        ways is bound to nobody here. What a learner is waiting for must not hold up its removal.
        """
        core = self._replica.core
        learners = [
            r.replica_id for r in self._descriptor.replicas if r.kind is ReplicaKind.LEARNER
        ]
        applied_index = core.applied_index

        def know() -> bool:
            leadership = core.leadership
            return leadership is not None and all(
                (progress := leadership.progress.get(learner)) is None
                or progress.commit_known >= applied_index
                or not progress.match_index
                or not fortification.is_in_touch(core, learner)
                for learner in learners
            )

        with contextlib.suppress(errors.ConflictingChangeError):
            await self._until(know, STEP_TIMEOUT_S, f"replicas {learners} did not learn of it")

    async def _remove_learners(self) -> None:
        descriptor = self._descriptor
        gone = [r for r in descriptor.replicas if r.kind is ReplicaKind.LEARNER]
        if not gone:
            return
        kept = tuple(r for r in descriptor.replicas if r.kind is not ReplicaKind.LEARNER)
        await self._step(descriptor, kept)
        for replica in gone:
            self._store.post_removal(replica.node_id, self._descriptor)

    # -- their mechanics -------------------------------------------------------------------------

    async def _step(
        self,
        seen: RangeDescriptor,
        replicas: tuple[ReplicaDescriptor, ...],
        next_replica_id: ReplicaId | None = None,
    ) -> None:
        """Replace the descriptor by one with these replicas, once the core allows it."""
        new = msgspec.structs.replace(
            seen,
            generation=seen.generation + 1,
            replicas=replicas,
            next_replica_id=next_replica_id or seen.next_replica_id,
        )
        configuration = state.configuration(new)
        core = self._replica.core
        await self._until(
            lambda: core.configuration_refusal(configuration) is None,
            STEP_TIMEOUT_S,
            f"the step to {configuration} is not possible",
        )
        await propose_descriptor(self._replica, self._holder, seen, new)

    async def _until(self, condition: Callable[[], bool], timeout_s: float, problem: str) -> None:
        clock = self._store.context.clock
        deadline = clock.monotonic() + timeout_s
        while not condition():
            if self._replica.leaseholder is not self._holder:
                raise self._holder.lost()
            if clock.monotonic() > deadline:
                raise errors.ConflictingChangeError(
                    range_id=self._replica.range_id, reason=f"{problem} within {timeout_s:g} s"
                )
            await asyncio.sleep(POLL_S)


def is_next_for(descriptor: RangeDescriptor, wanted: frozenset[NodeId], generation: int) -> bool:
    """Return whether a change to `wanted`, asked for at `generation`, may be made from here.

    It may when nothing has changed since, or when what has changed is this very change: an attempt
    of it that lost its leader has added the learners, or has got further.
    """
    present = _voter_nodes(descriptor)
    if present == wanted or generation == descriptor.generation:
        return True
    learners = {r.node_id for r in descriptor.replicas if r.kind is ReplicaKind.LEARNER}
    return generation == descriptor.generation - 1 and learners == wanted - present


async def leave_joint(store: "Store", replica: "Replica", holder: Leaseholder) -> None:
    """Leave the joint configuration as soon as that is safe, for as long as `holder` leads.

    A leader that does not vote afterwards hands over to one that does, which then does the same.
    """
    while replica.leaseholder is holder:
        descriptor = replica.descriptor
        assert descriptor is not None, "a leader is initialised"
        if not descriptor.is_joint:
            return
        mine = descriptor.replica(replica.replica_id)
        try:
            if mine is None or mine.kind is ReplicaKind.OUTGOING:
                await store.admin.hand_over_to_any(replica)
            elif replica.core.wants_to_leave_joint:
                new = left_joint(descriptor)
                await propose_descriptor(replica, holder, descriptor, new)
        except errors.RetryableError:
            pass  # Whoever leads then tries again; if it is still us, in a moment.
        await asyncio.sleep(POLL_S)


def left_joint(descriptor: RangeDescriptor) -> RangeDescriptor:
    """Return what a joint descriptor becomes: those that leave stay as learners for now."""
    after = {ReplicaKind.INCOMING: ReplicaKind.VOTER, ReplicaKind.OUTGOING: ReplicaKind.LEARNER}
    return msgspec.structs.replace(
        descriptor,
        generation=descriptor.generation + 1,
        replicas=tuple(
            msgspec.structs.replace(r, kind=after.get(r.kind, r.kind)) for r in descriptor.replicas
        ),
    )


async def propose_descriptor(
    replica: "Replica", holder: Leaseholder, seen: RangeDescriptor, new: RangeDescriptor
) -> None:
    """Put `new` in the place of `seen`, under the descriptor's latch; return once it is applied.

    Raises NotLeaseholderError, or ConflictingChangeError if the descriptor is another one by now or
    the core refuses the step.
    """
    change = LatchedChange(holder, Latch(write_points=(latches.DESCRIPTOR,)))
    await change.acquire()
    if replica.descriptor != seen:
        change.give_back()
        raise errors.ConflictingChangeError(
            range_id=replica.range_id, reason="the range changed meanwhile"
        )
    command = Command(trigger=DescriptorTrigger(new))
    await change.carry_out(command, state.configuration(new))


def _voter_nodes(descriptor: RangeDescriptor) -> frozenset[NodeId]:
    return frozenset(r.node_id for r in state.voters(descriptor))
