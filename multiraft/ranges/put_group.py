"""Puts that come together are evaluated together: the fast path of writes.

Purpose
    Most writes are puts of one key outside of transactions. Those of one turn share whatever does
    not depend on the key: one look at lease, clock and limits, one latch, one command.
Invariants
    - What becomes of a put is what `PendingWrite` would have made of it: it has a time, a version
      and an answer of its own, and its ID is among the recent writes.
    - Nothing here waits or is refused. A put that might be, or may have been applied before, is
      left to `PendingWrite`; and so are all of them unless it is certain that they can be served.
    - From the time of the first put to the proposal nothing awaits, and the lease covers the time
      of the last one (rule S17).
Source
    test_put_group.py compares it with the slow path.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from multiraft import errors
from multiraft.concurrency.latches import Latch
from multiraft.ids import Timestamp
from multiraft.model.requests import BatchReply, BatchRequest, Put
from multiraft.mvcc.versions import Version
from multiraft.mvcc.writes import PutSet
from multiraft.ranges.commands.writes import DONE
from multiraft.ranges.messages import Command
from multiraft.ranges.pending import Reply

if TYPE_CHECKING:
    from multiraft.ranges.leaseholder import Leaseholder

Call = tuple[BatchRequest, Reply]
"""A part that `is_lone_put`, and who wants the answer."""

_DONE_ALONE = (DONE,)


def is_lone_put(request: BatchRequest) -> bool:
    """Return whether a part is one put and nothing else, outside of transactions."""
    operations = request.operations
    return len(operations) == 1 and type(operations[0]) is Put and request.txn is None


class PutGroup:
    """The puts that were taken: the waiter of their command."""

    __slots__ = ("_holder", "_latch", "_replies", "_set")

    def __init__(self, holder: "Leaseholder") -> None:
        self._holder = holder
        self._set = PutSet(holder.reader)
        self._replies: list[Reply] = []
        self._latch: Latch

    def take(self, calls: Sequence[Call]) -> Sequence[Call]:
        """Evaluate and propose those that can be now; return the others, in their order."""
        holder = self._holder
        clock = holder.context.hlc
        floor = clock.now()
        if not holder.serves_puts(Timestamp(floor + len(calls)), floor):
            return calls
        left, timestamp = self._evaluate(calls, floor)
        effects = self._set.effects()
        command = Command(b"", timestamp, effects.puts, effects.stats)
        if not self._replies:
            return calls
        self._latch = Latch(write_points=tuple(self._set.keys))
        held = holder.latches.acquire(self._latch, _never)
        assert held, "nobody else uses these keys"
        clock.forward(timestamp)
        if not holder.gather_within_limits(command, self):
            holder.latches.release(self._latch)
            return calls
        holder.requests_served += len(self._replies)
        return left

    def _evaluate(self, calls: Sequence[Call], floor: Timestamp) -> tuple[list[Call], Timestamp]:
        """Take those puts whose keys are free, each above `floor` and the one before.

        Returns the others, and the time of the last one taken.
        """
        holder = self._holder
        (start, end), oldest = holder.span, holder.issued_after
        in_use, knows_absence = holder.latches.points_in_use, holder.recent.knows_absence
        put, keys, replies = self._set.put, self._set.keys, self._replies
        left: list[Call] = []
        timestamp = floor
        for request, reply in calls:
            operation = cast("Put", request.operations[0])
            key = operation.key
            if (
                key in in_use
                or key in keys
                or not start <= key < end
                or not oldest < request.issued_at <= floor
                or not knows_absence(request.id, request.issued_at)
            ):
                left.append((request, reply))
                continue
            timestamp = Timestamp(timestamp + 1)
            put(timestamp, request.id, key, operation.value)
            replies.append(reply)
        return left, timestamp

    @property
    def newest(self) -> Sequence[Version]:
        """What the puts leave, in the order of their effects: the newest versions of their keys."""
        return self._set.written

    def committed(self) -> None:
        """The effects are certain to be in the engine before anybody gets the latch: answer."""
        for reply, version in zip(self._replies, self._set.written, strict=True):
            reply(BatchReply(_DONE_ALONE, version.timestamp, version.timestamp))

    def applied(self) -> None:
        """The effects are in the engine."""
        for observe in self._holder.observers:
            observe(self._set)
        self._holder.latches.release(self._latch)

    def failed(self, error: errors.MultiraftError) -> None:
        """The term was lost first; whether they are applied is for the next attempts to find."""
        self._holder.latches.release(self._latch)
        refusal = self._holder.context.refusal(error)
        for reply in self._replies:
            reply(refusal)


def _never() -> None:
    raise AssertionError("a latch that was held at once is not granted later")
