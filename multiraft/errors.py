"""Every exception multiraft raises, sorted by what the caller can do.

MultiraftError
├── RetryableError              the same request may succeed if sent again; the router does it
│   ├── NotLeaseholderError     ... at another replica
│   ├── RangeMismatchError      ... at another range
│   ├── RangeNotFoundError      ... at another node
│   ├── NodeUnavailableError    ... when the node is back, or at another one
│   ├── OverloadedError         ... after a pause
│   ├── ConflictingChangeError  ... after the change that is under way
│   ├── LockWaitError           ... after another transaction has ended
│   ├── ReadUncertainError      ... at a later read timestamp of the transaction
│   ├── TransactionPushedError  ... at a later commit timestamp of the transaction
│   ├── TransactionAbortedError ... in a new attempt of the transaction, by its runner
│   └── TransactionRetryError   ... in a new attempt of the transaction, by the application
├── DeadlineExceededError       the caller's deadline passed; nothing was written
├── OutcomeUnknownError         it may have been applied, and nobody can be asked any more
├── RequestError                the request can never succeed as sent
│   ├── KeyTooLargeError, ValueTooLargeError, BatchTooLargeError, InvalidSpanError
│   ├── ConditionFailedError    the condition of a conditional put did not hold
│   ├── ReadTooOldError         what was to be read may be garbage by now
│   ├── TransactionTooLargeError, TransactionEndedError
│   ├── NotAnIntegerError       the value to increment is not one, or would overflow
│   └── AdminRefusedError       a split, transfer or membership change that makes no sense
│       └── RangeChangedError   ... any more: the range has changed since it was asked for
├── StartupError                this node cannot start as configured
│   ├── DirectoryInUseError, DirectoryFormatError, AddressInUseError, ConfigError
│   └── WrongClusterError
├── ProtocolError               the other end of a connection does not speak our protocol
├── ClockOffsetError            a peer's clock is too far ahead; its message was dropped
├── DiskFullError               writes are refused until space is freed; reads work
├── StoppedError                this object was closed
└── StoreFailedError            this store must stop serving
    └── CorruptionError         ... because bytes on disk are not what was written

Every class has a stable `code`: the name on the wire, in metrics and in `--json` output, and the
key from which gateways derive their own status codes. Errors that cross the wire are rebuilt by
`from_wire` from their code and their facts.
"""

from typing import Any, ClassVar

import msgspec

from multiraft.ids import NodeId, RangeId, show_time


class MultiraftError(Exception):
    """The root. `facts` are the constructor's keyword arguments, so that errors travel and log."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message)
        self.message = message
        self.facts = facts


class ErrorDetail(msgspec.Struct, frozen=True, array_like=True):
    """An error as it crosses the wire."""

    code: str
    message: str
    facts: dict[str, Any] = {}


class RetryableError(MultiraftError):
    """The same request may succeed if sent again. Recovery: the router sends it again."""

    code = "retryable"


class NotLeaseholderError(RetryableError):
    """The replica does not hold the lease, so it evaluated nothing.

    Recovery: send to `leaseholder`, or to any other replica when it is None.
    """

    code = "not_leaseholder"

    def __init__(self, *, range_id: RangeId, leaseholder: NodeId | None) -> None:
        hint = "no leader is known" if leaseholder is None else f"try n{leaseholder}"
        super().__init__(
            f"r{range_id}: not leaseholder, {hint}", range_id=range_id, leaseholder=leaseholder
        )
        self.range_id = range_id
        self.leaseholder = leaseholder


class RangeMismatchError(RetryableError):
    """The request names keys outside the range. Nothing was evaluated.

    Recovery: `descriptors` holds the packed descriptors that this node knows for the keys asked;
    put them into the range cache and send to those ranges.
    """

    code = "range_mismatch"

    def __init__(self, *, range_id: RangeId, descriptors: list[bytes]) -> None:
        super().__init__(
            f"r{range_id}: the request reaches outside the range",
            range_id=range_id,
            descriptors=descriptors,
        )
        self.range_id = range_id
        self.descriptors = descriptors


class RangeNotFoundError(RetryableError):
    """The node has no replica of the range. Recovery: look the range up again."""

    code = "range_not_found"

    def __init__(self, *, range_id: RangeId, node_id: NodeId) -> None:
        super().__init__(
            f"r{range_id}: no replica on n{node_id}", range_id=range_id, node_id=node_id
        )


class NodeUnavailableError(RetryableError):
    """No connection to the node, or it broke before the reply. Recovery: try another replica."""

    code = "node_unavailable"

    def __init__(self, *, target: str, reason: str) -> None:
        super().__init__(f"{target} is not reachable: {reason}", target=target, reason=reason)


class OverloadedError(RetryableError):
    """Too many bytes are in flight; the request was refused before evaluation.

    Recovery: wait `retry_after_ms`, then send again.
    """

    code = "overloaded"

    def __init__(self, *, what: str, retry_after_ms: int) -> None:
        super().__init__(
            f"{what} has too much work in flight; retry in {retry_after_ms} ms",
            what=what,
            retry_after_ms=retry_after_ms,
        )
        self.retry_after_ms = retry_after_ms


class ConflictingChangeError(RetryableError):
    """Another change of the range's descriptor is under way. Recovery: try again after it."""

    code = "conflicting_change"

    def __init__(self, *, range_id: RangeId, reason: str) -> None:
        super().__init__(f"r{range_id}: {reason}", range_id=range_id, reason=reason)


class LockWaitError(RetryableError):
    """A key is locked by another transaction, for longer than a request may wait at its range.

    Recovery: send again; the request has not lost its place.
    """

    code = "lock_wait"

    def __init__(self, *, key: str, holder: str, waited_ms: int) -> None:
        why = f"locked by transaction {holder}" if holder else "kept for another that is in line"
        super().__init__(
            f"{key} has been {why} for the {waited_ms} ms of the wait",
            key=key,
            holder=holder,
            waited_ms=waited_ms,
        )


class ReadUncertainError(RetryableError):
    """A version may or may not be older than the transaction that reads.

    Recovery: refresh what was read to `timestamp`, and read again there.
    """

    code = "read_uncertain"

    def __init__(self, *, key: str, timestamp: int) -> None:
        super().__init__(
            f"{key} has a version at {timestamp}, which may be older than the transaction",
            key=key,
            timestamp=timestamp,
        )
        self.timestamp = timestamp


class TransactionPushedError(RetryableError):
    """The transaction can commit only at `timestamp` or above. Nothing was written by this part.

    Recovery: refresh what was read to `timestamp`, and commit again there.
    """

    code = "transaction_pushed"

    def __init__(self, *, timestamp: int) -> None:
        super().__init__(f"the transaction was pushed to {timestamp}", timestamp=timestamp)
        self.timestamp = timestamp


class TransactionAbortedError(RetryableError):
    """The transaction was aborted, for good: by another one, as a deadlock's victim, or as dead.

    Recovery: run it again under a new ID; `db.run` does so.
    """

    code = "transaction_aborted"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the transaction was aborted: {reason}", reason=reason)
        self.reason = reason


class TransactionRetryError(RetryableError):
    """The transaction must run again from its start, and only the application can do that.

    Recovery: use `db.run`, which runs a function until it commits.
    """

    code = "transaction_retry"

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"the transaction must run again from its start, as db.run does: {reason}",
            reason=reason,
        )


class DeadlineExceededError(MultiraftError):
    """The caller's deadline passed. Nothing was written by this call, nor will be.

    Recovery: check that a majority of nodes runs (`multiraft status`); raise the deadline.
    """

    code = "deadline_exceeded"

    def __init__(self, *, deadline_s: float, last_error: str) -> None:
        super().__init__(
            f"no answer within {deadline_s:g} s; last: {last_error}",
            deadline_s=deadline_s,
            last_error=last_error,
        )


class OutcomeUnknownError(MultiraftError):
    """The write may have been applied, or may still be, and the time to find out has passed.

    Recovery: read the key, or make the write conditional, before writing again.
    """

    code = "outcome_unknown"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the outcome of the write is unknown: {reason}", reason=reason)


class RequestError(MultiraftError):
    """The request can never succeed as sent. Recovery: change the request."""

    code = "bad_request"

    def __init__(self, message: str, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, **facts)
        self.facts = {"message": message} | facts


class KeyTooLargeError(RequestError):
    """A key is longer than the limit."""

    code = "key_too_large"

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        MultiraftError.__init__(
            self,
            f"the key has {size_bytes} bytes; the limit is {limit_bytes}",
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
        )


class ValueTooLargeError(RequestError):
    """A value is longer than the limit. Recovery: cut it into several keys."""

    code = "value_too_large"

    def __init__(self, *, size_bytes: int, limit_bytes: int) -> None:
        MultiraftError.__init__(
            self,
            f"the value has {size_bytes} bytes; the limit is {limit_bytes}",
            size_bytes=size_bytes,
            limit_bytes=limit_bytes,
        )


class BatchTooLargeError(RequestError):
    """A batch has more operations or bytes than the limit. Recovery: send several batches."""

    code = "batch_too_large"

    def __init__(self, *, what: str, size: int, limit: int) -> None:
        MultiraftError.__init__(
            self,
            f"the batch has {size} {what}; the limit is {limit}",
            what=what,
            size=size,
            limit=limit,
        )


class InvalidSpanError(RequestError):
    """The end of a span lies before its start."""

    code = "invalid_span"

    def __init__(self, *, start: str, end: str) -> None:
        MultiraftError.__init__(
            self, f"the span ends ({end}) before it starts ({start})", start=start, end=end
        )


class ConditionFailedError(RequestError):
    """The key did not hold what a conditional put expected; nothing was written in its range.

    `actual` is what it held: a value, or None for an absent key.
    """

    code = "condition_failed"

    def __init__(self, *, key: str, actual: bytes | None) -> None:
        held = "is absent" if actual is None else f"holds {len(actual)} other bytes"
        MultiraftError.__init__(
            self, f"the condition on {key} does not hold: it {held}", key=key, actual=actual
        )
        self.actual = actual


class NotAnIntegerError(RequestError):
    """The value to increment is not a counter, or the result leaves 64 signed bits."""

    code = "not_an_integer"

    def __init__(self, *, key: str, reason: str) -> None:
        MultiraftError.__init__(
            self, f"{key} cannot be incremented: {reason}", key=key, reason=reason
        )


class ReadTooOldError(RequestError):
    """The read is at or below what garbage collection has reached.

    Recovery: read at a later time; protect a timestamp that is to be read for long.
    """

    code = "read_too_old"

    def __init__(self, *, timestamp: int, threshold: int) -> None:
        MultiraftError.__init__(
            self,
            f"what was there at {show_time(timestamp)} may be garbage: reads are served after "
            f"{show_time(threshold)} only",
            timestamp=timestamp,
            threshold=threshold,
        )


class TransactionTooLargeError(RequestError):
    """A transaction writes more keys or bytes, or lasts longer, than the limit.

    Recovery: cut the work into several transactions.
    """

    code = "transaction_too_large"

    def __init__(self, *, what: str, size: int, limit: int) -> None:
        MultiraftError.__init__(
            self,
            f"the transaction has {size} {what}; the limit is {limit}",
            what=what,
            size=size,
            limit=limit,
        )


class TransactionEndedError(RequestError):
    """The transaction has committed, was rolled back or failed: nothing more can be done in it."""

    code = "transaction_ended"

    def __init__(self, *, state: str) -> None:
        MultiraftError.__init__(self, f"the transaction has ended: it {state}", state=state)


class AdminRefusedError(RequestError):
    """An administrative request that makes no sense as sent; `reason` says why."""

    code = "admin_refused"

    def __init__(self, *, reason: str) -> None:
        MultiraftError.__init__(self, reason, reason=reason)


class RangeChangedError(AdminRefusedError):
    """The range is no more as it was when the change was asked for. Recovery: look at it again."""

    code = "range_changed"

    def __init__(self, *, range_id: RangeId, seen: int, generation: int) -> None:
        MultiraftError.__init__(
            self,
            f"r{range_id} has generation {generation} by now, not {seen}; look at it again",
            range_id=range_id,
            seen=seen,
            generation=generation,
        )
        self.generation = generation


class StartupError(MultiraftError):
    """The node cannot start as configured. Recovery: the message says what to change."""

    code = "startup"

    def __init__(self, message: str, **facts: Any) -> None:  # noqa: ANN401
        super().__init__(message, **facts)
        self.facts = {"message": message} | facts


class ConfigError(StartupError):
    """A setting, or a combination of settings, is not possible."""

    code = "config"


class DirectoryInUseError(StartupError):
    """Another process has the data directory open. Recovery: stop it, or name another directory."""

    code = "directory_in_use"


class DirectoryFormatError(StartupError):
    """The data directory was written by a newer version, or is not one of ours."""

    code = "directory_format"


class AddressInUseError(StartupError):
    """The listen address is taken. Recovery: choose another port, or stop what listens there."""

    code = "address_in_use"


class WrongClusterError(StartupError):
    """The two ends of a connection belong to different clusters, or the node was replaced."""

    code = "wrong_cluster"


class ProtocolError(MultiraftError):
    """Bytes that break the protocol; the connection is closed with this reason."""

    code = "protocol"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"protocol error: {reason}", reason=reason)
        self.reason = reason


class ClockOffsetError(MultiraftError):
    """A peer's clock is too far ahead. Recovery: synchronise the machines' clocks (NTP)."""

    code = "clock_offset"

    def __init__(self, *, ahead_ms: int, limit_ms: int) -> None:
        super().__init__(
            f"the sender's clock is {ahead_ms} ms ahead of ours; the limit is {limit_ms} ms",
            ahead_ms=ahead_ms,
            limit_ms=limit_ms,
        )


class DiskFullError(MultiraftError):
    """Free space is below the reserve. Recovery: free space; writes resume by themselves."""

    code = "disk_full"

    def __init__(self, *, path: str, free_bytes: int, reserve_bytes: int) -> None:
        super().__init__(
            f"{path} has {free_bytes} bytes free, below the reserve of {reserve_bytes}; "
            "writes are refused until space is freed",
            path=path,
            free_bytes=free_bytes,
            reserve_bytes=reserve_bytes,
        )


class StoppedError(MultiraftError):
    """The database, node or connection was closed."""

    code = "stopped"

    def __init__(self, *, what: str) -> None:
        super().__init__(f"{what} is closed", what=what)


class StoreFailedError(MultiraftError):
    """A write or sync failed, or an invariant broke: the store stops. Recovery: see the reason."""

    code = "store_failed"

    def __init__(self, *, reason: str) -> None:
        super().__init__(f"the store must stop: {reason}", reason=reason)


class CorruptionError(StoreFailedError):
    """Bytes on disk are not what was written. Recovery: replace the node; peers have the data."""

    code = "corruption"


def _all_classes(root: type[MultiraftError]) -> list[type[MultiraftError]]:
    found = [root]
    for child in root.__subclasses__():
        found.extend(_all_classes(child))
    return found


BY_CODE: dict[str, type[MultiraftError]] = {c.code: c for c in _all_classes(MultiraftError)}


def to_wire(error: MultiraftError) -> ErrorDetail:
    """Return what is sent for `error`."""
    return ErrorDetail(error.code, error.message, error.facts)


def from_wire(detail: ErrorDetail) -> MultiraftError:
    """Return the exception that the other end raised.

    A code of a newer version, or facts it does not share with us, gives a plain MultiraftError
    with the same message, which stays as it is when it is passed on.
    """
    if detail.code == MultiraftError.code:
        return MultiraftError(detail.message)
    kind = BY_CODE.get(detail.code, MultiraftError)
    try:
        return kind(**detail.facts)
    except (TypeError, ValueError):
        return MultiraftError(f"{detail.code}: {detail.message}")
