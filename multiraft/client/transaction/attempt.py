"""One attempt at a transaction: who it is, what it has read and laid, and how it asks.

Purpose
    The state that reads, the commit and the end of a transaction share, and the ways in which its
    requests are sent. An attempt has an ID of its own; when it fails, the next one is another
    object with another ID, and keeps the age (`began`).
Invariants
    - All reads are at one time, `read_timestamp`. The leaseholder of the first part that reads
      chooses it, and exactly one part goes first (rule S19).
    - The time moves only forward, and only when a refresh has shown that nothing that was read has
      changed since. A read that is under way meanwhile is covered by it.
    - Nothing is locked or laid before the anchor is known; from then on it does not change.
Source
    Design §11; safety rules S9, S13, S19.
"""

import asyncio
from collections.abc import Iterable, Sequence
from enum import Enum
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.client.calls import Call
from multiraft.client.transaction.read_spans import ReadSpans
from multiraft.client.transaction.write_buffer import WriteBuffer
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import (
    BatchReply,
    Get,
    GetResult,
    Operation,
    Result,
    Scan,
    ScanResult,
)
from multiraft.model.transaction import TransactionMeta
from multiraft.model.transaction_requests import Refresh, RefreshResult, TransactionContext

if TYPE_CHECKING:
    from multiraft.client.transaction.coordinator import Coordinator

NO_TIMESTAMP = Timestamp(0)

REFRESHES_PER_CALL = 1_000

FLUSH_KEYS = 1_000
"""So many unsent keys are laid before the commit, whatever their size."""

FLUSHES_CONCURRENT_MAX = 4


class State(Enum):
    """What can be done with an attempt. The value completes the sentence "it ..."."""

    ACTIVE = "is under way"
    COMMITTING = "is being committed"
    COMMITTED = "has committed"
    ROLLED_BACK = "was rolled back"
    FAILED = "has failed"


class Attempt:
    """See the module. `before` is the attempt that this one follows.

    `contended` are keys to lock when they are read, since others want them, too.
    """

    __slots__ = (
        "_failure_before",
        "_locking",
        "_moving",
        "_reading",
        "began",
        "buffer",
        "contended",
        "coordinator",
        "deadline",
        "deadline_s",
        "failure",
        "flushes",
        "hot",
        "id",
        "is_open",
        "is_released",
        "issued_at",
        "last_refusal",
        "locked",
        "meta",
        "operations_open",
        "read_timestamp",
        "reads",
        "sequence",
        "staged_at",
        "state",
        "uncertainty_limit",
        "write_timestamp",
    )

    def __init__(
        self,
        coordinator: "Coordinator",
        *,
        priority: int,
        deadline_s: float,
        deadline: float,
        before: "Attempt | None",
    ) -> None:
        router = coordinator.router
        self.coordinator = coordinator
        self.id = router.rng.unique_id()
        self.issued_at = router.issued_at()
        self.began: Timestamp = self.issued_at if before is None else before.began
        self.meta = TransactionMeta(self.id, b"", priority, self.began)
        self.deadline_s = deadline_s
        self.deadline = deadline
        self.last_refusal: errors.MultiraftError | None = None
        """Why an attempt to commit was not carried out yet, as the router was told last."""
        self.contended = frozenset[bytes]() if before is None else before.wanted()
        self._failure_before = "" if before is None else str(before.failure)
        self.state = State.ACTIVE
        self.failure: errors.MultiraftError | None = None
        """Why nothing more can be done; of an attempt that FAILED."""
        self.read_timestamp = NO_TIMESTAMP
        self.uncertainty_limit = NO_TIMESTAMP
        self.write_timestamp = NO_TIMESTAMP
        """The greatest time at which an intent was laid: it commits there or above."""
        self.reads = ReadSpans(coordinator.settings.transaction_spans_max)
        self.buffer = WriteBuffer(coordinator.limits)
        self.locked: dict[bytes, None] = {}
        """Keys for whose locks it has asked."""
        self.hot: list[bytes] = []
        """Those of them that it has locked because others were fighting over them."""
        self.sequence = 0
        self.flushes: dict[Call, None] = {}
        """Writes that are being laid before the commit."""
        self.staged_at = NO_TIMESTAMP
        """The time of the last STAGING record that was sent."""
        self.is_open = False
        """Whether an attempt to commit was sent of which it is not known what became of it."""
        self.is_released = False
        """Whether it has been seen to that nothing of it stays locked."""
        self.operations_open = 0
        """How many reads are under way; nothing else of the application's is."""
        self._moving = asyncio.Lock()
        """Held while the read timestamp is being chosen or moved."""
        self._reading = TransactionContext(self.meta)
        self._locking = self._reading

    # -- what it is --------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what keeps the application from going on, if anything does."""
        if self.state is State.ACTIVE:
            return
        if self.failure is not None:
            raise self.failure
        raise errors.TransactionEndedError(state=self.state.value)

    def fail(self, error: errors.MultiraftError) -> errors.MultiraftError:
        """Nothing more can be done in this attempt. Return what the application is told."""
        if isinstance(error, errors.TransactionAbortedError):
            error = errors.TransactionRetryError(reason=f"it was aborted: {error.reason}")
        elif isinstance(error, (errors.DeadlineExceededError, errors.OutcomeUnknownError)):
            error = self.late(error)
        if self.failure is None:
            self.failure = error
            self.state = State.FAILED
        return self.failure

    def late(self, error: errors.MultiraftError) -> errors.MultiraftError:
        """Return the error for a transaction that took too long, and has written nothing."""
        limit_s = self.coordinator.limits.transaction_s_max
        if self.deadline_s > limit_s:
            took_s = round(self.coordinator.router.now() - self.deadline + limit_s)
            return errors.TransactionTooLargeError(what="seconds", size=took_s, limit=limit_s)
        last = self.last_seen(error)
        if self._failure_before:
            last = f"{last}; and before that: {self._failure_before}"
        return errors.DeadlineExceededError(deadline_s=self.deadline_s, last_error=last)

    def last_seen(self, error: errors.MultiraftError) -> str:
        """Return what was in the way when the time had passed, as `error` says."""
        if self.last_refusal is not None:
            return str(self.last_refusal)
        return error.facts.get("last_error") or error.facts.get("reason") or str(error)

    @property
    def holds_something(self) -> bool:
        """Whether there may be locks or intents of it anywhere."""
        return bool(self.locked or self.buffer.sent)

    def wanted(self) -> frozenset[bytes]:
        """Return the keys that the next attempt had better lock when it reads them."""
        return self.contended.union(self.buffer.values, self.locked)

    def set_anchor(self, key: bytes) -> None:
        """Keep the record at `key`, unless an anchor was chosen before."""
        meta = self.meta
        if not meta.anchor:
            self.meta = TransactionMeta(meta.id, key, meta.priority, meta.began)
            self._make_contexts()

    def context(self, sequence: int = 0) -> TransactionContext:
        """Return what a part that does not read says of the transaction."""
        return TransactionContext(self.meta, sequence)

    # -- asking ------------------------------------------------------------------------------------

    def start(
        self,
        operations: tuple[Operation, ...],
        context: TransactionContext,
        timestamp: Timestamp,
        *,
        is_whole: bool = False,
        deadline: float | None = None,
    ) -> Call:
        """Send operations; whoever takes the call's future cancels it by `abandon`."""
        return self.coordinator.router.start_in_transaction(
            operations,
            context,
            issued_at=self.issued_at,
            timestamp=timestamp,
            deadline=self.deadline if deadline is None else deadline,
            is_whole=is_whole,
        )

    async def ask(
        self,
        operations: tuple[Operation, ...],
        context: TransactionContext,
        timestamp: Timestamp,
        *,
        is_whole: bool = False,
    ) -> BatchReply:
        """Send operations and return the reply. If cancelled, they may be carried out."""
        call = self.start(operations, context, timestamp, is_whole=is_whole)
        try:
            return await call.future
        except asyncio.CancelledError:
            call.abandon()
            raise

    # -- reading -----------------------------------------------------------------------------------

    async def get(self, key: bytes, *, for_update: bool) -> bytes | None:
        """Return what the key holds for others; locked, if wanted or if it is contended."""
        is_locking = for_update or self._is_wanted_by_others(key)
        if is_locking:
            self._lock((key,))
        (result,) = await self.read((Get(key),), is_locking=is_locking)
        assert isinstance(result, GetResult), "a Get is answered by its result"
        return result.value

    async def get_many(
        self, wanted: Sequence[bytes], *, for_update: bool
    ) -> dict[bytes, bytes | None]:
        """Like `get`, for several keys."""
        found: dict[bytes, bytes | None] = {}
        # Told apart at once: which keys others want may change while some are awaited.
        locked = {k: None for k in wanted if for_update or self._is_wanted_by_others(k)}
        others = [k for k in wanted if k not in locked]
        for is_locking, some in ((True, list(locked)), (False, others)):
            if not some:
                continue
            if is_locking:
                self._lock(some)
            results = await self.read(tuple(map(Get, some)), is_locking=is_locking)
            for key, result in zip(some, results, strict=True):
                assert isinstance(result, GetResult), "a Get is answered by its result"
                found[key] = result.value
        return found

    async def scan(self, page: Scan) -> ScanResult:
        """Return a page of what others see in a span."""
        (result,) = await self.read((page,))
        assert isinstance(result, ScanResult), "a scan is answered by its result"
        return result

    async def read(
        self, operations: tuple[Operation, ...], *, is_locking: bool = False
    ) -> Sequence[Result]:
        """Read at the transaction's time, which this may choose or move."""
        self.check()
        self.operations_open += 1
        try:
            while True:
                if self._moving.locked() or not self.read_timestamp:
                    async with self._moving:
                        if not self.read_timestamp:
                            first = await self._choose_time(operations, is_locking=is_locking)
                            break
                    self.check()
                context = self._locking if is_locking else self._reading
                token = self.reads.begin(operations)
                try:
                    reply = await self.ask(operations, context, self.read_timestamp)
                except errors.ReadUncertainError as error:
                    uncertain = error.timestamp
                else:
                    self._remember(operations, reply)
                    return reply.results
                finally:
                    self.reads.end(token)
                await self.move_to(Timestamp(uncertain))
        except (
            errors.TransactionAbortedError,
            errors.DeadlineExceededError,
            errors.OutcomeUnknownError,
        ) as error:
            raise self.fail(error) from error
        finally:
            self.operations_open -= 1
        if len(first) < len(operations):
            others = [index for index in range(len(operations)) if index not in first]
            rest = tuple(operations[index] for index in others)
            results = await self.read(rest, is_locking=is_locking)
            first.update(zip(others, results, strict=True))
        return [first[index] for index in range(len(operations))]

    async def _choose_time(
        self, operations: tuple[Operation, ...], *, is_locking: bool
    ) -> dict[int, Result]:
        """Read what lies in the first one's range, and go on at the time that it was read at.

        Return the results by their places. The lock is held: nobody else reads meanwhile.
        """
        while True:
            places = self.coordinator.router.together(operations)
            part = tuple(operations[place] for place in places)
            try:
                context = self._locking if is_locking else self._reading
                reply = await self.ask(part, context, NO_TIMESTAMP, is_whole=True)
            except (errors.RangeMismatchError, errors.ReadUncertainError):
                continue  # Now the cache knows better; or a later time will be chosen.
            self.read_timestamp = reply.timestamp
            self.uncertainty_limit = reply.uncertainty_limit
            self._make_contexts()
            self._remember(part, reply)
            return dict(zip(places, reply.results, strict=True))

    async def move_to(self, timestamp: Timestamp) -> None:
        """Go on at `timestamp`, if nothing that was read has changed since.

        Raises TransactionRetryError otherwise: the attempt has failed.
        """
        async with self._moving:
            if self.failure is not None:
                raise self.failure
            if timestamp <= self.read_timestamp:
                return
            conflict = await self._refresh(timestamp)
            if conflict is not None:
                if conflict in self.buffer.values:
                    coordinator = self.coordinator
                    coordinator.hot_keys.remember(conflict, coordinator.router.now())
                raise self.fail(
                    errors.TransactionRetryError(
                        reason=f"{keys.pretty(conflict)} was written since it was read"
                    )
                )
            self.read_timestamp = timestamp
            self.coordinator.refreshes += 1

    async def _refresh(self, timestamp: Timestamp) -> bytes | None:
        """Ask whether everything read is the same at `timestamp`; return a key that is not."""
        since = self.read_timestamp
        waiting = self.reads.refreshes(since)
        while waiting:
            now, waiting = waiting[:REFRESHES_PER_CALL], waiting[REFRESHES_PER_CALL:]
            reply = await self.ask(tuple(now), self._reading, timestamp)
            for asked, result in zip(now, reply.results, strict=True):
                assert isinstance(result, RefreshResult), "a refresh is answered by its result"
                if not result.succeeded:
                    return result.conflict
                if result.resume:
                    waiting.append(Refresh(result.resume, asked.end, since))
        return None

    def _remember(self, operations: Iterable[Operation], reply: BatchReply) -> None:
        for operation, result in zip(operations, reply.results, strict=True):
            if isinstance(operation, Get):
                self.reads.add(operation.key)
            elif isinstance(operation, Scan) and isinstance(result, ScanResult):
                start, end, resume = operation.start, operation.end, result.resume
                if resume is not None:
                    start, end = (resume, end) if operation.reverse else (start, resume)
                self.reads.add_span(start, end)

    def _is_wanted_by_others(self, key: bytes) -> bool:
        if key in self.contended:
            return True
        hot_keys = self.coordinator.hot_keys
        if not hot_keys or not hot_keys.holds(key, self.coordinator.router.now()):
            return False
        self.hot.append(key)
        return True

    def remember_hot_keys(self) -> None:
        """Tell those who come later whether locking the keys that were fought over was right."""
        coordinator = self.coordinator
        for key in self.hot:
            if key in self.buffer.values:
                coordinator.hot_keys.remember(key, coordinator.router.now())
            else:
                coordinator.hot_keys.forget(key)

    # -- locking and laying ------------------------------------------------------------------------

    def _lock(self, wanted: Sequence[bytes]) -> None:
        """Keys are about to be locked."""
        count, limit = len(self.locked) + len(wanted), self.coordinator.limits.transaction_keys_max
        if count > limit:
            raise errors.TransactionTooLargeError(what="locks", size=count, limit=limit)
        self.set_anchor(wanted[0])
        for key in wanted:
            self.locked[key] = None
        self.coordinator.heartbeats.add(self)

    async def write(self, key: bytes, value: bytes | None) -> None:
        """Write a key, or remove it with None. Waits while too much is being laid."""
        buffer = self.buffer
        buffer.set(key, value)
        if buffer.unsent_bytes > self.coordinator.settings.transaction_buffer_bytes_max or (
            buffer.unsent_count >= FLUSH_KEYS
        ):
            self.lay()
            while len(self.flushes) >= FLUSHES_CONCURRENT_MAX:
                await asyncio.wait(
                    [call.future for call in self.flushes],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            self.check()

    def next_write(self) -> tuple[int, tuple[Operation, ...], tuple[bytes, ...]]:
        """Take everything unsent. Return its sequence, the operations, and their keys."""
        buffer = self.buffer
        self.sequence += 1
        operations = tuple(buffer.operations())
        keys_sent = buffer.mark_sent(self.sequence)
        if keys_sent:
            self.set_anchor(keys_sent[0])
        return self.sequence, operations, keys_sent

    @property
    def commit_timestamp(self) -> Timestamp:
        """The least time at which it can commit, or a good guess if any would do."""
        known = max(self.read_timestamp, self.write_timestamp)
        return known or self.coordinator.router.cluster_time()

    def lay(self) -> None:
        """Send what is unsent, and do not wait: what becomes of it is known before the commit."""
        sequence, operations, _ = self.next_write()
        call = self.start(operations, self.context(sequence), self.commit_timestamp)
        self.flushes[call] = None
        call.future.add_done_callback(lambda done: self._laid(call, done))
        self.coordinator.heartbeats.add(self)

    def _laid(self, call: Call, done: asyncio.Future[BatchReply]) -> None:
        self.flushes.pop(call, None)
        if done.cancelled():
            return
        error = done.exception()
        if error is None:
            self.write_timestamp = max(self.write_timestamp, done.result().timestamp)
        elif isinstance(error, errors.MultiraftError):
            self.fail(error)

    def _make_contexts(self) -> None:
        limit = self.uncertainty_limit
        self._reading = TransactionContext(self.meta, 0, limit)
        self._locking = TransactionContext(self.meta, 0, limit, True)
