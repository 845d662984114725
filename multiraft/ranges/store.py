"""All ranges of one node: the only map from range to replica, and the way in to each of them.

Purpose
    Find the replica that a request or a message is for, make it, or say why it is not here; tell
    replicas of what concerns many of them: time, support, lost connections. What replicas want done
    is done in turns (ranges/turns.py).
Invariants
    - A replica that is destroyed leaves a tombstone and is known nowhere in the store any more.
    - A message for a range that a split not yet applied here will bring is held, so no replica is
      made that would make the leader send a snapshot.
    - A failed write or sync, or a broken invariant, stops the store at once (rule S15).
Ownership
    Everything here belongs to one event loop. Replicas are reached by range ID only.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

from multiraft import errors, runtime
from multiraft.client.router import Router
from multiraft.config import Config
from multiraft.ids import NO_EPOCH, NodeId, RangeId, ReplicaId, Timestamp
from multiraft.liveness.heartbeats import Liveness
from multiraft.liveness.messages import LivenessMessage
from multiraft.liveness.support import Change
from multiraft.model import encoding
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.hlc import HybridClock
from multiraft.model.requests import ADMIN, OF_NODES, BatchRequest, Scan
from multiraft.net.transport import Connection, Handler
from multiraft.raft.messages import Envelope, Release, ReleaseFortification, StillLeading
from multiraft.raft.role import Role
from multiraft.ranges import membership, messages, split, state, store_status
from multiraft.ranges.addressing import AddressingWriter
from multiraft.ranges.admin import AdminRequests, Host
from multiraft.ranges.commands import validation
from multiraft.ranges.context import StoreContext
from multiraft.ranges.held import HeldMessages
from multiraft.ranges.inbox import Inbox
from multiraft.ranges.messages import GroupEnvelope, PeerFrame, ReplicaRemoved, SplitTrigger
from multiraft.ranges.outbox import Outbox, SendFrame
from multiraft.ranges.pending import Reply
from multiraft.ranges.pushes import Pushes
from multiraft.ranges.replica import Replica
from multiraft.ranges.replica_map import ReplicaMap
from multiraft.ranges.resolver import Resolver
from multiraft.ranges.slices import Slices, Steps
from multiraft.ranges.snapshot import SnapshotSender
from multiraft.ranges.snapshot_intake import SnapshotIntake
from multiraft.ranges.state import Placeholder, RangeState, Tombstone
from multiraft.ranges.store_status import StoreStatus
from multiraft.ranges.ticking import Ticking
from multiraft.ranges.turn import Turn
from multiraft.ranges.turns import Turns
from multiraft.runtime import Clock, Rng
from multiraft.storage import raft_log
from multiraft.storage.engine import Engine

ConnectBulk = Callable[[NodeId, Handler], Awaitable[Connection]]
HAND_OVERS_CONCURRENT_MAX = 64
CLOCK_WAIT_S_MIN = 0.001
"""Between two looks at whether the clock has moved on: it may stand still."""


class Store:
    """See the module. `start` before anything else, `stop` last."""

    def __init__(
        self,
        node_id: NodeId,
        engine: Engine,
        hlc: HybridClock,
        clock: Clock,
        rng: Rng,
        config: Config,
        send_frame: SendFrame,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._on_failure = on_failure
        self._failed = False
        self._takes_part = False
        """Whether the replicas are there: before, a message would seem to be for a new one."""
        self.liveness = Liveness(
            node_id,
            config.liveness,
            hlc,
            clock,
            engine,
            self._post_liveness,
            self._support_changed,
            self.fail,
        )
        self.inbox = Inbox(self._deliver, self.or_fail)
        self.outbox = Outbox(hlc, send_frame)
        self.ticking = Ticking(config.raft.tick_ms / 1_000, rng, self._look_again, self.or_fail)
        self.turns = Turns(engine, self.inbox, self.outbox, self.ticking, self.or_fail, self.fail)
        self.context = StoreContext(
            node_id,
            engine,
            hlc,
            clock,
            rng,
            config,
            self.liveness,
            self.turns.mark_dirty,
            self._wait_for_lease,
        )
        self.map = ReplicaMap()
        self.replicas = self.map.by_id
        self._peers = {node_id}
        self._lease_waiters: dict[RangeId, Replica] = {}
        self._clock_timer: asyncio.TimerHandle | None = None
        """When to look again at those that wait for a time that the clock has yet to reach."""
        self._support_changes: dict[NodeId, None] = {}
        """With whom support changed, which is still to be told to those that depend on it."""
        self._sweeps = Slices(self.or_fail)
        """Over all replicas."""
        self._held = HeldMessages(config.ranges, clock)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.snapshots = SnapshotSender(self)
        self.intake = SnapshotIntake(self)
        self.requests = 0

    def connect(self, router: Router, connect_bulk: ConnectBulk, host: Host) -> None:
        """Give the store its ways to others, and to the node around it.

        Once, before `start`.
        """
        self.addressing = AddressingWriter(self, router)
        self.admin = AdminRequests(self, router, host)
        self.context.resolver = Resolver(self, router)
        self.context.pushes = Pushes(self, router, self.context.resolver)
        self.connect_bulk = connect_bulk

    def status(self) -> StoreStatus:
        """Return what the store does and waits for."""
        return store_status.status_of(self)

    # -- life ------------------------------------------------------------------------------------

    async def start(self, peers: tuple[NodeId, ...]) -> None:
        """Load every replica found on the engine, then take part once the clock allows (rule S3).

        Raises CorruptionError if a log has a hole or does not fit its applied state.
        """
        for peer in peers:
            self.add_peer(peer)
        engine = self.context.engine
        loaded: list[Replica] = []
        for found in state.stored_replicas(engine):
            loaded.append(self._load(found))
        await self.liveness.start()
        self._takes_part = True
        for replica in loaded:
            self.map.add(replica)
            self.turns.mark_dirty(replica)

    def _load(self, found: state.StoredReplica) -> Replica:
        engine = self.context.engine
        if found.state is None:
            assert found.placeholder is not None, "neither state nor placeholder was stored"
            log = raft_log.load(engine, found.range_id)
            return Replica(self, found.range_id, found.placeholder, log, None)
        descriptor, applied = found.state.descriptor, found.state.applied
        mine = descriptor.replica_on(self.context.node_id)
        if mine is None:
            raise errors.CorruptionError(
                reason=f"r{found.range_id} is kept here but its descriptor does not name this node"
            )
        log = raft_log.load(
            engine,
            found.range_id,
            configuration=state.configuration(descriptor),
            applied_index=applied.index,
        )
        return Replica(self, found.range_id, mine.replica_id, log, found.state)

    async def hand_over_all(self, timeout_s: float) -> None:
        """Hand every leadership to another node, as far as that succeeds within `timeout_s`."""
        led = iter([r for r in self.replicas.values() if r.leaseholder is not None])
        jobs = [self._hand_over_each(led) for _ in range(HAND_OVERS_CONCURRENT_MAX)]
        try:
            async with asyncio.timeout(timeout_s):
                ends = await asyncio.gather(*jobs, return_exceptions=True)
        except TimeoutError:
            return  # The others elect new leaders when support for this node runs out.
        for end in ends:
            if end is not None:
                self.fail(end)

    async def _hand_over_each(self, led: Iterator[Replica]) -> None:
        for replica in led:
            with contextlib.suppress(errors.MultiraftError):
                await self.admin.hand_over_to_any(replica)

    async def stop(self) -> None:
        """Stop serving and driving replicas; what waits is told so. The engine stays open."""
        await self.halt()
        for replica in self.replicas.values():
            replica.stop_serving()

    async def halt(self) -> None:
        """Do nothing any more: no message, no answer, no write."""
        self._failed = True
        self.liveness.stop()
        self.ticking.stop()
        self.turns.commits_owed.stop()
        if self._clock_timer is not None:
            self._clock_timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fail(self, error: BaseException) -> None:
        """Stop at once: durability, or an invariant, is in doubt."""
        if not self._failed:
            self._failed = True
            self.liveness.stop()
            self._on_failure(error)

    def or_fail(self, action: Callable[[], None]) -> None:
        """Run `action` unless the store has failed; what it does not expect stops the store."""
        if self._failed:
            return
        try:
            action()
        except Exception as error:
            self.fail(error)

    def spawn(self, coroutine: Coroutine[Any, Any, None], *, name: str) -> None:
        """Run a task of this store; an unexpected exception stops the store."""
        task = runtime.spawn(coroutine, name=name, on_error=self.fail)
        self._tasks[task] = None
        task.add_done_callback(lambda done: self._tasks.pop(done, None))

    # -- peers -----------------------------------------------------------------------------------

    def add_peer(self, node_id: NodeId) -> None:
        """Another node exists: exchange support with it."""
        if node_id not in self._peers:
            self._peers.add(node_id)
            self.liveness.add_peer(node_id)

    def known_nodes(self) -> frozenset[NodeId]:
        """Return every node of the cluster that this one has heard of, itself included."""
        return frozenset(self._peers)

    def peer_unreachable(self, node_id: NodeId) -> None:
        """A connection to `node_id` broke: what was on its way may be lost."""
        self._sweeps.add(self._tell_unreachable(node_id))

    def _tell_unreachable(self, node_id: NodeId) -> Steps:
        for replica in list(self.replicas.values()):
            if replica.leaseholder is not None:
                replica.peer_unreachable(node_id)
            yield

    def _post_liveness(self, node: NodeId, message: LivenessMessage) -> None:
        self.outbox.add_liveness(node, message)
        self.turns.schedule()

    # -- requests --------------------------------------------------------------------------------

    def submit(self, request: BatchRequest, reply: Reply) -> None:
        """Serve one part; `reply` is called exactly once, unless the store stops first."""
        if self._failed:
            return
        self.requests += 1
        try:
            validation.check(request, self.context.config.limits)
        except errors.RequestError as error:
            reply(self.context.refusal(error))
            return
        try:
            self._serve(request, reply)
        except Exception as error:
            self.fail(error)

    def _serve(self, request: BatchRequest, reply: Reply) -> None:
        replica = self.replicas.get(request.range_id)
        if replica is not None and replica.leaseholder is None:
            self.ticking.elections.ask_for(replica)
        if replica is None or replica.descriptor is None:
            if type(request.operations[0]) in OF_NODES:
                self.admin.tell_of_node(request.operations[0], reply)
            else:
                reply(self.context.refusal(self._elsewhere(request)))
        elif type(request.operations[0]) in ADMIN:
            self.admin.submit(replica, request.operations[0], reply)
        else:
            replica.submit(request, reply)

    def _elsewhere(self, request: BatchRequest) -> errors.RetryableError:
        """Return what helps a client that asked for a range which is not here."""
        first = request.operations[0]
        known: list[RangeDescriptor] = []
        if isinstance(first, Scan):
            known = self.map.descriptors_between(first.start, first.end)
        elif not isinstance(first, ADMIN):
            known = self.map.descriptors_between(first.key, None)
        if not known:
            # Whoever asks may have no other way to find where the range went (rule L6).
            tombstone = state.read_tombstone(self.context.engine, request.range_id)
            if tombstone is not None and tombstone.descriptor is not None:
                known = [tombstone.descriptor]
        if not known:
            return errors.RangeNotFoundError(
                range_id=request.range_id, node_id=self.context.node_id
            )
        return errors.RangeMismatchError(
            range_id=request.range_id, descriptors=[encoding.pack(d) for d in known]
        )

    # -- messages in -----------------------------------------------------------------------------

    def receive_frame(self, source: NodeId, payload: bytes) -> None:
        """Take a frame of another store. Raises ProtocolError if it cannot be understood.

        Its heartbeats are taken in at once, its Raft messages behind those that wait.
        """
        if self._failed or not self._takes_part:
            return
        try:
            frame = messages.decode_peer_frame(payload)
        except encoding.UNREADABLE as error:
            raise errors.ProtocolError(reason=f"an unreadable peer frame: {error}") from error
        try:
            self.context.hlc.forward_from_peer(frame.clock)
        except errors.ClockOffsetError:
            for message in frame.liveness:
                self.liveness.receive_refused(source, message)
            return
        self.or_fail(partial(self._take, source, frame, len(payload)))

    def _take(self, source: NodeId, frame: PeerFrame, frame_bytes: int) -> None:
        for message in frame.liveness:
            self.liveness.receive(source, message)
        if frame.envelopes:
            self.inbox.take(source, frame.envelopes, frame_bytes)
        for removal in frame.removals:
            self.removed(removal)

    def _deliver(self, source: NodeId, envelope: GroupEnvelope) -> None:
        replica = self.replicas.get(envelope.range_id)
        if replica is None or replica.replica_id != envelope.target:
            replica = self._receiver(source, envelope, replica)
            if replica is None:
                return
        replica.step(source, Envelope(envelope.source, envelope.target, envelope.message))

    def _receiver(
        self, source: NodeId, envelope: GroupEnvelope, other: Replica | None
    ) -> Replica | None:
        """Return the replica that a message is for, which is not here; None if it takes none.

        `other` is the replica of the range that is here.
        """
        if type(envelope.message) is StillLeading:
            self._deny_still_leading(source, envelope)
            return None
        if other is not None:
            if envelope.target < other.replica_id:
                return None
            # We were removed and added again: the old replica has to go first.
            self._destroy(other, Tombstone(envelope.target, other.descriptor))
        return self._new_receiver(source, envelope)

    def _deny_still_leading(self, source: NodeId, envelope: GroupEnvelope) -> None:
        """Release a follower of a replica that is not here any more (rule L1).

        It followed it, so the replica was here and led; what is removed never comes back.
        """
        term = envelope.message.term
        release = Release(envelope.target, term, NO_EPOCH, self.context.hlc.now())
        answer = GroupEnvelope(
            envelope.range_id,
            envelope.target,
            envelope.source,
            ReleaseFortification(term, release),
            envelope.start,
        )
        self.outbox.envelopes[source].append(answer)
        self.turns.schedule()

    def _new_receiver(self, source: NodeId, envelope: GroupEnvelope) -> Replica | None:
        """Return a new uninitialised replica for a message, or None if it must wait or is stale."""
        if self.map.at(envelope.start) is not None:
            self._held.hold(source, envelope)
            return None
        engine = self.context.engine
        tombstone = state.read_tombstone(engine, envelope.range_id)
        if tombstone is not None and envelope.target < tombstone.next_replica_id:
            return None
        batch = engine.new_batch()
        placeholder = Placeholder(envelope.target, envelope.start)
        state.write_placeholder(batch, engine, envelope.range_id, placeholder)
        engine.write(batch)
        log = raft_log.load(engine, envelope.range_id)
        replica = Replica(self, envelope.range_id, envelope.target, log, None)
        self.map.add(replica)
        return replica

    # -- replicas that go ------------------------------------------------------------------------

    def removed(self, removal: ReplicaRemoved) -> None:
        """A leader, or meta, says that our replica is no member any more: destroy it if so."""
        descriptor = removal.descriptor
        replica = self.replicas.get(descriptor.range_id)
        if replica is None or descriptor.replica_on(self.context.node_id) is not None:
            return
        known = replica.descriptor
        if known is not None and known.generation > descriptor.generation:
            return
        if replica.replica_id >= descriptor.next_replica_id:
            return
        self._destroy(replica, Tombstone(descriptor.next_replica_id, descriptor))

    def remove(self, turn: Turn, replica: Replica, descriptor: RangeDescriptor) -> None:
        """A replica applied a descriptor without itself: destroy it in the turn under way."""
        replica.destroy(turn, Tombstone(descriptor.next_replica_id, descriptor))
        self._forget(replica)

    def _destroy(self, replica: Replica, tombstone: Tombstone) -> None:
        """Remove a replica for ever, in one batch of its own."""
        engine = self.context.engine
        turn = Turn(engine.new_batch())
        replica.destroy(turn, tombstone)
        engine.write(turn.batch)
        self._forget(replica)

    def _forget(self, replica: Replica) -> None:
        self.map.remove(replica)
        self.turns.forget(replica)
        self.ticking.forget(replica)
        self._lease_waiters.pop(replica.range_id, None)

    # -- replicas that are split off -------------------------------------------------------------

    def create_right(
        self, turn: Turn, trigger: SplitTrigger, gc_threshold: Timestamp, *, live: bool
    ) -> None:
        """Give the right half of a split its replica here, as part of applying the split.

        What the whole range had collected up to `gc_threshold` is gone from the right half too.
        `live`: applied in the process and term that proposed it, so the first leader may lead
        without an election, once the batch is durable (rule S1).
        """
        engine, right, node_id = self.context.engine, trigger.right, self.context.node_id
        existing = self.replicas.get(right.range_id)
        assert existing is None or existing.descriptor is None, f"r{right.range_id} exists already"
        verdict = split.decide(
            trigger,
            node_id,
            None if existing is None else existing.replica_id,
            state.read_tombstone(engine, right.range_id),
        )
        if verdict is split.RightSide.LEAVE:
            state.clear_span(turn.batch, engine, right.start, right.end)
            return
        log = raft_log.RangeLog(engine, right.range_id) if existing is None else existing.log
        hard_state = split.right_hard_state(
            trigger, None if existing is None else existing.core.hard_state()
        )
        applied = state.initial_applied(trigger.right_stats, trigger.floor, gc_threshold)
        log.reset(turn.batch, state.INITIAL_INDEX, state.INITIAL_TERM)
        log.set_hard_state(turn.batch, hard_state)
        log.set_applied(state.configuration(right), state.INITIAL_INDEX)
        state.write_descriptor(turn.batch, engine, right)
        state.write_applied(turn.batch, engine, state.applied_key(right.range_id), applied)
        state.clear_placeholder(turn.batch, engine, right.range_id)
        range_state = RangeState(right, applied)
        if existing is None:
            mine = right.replica_on(node_id)
            assert mine is not None, "decided above"
            replica = Replica(self, right.range_id, mine.replica_id, log, range_state)
            self.map.add(replica)
        else:
            replica = existing
            replica.initialise(range_state)
            self.map.span_changed(replica, None)
        turn.after_write.append(partial(self._right_is_born, replica))
        if live and trigger.leader == node_id:
            turn.synced.append(partial(self._lead_first, replica))

    def _right_is_born(self, replica: Replica) -> None:
        self.turns.mark_dirty(replica)
        for held in self._held.take(replica.range_id):
            self._deliver(held.source, held.envelope)

    def _lead_first(self, replica: Replica) -> None:
        """The split's batch is durable here: lead the right range in its first term.

        Not if the disk was so slow that this replica already asks for votes: then let them decide.
        """
        core = replica.core
        if not replica.destroyed and core.term == state.INITIAL_TERM and core.role is Role.FOLLOWER:
            core.become_first_leader()
            self.turns.mark_dirty(replica)

    # -- what replicas ask -----------------------------------------------------------------------

    def descriptor_changed(self, replica: Replica) -> None:
        """A replica's descriptor changed, or it began to lead: see what it owes."""
        self.addressing.look_at(replica)
        holder, descriptor = replica.leaseholder, replica.descriptor
        if holder is not None and descriptor is not None and descriptor.is_joint:
            self.spawn(
                membership.leave_joint(self, replica, holder),
                name=f"leave joint r{replica.range_id}",
            )

    def send_snapshot(self, replica: Replica, target: ReplicaId) -> None:
        """A follower needs a snapshot: start to send one unless that is under way."""
        self.snapshots.start(replica, target)

    def post_removal(self, node: NodeId, descriptor: RangeDescriptor) -> None:
        """Tell `node` that its replica is no member any more."""
        self.outbox.add_removal(node, ReplicaRemoved(descriptor))
        self.turns.schedule()

    # -- time and support ------------------------------------------------------------------------

    def _wait_for_lease(self, replica: Replica, clock_s: float) -> None:
        """Have the leaseholder look again at the next tick, or when its clock may have come so far.

        0: it does not wait for the clock.
        """
        self._lease_waiters[replica.range_id] = replica
        if 0 < clock_s < self.context.config.raft.tick_ms / 1_000:
            self._look_again_at(max(clock_s, CLOCK_WAIT_S_MIN))
        self.ticking.start()

    def _look_again_at(self, delay_s: float) -> None:
        loop, timer = asyncio.get_running_loop(), self._clock_timer
        if timer is not None:
            if timer.when() <= loop.time() + delay_s:
                return
            timer.cancel()
        self._clock_timer = loop.call_later(delay_s, self.or_fail, self._clock_moved)

    def _clock_moved(self) -> None:
        self._clock_timer = None
        self._look_again()

    def _look_again(self) -> None:
        waiters, self._lease_waiters = self._lease_waiters, {}
        for replica in waiters.values():
            if replica.leaseholder is not None:
                replica.leaseholder.look_again()

    def _support_changed(self, node: NodeId, change: Change) -> None:
        self.or_fail(partial(self._follow_support, node, change))

    def _follow_support(self, node: NodeId, change: Change) -> None:
        if change is not Change.SUPPORT_FROM_EXTENDED and node not in self._support_changes:
            self._support_changes[node] = None
            self._sweeps.add(self._tell_support(node))
        if self._lease_waiters:
            self._look_again()

    def _tell_support(self, node: NodeId) -> Steps:
        del self._support_changes[node]  # What changes from now on is to be told again.
        for replica in list(self.replicas.values()):
            if not replica.destroyed and replica.depends_on(node):
                replica.support_changed()
            yield
