"""Administrative requests: to split a range, hand it over, change its members, tell of it.

Purpose
    What takes several steps and is not a command by itself. Each request that waits for something
    runs as a task of the store, and each ends with exactly one reply.
Invariants
    - A change of the descriptor holds the descriptor's latch from before it is evaluated until it
      is applied, names the generation it starts from, and is the only one under way (rule A5).
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from multiraft import errors
from multiraft.client.router import Router
from multiraft.concurrency import latches
from multiraft.concurrency.latches import Latch
from multiraft.ids import NodeId, RangeId, ReplicaId
from multiraft.model import encoding, hlc, keys
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import (
    OF_NODES,
    AdminChangeReplicas,
    AdminProtect,
    AdminResult,
    AdminSplit,
    AdminTransfer,
    BatchReply,
    NodeProfile,
    Operation,
    ProtectResult,
    RangeLocks,
    RangeStatus,
    Result,
    Scan,
    ScanResult,
    StatusResult,
)
from multiraft.ranges import lock_status, membership, protections, split, state
from multiraft.ranges.change import LatchedChange
from multiraft.ranges.context import overloaded
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.membership import MembershipChange
from multiraft.ranges.messages import Command, SplitTrigger
from multiraft.ranges.pending import Reply
from multiraft.ranges.range_ids import RangeIds
from multiraft.ranges.right_half import RightHalfCount

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica
    from multiraft.ranges.store import Store

TRANSFER_POLL_S = 0.02
TRANSFER_TIMEOUT_S = 5.0
PROFILES_MAX = 8
"""So many may be made of a node at once: each looks at it every few milliseconds."""


class Host(Protocol):
    """The node around a store, as far as requests ask for it."""

    def status(self) -> bytes:
        """Return what it is and does now, as JSON."""
        ...

    async def profile(self, duration_ms: int) -> bytes:
        """Return, so much later, what its loop has spent that time on, as JSON."""
        ...

    async def meet(self, node_id: NodeId) -> bool:
        """Return whether the cluster has this node; if so, it is a peer from now on.

        Raises what the router raises.
        """
        ...


class AdminRequests:
    """Runs administrative requests for the replicas of one store."""

    __slots__ = ("_changing", "_host", "_profiles", "_range_ids", "_router", "_store")

    def __init__(self, store: "Store", router: Router, host: Host) -> None:
        self._store = store
        self._host = host
        self._profiles = 0
        """How many are being made."""
        self._range_ids = RangeIds(router)
        self._router = router
        self._changing: set[RangeId] = set()

    def submit(self, replica: "Replica", operation: Operation, reply: Reply) -> None:
        """Carry out `operation`; `reply` is called once."""
        if isinstance(operation, RangeStatus):
            self._tell(msgspec.json.encode(replica.status()), reply)
            return
        if isinstance(operation, RangeLocks):
            self._tell(msgspec.json.encode(lock_status.status_of(replica)), reply)
            return
        if isinstance(operation, OF_NODES):
            self.tell_of_node(operation, reply)
            return
        handle = _HANDLERS.get(type(operation))
        assert handle is not None, f"no handler for {type(operation).__name__}"
        self._store.spawn(
            self._run(partial(handle, self, replica, operation), reply),
            name=f"{type(operation).__name__} r{replica.range_id}",
        )

    def tell_of_node(self, operation: Operation, reply: Reply) -> None:
        """Answer a request of `OF_NODES`, whatever range it names."""
        if isinstance(operation, NodeProfile):
            profile = partial(self._profile, operation)
            self._store.spawn(self._run(profile, reply), name="profile")
        else:
            self._tell(self._host.status(), reply)

    async def _profile(self, operation: NodeProfile) -> StatusResult:
        if self._profiles >= PROFILES_MAX:
            raise overloaded(f"the profiler of n{self._store.context.node_id}")
        self._profiles += 1
        try:
            return StatusResult(await self._host.profile(operation.duration_ms))
        finally:
            self._profiles -= 1

    def _tell(self, status: bytes, reply: Reply) -> None:
        reply(BatchReply((StatusResult(status),), clock=self._store.context.hlc.last))

    async def _run(self, work: Callable[[], Awaitable[Result]], reply: Reply) -> None:
        try:
            result = await work()
        except errors.StoreFailedError:
            raise
        except errors.MultiraftError as error:
            reply(self._store.context.refusal(error))
        else:
            reply(BatchReply((result,), clock=self._store.context.hlc.last))

    # -- split -----------------------------------------------------------------------------------

    async def _split(self, replica: "Replica", operation: AdminSplit) -> AdminResult:
        key = operation.key
        holder, descriptor = self._leader(replica)
        if not descriptor.contains(key):
            mismatch = replica.mismatch(key, None)
            assert mismatch is not None, "the key lies outside the range"
            raise mismatch
        if key == descriptor.start:
            return await self._already_split(descriptor)
        if descriptor.start == keys.MIN:
            raise errors.AdminRefusedError(
                reason="the first range holds the addressing records and is never split"
            )
        right_id = await self._range_ids.take()
        count = RightHalfCount(holder, key)
        change = LatchedChange(
            holder,
            Latch(write_points=(latches.DESCRIPTOR,), write_spans=((key, descriptor.end),)),
        )
        try:
            counted = await count.run(self._store, descriptor.end)
            await change.acquire()
        except BaseException:
            count.stop()
            raise
        # From here to the proposal nothing awaits.
        count.stop()
        problem = self._split_problem(replica, holder, descriptor)
        if problem is not None:
            change.give_back()
            raise problem
        left, right = split.halves(descriptor, key, right_id)
        trigger = SplitTrigger(
            left,
            right,
            counted.plus(count.since),
            self._store.context.hlc.now(),
            self._store.context.node_id,
        )
        await change.carry_out(Command(trigger=trigger))
        return AdminResult((encoding.pack(left), encoding.pack(right)))

    def _split_problem(
        self, replica: "Replica", holder: Leaseholder, seen: RangeDescriptor
    ) -> errors.MultiraftError | None:
        if replica.leaseholder is not holder or not holder.may_serve(self._store.context.hlc.now()):
            return holder.lost()
        if replica.descriptor != seen:
            return errors.ConflictingChangeError(
                range_id=replica.range_id, reason="the range changed while the split was prepared"
            )
        if seen.is_joint:
            return errors.ConflictingChangeError(
                range_id=replica.range_id, reason="a membership change is under way"
            )
        return None

    async def _already_split(self, right: RangeDescriptor) -> AdminResult:
        """Answer with the range before `right`, which need not be kept here, and `right`."""
        here = self._store.map.before(right.start)
        left = None if here is None else here.descriptor
        if left is None or left.end != right.start:
            left = await self._recorded_before(right.start)
        if left is None or left.end != right.start:
            raise errors.ConflictingChangeError(
                range_id=right.range_id, reason="meta does not know the range before it yet"
            )
        return AdminResult((encoding.pack(left), encoding.pack(right)))

    async def _recorded_before(self, start: bytes) -> RangeDescriptor | None:
        """Return the addressing record of the range that starts last before `start`, if any."""
        span = Scan(keys.META, keys.meta_key(start), reverse=True, limit_keys=1)
        page = (await self._router.execute((span,))).results[0]
        assert isinstance(page, ScanResult), "a Scan was asked"
        return encoding.unpack_descriptor(page.rows[1]) if page.rows else None

    # -- membership ------------------------------------------------------------------------------

    async def _change_replicas(
        self, replica: "Replica", operation: AdminChangeReplicas
    ) -> AdminResult:
        wanted = frozenset(operation.voters)
        if not wanted or len(wanted) != len(operation.voters):
            raise errors.AdminRefusedError(reason="name each voter once, and at least one")
        self._leader(replica)
        await self._meet(wanted)
        holder, descriptor = self._leader(replica)
        if replica.range_id in self._changing:
            raise errors.ConflictingChangeError(
                range_id=replica.range_id, reason="another membership change is under way"
            )
        if not membership.is_next_for(descriptor, wanted, operation.generation):
            raise errors.RangeChangedError(
                range_id=replica.range_id,
                seen=operation.generation,
                generation=descriptor.generation,
            )
        self._changing.add(replica.range_id)
        try:
            changed = await MembershipChange(self._store, replica, holder, wanted).run()
        finally:
            self._changing.discard(replica.range_id)
        return AdminResult((encoding.pack(changed),))

    async def _meet(self, nodes: frozenset[NodeId]) -> None:
        """Make peers of these nodes. AdminRefusedError if the cluster lacks some.

        One that joined while this node was away may not have dialed it yet.
        """
        unheard_of = sorted(nodes - self._store.known_nodes())
        missing = [node for node in unheard_of if not await self._host.meet(node)]
        if missing:
            names = ", ".join(f"n{node}" for node in missing)
            raise errors.AdminRefusedError(reason=f"this cluster has no node {names}")

    # -- transfer --------------------------------------------------------------------------------

    async def _transfer(self, replica: "Replica", operation: AdminTransfer) -> AdminResult:
        _, descriptor = self._leader(replica)
        target = descriptor.replica_on(operation.target)
        if target is None:
            nodes = ", ".join(f"n{r.node_id}" for r in descriptor.replicas)
            raise errors.AdminRefusedError(
                reason=f"r{replica.range_id} is on {nodes}, not on n{operation.target}"
            )
        if operation.target != self._store.context.node_id:
            await self.hand_over(replica, target.replica_id)
        return AdminResult((encoding.pack(descriptor),))

    async def hand_over(self, replica: "Replica", target: ReplicaId) -> None:
        """Make another replica lead; return once this one has stepped down.

        Raises ConflictingChangeError if the target cannot take over now.
        """
        deadline = self._store.context.clock.monotonic() + TRANSFER_TIMEOUT_S
        while replica.leaseholder is not None:
            replica.core.transfer(target, self._store.context.hlc.now())
            self._store.context.mark_dirty(replica)
            await asyncio.sleep(TRANSFER_POLL_S)
            if self._store.context.clock.monotonic() > deadline:
                raise errors.ConflictingChangeError(
                    range_id=replica.range_id,
                    reason=f"replica {target} did not catch up within {TRANSFER_TIMEOUT_S:g} s",
                )

    async def hand_over_to_any(self, replica: "Replica") -> None:
        """Hand leadership to a voter that can take it at once; best effort.

        Any of them: whoever is chosen may want to give it away again for the same reason, as when
        several disks are full, and must not always get the same idea to whom.
        """
        heirs = self._heirs(replica)
        if heirs:
            await self.hand_over(replica, heirs[self._store.context.rng.below(len(heirs))])

    def _heirs(self, replica: "Replica") -> list[ReplicaId]:
        """Return the other voters on live nodes: those with all that is committed, if any."""
        descriptor, leadership = replica.descriptor, replica.core.leadership
        if descriptor is None or leadership is None:
            return []
        live = [
            voter.replica_id
            for voter in state.voters(descriptor)
            if voter.node_id != self._store.context.node_id
            and self._store.liveness.support_for(voter.node_id)
        ]
        committed = replica.core.commit_index
        ready = [
            voter
            for voter in live
            if (progress := leadership.progress.get(voter)) is not None
            and progress.match_index >= committed
        ]
        return ready or live

    # -- protected times -------------------------------------------------------------------------

    async def _protect(self, replica: "Replica", operation: AdminProtect) -> ProtectResult:
        context = self._store.context
        time_to_live = hlc.from_us(int(context.config.ranges.gc_ttl_s * 1e6))
        return await protections.grant(self._router, operation, context.hlc.now(), time_to_live)

    def _leader(self, replica: "Replica") -> tuple[Leaseholder, RangeDescriptor]:
        holder, descriptor = replica.leaseholder, replica.descriptor
        if holder is None or descriptor is None or not holder.serving:
            raise errors.NotLeaseholderError(
                range_id=replica.range_id, leaseholder=replica.leader_hint
            )
        return holder, descriptor


_HANDLERS: dict[type, Callable[[AdminRequests, "Replica", Any], Awaitable[Result]]] = {
    AdminSplit: AdminRequests._split,
    AdminTransfer: AdminRequests._transfer,
    AdminChangeReplicas: AdminRequests._change_replicas,
    AdminProtect: AdminRequests._protect,
}
