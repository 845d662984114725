"""Sends operations to the ranges that hold their keys, until they are answered.

Purpose
    The one way by which anybody reaches a range: applications through `Database`, stores when they
    write addressing records and draw range IDs.
Life of a request
    `execute` cuts it into parts, one per range. A part whose range and leader are in the cache and
    whose node is connected is sent at once: no task, no timer of its own, one future for the whole
    call. Anything else, and anything but a good reply, goes the long way (pursuit.py). The results
    are put together in the order of the operations.
Invariants
    - A request that writes has an ID and `issued_at` before its first attempt; they never grow
      (rules S8, S12). The ID comes from `Rng` (rule A10).
    - Every call ends by its deadline, at most one sweep interval late.
    - Without calls there is no timer.
Source
    Design §12 and §13; safety rules S7, S8, S12, S19, L6.
"""

import asyncio
from collections.abc import Sequence

import msgspec

from multiraft import config, errors, runtime
from multiraft.client import arguments, calls, routing
from multiraft.client.addressing import Addressing
from multiraft.client.calls import Call, Part
from multiraft.client.cluster_clock import ClusterClock
from multiraft.client.connections import Connections, Link
from multiraft.client.pursuit import Pursuit
from multiraft.client.range_cache import CachedRange, RangeCache
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model.descriptor import RangeDescriptor
from multiraft.model.requests import BatchReply, BatchRequest, Operation, Scan
from multiraft.model.transaction_requests import TransactionContext
from multiraft.net.transport import Transport, Welcome
from multiraft.runtime import Clock, Rng

SWEEP_INTERVAL_S = 0.05
"""How often calls are looked at for passed deadlines: one timer for all of them."""

TELLING_MS = 20
"""It takes a range that long at most, as a rule, to tell what it has waited for in vain."""

RANGES_CACHED_MAX = 65_536

NO_TIMESTAMP = Timestamp(0)


class RouterStatus(msgspec.Struct, frozen=True):
    """What a router is doing."""

    cluster_id: str
    nodes_connected: tuple[NodeId, ...]
    nodes_known: tuple[NodeId, ...]
    ranges_cached: int
    calls_pending: int
    parts_pursued: int
    pursuits: int
    """Parts, since the start, that did not end with their first attempt."""
    lookups: int


class Router:
    """See the module. Belongs to the event loop on which it was made."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        rng: Rng,
        settings: config.ClientConfig,
        *,
        seeds: Sequence[str] = (),
    ) -> None:
        self.rng = rng
        self.settings = settings
        self.loop = asyncio.get_running_loop()
        self._monotonic = clock.monotonic
        self._attempt_timeout_s = settings.attempt_timeout_ms / 1_000
        self._attempt_wait_ms = _longest_wait_ms(self._attempt_timeout_s)
        self._cluster_clock = ClusterClock(settings.issued_at_margin_ms)
        self.connections = Connections(
            transport,
            clock,
            rng,
            seeds=tuple(seeds),
            on_welcome=self._welcomed,
            on_clock=self._observe,
        )
        self.addressing = Addressing(
            RangeCache(RANGES_CACHED_MAX), self._read_records, self.connections.refresh
        )
        self._links = self.connections.links
        self._lookup = self.addressing.cache.lookup
        self._sweeper: asyncio.TimerHandle | None = None
        self._pursued: dict[Part, None] = {}
        self._pursuits = 0
        self._leader_news: dict[RangeId, asyncio.Future[None]] = {}
        """Resolved when a part of the range is answered: for those that wait for a leader."""
        self._is_closed = False

    async def open(self) -> None:
        """Reach any node, and learn of the cluster from it.

        Raises NodeUnavailableError, WrongClusterError or ProtocolError if none can be talked to.
        """
        await self.connections.refresh()

    async def close(self) -> None:
        """Close every connection. Calls that are not answered yet end with StoppedError."""
        self._is_closed = True
        stopped = errors.StoppedError(what="the client")
        for call in self._open_calls():
            call.abandon(stopped)
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        await self.connections.close()

    def status(self) -> RouterStatus:
        """Return what this router is doing."""
        connections = self.connections
        return RouterStatus(
            cluster_id=connections.cluster_id,
            nodes_connected=tuple(sorted(connections.links)),
            nodes_known=tuple(sorted(connections.peers)),
            ranges_cached=len(self.addressing.cache),
            calls_pending=len(self._open_calls()),
            parts_pursued=len(self._pursued),
            pursuits=self._pursuits,
            lookups=self.addressing.lookups,
        )

    async def execute(
        self,
        operations: tuple[Operation, ...],
        *,
        deadline_s: float | None = None,
        timestamp: Timestamp = NO_TIMESTAMP,
        anchor: bytes | None = None,
    ) -> BatchReply:
        """Carry out the operations, and return their results in the same order.

        Atomic per range only. A scan is cut at the end of its first range, and its `resume` says
        where it goes on. Operations that name no key go to the range that holds `anchor`.

        The error of a part that failed for good is raised once all parts have ended; those in other
        ranges may have been written. At the deadline: DeadlineExceededError if nothing was written,
        nor can be; OutcomeUnknownError otherwise. If cancelled, a write may or may not happen.
        """
        call = self.start(operations, deadline_s=deadline_s, timestamp=timestamp, anchor=anchor)
        try:
            return await call.future
        except asyncio.CancelledError:
            call.abandon()
            raise

    def start(
        self,
        operations: tuple[Operation, ...],
        *,
        deadline_s: float | None = None,
        timestamp: Timestamp = NO_TIMESTAMP,
        anchor: bytes | None = None,
    ) -> Call:
        """Like `execute`, for a caller that awaits `future` later, or calls `abandon`."""
        if self._is_closed:
            raise errors.StoppedError(what="the client")
        if deadline_s is None:
            deadline_s = self.settings.deadline_s
        else:
            arguments.check_deadline(deadline_s)
        now = self._monotonic()
        call = Call(
            self,
            operations,
            self.loop.create_future(),
            deadline_s,
            now + deadline_s,
            timestamp,
            anchor,
        )
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)
        if len(operations) == 1:
            operation = operations[0]
            part = Part(self, call, _ONE, operations)
            self._identify(part, now)
            target: CachedRange | None
            if anchor is None and type(operation) is not Scan:
                target = self._lookup(operation.key)  # type: ignore[union-attr]
            else:
                target = self._cached(call, operation)
            self.launch(part, target, now)
        else:
            self._start_parts(call, now)
        return call

    def start_in_transaction(
        self,
        operations: tuple[Operation, ...],
        txn: TransactionContext,
        *,
        issued_at: Timestamp,
        timestamp: Timestamp,
        deadline: float,
        is_whole: bool = False,
    ) -> Call:
        """Like `start`, for a part of a transaction; `deadline` is a monotonic time.

        With `is_whole` the operations go to one range together, or not at all: if they are in
        several, RangeMismatchError. Errors that tell the transaction to move or to end are raised.
        DeadlineExceededError at once when it has passed. OutcomeUnknownError before it: it is not
        known whether a part that writes was carried out, and cannot be found out by sending it
        again. When the call has failed, `is_open` says whether all of it may still be carried out.
        """
        if self._is_closed:
            raise errors.StoppedError(what="the client")
        now = self._monotonic()
        if now >= deadline:
            raise errors.DeadlineExceededError(
                deadline_s=0.0, last_error="it had passed when this was asked for"
            )
        future: asyncio.Future[BatchReply] = self.loop.create_future()
        call = Call(self, operations, future, deadline - now, deadline, timestamp, None)
        call.txn = txn
        call.issued_at = issued_at
        call.is_whole = is_whole
        if self._sweeper is None:
            self._sweeper = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)
        if is_whole or len(operations) == 1:
            part = Part(self, call, range(len(operations)), operations)
            self._identify(part, now)
            self.launch(part, self._cached(call, operations[0]), now)
        else:
            self._start_parts(call, now)
        return call

    async def send_to_node(
        self,
        node_id: NodeId,
        range_id: RangeId,
        operations: tuple[Operation, ...],
        timeout_s: float,
    ) -> BatchReply:
        """Ask exactly that node, once. Raises what it answers, or NodeUnavailableError."""
        link = await self.connections.open(node_id)
        answer = _Answer(self.loop.create_future(), self._monotonic() + timeout_s)
        call_id = link.call(BatchRequest(range_id, operations), answer)
        try:
            async with asyncio.timeout(timeout_s):
                reply = await answer.future
        except TimeoutError:
            raise errors.NodeUnavailableError(
                target=f"n{node_id}", reason=f"no reply within {timeout_s:g} s"
            ) from None
        finally:
            link.forget(call_id)
        if reply.error is not None:
            raise errors.from_wire(reply.error)
        return reply

    def learn(self, descriptors: Sequence[RangeDescriptor]) -> None:
        """Take in descriptors that are known from elsewhere, such as this node's own ranges."""
        for descriptor in descriptors:
            self.addressing.cache.insert(descriptor)

    def together(self, operations: Sequence[Operation]) -> Sequence[int]:
        """Return the places of the operations that are in the first one's range, as is known."""
        if len(operations) == 1:
            return _ONE
        target = self._lookup_of(operations[0])
        if target is None:
            return _ONE
        return [p for p, each in enumerate(operations) if self._lookup_of(each) is target]

    def now(self) -> float:
        """Return the monotonic time in which deadlines are given."""
        return self._monotonic()

    def issued_at(self) -> Timestamp:
        """Return a lower bound of the cluster's clock, for what is issued now (rule S12)."""
        return self._cluster_clock.issued_at(self._monotonic())

    def cluster_time(self) -> Timestamp:
        """Return an estimate of the cluster's clock."""
        return self._cluster_clock.estimate(self._monotonic())

    # -- for parts and their pursuits --------------------------------------------------------------

    def anchor(self, call: Call, operation: Operation) -> tuple[bytes, bool]:
        """Return the key by which the operation is routed, and whether the one below is meant."""
        return routing.anchor_of(operation) if call.anchor is None else (call.anchor, False)

    def launch(self, part: Part, target: CachedRange | None, now: float | None = None) -> None:
        """Send the part's next attempt at once if that is possible, else pursue it."""
        if target is not None and target.leader is not None:
            link = self._links.get(target.leader)
            if link is not None:
                self.send(part, link, target, now)
                return
        self._pursue(part, None)

    def date(self, part: Part) -> None:
        """Make a write that was never sent as young as it is: it may have waited to be sent.

        Before the first connection there is no clock to date it by; see `ClusterClock.issued_at`.
        """
        if part.attempt == 0 and part.id and part.call.txn is None:
            part.issued_at = self._cluster_clock.issued_at(self._monotonic())

    def send(self, part: Part, link: Link, target: CachedRange, now: float | None = None) -> None:
        """Send the part's next attempt over `link`."""
        now = self._monotonic() if now is None else now
        expires = now + self._attempt_timeout_s
        wait_ms_max = self._attempt_wait_ms
        if expires > part.call.deadline or (part.is_mutation and not part.id):
            expires = part.call.deadline  # An admin operation takes what time it takes.
            wait_ms_max = _longest_wait_ms(expires - now)
        operations, bounds = part.operations, None
        if type(operations[0]) in routing.OVER_SPANS:
            operations, bounds = routing.cut_to(
                operations, target.descriptor.start, self.addressing.cache.end_of(target)
            )
        part.send(link, target, expires, operations, bounds, wait_ms_max)

    def can_be_told(self, part: Part) -> bool:
        """Return whether a range may let it wait, and still tell of that before the deadline."""
        return _longest_wait_ms(part.call.deadline - self._monotonic()) > 0

    def unsettled(self, part: Part, error: errors.MultiraftError, reply: BatchReply | None) -> None:
        """Go on with a part whose newest attempt failed (calls.Owner)."""
        if isinstance(error, errors.ClockOffsetError) and reply is not None and reply.clock:
            now = self._monotonic()
            self._cluster_clock.reset(reply.clock, now)
            part.issued_at = min(part.issued_at, self._cluster_clock.issued_at(now))
        if isinstance(error, errors.DiskFullError) and part.attempts_open == 0:
            part.fail(error)
        elif part.task is None:
            self._pursue(part, error)
        elif part.waiter is not None and not part.waiter.done():
            part.waiter.set_result(error)
        # Otherwise the pursuit has given that attempt up and is about to make another.

    def forget(self, part: Part) -> None:
        """Stop the pursuit of a part that has ended (calls.Owner)."""
        self._pursued.pop(part, None)
        if part.waiter is not None and not part.waiter.done():
            part.waiter.set_result(None)
        elif part.task is not None and part.task is not asyncio.current_task():
            part.task.cancel()

    def answered(self, part: Part) -> None:
        """Remember who leads the part's range (calls.Owner)."""
        if part.target is None:
            return
        range_id = part.target.range_id
        self.addressing.cache.set_leader(range_id, part.node_id)
        news = self._leader_news.pop(range_id, None)
        if news is not None:
            news.set_result(None)

    @property
    def pursued_parts(self) -> int:
        """How many parts are going the long way."""
        return len(self._pursued)

    async def wait_for_leader(self, range_id: RangeId, timeout_s: float) -> None:
        """Wait until a part is answered by the range's leader, or until the time is over."""
        news = self._leader_news.get(range_id)
        if news is None:
            news = self._leader_news[range_id] = self.loop.create_future()
        await asyncio.wait((news,), timeout=timeout_s)

    # -- inside ------------------------------------------------------------------------------------

    def _identify(self, part: Part, now: float) -> None:
        """Give the part what it needs before it is sent for the first time."""
        txn = part.call.txn
        if txn is not None:
            part.id = txn.meta.id
            part.issued_at = part.call.issued_at
            part.is_mutation = type(part.operations[0]) not in calls.TRANSACTION_READS
            return
        for operation in part.operations:
            kind = type(operation)
            if kind in calls.MUTATIONS:
                part.is_mutation = True
                if kind in calls.WRITES:
                    part.id = self.rng.unique_id()
                    part.issued_at = self._cluster_clock.issued_at(now)
                    return
            elif kind is Scan:
                part.issued_at = self._cluster_clock.latest

    def _start_parts(self, call: Call, now: float) -> None:
        groups: dict[RangeId | None, list[int]] = {}
        targets: dict[RangeId | None, CachedRange | None] = {None: None}
        for index, operation in enumerate(call.operations):
            target = self._cached(call, operation)
            range_id = None if target is None else target.range_id
            targets[range_id] = target
            groups.setdefault(range_id, []).append(index)
        # All parts are made before one is sent: a call ends when it has no part left.
        parts = [
            Part(self, call, indices, tuple(call.operations[index] for index in indices))
            for indices in groups.values()
        ]
        for part, range_id in zip(parts, groups, strict=True):
            self._identify(part, now)
            self.launch(part, targets[range_id], now)

    def _lookup_of(self, operation: Operation) -> CachedRange | None:
        key, before = routing.anchor_of(operation)
        return self.addressing.cached(key, before=before)

    def _cached(self, call: Call, operation: Operation) -> CachedRange | None:
        key, before = self.anchor(call, operation)
        return self.addressing.cached(key, before=before)

    def _pursue(self, part: Part, error: errors.MultiraftError | None) -> None:
        self._pursuits += 1
        self._pursued[part] = None
        part.task = runtime.spawn(
            Pursuit(self, part).run(error), name="pursue a part", on_error=part.call.abandon
        )

    async def _read_records(self, operations: tuple[Operation, ...], deadline: float) -> BatchReply:
        return await self.execute(operations, deadline_s=max(0.0, deadline - self._monotonic()))

    def _welcomed(self, welcome: Welcome) -> None:
        self._observe(welcome.clock)
        if welcome.first_range is not None:
            self.addressing.cache.insert(welcome.first_range)

    def _observe(self, clock: Timestamp) -> None:
        self._cluster_clock.observe(clock, self._monotonic())

    def _open_calls(self) -> list[Call]:
        waiting = [
            caller
            for link in self._links.values()
            for caller in link.pending.values()
            if isinstance(caller, Part)
        ]
        return list({id(part.call): part.call for part in (*waiting, *self._pursued)}.values())

    def _sweep(self) -> None:
        """End calls whose deadline has passed, and give up attempts that took too long."""
        self._sweeper = None
        now = self._monotonic()
        waiting = [
            (call_id, caller)
            for link in self._links.values()
            for call_id, caller in link.pending.items()
        ]
        for call_id, caller in waiting:
            if caller.expires <= now and isinstance(caller, Part):
                self._attempt_expired(caller, call_id, now)
        for part in list(self._pursued):
            if part.call.deadline <= now:
                part.call.expire()
        if waiting or self._pursued:
            self._sweeper = self.loop.call_later(SWEEP_INTERVAL_S, self._sweep)

    def _attempt_expired(self, part: Part, call_id: int, now: float) -> None:
        if part.call.future.done():
            part.call.abandon()
        elif part.call.deadline <= now:
            part.call.last_error = part.call.last_error or self._no_reply(part)
            part.call.expire()
        elif call_id == part.call_id:
            self.unsettled(part, self._no_reply(part), None)

    def _no_reply(self, part: Part) -> errors.MultiraftError:
        return errors.NodeUnavailableError(
            target=f"n{part.node_id}", reason=f"no reply within {self._attempt_timeout_s:g} s"
        )


class _Answer:
    """Who waits for the reply to `send_to_node` (connections.Caller)."""

    __slots__ = ("expires", "future")

    def __init__(self, future: asyncio.Future[BatchReply], expires: float) -> None:
        self.future = future
        self.expires = expires

    def replied(self, _call_id: int, reply: BatchReply) -> None:
        """Take the reply."""
        if not self.future.done():
            self.future.set_result(reply)

    def unanswered(self, _call_id: int, error: errors.MultiraftError) -> None:
        """Take the error."""
        if not self.future.done():
            self.future.set_exception(error)


def _longest_wait_ms(left_s: float) -> int:
    """Return how long a range may wait for locks and still tell of it within `left_s`.

    Most of what is left, so that each time it is sent again the wait gets shorter, and the last
    answer is close to the deadline. 0, which is no bound, if there is no time for an answer.
    """
    left_ms = int(left_s * 1_000)
    return left_ms * 7 // 8 if left_ms > TELLING_MS else 0


_ONE = (0,)
