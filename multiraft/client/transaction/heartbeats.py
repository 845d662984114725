"""Signs of life of the transactions that hold locks: one timer for all of them.

Purpose
    Whoever is blocked by a transaction that has shown no sign of life for a while may abort it. The
    others are kept alive from here, and learn here that they were aborted all the same.
Invariants
    - A transaction that holds its locks for less than an interval costs no message.
    - Without transactions that hold locks there is no timer.
"""

import asyncio
from functools import partial

from multiraft import errors
from multiraft.client.router import NO_TIMESTAMP, Router
from multiraft.client.transaction.attempt import Attempt
from multiraft.model.requests import BatchReply
from multiraft.model.transaction import TransactionStatus
from multiraft.model.transaction_requests import HeartbeatTransaction, RecordResult


class Heartbeats:
    """See the module."""

    __slots__ = ("_alive", "_fresh", "_interval_s", "_router", "_timer")

    def __init__(self, router: Router, interval_ms: int) -> None:
        self._router = router
        self._interval_s = interval_ms / 1_000
        self._fresh: dict[Attempt, None] = {}
        """Those that were added since the timer went off last: not yet."""
        self._alive: dict[Attempt, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._fresh) + len(self._alive)

    def add(self, attempt: Attempt) -> None:
        """Keep the transaction alive until it is discarded."""
        if attempt not in self._alive:
            self._fresh[attempt] = None
        if self._timer is None:
            self._timer = self._router.loop.call_later(self._interval_s, self._beat)

    def discard(self, attempt: Attempt) -> None:
        """It has ended, or is about to."""
        self._fresh.pop(attempt, None)
        self._alive.pop(attempt, None)

    def attempts(self) -> tuple[Attempt, ...]:
        """Return those that hold locks."""
        return (*self._alive, *self._fresh)

    def close(self) -> None:
        """Forget all of them."""
        self._fresh.clear()
        self._alive.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _beat(self) -> None:
        self._timer = None
        for attempt in self._alive:
            anchor = attempt.meta.anchor
            call = self._router.start_in_transaction(
                (HeartbeatTransaction(anchor),),
                attempt.context(),
                issued_at=attempt.issued_at,
                timestamp=NO_TIMESTAMP,
                deadline=self._router.now() + 2 * self._interval_s,
            )
            call.future.add_done_callback(partial(self._answered, attempt, attempt.id))
        self._alive.update(self._fresh)
        self._fresh.clear()
        if self._alive:
            self._timer = self._router.loop.call_later(self._interval_s, self._beat)

    def _answered(
        self, attempt: Attempt, asked_id: bytes, done: asyncio.Future[BatchReply]
    ) -> None:
        if done.cancelled():
            return
        error = done.exception()
        if attempt.id != asked_id:
            return  # It goes on under another one.
        if isinstance(error, errors.TransactionAbortedError):
            self._aborted(attempt, error)
        elif error is None:
            result = done.result().results[0]
            record = result.record if isinstance(result, RecordResult) else None
            if record is not None and record.status is TransactionStatus.ABORTED:
                self._aborted(attempt, errors.TransactionAbortedError(reason=record.reason))

    def _aborted(self, attempt: Attempt, error: errors.TransactionAbortedError) -> None:
        if attempt in self._alive:
            self.discard(attempt)
            attempt.aborted(error)
