"""Requests to a leaseholder, until they are answered.

Life of one
    begin -> latches -> evaluated -> answered at once, or when its command is applied. A request
    that has to wait for something else than a latch gives its latches up and begins anew later: for
    the lease or the clock (`step_back`), or for another transaction's lock (`queue`).
Invariants
    - It is answered once, and holds no latch, no place in a queue and no claim afterwards.
    - Its place in the lock table is taken before its latches are released, so no lock goes unseen.
    - It waits for locks no longer than `lock_wait_ms` in all, or than its client has time; the
      client then sends it again.
"""

import asyncio
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, cast

from multiraft import errors
from multiraft.concurrency.latches import Latch
from multiraft.concurrency.lock_waits import Waiter, Wake
from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchReply, BatchRequest, Scan
from multiraft.model.transaction import TransactionMeta
from multiraft.mvcc.versions import Version
from multiraft.mvcc.writes import Written
from multiraft.ranges.commands import validation

if TYPE_CHECKING:
    from multiraft.ranges.leaseholder import Leaseholder

Reply = Callable[[BatchReply], None]


class Pending:
    """A part that was submitted, until it is answered."""

    __slots__ = ("_timer", "_waiter", "asked_at", "deadline", "holder", "latch", "reply", "request")

    def __init__(self, holder: "Leaseholder", request: BatchRequest, reply: Reply) -> None:
        self.holder = holder
        self.request = request
        self.reply = reply
        self.deadline = 0.0
        """When it is refused if it still waits for lease or clock; 0 if it has not waited yet."""
        self._waiter: Waiter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.latch: Latch
        self.asked_at: Timestamp
        """What the clock had shown when it asked for its latches."""

    def begin(self) -> None:
        """Take the latches, and go on when they are granted."""
        holder = self.holder
        # A first look, so that it waits for no latch in vain: what counts is asked under them.
        self.asked_at = holder.context.hlc.last
        if not holder.may_serve(self.asked_at):
            holder.wait(self)
            return
        self.latch = self._latches()
        if holder.latches.acquire(self.latch, self._granted):
            self._granted()

    def refuse(self, error: errors.MultiraftError) -> None:
        """Answer a part that holds no latches."""
        if self._waiter is not None:
            self._leave(self._waiter)
        self.reply(self.holder.context.refusal(error))

    def step_back(self, reached: Timestamp) -> None:
        """Release the latches, and wait for the lease, or for the clock to pass `reached`."""
        self.holder.latches.release(self.latch)
        self.holder.wait(self, reached)

    # -- locks -----------------------------------------------------------------------------------

    @property
    def transaction_id(self) -> bytes:
        """Whose locks are not in the way."""
        return b""

    @property
    def waiter(self) -> Waiter | None:
        """What it has waited with for a lock; its claim lets it through."""
        return self._waiter

    def queue(self, key: bytes, limit: Timestamp | None = None) -> None:
        """Wait for the lock on `key`, and release the latches. With a `limit` it is a read."""
        holder = self.holder
        now = holder.context.clock.monotonic()
        if self._waiter is None:
            loop = asyncio.get_running_loop()
            self._waiter = Waiter(self._transaction(), self._order(), self._woken)
            self._timer = loop.call_later(self._wait_ms_max() / 1_000, self._waited_long)
        elif self._timer is None:
            self.finish(holder.context.refusal(self._locked(key)))
            return
        waits = holder.locks.wait(self._waiter, key, now, limit)
        assert waits, "what was found in the way under latches is in the way"
        holder.latches.release(self.latch)

    def _transaction(self) -> TransactionMeta | None:
        return None

    def _order(self) -> tuple[int, bytes]:
        return self.request.issued_at or self.holder.context.hlc.last, self.request.id

    def _woken(self, why: Wake) -> None:
        assert self._waiter is not None, "who is woken has waited"
        if why is Wake.ENDED:
            self.refuse(self.holder.lost())
        elif why is Wake.ABORTED:
            self.refuse(errors.TransactionAbortedError(reason=self._waiter.reason))
        else:
            self.begin()

    def _waited_long(self) -> None:
        self._timer = None
        waiter = self._waiter
        if waiter is not None and waiter.place is not None:
            self.refuse(self._locked(waiter.key))

    def _locked(self, key: bytes) -> errors.LockWaitError:
        lock = self.holder.locks.lock_on(key)
        return errors.LockWaitError(
            key=keys.pretty(key),
            holder="" if lock is None else lock.holder.id.hex(),
            waited_ms=self._wait_ms_max(),
        )

    def _wait_ms_max(self) -> int:
        allowed_ms = self.holder.context.config.ranges.lock_wait_ms
        return min(self.request.wait_ms_max or allowed_ms, allowed_ms)

    def _leave(self, waiter: Waiter) -> None:
        self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.holder.locks.leave(waiter)

    # -- what the kinds of parts do ----------------------------------------------------------------

    @property
    def newest(self) -> Collection[Version]:
        """What a proposed part leaves, if these are sure to be the newest versions of all its keys.

        In the order of the puts that its command begins with.
        """
        return ()

    def _latches(self) -> Latch:
        """Return what the part reads and writes."""
        raise NotImplementedError

    def _granted(self) -> None:
        """The latches are held: evaluate, and answer, propose or wait."""
        raise NotImplementedError

    def finish(self, answer: BatchReply) -> None:
        """Answer a part that holds its latches."""
        self.let_go()
        self.reply(answer)

    def let_go(self) -> None:
        """Give up the latches, and the claim on a lock if it waited for one."""
        self.holder.latches.release(self.latch)
        if self._waiter is not None:
            self._leave(self._waiter)


class PendingRead(Pending):
    """A part that only reads."""

    __slots__ = ()

    def _latches(self) -> Latch:
        request = self.request
        if type(request.operations[0]) is Scan:
            return Latch(read_spans=tuple([(s.start, s.end) for s in scans(request)]))
        return Latch(read_points=point_keys(request))

    def _granted(self) -> None:
        answer = self.holder.read(self)
        if answer is not None:
            self.finish(answer)


class PendingWrite(Pending):
    """A part that writes; the waiter of its proposal."""

    __slots__ = ("answer", "write_set")

    answer: BatchReply
    write_set: Written
    """What was evaluated: both are there once the part is proposed."""

    def _latches(self) -> Latch:
        return Latch(write_points=point_keys(self.request))

    def _granted(self) -> None:
        settled = self.holder.write(self)
        if settled is not None:
            self.finish(settled)

    @property
    def newest(self) -> Collection[Version]:
        """See Pending."""
        return self.write_set.written

    def committed(self) -> None:
        """The write set is certain to be in the engine before anybody gets its latches: answer."""
        self.reply(self.answer)

    def applied(self) -> None:
        """The write set is in the engine."""
        for observe in self.holder.observers:
            observe(self.write_set)
        self.let_go()

    def failed(self, error: errors.MultiraftError) -> None:
        """The term was lost first; whether the write is applied is for the next attempt to find."""
        self.finish(self.holder.context.refusal(error))


def scans(request: BatchRequest) -> tuple[Scan, ...]:
    """Return the operations of a part that holds nothing but scans."""
    return cast("tuple[Scan, ...]", request.operations)


def point_keys(request: BatchRequest) -> tuple[bytes, ...]:
    """Return the keys that a part without scans names."""
    return tuple([operation.key for operation in validation.points(request)])
