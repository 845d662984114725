"""What one call of the application still waits for, and when its outcome is certain.

Purpose
    A `Call` is what the application asked for; a `Part` is the share of one range. Parts are sent,
    answered, sent again and cut in two; when the last one has ended, the call has its result.
Invariants
    - A part keeps its ID over all attempts, and hands it on when it is cut because its range was
      split. Two parts never become one, so an ID found on a key always means the whole part
      (rule S8).
    - *Written* is believed from any attempt, *not written* only from the newest one sent (rule S7).
    - `DeadlineExceededError` means that no attempt which may have been, or may yet be, evaluated is
      without a definite answer. Otherwise the call ends with `OutcomeUnknownError`.
    - A call of a transaction counts for nothing unless all of its parts are carried out; so its
      outcome is open only while none of them is known not to be.
    - When a call has ended, nothing of it is pending anywhere.
Source
    Safety rules S7, S8, S9, S12.
"""

import asyncio
from collections.abc import Sequence
from typing import Protocol

from multiraft import errors
from multiraft.client import routing
from multiraft.client.connections import Link
from multiraft.client.range_cache import CachedRange
from multiraft.ids import NodeId, Timestamp
from multiraft.model import requests
from multiraft.model.requests import (
    EMPTY_ID,
    BatchReply,
    BatchRequest,
    ConditionalPut,
    ConditionalPutResult,
    DeleteResult,
    GetResult,
    Operation,
    Result,
    ScanResult,
)
from multiraft.model.transaction_requests import OBSERVED_MAX, Refresh, TransactionContext

WRITES = frozenset(requests.WRITES)
MUTATIONS = WRITES | (frozenset(requests.ADMIN) - frozenset(requests.STATUSES))
"""What changes something, so that an unanswered attempt leaves its outcome open."""

TRANSACTION_READS = frozenset((requests.Get, requests.Scan, Refresh))
"""Parts of a transaction that begin with something else write."""

NOT_EVALUATED = (
    errors.RangeMismatchError,
    errors.RangeNotFoundError,
    errors.OverloadedError,
    errors.ClockOffsetError,
    errors.DiskFullError,
    errors.LockWaitError,
    errors.ReadUncertainError,
    errors.TransactionPushedError,
    errors.TransactionAbortedError,
)
"""Refusals after which that attempt will never write anything. NotLeaseholderError is not one of
them: a leader that loses its term sends it for commands that are already in the log."""

FINAL = (
    errors.RequestError,
    errors.OutcomeUnknownError,
    errors.ReadUncertainError,
    errors.TransactionPushedError,
    errors.TransactionAbortedError,
)
"""Refusals about which the router can do nothing: they are for whoever made the call."""


class Owner(Protocol):
    """The router, as its parts see it."""

    def unsettled(
        self, part: "Part", error: errors.MultiraftError, reply: BatchReply | None
    ) -> None:
        """The newest attempt failed with something that need not be the end."""
        ...

    def forget(self, part: "Part") -> None:
        """The part has ended; stop working on it."""
        ...

    def answered(self, part: "Part") -> None:
        """The newest attempt succeeded: its node leads its range."""
        ...


class Call:
    """One request of the application, and the future that it awaits."""

    __slots__ = (
        "_owner",
        "_parts_open",
        "anchor",
        "deadline",
        "deadline_s",
        "failures",
        "future",
        "is_open",
        "is_whole",
        "issued_at",
        "last_error",
        "latest",
        "observed",
        "operations",
        "parts",
        "results",
        "something_written",
        "timestamp",
        "txn",
    )

    def __init__(
        self,
        owner: Owner,
        operations: tuple[Operation, ...],
        future: asyncio.Future[BatchReply],
        deadline_s: float,
        deadline: float,
        timestamp: Timestamp,
        anchor: bytes | None,
    ) -> None:
        self._owner = owner
        self.operations = operations
        self.future = future
        self.deadline_s = deadline_s
        self.deadline = deadline
        self.timestamp = timestamp
        self.anchor = anchor
        self.txn: TransactionContext | None = None
        """The transaction that this call is part of: its parts have that one's ID and age."""
        self.observed: dict[NodeId, Timestamp] | None = None
        """Where it is noted which clock a node has shown when it first answered."""
        self.issued_at = Timestamp(0)
        self.is_whole = False
        """Whether it has one part, which must not be cut in two when its range was split."""
        self.is_open = False
        """Of a transaction's call that failed: whether all of it may yet be carried out."""
        self.something_written = False
        self.last_error: errors.MultiraftError | None = None
        self.parts: list[Part] = []
        """Cleared at the end, so that calls and parts are freed without the garbage collector."""
        self._parts_open = 0
        self.results: list[Result | None] | None = None
        """Of a call with several parts, those of the parts that have succeeded."""
        self.failures: list[tuple[Sequence[int], errors.MultiraftError]] | None = None
        """Which operations have failed for good, and why."""
        self.latest = timestamp
        """The greatest time at which a part was carried out, of several."""

    def add(self, part: "Part") -> None:
        """Wait for `part` too."""
        self.parts.append(part)
        self._parts_open += 1

    def part_succeeded(self, part: "Part", reply: BatchReply) -> None:
        """Take a part's results, and end the call if it was the last part."""
        if len(self.parts) == 1:
            self._parts_open = 0
            self.parts.clear()
            if not self.future.done():
                self.future.set_result(reply)
            return
        if self.results is None:
            self.results = [None] * len(self.operations)
        for index, result in zip(part.indices, reply.results, strict=True):
            self.results[index] = result
        self.latest = max(self.latest, reply.timestamp)
        if part.is_mutation and wrote(part.operations, reply.results):
            self.something_written = True
        self._part_ended()

    def part_failed(self, part: "Part", error: errors.MultiraftError) -> None:
        """Take a part's definite error, and end the call if it was the last part."""
        if self.failures is None:
            self.failures = []
        self.failures.append((part.indices, error))
        self._part_ended()

    def expire(self) -> None:
        """The deadline has passed: end every part, and the call."""
        if self.txn is None:
            is_open = self._may_have_written()
        else:
            is_open = self.is_open = self._may_all_be_carried_out()
        last = (
            "the range of the key could not be found"
            if self.last_error is None
            else str(self.last_error)
        )
        self._end_parts()
        if self.future.done():
            return
        if is_open:
            reason = f"no answer within {self.deadline_s:g} s; last: {last}"
            self.future.set_exception(errors.OutcomeUnknownError(reason=reason))
        else:
            self.future.set_exception(
                errors.DeadlineExceededError(deadline_s=self.deadline_s, last_error=last)
            )

    def abandon(self, error: BaseException | None = None) -> None:
        """Nobody wants the result any more; with `error`, tell it to whoever awaits the future."""
        self._end_parts()
        if error is not None and not self.future.done():
            self.future.set_exception(error)

    def may_go_unheard(self) -> None:
        """Perhaps nobody asks for the outcome: then an error is nothing to be logged."""
        self.future.add_done_callback(_mark_retrieved)

    def _end_parts(self) -> None:
        for part in self.parts:
            part.end()
        self.parts.clear()

    def _may_have_written(self) -> bool:
        """Whether something was written, or may have been, or may yet be."""
        return (
            self.something_written
            or any(
                isinstance(error, errors.OutcomeUnknownError) for _, error in self.failures or ()
            )
            or any(
                part.is_mutation and part.attempts_open > 0
                for part in self.parts
                if not part.has_ended
            )
        )

    def _may_all_be_carried_out(self) -> bool:
        """Whether every part writes, and was carried out or may be: its last answer is not in."""
        return all(part.is_mutation and part.attempts_open > 0 for part in self.parts)

    def _part_ended(self) -> None:
        self._parts_open -= 1
        if self._parts_open > 0:
            return
        if self.failures is not None and self.txn is not None:
            self.is_open = self._may_all_be_carried_out()
        self.parts.clear()
        if self.future.done():
            return
        if self.failures is None:
            assert self.results is not None, "every part has brought its results"
            results = tuple(result for result in self.results if result is not None)
            assert len(results) == len(self.operations), "the parts cover all operations"
            self.future.set_result(BatchReply(results, self.latest))
        else:
            self.future.set_exception(min(self.failures, key=_worst_first)[1])


def _worst_first(failure: tuple[Sequence[int], errors.MultiraftError]) -> tuple[bool, bool, int]:
    indices, error = failure
    is_known = not isinstance(error, errors.OutcomeUnknownError)
    return is_known, isinstance(error, errors.TransactionPushedError), indices[0]


def _mark_retrieved(done: asyncio.Future[BatchReply]) -> None:
    if not done.cancelled():
        done.exception()


class Part:
    """The share of a call that one range answers, over all its attempts."""

    __slots__ = (
        "_bounds",
        "_earlier",
        "_owner",
        "attempt",
        "attempts_open",
        "call",
        "call_id",
        "expires",
        "has_ended",
        "id",
        "indices",
        "is_mutation",
        "issued_at",
        "link",
        "operations",
        "target",
        "task",
        "waiter",
    )

    def __init__(
        self, owner: Owner, call: Call, indices: Sequence[int], operations: tuple[Operation, ...]
    ) -> None:
        self._owner = owner
        self.call = call
        self.indices = indices
        self.operations = operations
        self.is_mutation = False
        self.id = EMPTY_ID
        self.issued_at = Timestamp(0)
        self.attempt = 0
        self.attempts_open = 0
        """How many attempts were sent that have no definite answer: they may yet be evaluated."""
        self.expires = 0.0
        self.link: Link | None = None
        self.target: CachedRange | None = None
        """The range that the newest attempt went to, as it was known then."""
        self.call_id = 0
        self.has_ended = False
        self.task: asyncio.Task[None] | None = None
        """The pursuit, once the first attempt did not settle it."""
        self.waiter: asyncio.Future[errors.MultiraftError | None] | None = None
        """Where the pursuit waits for the newest attempt: for None, or for why it failed."""
        self._earlier: list[tuple[Link, int]] | None = None
        self._bounds: tuple[bytes | None, ...] | None = None
        call.add(self)

    @property
    def node_id(self) -> NodeId:
        """The node that the newest attempt went to."""
        assert self.link is not None, "an attempt was sent"
        return self.link.node_id

    def send(
        self,
        link: Link,
        target: CachedRange,
        expires: float,
        operations: tuple[Operation, ...] | None = None,
        bounds: tuple[bytes | None, ...] | None = None,
        wait_ms_max: int = 0,
    ) -> None:
        """Send the next attempt. `operations` are those cut to the range, `bounds` where."""
        if self.link is not None:
            self._earlier = [*(self._earlier or ()), (self.link, self.call_id)]
        self.attempt += 1
        self.attempts_open += 1
        self.link = link
        self.target = target
        self.expires = expires
        self._bounds = bounds
        request = BatchRequest(
            target.range_id,
            self.operations if operations is None else operations,
            self.id,
            self.attempt,
            self.issued_at,
            self.call.timestamp,
            self.call.txn,
            wait_ms_max,
        )
        self.call_id = link.call(request, self)

    def replied(self, call_id: int, reply: BatchReply) -> None:
        """Take the reply to one attempt (connections.Caller)."""
        detail = reply.error
        is_newest = call_id == self.call_id
        observed = self.call.observed
        if observed is not None and is_newest and reply.clock and len(observed) < OBSERVED_MAX:
            observed.setdefault(self.node_id, reply.clock)
        if detail is not None:
            self._refused(errors.from_wire(detail), reply, is_newest=is_newest)
        elif len(reply.results) != len(self.operations):
            reason = f"{len(reply.results)} results for {len(self.operations)} operations"
            self._refused(errors.ProtocolError(reason=reason), reply, is_newest=is_newest)
        elif is_newest or self._may_believe(reply):
            self._succeed(reply, is_newest=is_newest)
        else:
            self.attempts_open -= 1  # It was evaluated, and wrote nothing.

    def unanswered(self, call_id: int, error: errors.MultiraftError) -> None:
        """The connection broke before the reply (connections.Caller)."""
        if call_id == self.call_id:
            self._owner.unsettled(self, error, None)

    def split_off(self, indices: Sequence[int]) -> "Part":
        """Return a new part of this call that takes over the operations at `indices`.

        It has the same history: its next attempt is numbered after this part's.
        """
        position = {index: place for place, index in enumerate(self.indices)}
        other = Part(
            self._owner,
            self.call,
            indices,
            tuple(self.operations[position[index]] for index in indices),
        )
        other.is_mutation = self.is_mutation
        other.id = self.id
        other.issued_at = self.issued_at
        other.attempt = self.attempt
        other.attempts_open = self.attempts_open
        return other

    def keep_only(self, indices: Sequence[int]) -> None:
        """Leave the other operations to parts that were split off.

        Late replies to earlier attempts are about more than this part, so they are not awaited.
        """
        position = {index: place for place, index in enumerate(self.indices)}
        self.operations = tuple(self.operations[position[index]] for index in indices)
        self.indices = indices
        self._forget_attempts()

    def fail(self, error: errors.MultiraftError) -> None:
        """End with a definite error."""
        if not self.has_ended:
            self.end()
            self.call.part_failed(self, error)

    def end(self) -> None:
        """Drop everything that is under way; the call is not told."""
        if self.has_ended:
            return
        self.has_ended = True
        self._forget_attempts()
        if self.task is not None:
            self._owner.forget(self)

    def _forget_attempts(self) -> None:
        if self.link is not None:
            self.link.forget(self.call_id)
            self.link = None
            self.call_id = 0
        for link, call_id in self._earlier or ():
            link.forget(call_id)
        self._earlier = None

    def _may_believe(self, reply: BatchReply) -> bool:
        if self._bounds is not None:
            return False  # That attempt may have been cut to another span.
        return not self.is_mutation or wrote(self.operations, reply.results)

    def _succeed(self, reply: BatchReply, *, is_newest: bool) -> None:
        if self._bounds is not None:
            reply = routing.with_bounds(reply, self._bounds)
        if self.task is None:
            self.has_ended = True  # The only attempt was answered: nothing else is under way.
        else:
            if is_newest:
                self._owner.answered(self)
            self.end()
        self.call.part_succeeded(self, reply)

    def _refused(self, error: errors.MultiraftError, reply: BatchReply, *, is_newest: bool) -> None:
        if isinstance(error, NOT_EVALUATED):
            self.attempts_open -= 1
        if not is_newest:
            return
        if isinstance(error, FINAL):
            self.fail(error)
        else:
            self._owner.unsettled(self, error, reply)


def wrote(operations: tuple[Operation, ...], results: tuple[Result, ...]) -> bool:
    """Return whether results say that the part changed something, and so left its ID behind."""
    changed = False
    for operation, result in zip(operations, results, strict=True):
        if isinstance(result, ConditionalPutResult):
            if not result.succeeded:
                return False  # The whole part wrote nothing.
            assert isinstance(operation, ConditionalPut), "the result fits the operation"
            changed |= operation.value is not None or operation.expected is not None
        elif isinstance(result, DeleteResult):
            changed |= result.existed
        elif not isinstance(result, (GetResult, ScanResult)):
            changed = True
    return changed
