"""One term of leadership of one range: requests are sequenced, evaluated, proposed, answered.

Purpose
    Everything that a leader knows beyond the applied state: latches, the timestamp cache, recent
    writes, commands in flight. It is made anew for every term, so nothing of it can outlive the
    term it was true in.
Life of a write
    submit -> latches -> evaluate (write-once check, timestamp, effects) -> propose -> the log ->
    applied -> latches released, answer. From the timestamp to `propose` nothing awaits (rule S17).
Invariants
    - Nothing is served before an entry of this term is applied, nor unless the lease covers the
      request's own timestamp. A request that had to wait is checked again in full.
    - A timestamp is read from the clock after the request arrived, never cached (rule A2). Times
      that come with requests are compared with the clock and never move it (rule S12).
    - Latches of a write are held until it is applied or the term is lost.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, cast

from multiraft import errors
from multiraft.concurrency.latches import Latch, LatchManager
from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.recent_writes import RecentWrites
from multiraft.concurrency.timestamp_cache import SHARED, TimestampCache
from multiraft.ids import NodeId, Term, Timestamp
from multiraft.model import hlc
from multiraft.model.requests import TRANSACTIONAL, BatchReply, BatchRequest, Put, Scan
from multiraft.mvcc import intents
from multiraft.mvcc.newest import LeaseholderReader
from multiraft.mvcc.writes import Counted
from multiraft.raft.membership import Refusal
from multiraft.raft.messages import Configuration
from multiraft.ranges import joining, lock_conflicts, messages, put_group
from multiraft.ranges.commands import reads, validation, writes
from multiraft.ranges.commands.setting import Setting
from multiraft.ranges.context import overloaded
from multiraft.ranges.messages import Command
from multiraft.ranges.pending import Pending, PendingRead, PendingWrite, Reply, scans
from multiraft.ranges.proposals import Proposal, Proposals, Waiter
from multiraft.ranges.put_group import PutGroup
from multiraft.ranges.transactions import PendingPart
from multiraft.ranges.truncation import Truncation

if TYPE_CHECKING:
    from multiraft.ranges.replica import Replica

_TRANSACTIONAL = frozenset(TRANSACTIONAL)

WAIT_S_MAX = 1.0
"""A request waits this long at most, in all, for the lease to cover it, and for the clock to reach
the times that it carries; then it is refused."""

GATHERED_BYTES_MAX = 64 << 10
"""Commands that are larger together are not joined to one."""


class Leaseholder:
    """See the module. Made by the replica when its core becomes leader, ended when it is not."""

    __slots__ = (
        "_ended",
        "_puts",
        "_puts_bytes",
        "_replica",
        "_serving",
        "_waiting",
        "cache",
        "context",
        "intents",
        "latches",
        "locks",
        "observers",
        "proposals",
        "reader",
        "recent",
        "requests_served",
        "serving_since",
        "term",
        "truncation",
    )

    def __init__(self, replica: "Replica", term: Term) -> None:
        self._replica = replica
        self.context = replica.context
        self.reader: LeaseholderReader = LeaseholderReader(self.context.engine, self.context.newest)
        self.term = term
        ranges = self.context.config.ranges
        now = self.context.hlc.last
        self.latches = LatchManager()
        self.locks = LockTable(ranges.locks_max, self.context.pushes)
        self.intents = 0
        """How many there are in the range, those of which the lock table knows included."""
        self.cache = TimestampCache(now, ranges.timestamp_cache_entries_max)
        self.recent = RecentWrites(ranges.recent_writes_max, now)
        self.proposals = Proposals(term)
        self.truncation = Truncation()
        self.observers: list[Callable[[Counted], None]] = []
        """Told of all changes once they are applied: a split counts its right half by them."""
        self.requests_served = 0
        self.serving_since = now
        """All that was in the range when the term began to serve lies below."""
        self._serving = False
        self._ended = False
        self._waiting: list[Pending] = []
        self._puts: list[put_group.Call] = []
        """Puts that have come since the last turn, or since a request of another kind."""
        self._puts_bytes = 0

    # -- the term's beginning and end ------------------------------------------------------------

    def begin_serving(self) -> None:
        """An entry of this term is applied here: everything that might have committed is known.

        The clock has taken in the votes' clocks, so it is above every timestamp served before
        (docs/architecture/liveness.md); the low-water mark and the clock floor carry that over.
        """
        assert not self._serving, "a term begins to serve once"
        clock = self.context.hlc
        clock.forward(self._replica.applied.clock_floor)
        floor = clock.now()
        self.cache.raise_low_water(floor)
        self.recent.reset(floor)
        self.serving_since = floor
        self._fill_lock_table()
        self._serving = True
        self.look_again()

    def end(self, leaseholder: NodeId | None) -> None:
        """The term is lost, or the replica is: everybody who waits is told where to go.

        Who waits for a latch is told as the latches in its way are released.
        """
        assert not self._ended, "a term ends once"
        self._ended = True
        self._serving = False
        error = errors.NotLeaseholderError(range_id=self._replica.range_id, leaseholder=leaseholder)
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            pending.refuse(error)
        puts, self._puts = self._puts, []
        for _, reply in puts:
            reply(self.context.refusal(error))
        self.locks.end()
        for proposal in self.proposals.drain():
            self.context.inflight_bytes -= proposal.size_bytes
            proposal.fail(error)

    @property
    def serving(self) -> bool:
        """Whether requests may be evaluated, lease permitting."""
        return self._serving

    def look_again(self) -> None:
        """Support or the term's state changed: serve what waited, or send it away after a while."""
        waiting, self._waiting = self._waiting, []
        for pending in waiting:
            pending.begin()

    def _fill_lock_table(self) -> None:
        """Take in what locks the state holds as of this term's first entry (rule A8)."""
        replica = self._replica
        descriptor = replica.descriptor
        self.intents = replica.applied.stats.locks
        if not self.intents:
            return
        assert descriptor is not None, "who serves has a descriptor"
        laid = intents.scan(self.context.reader, descriptor.start, descriptor.end)
        for key, intent in laid:
            self.locks.lay(key, intent.txn, intent.timestamp, intent.laid_at)

    def split_off(self, key: bytes, locks: int) -> None:
        """What lies at `key` and above, so many locks among it, is another range's from now on."""
        self.intents -= locks
        self.locks.remove_from(key)

    # -- requests --------------------------------------------------------------------------------

    def submit(self, request: BatchRequest, reply: Reply) -> None:
        """Serve a valid `request` that is not administrative; `reply` is called once."""
        operations = request.operations
        first = type(operations[0])
        if put_group.is_lone_put(request):
            self._submit_put(request, reply)
            return
        self.begin_puts()
        pending: Pending
        if request.txn is not None or first in _TRANSACTIONAL:
            pending = PendingPart(self, request, reply)
        elif first is Scan or validation.only_gets(operations):
            pending = PendingRead(self, request, reply)
        else:
            pending = PendingWrite(self, request, reply)
        pending.begin()

    def _submit_put(self, request: BatchRequest, reply: Reply) -> None:
        """Keep it for the turn: others may come that can be evaluated together with it."""
        if not self._puts:
            self.context.mark_dirty(self._replica)
        self._puts.append((request, reply))
        self._puts_bytes += len(cast("Put", request.operations[0]).value)
        if self._puts_bytes > GATHERED_BYTES_MAX:
            self.begin_puts()

    def begin_puts(self) -> None:
        """Begin the puts that have come: at the turn, or before what came behind them."""
        if self._puts:
            calls, self._puts, self._puts_bytes = self._puts, [], 0
            for request, reply in PutGroup(self).take(calls):
                PendingWrite(self, request, reply).begin()

    def may_serve(self, timestamp: Timestamp) -> bool:
        """Return whether the lease covers a request at `timestamp`."""
        return self._serving and self._replica.lease.covers(timestamp, self.context.hlc.offset_max)

    def wait(self, pending: Pending, reached: Timestamp = hlc.ZERO) -> None:
        """Look at `pending` again when support changes, or the clock has passed `reached`.

        It holds no latches. If it has waited long enough already it is refused instead.
        """
        now = self.context.clock.monotonic()
        if self._ended or (pending.deadline and now >= pending.deadline):
            pending.refuse(self.lost())
            return
        if not pending.deadline:
            pending.deadline = now + WAIT_S_MAX
        self._waiting.append(pending)
        ahead = reached - self.context.hlc.last
        ahead_us = 0 if ahead < 0 else hlc.to_us(Timestamp(ahead)) + 1
        self.context.wait_for_lease(self._replica, ahead_us / 1e6)

    def lost(self) -> errors.NotLeaseholderError:
        """Return the error that sends a client elsewhere."""
        return errors.NotLeaseholderError(
            range_id=self._replica.range_id, leaseholder=self._replica.leader_hint
        )

    def too_far_ahead(self, timestamp: Timestamp) -> errors.ClockOffsetError | None:
        """Return why a time that a request carries is not worth waiting for, or None."""
        clock = self.context.hlc
        ahead_ms = hlc.to_us(Timestamp(max(0, timestamp - clock.last))) // 1_000
        if ahead_ms <= WAIT_S_MAX * 1_000:
            return None
        limit_ms = hlc.to_us(clock.offset_max) // 1_000
        return errors.ClockOffsetError(ahead_ms=ahead_ms, limit_ms=limit_ms)

    def _objection(self, latch: Latch) -> errors.MultiraftError | None:
        """Return why what `latch` covers cannot be served here, or None. Asked after every wait."""
        if self._ended:
            return self.lost()
        for start, end in latch.read_spans:
            error = self._replica.mismatch(start, end)
            if error is not None:
                return error
        for key in latch.write_points or latch.read_points:
            error = self._replica.mismatch(key, None)
            if error is not None:
                return error
        return None

    # -- what puts that are evaluated together ask -----------------------------------------------

    def serves_puts(self, last: Timestamp, floor: Timestamp) -> bool:
        """Return whether puts above `floor`, up to `last`, wait for nothing but keys in use."""
        return (
            self.may_serve(last)
            and self.locks.is_empty
            and not self.latches.has_spans
            and self.cache.latest <= floor
            and self.context.write_refusal is None
        )

    def gather_within_limits(self, command: Command, waiter: Waiter) -> bool:
        """Hand a plain command to the turn; False if a limit would be reached with it."""
        config = self.context.config.ranges
        size_bytes = joining.size_of(command)
        return (
            self.proposals.size_bytes + size_bytes <= config.inflight_bytes_per_range_max
            and self.context.inflight_bytes + size_bytes <= config.inflight_bytes_per_store_max
            and self._gather(command, size_bytes, waiter)
        )

    @property
    def span(self) -> tuple[bytes, bytes]:
        """The keys that the range has."""
        descriptor = self._replica.descriptor
        assert descriptor is not None, "who serves has a descriptor"
        return descriptor.start, descriptor.end

    @property
    def issued_after(self) -> int:
        """A write is refused unless it was issued after this."""
        return self._replica.applied.gc_threshold or -1

    # -- what parts of transactions ask ----------------------------------------------------------

    @property
    def ended(self) -> bool:
        """Whether the term is lost."""
        return self._ended

    def mismatch(self, start: bytes, end: bytes | None) -> errors.RangeMismatchError | None:
        """Return an error if the key, or span, lies outside the range."""
        return self._replica.mismatch(start, end)

    def contains(self, key: bytes) -> bool:
        """Return whether the range has `key`."""
        descriptor = self._replica.descriptor
        return descriptor is not None and descriptor.start <= key < descriptor.end

    def setting(self, now: Timestamp, asked_at: Timestamp) -> Setting:
        """Return what a part is evaluated in at the time `now`, its latches held."""
        replica, context = self._replica, self.context
        descriptor, applied = replica.descriptor, replica.applied
        assert descriptor is not None, "who serves has a descriptor"
        return Setting(
            self.reader,
            self.cache,
            self.recent,
            self.locks,
            context.config.limits,
            now,
            context.hlc.offset_max,
            applied.gc_threshold,
            applied.clock_floor,
            hlc.from_ms(context.config.ranges.transaction_expiry_ms),
            descriptor.start,
            descriptor.end,
            context.node_id,
            self.serving_since,
            asked_at,
        )

    # -- evaluation ------------------------------------------------------------------------------

    def read(self, pending: PendingRead) -> BatchReply | None:
        """Evaluate a part that only reads, under its latches.

        Returns None when the part has to wait: for a renewal of the lease (rule L5), for the clock
        to reach a scan's timestamp, or what its client has been told before (both came from nodes
        whose clocks are a little ahead, so a scan shows whatever its client knows of), or for a
        lock.
        """
        request = pending.request
        error = self._objection(pending.latch)
        if error is not None:
            return self.context.refusal(error)
        clock = self.context.hlc
        now = clock.now()
        timestamp = request.timestamp or now
        reached = max(timestamp, request.issued_at)
        if reached > now or not self.may_serve(timestamp):
            ahead = self.too_far_ahead(reached)
            if ahead is not None:
                return self.context.refusal(ahead)
            pending.step_back(reached)
            return None
        if timestamp <= self._replica.applied.gc_threshold:
            return self.context.refusal(
                errors.ReadTooOldError(
                    timestamp=timestamp, threshold=self._replica.applied.gc_threshold
                )
            )
        if not self.locks.is_empty and lock_conflicts.blocks_read(pending, timestamp):
            return None
        self.requests_served += 1
        reader = self.reader
        uncertainty_limit = Timestamp(0)
        if type(request.operations[0]) is Scan:
            for scan in scans(request):
                self.cache.add_span(scan.start, scan.end, timestamp, SHARED)
            evaluate = reads.scan_all
            if not request.timestamp:
                uncertainty_limit = Timestamp(timestamp + clock.offset_max)
        else:
            for operation in validation.points(request):
                self.cache.add_point(operation.key, timestamp, SHARED)
            evaluate = reads.get_all
        try:
            results = evaluate(reader, request.operations, timestamp, self.context.config.limits)
        except errors.RequestError as impossible:
            return self.context.refusal(impossible)
        return BatchReply(results, timestamp, clock.last, None, uncertainty_limit)

    def write(self, pending: PendingWrite) -> BatchReply | None:
        """Evaluate a part that writes, under its latches, and propose its effects.

        Returns the reply if the part is settled at once, None if it was proposed or has to wait.
        """
        request = pending.request
        keys = pending.latch.write_points
        error = (
            self._objection(pending.latch)
            or self.backpressure()
            or self._older_than_garbage(request)
            or self.context.write_refusal
        )
        if error is not None:
            return self.context.refusal(error)
        clock = self.context.hlc
        timestamp = clock.now()
        if request.issued_at >= timestamp or not self.may_serve(timestamp):
            # Rule S12: our clock does not follow a client's; the part waits until it is above.
            ahead = self.too_far_ahead(request.issued_at)
            if ahead is not None:
                return self.context.refusal(ahead)
            pending.step_back(request.issued_at)
            return None
        if not self.locks.is_empty and lock_conflicts.blocks_write(pending, keys):
            return None
        for key in keys:
            floor = self.cache.write_floor(key, SHARED)
            if floor > timestamp:  # noqa: PLR1730 - max() takes three times as long
                timestamp = floor
        clock.forward(timestamp)
        reader = self.reader
        result_bytes_max = self.context.config.limits.batch_bytes_max
        try:
            if not self.recent.knows_absence(request.id, request.issued_at):
                applied_at = self.recent.timestamp_of(request.id)
                replay = writes.replay(reader, request, result_bytes_max, applied_at)
                if replay is not None:
                    return BatchReply(replay.results, replay.timestamp, clock.last)
        except errors.RequestError as outcome:
            return self.context.refusal(outcome)
        evaluation = writes.evaluate(reader, request, timestamp, result_bytes_max)
        self.requests_served += 1
        if evaluation.error is None:
            pending.answer = BatchReply(evaluation.results, timestamp, timestamp)
        else:
            pending.answer = self.context.refusal(evaluation.error)
        write_set = evaluation.write_set
        for key in keys:
            # What was read to come to this answer must not change below its timestamp.
            if not write_set.writes(key):
                self.cache.add_point(key, timestamp, SHARED)
        if write_set.is_empty:
            return pending.answer
        effects = write_set.effects()
        pending.write_set = write_set
        command = Command(request.id, timestamp, effects.puts, effects.stats)
        if self._propose_plain(command, pending):
            return None
        return self.context.refusal(self.not_proposed())

    def propose(
        self, command: Command, waiter: Waiter, configuration: Configuration | None = None
    ) -> bool:
        """Hand a command to the log under this term; False if the core refuses it.

        Plain commands are logged together, at the begin of the next turn at the latest.
        `configuration` is what the command brings into force, if it changes that.
        """
        if configuration is None and joining.is_plain(command):
            return self._propose_plain(command, waiter)
        self.propose_gathered()
        core = self._replica.core
        payload = messages.encode(command)
        if configuration is None:
            index = core.propose(payload, self.term)
        else:
            index = core.propose_configuration(payload, self.term, configuration)
        if not index:
            return False
        parts = [(command, waiter)]
        self.proposals.add(index, Proposal(self.term, command, parts, len(payload)))
        self.context.inflight_bytes += len(payload)
        self.context.mark_dirty(self._replica)
        return True

    def _propose_plain(self, command: Command, waiter: Waiter) -> bool:
        if not self._gather(command, joining.size_of(command), waiter):
            return False
        self.context.mark_dirty(self._replica)
        return True

    def _gather(self, command: Command, size_bytes: int, waiter: Waiter) -> bool:
        """Hand a plain command to the next turn, which must be due; False if the core refuses."""
        proposals = self.proposals
        ahead_bytes = proposals.gathered_bytes
        if not self._replica.core.accepts(size_bytes, self.term, ahead_bytes=ahead_bytes):
            return False
        proposals.gather(command, size_bytes, waiter)
        self.context.inflight_bytes += size_bytes
        if proposals.gathered_bytes > GATHERED_BYTES_MAX:
            self.propose_gathered()
        return True

    def propose_all(self) -> None:
        """Put into the log whatever has come and can be now: it is the range's turn."""
        if self._puts:
            self.begin_puts()
        if self.proposals.gathered_bytes:
            self.propose_gathered()

    def propose_gathered(self) -> None:
        """Put what this turn's requests have to be logged into the log, as one command.

        Waiters are told if the core has come to refuse it: the term may be lost since.
        """
        proposal = self.proposals.take_gathered()
        if proposal is None:
            return
        index = self._replica.core.propose(messages.encode(proposal.command), self.term)
        if index:
            self.proposals.add(index, proposal)
        else:
            self.context.inflight_bytes -= proposal.size_bytes
            proposal.fail(self.not_proposed())

    def not_proposed(self) -> errors.MultiraftError:
        """Return why the core has refused a proposal."""
        if self._replica.core.refusal is Refusal.OVERLOADED:
            return self._overloaded()
        return self.lost()

    def _overloaded(self) -> errors.OverloadedError:
        return overloaded(f"r{self._replica.range_id}")

    def backpressure(self) -> errors.MultiraftError | None:
        """Return why nothing more can be proposed now, or None."""
        config = self.context.config.ranges
        if self.proposals.size_bytes > config.inflight_bytes_per_range_max:
            return self._overloaded()
        if self.context.inflight_bytes > config.inflight_bytes_per_store_max:
            return overloaded(f"the store of n{self.context.node_id}")
        return None

    def _older_than_garbage(self, request: BatchRequest) -> errors.MultiraftError | None:
        if request.issued_at <= self.issued_after:
            return errors.OutcomeUnknownError(
                reason="the request is older than what garbage collection keeps"
            )
        return None
