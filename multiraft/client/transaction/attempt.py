"""One attempt at a transaction: who it is, what it has read and laid, and how it asks.

Purpose
    The state that reads, writes, the commit and the end of a transaction share, and the ways in
    which its requests are sent. When it fails, the next one is another object with another ID, and
    keeps the age (`began`).
Invariants
    - All reads are at one time, `read_timestamp`.
    - Nothing is locked or laid before the anchor is known; from then on it does not change.
    - What was aborted may go on under another ID, but only if it cannot commit under the old one.
Source
    Design §11; safety rule S9.
"""

import asyncio
from collections.abc import Sequence
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from multiraft import errors
from multiraft.client import batch
from multiraft.client.calls import Call
from multiraft.client.router import NO_TIMESTAMP
from multiraft.client.transaction.read_spans import ReadSpans
from multiraft.client.transaction.write_buffer import WriteBuffer
from multiraft.ids import NodeId, Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchReply, Get, Operation, Scan
from multiraft.model.transaction import TransactionMeta, TransactionStatus
from multiraft.model.transaction_requests import EndTransaction, TransactionContext

if TYPE_CHECKING:
    from multiraft.client.transaction.coordinator import Coordinator

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
        "is_renewable",
        "issued_at",
        "last_refusal",
        "locked",
        "locked_bytes",
        "may_lock_more",
        "meta",
        "moving",
        "observed",
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
        is_renewable: bool,
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
        self.is_renewable = is_renewable
        """Whether it goes on under another ID when somebody has aborted it."""
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
        self.locked_bytes = 0
        self.may_lock_more = False
        """Whether a scan has asked for locks: on which keys, only its answer tells."""
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
        self.moving = asyncio.Lock()
        """Held while the read timestamp is being chosen or moved."""
        self.observed: dict[NodeId, Timestamp] = {}
        """The clock of each node when it first answered: see TransactionContext."""

    # -- what it is --------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """Whether the application has committed it or rolled it back."""
        return self.state in (State.COMMITTED, State.ROLLED_BACK)

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

    def aborted(self, error: errors.TransactionAbortedError) -> None:
        """Somebody has aborted it, as is learned in the background."""
        if self.state is State.ACTIVE and self.is_renewable:
            self.renew(self.id)
        else:
            self.fail(error)

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
        return bool(self.locked or self.may_lock_more or self.buffer.sent)

    def wanted(self) -> frozenset[bytes]:
        """Return the keys that the next attempt had better lock when it reads them."""
        return self.contended.union(self.buffer.values, self.locked)

    def renew(self, old_id: bytes) -> None:
        """Go on under a new ID, since `old_id` was aborted; unless this has been done already.

        It cannot commit any more. What was read stays as true as it was, and what was written is
        all here; locks are lost, and what is left of them is released in the background.
        """
        if self.id != old_id:
            return
        assert not self.is_open, "it cannot commit any more"
        coordinator = self.coordinator
        coordinator.heartbeats.discard(self)
        self.give_up_flushes()
        if self.holds_something:
            operation = EndTransaction(
                self.meta.anchor,
                TransactionStatus.ABORTED,
                self.staged_at,
                self.buffer.references(),
                tuple(self.locked),
                reason="it goes on under another ID",
            )
            deadline = coordinator.background_deadline()
            coordinator.keep(
                self.start((operation,), self.context(), NO_TIMESTAMP, deadline=deadline)
            )
        self.id = coordinator.router.rng.unique_id()
        self.meta = TransactionMeta(self.id, b"", self.meta.priority, self.began)
        self.contended = self.contended.union(self.locked)
        self.locked.clear()
        self.locked_bytes = 0
        self.may_lock_more = False
        self.buffer.forget_sent()
        self.sequence = 0
        self.write_timestamp = self.staged_at = NO_TIMESTAMP

    def set_anchor(self, key: bytes) -> None:
        """Keep the record at `key`, unless an anchor was chosen before."""
        meta = self.meta
        if not meta.anchor:
            self.meta = TransactionMeta(meta.id, key, meta.priority, meta.began)

    def set_read_time(self, timestamp: Timestamp, uncertainty_limit: Timestamp) -> None:
        """Take the time that the first part was read at."""
        self.read_timestamp = timestamp
        self.uncertainty_limit = uncertainty_limit

    def reading(self, *, is_locking: bool = False) -> TransactionContext:
        """Return what a part that reads, or locks, says of the transaction."""
        observed = tuple(self.observed.items())
        return TransactionContext(self.meta, 0, self.uncertainty_limit, is_locking, observed)

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
        call = self.coordinator.router.start_in_transaction(
            operations,
            context,
            issued_at=self.issued_at,
            timestamp=timestamp,
            deadline=self.deadline if deadline is None else deadline,
            is_whole=is_whole,
        )
        call.observed = self.observed
        return call

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

    # -- others who want the same keys ------------------------------------------------------------

    def is_contended(self, key: bytes) -> bool:
        """Return whether to lock the key when it is read, since others want it, too."""
        if key in self.contended:
            return True
        hot_keys = self.coordinator.hot_keys
        if not hot_keys or not hot_keys.holds(key, self.coordinator.router.now()):
            return False
        self.hot.append(key)
        return True

    def lost(self, conflict: bytes) -> errors.MultiraftError:
        """The key has changed since it was read: fail. Return what the application is told."""
        if conflict in self.buffer.values:
            self.coordinator.hot_keys.remember(conflict, self.coordinator.router.now())
        reason = f"{keys.pretty(conflict)} was written since it was read"
        return self.fail(errors.TransactionRetryError(reason=reason))

    def remember_hot_keys(self) -> None:
        """Tell those who come later whether locking the keys that were fought over was right."""
        coordinator = self.coordinator
        for key in self.hot:
            if key in self.buffer.values:
                coordinator.hot_keys.remember(key, coordinator.router.now())
            else:
                coordinator.hot_keys.forget(key)

    # -- locking and laying ------------------------------------------------------------------------

    def about_to_lock(self, operations: Sequence[Operation]) -> None:
        """Note what is about to be locked by gets, or by scans, before it is asked for.

        Raises TransactionTooLargeError.
        """
        wanted = [each.key for each in operations if isinstance(each, Get)]
        self.set_locked(wanted)
        for operation in operations:
            if isinstance(operation, Scan):
                self.may_lock_more = True
                # A span may begin behind the longest key that there can be.
                longest = self.coordinator.limits.key_bytes_max + 1
                self.set_anchor(operation.start[:longest])
        self.coordinator.heartbeats.add(self)

    def set_locked(self, wanted: Sequence[bytes]) -> None:
        """Note keys that are locked, or about to be. Raises TransactionTooLargeError.

        The part that ends the transaction names all of them, beside its writes: so their bytes are
        limited, too.
        """
        locked, limits = self.locked, self.coordinator.limits
        new = [key for key in dict.fromkeys(wanted) if key not in locked]
        size_bytes = self.locked_bytes + sum(map(len, new))
        for what, size, limit in (
            ("locks", len(locked) + len(new), limits.transaction_keys_max),
            ("bytes of locked keys", size_bytes, limits.batch_bytes_max // 4),
        ):
            if size > limit:
                raise errors.TransactionTooLargeError(what=what, size=size, limit=limit)
        self.locked_bytes = size_bytes
        for key in new:
            self.set_anchor(key)
            locked[key] = None

    async def write(self, key: bytes, value: bytes | None) -> None:
        """Write a key, or remove it with None. Waits while too much is being laid."""
        self.buffer.set(key, value)
        if self.keeps_too_much:
            self.lay()
            while len(self.flushes) >= FLUSHES_CONCURRENT_MAX:
                await asyncio.wait(
                    [call.future for call in self.flushes],
                    return_when=asyncio.FIRST_COMPLETED,
                )
            self.check()

    @property
    def keeps_too_much(self) -> bool:
        """Whether more is unsent than may wait for the commit."""
        buffer, settings = self.buffer, self.coordinator.settings
        # Beside the names of all that was written or locked, it must fit into a batch.
        most_bytes = self.coordinator.limits.batch_bytes_max // 8
        return (
            buffer.unsent_bytes > min(settings.transaction_buffer_bytes_max, most_bytes)
            or buffer.unsent_count >= self._intents_per_call
        )

    @property
    def _intents_per_call(self) -> int:
        """How many writes may be laid with one call: the intent of each names the anchor, too."""
        anchor = self.meta.anchor or next(iter(self.buffer.values), b"")
        coordinator = self.coordinator
        fitting = coordinator.limits.batch_bytes_max // (len(anchor) or 1)
        return min(coordinator.settings.transaction_call_keys_max, fitting)

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
        """Send what is unsent, and do not wait: what becomes of it is known before the commit.

        One call is enough, but for what was sent before under another ID: that can be everything.
        """
        sequence, operations, _ = self.next_write()
        coordinator = self.coordinator
        for piece in batch.cut(
            operations,
            self._intents_per_call,
            coordinator.limits.batch_bytes_max // 2,
        ):
            call = self.start(piece, self.context(sequence), self.commit_timestamp)
            self.flushes[call] = None
            call.future.add_done_callback(partial(self._laid, call))
        coordinator.heartbeats.add(self)

    def give_up_flushes(self) -> None:
        """Whoever waits for writes to be laid goes on; whether they are is not known."""
        flushes = tuple(self.flushes)
        self.flushes.clear()
        for call in flushes:
            call.abandon()
            call.future.cancel()

    def _laid(self, call: Call, done: asyncio.Future[BatchReply]) -> None:
        if call not in self.flushes or done.cancelled():
            return
        del self.flushes[call]
        error = done.exception()
        if error is None:
            self.write_timestamp = max(self.write_timestamp, done.result().timestamp)
        elif isinstance(error, errors.TransactionAbortedError):
            self.aborted(error)
        elif isinstance(error, errors.MultiraftError):
            self.fail(error)
