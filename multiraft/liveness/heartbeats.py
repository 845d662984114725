"""Drives support between stores: the one timer, the records on disk, the messages.

Purpose
    Give the pure `Support` its HLC, its engine and its peers. One timer per store, whatever the
    number of groups; each interval costs one message and one reply per peer and one or two syncs.
    A second timer runs only when a grant ends before the next beat, as when a peer has died.
Invariants
    - Before a started store says anything, its wall clock has passed everything it ever asked for
      and every HLC at which it ended support; its HLC never goes back over a restart (S3).
    - At most one sync is under way; messages wait for the sync of their records (A6).
    - After the engine failed, or this node's clock proved wrong, nothing is sent any more.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from multiraft import errors
from multiraft.config import LivenessConfig
from multiraft.ids import Epoch, NodeId, Timestamp
from multiraft.liveness import records
from multiraft.liveness.messages import ClockReading, LivenessMessage, SupportRequest
from multiraft.liveness.offsets import ClockOffsets, OffsetBounds
from multiraft.liveness.support import Change, Changes, Effects, Support
from multiraft.model import hlc
from multiraft.model.hlc import HybridClock
from multiraft.runtime import Clock
from multiraft.storage.engine import Engine

START_WAIT_S_MAX = 300.0
"""A node whose clock is further behind what it promised does not start, rather than wait."""

_CLOCK_STEP_S = 0.001
_CLOCK_WENT_BACK = (
    "the clock of this machine is {ahead_s:,.0f} s behind the time until which this node made "
    "promises: it is wrong now, or it was wrong when the node last ran; set it right, start the "
    "node again after that time, or replace the node by one with an empty directory"
)
_CLOCK_IS_WRONG = (
    "this node's clock differs from those of a majority of nodes by more than 80 % of the maximum "
    "offset; synchronise it (NTP) and start the node again"
)

Send = Callable[[NodeId, LivenessMessage], None]
OnChange = Callable[[NodeId, Change], None]
OnFailure = Callable[[BaseException], None]


class PeerStatus(msgspec.Struct, frozen=True):
    """One peer, or this store itself. Epochs are 0 for "no support"."""

    node_id: NodeId
    support_for: Epoch
    support_from: Epoch
    support_until: Timestamp
    offset: OffsetBounds | None


class LivenessStatus(msgspec.Struct, frozen=True):
    """`running` is False before start has returned, after stop, and after a failure."""

    node_id: NodeId
    running: bool
    sync_under_way: bool
    peers: tuple[PeerStatus, ...]


class Liveness:
    """Support between this store and others. Belongs to the event loop it was started on.

    `send` queues a message for a node and must not raise; lost messages are made up for by the next
    heartbeat. `on_change` is called after the change can be seen here; see Change. `on_failure` is
    called once, when this store must stop. Every message's sender's HLC must have been taken into
    `hybrid_clock` before `receive`.
    """

    def __init__(
        self,
        node_id: NodeId,
        config: LivenessConfig,
        hybrid_clock: HybridClock,
        clock: Clock,
        engine: Engine,
        send: Send,
        on_change: OnChange,
        on_failure: OnFailure,
    ) -> None:
        self._node_id = node_id
        self._interval_s = config.heartbeat_ms / 1_000
        self._hlc = hybrid_clock
        self._clock = clock
        self._engine = engine
        self._send = send
        self._on_change = on_change
        self._on_failure = on_failure
        stored = records.load(engine)
        self._clock_floor = stored.clock_floor
        self._support = Support(
            node_id,
            support=hlc.from_ms(config.support_ms),
            interval=hlc.from_ms(config.heartbeat_ms),
            stored=stored,
        )
        self._offsets = ClockOffsets(config.clock_offset_ms_max)
        self._running = False
        self._sync_under_way = False
        self._heartbeat_timer: asyncio.TimerHandle | None = None
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._flush_handle: asyncio.Handle | None = None
        self.support_for = self._support.support_for
        self.support_from = self._support.support_from

    @property
    def version(self) -> int:
        """Grows whenever an answer of `support_from` changes."""
        return self._support.version

    async def start(self) -> None:
        """Begin to ask and to answer.

        On return the store may serve, vote and send. A fresh store returns at once; a restarted one
        after its wall clock has passed its stored times: about the support time at most with a
        correct clock, and as long as it takes when the clock was set back. Cancelling leaves it
        stopped. Raises what the engine raises, and StartupError when it would take too long.
        """
        await self._record_start()
        # Looked at again after the sleep: the wall clock may have been set in between.
        while (ahead := self._clock_floor - self._hlc.wall()) >= 0:
            ahead_s = hlc.to_us(Timestamp(ahead)) / 1e6
            if ahead_s > START_WAIT_S_MAX:
                raise errors.StartupError(_CLOCK_WENT_BACK.format(ahead_s=ahead_s))
            await asyncio.sleep(ahead_s + _CLOCK_STEP_S)
        self._hlc.forward(self._clock_floor)
        self._running = True
        self._heartbeat()

    def stop(self) -> None:
        """Say nothing more. What was granted stays granted; peers withdraw when it runs out."""
        self._running = False
        for handle in (self._heartbeat_timer, self._expiry_timer, self._flush_handle):
            if handle is not None:
                handle.cancel()

    def add_peer(self, node: NodeId) -> None:
        """Ask `node` for support from now on."""
        self._support.add_peer(node)
        self._schedule_flush()

    def remove_peer(self, node: NodeId) -> None:
        """Ask `node` no more. It is still answered when it asks."""
        self._tell(self._support.remove_peer(node))

    def receive(self, node: NodeId, message: LivenessMessage) -> None:
        """Take a message in; before start has returned it is dropped."""
        if not self._running:
            return
        if isinstance(message, ClockReading):
            self._note_clock(node, message)
            return
        self._tell(self._support.receive(node, message, self._hlc.now()))
        self._schedule_flush()

    def receive_refused(self, node: NodeId, message: LivenessMessage) -> None:
        """Take a message of a frame that was dropped because its HLC was too far ahead.

        It may be this node's clock that is wrong, so the reading of the peer's clock counts, and
        nothing else does.
        """
        if self._running and isinstance(message, ClockReading):
            self._note_clock(node, message)

    def status(self) -> LivenessStatus:
        """Return what this store knows of its peers, itself included."""
        return LivenessStatus(
            self._node_id,
            self._running,
            self._sync_under_way,
            tuple(self._peer_status(node) for node in self._support.peers()),
        )

    def _peer_status(self, node: NodeId) -> PeerStatus:
        epoch, until = self.support_from(node)
        return PeerStatus(node, self.support_for(node), epoch, until, self._offsets.bounds(node))

    def _note_clock(self, node: NodeId, reading: ClockReading) -> None:
        self._offsets.note(
            node,
            sent_us=reading.wall_us,
            received_us=self._clock.wall_us(),
            ahead_us_min=reading.ahead_us_min,
        )

    def _heartbeat(self) -> None:
        # The next beat is an interval from now, however late this one is: rule L4 counts on it.
        self._heartbeat_timer = asyncio.get_running_loop().call_later(
            self._interval_s, self._heartbeat
        )
        self._or_fail(self._beat)

    def _beat(self) -> None:
        if self._offsets.end_round(self._support.peers()):
            self._fail(errors.StoreFailedError(reason=_CLOCK_IS_WRONG))
            return
        self._tell(self._support.tick(self._hlc.now()))
        self._flush()
        self._watch_expiry()

    def _watch_expiry(self) -> None:
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        now = self._hlc.now()
        until = self._support.next_expiry(now)
        if until is not None and self._running:
            ahead = max(0, until - now)
            wait_s = hlc.to_us(Timestamp(ahead)) / 1e6 + _CLOCK_STEP_S
            self._expiry_timer = asyncio.get_running_loop().call_later(
                wait_s, self._or_fail, self._expire
            )

    def _expire(self) -> None:
        self._expiry_timer = None
        self._support.withdraw_expired(self._hlc.now())
        self._flush()
        self._watch_expiry()

    def _tell(self, changes: Changes) -> None:
        for node, change in changes:
            self._on_change(node, change)

    def _schedule_flush(self) -> None:
        # Once per loop iteration: grants that arrive together share a batch and a sync.
        if self._running and self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_soon(self._or_fail, self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        if not self._running:
            return
        effects = self._support.take_effects(self._hlc.now())
        if effects is None:
            return
        if effects.asked is None and not effects.granted:
            self._finish(effects)
        else:
            self._write(effects, partial(self._synced, effects))

    def _write(self, effects: Effects, done: Callable[[BaseException | None], None]) -> None:
        batch = self._engine.new_batch()
        if effects.asked is not None:
            records.put_asked(batch, self._engine.data, effects.asked)
        for node, granted in effects.granted:
            records.put_granted(batch, self._engine.data, node, granted)
        self._engine.write(batch)
        self._sync_under_way = True
        self._engine.sync(done)

    def _synced(self, effects: Effects, error: BaseException | None) -> None:
        self._sync_under_way = False
        if not self._running:
            return
        if error is not None:
            self._fail(error)
            return
        self._or_fail(partial(self._finish, effects))

    def _finish(self, effects: Effects) -> None:
        self._tell(self._support.synced(effects, self._hlc.now()))
        if not self._running:
            return  # What the host was told made it stop.
        for node, message in effects.messages:
            self._send(node, message)
            if isinstance(message, SupportRequest):
                ahead_us_min = self._offsets.ahead_us_min(node)
                self._send(node, ClockReading(self._clock.wall_us(), ahead_us_min))
        self._flush()

    async def _record_start(self) -> None:
        effects = self._support.take_effects(self._hlc.now())
        assert effects is not None, "a start always has raised epochs to record"
        assert not effects.messages, "nobody is asked before the first heartbeat"
        synced = asyncio.get_running_loop().create_future()

        def done(error: BaseException | None) -> None:
            self._sync_under_way = False
            if synced.done():
                return  # The start was cancelled.
            if error is not None:
                synced.set_exception(error)
            else:
                synced.set_result(None)

        self._write(effects, done)
        await synced
        self._tell(self._support.synced(effects, self._hlc.now()))

    def _or_fail(self, action: Callable[[], None]) -> None:
        """Run what no caller waits for: a failed engine, or a mistake of ours, ends the store."""
        try:
            action()
        except Exception as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.stop()
        self._on_failure(error)
