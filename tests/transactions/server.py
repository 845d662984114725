"""What ranges do with the requests of one transaction: the protocol as a function of values.

Purpose
    `evaluate` says, for what two ranges hold and one request, what they hold next and what is
    answered. Each request is evaluated at one moment, as latches and the log see to.
What is left out
    Values: a write is known by its sequence. Time: whether a transaction has expired is open at
    every push, whatever the truth is. Other transactions, but for what their reads leave in the
    timestamp cache. The clock, leases and leader changes: the low-water mark covers them.
Source
    Taft et al., "CockroachDB" (2020), section 3; rules S9, S11, S18, A9.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import msgspec

from multiraft.model.transaction import TransactionStatus
from tests.transactions.rules import Rules

PENDING = TransactionStatus.PENDING
STAGING = TransactionStatus.STAGING
COMMITTED = TransactionStatus.COMMITTED
ABORTED = TransactionStatus.ABORTED

ANCHOR, OTHER = KEYS = (0, 1)
"""The keys written; the record lies in the range of the first."""


class Ref(NamedTuple):
    """A write, as records name it."""

    key: int
    sequence: int


class Write(NamedTuple):
    """An intent, or a version."""

    timestamp: int
    sequence: int


class Record(NamedTuple):
    """The transaction's record."""

    status: TransactionStatus
    timestamp: int = 0
    writes: tuple[Ref, ...] = ()


class Ranges(NamedTuple):
    """All that two ranges, one for each key, hold of the transaction."""

    record: Record | None = None
    intents: tuple[Write | None, ...] = (None, None)
    versions: tuple[Write | None, ...] = (None, None)
    reads: tuple[int, ...] = (0, 0)
    """The latest read of each key, by others: the timestamp cache."""
    are_one: bool = False
    """Both keys lie in one range, which has not been split yet."""
    is_collected: bool = False
    """The GC threshold has passed the transaction's issued_at."""

    def with_record(self, record: Record | None) -> "Ranges":
        """Return them with another record."""
        return self._replace(record=record)

    def with_intent(self, key: int, intent: Write | None) -> "Ranges":
        """Return them with another intent, or none."""
        return self._replace(intents=_set(self.intents, key, intent))

    def with_version(self, key: int, version: Write) -> "Ranges":
        """Return them with a version in the place of the intent, if there was one."""
        return self._replace(
            intents=_set(self.intents, key, None), versions=_set(self.versions, key, version)
        )

    def with_read(self, key: int, timestamp: int) -> "Ranges":
        """Return them with the timestamp cache raised."""
        return self._replace(reads=_set(self.reads, key, max(self.reads[key], timestamp)))


def _set(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return (*values[:place], value, *values[place + 1 :])


class Lay(msgspec.Struct, frozen=True):
    """Lay an intent at or above a timestamp."""

    key: int
    sequence: int
    timestamp: int


class Stage(msgspec.Struct, frozen=True):
    """Lay the intent of the anchor, and write STAGING, in one part."""

    timestamp: int
    writes: tuple[Ref, ...]


class OnePhase(msgspec.Struct, frozen=True):
    """Commit both writes at once."""

    timestamp: int


class Commit(msgspec.Struct, frozen=True):
    """Say that STAGING has become true."""

    timestamp: int


class Abort(msgspec.Struct, frozen=True):
    """Roll back; STAGING at `failed` is known to be wrong."""

    failed: int


class Heartbeat(msgspec.Struct, frozen=True):
    """Say that the transaction lives."""


class Push(msgspec.Struct, frozen=True):
    """End the transaction if it seems dead."""


class PushTimestamp(msgspec.Struct, frozen=True):
    """Have the transaction commit above the timestamp of a reader."""

    timestamp: int


class Query(msgspec.Struct, frozen=True):
    """Is a write there?"""

    ref: Ref
    timestamp: int


class Recover(msgspec.Struct, frozen=True):
    """Decide a transaction that was left STAGING."""

    timestamp: int
    committed: bool


class Resolve(msgspec.Struct, frozen=True):
    """Do with an intent what the end of its transaction means."""

    key: int
    status: TransactionStatus
    timestamp: int


Request = (
    Lay
    | Stage
    | OnePhase
    | Commit
    | Abort
    | Heartbeat
    | Push
    | PushTimestamp
    | Query
    | Recover
    | Resolve
)


class Laid(msgspec.Struct, frozen=True):
    """The intent is there, at this timestamp."""

    timestamp: int


class Pushed(msgspec.Struct, frozen=True):
    """Nothing was done: it would need this timestamp."""

    timestamp: int


class Stands(msgspec.Struct, frozen=True):
    """How the transaction stands."""

    record: Record | None


class Found(msgspec.Struct, frozen=True):
    """The answer to Query."""

    found: bool


class Mismatch(msgspec.Struct, frozen=True):
    """The keys do not lie in one range any more."""


class Unknown(msgspec.Struct, frozen=True):
    """Too old a request: what became of the transaction has been forgotten."""


class Done(msgspec.Struct, frozen=True):
    """Nothing to tell."""


Reply = Laid | Pushed | Stands | Found | Mismatch | Unknown | Done

DONE = Done()
STANDS_ABORTED = Stands(Record(ABORTED))


def stands_committed(timestamp: int) -> Stands:
    """Return the answer that the transaction has committed."""
    return Stands(Record(COMMITTED, timestamp))


Outcome = tuple[Ranges, Reply]


def evaluate(ranges: Ranges, request: Request, rules: Rules) -> Iterator[Outcome]:
    """Yield what may come of a request."""
    return _EVALUATE[type(request)](ranges, request, rules)


def resolvers(record: Record | None) -> tuple[Resolve, ...]:
    """Return what is sent once a record is final, by whoever."""
    if record is None or not record.status.is_final:
        return ()
    return tuple(Resolve(key, record.status, record.timestamp) for key in KEYS)


def proves(ranges: Ranges, ref: Ref, timestamp: int, rules: Rules) -> bool:
    """Return whether a write of STAGING at `timestamp` is there."""
    intent = ranges.intents[ref.key]
    if ranges.versions[ref.key] is not None:
        return True
    return (
        intent is not None
        and (intent.sequence == ref.sequence or not rules.proof_needs_the_sequence)
        and (intent.timestamp <= timestamp or not rules.proof_needs_the_timestamp)
    )


# -- writes --------------------------------------------------------------------------------------


def _floor(ranges: Ranges, key: int, rules: Rules) -> int:
    return ranges.reads[key] + 1 if rules.writes_stay_above_reads else 0


def _lay(ranges: Ranges, request: Lay, rules: Rules) -> Iterator[Outcome]:
    key = request.key
    intent, version = ranges.intents[key], ranges.versions[key]
    if intent and intent.sequence >= request.sequence and rules.own_intent_answers:
        yield ranges, Laid(intent.timestamp)
    elif version and rules.own_version_answers:
        yield ranges, Laid(version.timestamp)
    elif ranges.is_collected:
        yield ranges, Unknown()
    else:
        before = 0 if intent is None else intent.timestamp
        timestamp = max(request.timestamp, before, _floor(ranges, key, rules))
        yield ranges.with_intent(key, Write(timestamp, request.sequence)), Laid(timestamp)


def _stage(ranges: Ranges, request: Stage, rules: Rules) -> Iterator[Outcome]:
    record, version = ranges.record, ranges.versions[ANCHOR]
    timestamp = request.timestamp
    if _is_past(ranges, rules) and rules.collected_is_not_created_again:
        yield ranges, Unknown()
        return
    if record is not None:
        if record.status == COMMITTED or (
            record.status == ABORTED and rules.record_once_final_stays
        ):
            yield ranges, Stands(record)
            return
        if (
            record.status == PENDING
            and record.timestamp > timestamp
            and rules.staging_heeds_the_push
        ):
            yield ranges, Pushed(record.timestamp)
            return
        if (
            record.status == STAGING
            and record.timestamp > timestamp
            and rules.staging_never_goes_back
        ):
            yield ranges, Pushed(record.timestamp)
            return
    if version is not None and rules.own_version_answers:
        yield ranges, stands_committed(version.timestamp)
        return
    staging = Record(STAGING, timestamp, request.writes)
    mine = next(ref for ref in request.writes if ref.key == ANCHOR)
    intent = ranges.intents[ANCHOR]
    if intent is None or intent.sequence < mine.sequence:
        before = 0 if intent is None else intent.timestamp
        needed = max(timestamp, before, _floor(ranges, ANCHOR, rules))
        if needed > timestamp:
            yield ranges, Pushed(needed)
            return
        intent = Write(needed, mine.sequence)
    # One that has lain there before may lie above: then this STAGING cannot become true.
    yield ranges.with_intent(ANCHOR, intent).with_record(staging), Laid(intent.timestamp)


def _one_phase(ranges: Ranges, request: OnePhase, rules: Rules) -> Iterator[Outcome]:
    record, version = ranges.record, ranges.versions[ANCHOR]
    if not ranges.are_one:
        yield ranges, Mismatch()
    elif version is not None and rules.own_version_answers:
        yield ranges, stands_committed(version.timestamp)
    elif ranges.is_collected:
        yield ranges, Unknown()
    elif record is not None and record.status.is_final and rules.one_phase_looks_at_the_record:
        yield ranges, Stands(record)
    else:
        floors = [_floor(ranges, key, rules) for key in KEYS]
        if record is not None:
            floors.append(record.timestamp)
        if max(floors) > request.timestamp:
            yield ranges, Pushed(max(floors))
            return
        write = Write(request.timestamp, 1)
        for key in KEYS:
            ranges = ranges.with_version(key, write)
        if record is not None:
            ranges = ranges.with_record(Record(COMMITTED, request.timestamp))
        yield ranges, stands_committed(request.timestamp)


# -- the record ----------------------------------------------------------------------------------


def _is_past(ranges: Ranges, rules: Rules) -> bool:
    """Return whether it may have committed, and all that said so be gone."""
    is_open = ranges.record is None or ranges.record.status == ABORTED
    return is_open and ranges.is_collected


def _settled(ranges: Ranges, record: Record) -> Ranges:
    """Return them with a final record, and the intent beside it resolved."""
    return _resolved(ranges.with_record(record), Resolve(ANCHOR, record.status, record.timestamp))


def _commit(ranges: Ranges, request: Commit, rules: Rules) -> Iterator[Outcome]:
    record = ranges.record
    if _is_past(ranges, rules):
        yield ranges, Unknown()
        return
    if record is not None and record.status == STAGING and record.timestamp == request.timestamp:
        record = record._replace(status=COMMITTED)
        ranges = _settled(ranges, record)
    yield ranges, Stands(record)


def _abort(ranges: Ranges, request: Abort, rules: Rules) -> Iterator[Outcome]:
    record, version = ranges.record, ranges.versions[ANCHOR]
    if record is not None and record.status == COMMITTED and rules.record_once_final_stays:
        yield ranges, Stands(record)
    elif version is not None and rules.end_looks_for_the_version:
        yield ranges, stands_committed(version.timestamp)
    elif _is_past(ranges, rules) and rules.collected_is_not_known_aborted:
        yield ranges, Unknown()
    elif (
        record is not None
        and record.status == STAGING
        and record.timestamp != request.failed
        and rules.abort_needs_the_failed_staging
    ):
        yield ranges, Stands(record)
    else:
        yield _settled(ranges, Record(ABORTED)), STANDS_ABORTED


def _heartbeat(ranges: Ranges, request: Heartbeat, rules: Rules) -> Iterator[Outcome]:
    record, version = ranges.record, ranges.versions[ANCHOR]
    if record is None and version is not None:
        yield ranges, stands_committed(version.timestamp)
        return
    if _is_past(ranges, rules):
        yield ranges, Unknown()
        return
    if record is None or (record.status == STAGING and not rules.heartbeat_leaves_staging):
        record = Record(PENDING)
    yield ranges.with_record(record), Stands(record)


def _push(ranges: Ranges, request: Push, rules: Rules) -> Iterator[Outcome]:
    record, version = ranges.record, ranges.versions[ANCHOR]
    is_final = record is not None and record.status.is_final
    is_aborted = record is not None and record.status == ABORTED
    if is_final and (is_aborted or rules.record_once_final_stays):
        yield ranges, Stands(record)
        return
    if version is not None and rules.push_looks_for_the_version:
        yield ranges, stands_committed(version.timestamp)
        return
    yield ranges, Stands(record)  # It shows signs of life; or it is STAGING.
    if record is not None and record.status == STAGING and rules.push_leaves_staging:
        return
    is_past = record is None and ranges.is_collected
    if not (is_past and rules.push_makes_no_record_of_the_collected):
        ranges = ranges.with_record(Record(ABORTED))
    yield ranges, STANDS_ABORTED


def _push_timestamp(ranges: Ranges, request: PushTimestamp, rules: Rules) -> Iterator[Outcome]:
    record = ranges.record
    above = request.timestamp + 1 if rules.pushed_lies_above_the_reader else request.timestamp
    can_be_pushed = (
        not ranges.is_collected
        if record is None
        else record.status == PENDING
        or (record.status == STAGING and not rules.push_leaves_staging)
    )
    if can_be_pushed:
        floor = 0 if record is None else record.timestamp
        record = Record(PENDING, max(floor, above))
    yield ranges.with_record(record), Stands(record)


def _query(ranges: Ranges, request: Query, rules: Rules) -> Iterator[Outcome]:
    if proves(ranges, request.ref, request.timestamp, rules):
        yield ranges, Found(True)
        return
    if rules.query_prevents:
        ranges = ranges.with_read(request.ref.key, request.timestamp)
    yield ranges, Found(False)


def _recover(ranges: Ranges, request: Recover, rules: Rules) -> Iterator[Outcome]:
    record = ranges.record
    if (
        record is not None
        and record.status == STAGING
        and (record.timestamp == request.timestamp or not rules.recovery_needs_the_timestamp)
    ):
        record = record._replace(status=COMMITTED if request.committed else ABORTED)
        ranges = ranges.with_record(record)
    yield ranges, Stands(record)


# -- intents -------------------------------------------------------------------------------------


def _resolve(ranges: Ranges, request: Resolve, rules: Rules) -> Iterator[Outcome]:
    yield _resolved(ranges, request), DONE


def _resolved(ranges: Ranges, request: Resolve) -> Ranges:
    intent = ranges.intents[request.key]
    if intent is None:
        return ranges
    if request.status == ABORTED:
        return ranges.with_intent(request.key, None)
    return ranges.with_version(request.key, Write(request.timestamp, intent.sequence))


_EVALUATE: dict[type, Callable[[Ranges, Any, Rules], Iterator[Outcome]]] = {
    Lay: _lay,
    Stage: _stage,
    OnePhase: _one_phase,
    Commit: _commit,
    Abort: _abort,
    Heartbeat: _heartbeat,
    Push: _push,
    PushTimestamp: _push_timestamp,
    Query: _query,
    Recover: _recover,
    Resolve: _resolve,
}
