"""What the product's ranges make of what the model asks, in the model's words.

Purpose
    Put the state of `server.Ranges` into a range in memory, evaluate the request by the code that
    leaseholders run, and read state and answer back.
How
    A timestamp t of the model is ORIGIN + t. Each key's range is cut off from the other's, unless
    they are one. A push is evaluated soon after the last sign of life, and long after it.
"""

from collections.abc import Iterator

from multiraft import errors
from multiraft.ids import RangeId, Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Operation, Put
from multiraft.model.transaction import (
    Intent,
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    HeartbeatTransaction,
    PushKind,
    PushTransaction,
    QueryIntent,
    QueryIntentResult,
    RecordResult,
    RecoverTransaction,
    ResolveIntent,
    TransactionContext,
)
from multiraft.mvcc import intents, reads
from multiraft.mvcc.intents import ChangeSet
from multiraft.ranges.commands.setting import Outcome as Evaluated
from tests.support.range_scene import EXPIRY, Scene
from tests.transactions import server
from tests.transactions.server import (
    ANCHOR,
    KEYS,
    OTHER,
    Abort,
    Commit,
    Heartbeat,
    Lay,
    OnePhase,
    Outcome,
    Push,
    PushTimestamp,
    Query,
    Ranges,
    Record,
    Recover,
    Ref,
    Reply,
    Request,
    Resolve,
    Stage,
    Write,
)

ORIGIN = 1_000
NAMES = (b"\x10a", b"\x10z")
BORDER = b"\x10m"
SOON = Timestamp(2_000)
LATE = Timestamp(SOON + EXPIRY + 100)
META = TransactionMeta(b"t" * 16, NAMES[ANCHOR], 0, Timestamp(ORIGIN))
READER = TransactionMeta(b"r" * 16, b"", 1, Timestamp(ORIGIN))


def evaluate(ranges: Ranges, request: Request) -> Iterator[Outcome]:
    """Yield what the product makes of a request; of a push, both before and after expiry."""
    for now in (SOON, LATE) if isinstance(request, Push) else (SOON,):
        scene = _scene(ranges, request)
        scene.now = now
        outcome = scene.evaluate(_request(request))
        yield _state(scene, ranges), _reply(request, outcome)


def _scene(ranges: Ranges, request: Request) -> Scene:
    """Return a range that holds what the model says."""
    scene = Scene()
    changes = ChangeSet(scene.reader)
    for key, name in enumerate(NAMES):
        version, intent = ranges.versions[key], ranges.intents[key]
        if version is not None:
            at = _real(version.timestamp)
            changes.write(name, _value(version.sequence), at, META.id, None)
            if ranges.are_one or key == _key_of(request):
                scene.recent.note(META.id, at)
        if intent is not None:
            at = _real(intent.timestamp)
            laid = Intent(META, at, intent.sequence, _value(intent.sequence), SOON)
            changes.lay(name, laid, None)
        if ranges.reads[key]:
            scene.cache.add_point(name, _real(ranges.reads[key]))
    if ranges.record is not None:
        changes.record(_real_record(ranges.record))
    scene.hold(changes)
    if ranges.is_collected:
        scene.gc_threshold = Timestamp(ORIGIN)
    if not ranges.are_one:
        if _key_of(request) == ANCHOR:
            scene.end = BORDER
        else:
            scene.start = BORDER
    return scene


def _real(timestamp: int) -> Timestamp:
    return Timestamp(ORIGIN + timestamp if timestamp else 0)


def _model(timestamp: int) -> int:
    return timestamp - ORIGIN if timestamp else 0


def _value(sequence: int) -> bytes:
    return b"%d" % sequence


def _refs(writes: tuple[Ref, ...]) -> tuple[IntentRef, ...]:
    return tuple(IntentRef(NAMES[ref.key], ref.sequence) for ref in writes)


def _real_record(record: Record) -> TransactionRecord:
    return TransactionRecord(
        META,
        record.status,
        _real(record.timestamp),
        SOON,
        Timestamp(ORIGIN),
        _refs(record.writes),
    )


def _key_of(request: Request) -> int:
    if isinstance(request, Lay | Resolve):
        return request.key
    return request.ref.key if isinstance(request, Query) else ANCHOR


# -- requests ------------------------------------------------------------------------------------


def _request(request: Request) -> BatchRequest:
    match request:
        case Lay(key, sequence, timestamp):
            return _own(Put(NAMES[key], _value(sequence)), sequence=sequence, at=timestamp)
        case Stage(timestamp, writes):
            sequence = writes[ANCHOR].sequence
            put = Put(NAMES[ANCHOR], _value(sequence))
            end = _end(TransactionStatus.STAGING, timestamp, writes)
            return _own(put, end, sequence=sequence, at=timestamp)
        case OnePhase(timestamp):
            end = EndTransaction(META.anchor, TransactionStatus.COMMITTED, one_phase=True)
            puts = [Put(name, _value(1)) for name in NAMES]
            return _own(*puts, end, at=timestamp)
        case Commit(timestamp):
            writes = Ref(ANCHOR, 1), Ref(OTHER, 1)
            return _own(_end(TransactionStatus.COMMITTED, timestamp, writes))
        case Abort(failed):
            return _own(_end(TransactionStatus.ABORTED, failed, (Ref(ANCHOR, 1), Ref(OTHER, 1))))
        case Heartbeat():
            return _own(HeartbeatTransaction(META.anchor))
        case _:
            return BatchRequest(RangeId(1), (_of_others(request),))


def _end(status: TransactionStatus, timestamp: int, writes: tuple[Ref, ...]) -> EndTransaction:
    return EndTransaction(META.anchor, status, _real(timestamp), _refs(writes))


def _own(*operations: Operation, sequence: int = 1, at: int = 0) -> BatchRequest:
    """Return a part of the transaction."""
    return BatchRequest(
        RangeId(1),
        operations,
        META.id,
        issued_at=Timestamp(ORIGIN),
        timestamp=_real(at),
        txn=TransactionContext(META, sequence),
    )


def _of_others(request: Request) -> Operation:
    since = Timestamp(ORIGIN)
    match request:
        case Push():
            return PushTransaction(META.anchor, META, SOON, since, PushKind.ABORT)
        case PushTimestamp(timestamp):
            kind, push_to = PushKind.TIMESTAMP, _real(timestamp)
            return PushTransaction(META.anchor, META, SOON, since, kind, READER, push_to)
        case Query(ref, timestamp):
            name, at = NAMES[ref.key], _real(timestamp)
            return QueryIntent(name, META.id, ref.sequence, at, since)
        case Recover(timestamp, committed):
            return RecoverTransaction(META.anchor, META.id, _real(timestamp), committed, since)
        case Resolve(key, status, timestamp):
            return ResolveIntent(NAMES[key], META.id, status, _real(timestamp))
    raise AssertionError(f"{request} is the transaction's own")


# -- what came of it -----------------------------------------------------------------------------


def _state(scene: Scene, before: Ranges) -> Ranges:
    found = intents.get_record(scene.reader, META.anchor, META.id)
    return before._replace(
        record=None if found is None else _record(found),
        intents=tuple(_intent(scene, name) for name in NAMES),
        versions=tuple(_version(scene, name) for name in NAMES),
        reads=tuple(_model(scene.cache.max_read(name)[0]) for name in NAMES),
    )


def _record(found: TransactionRecord) -> Record:
    writes = tuple(Ref(NAMES.index(ref.key), ref.sequence) for ref in found.writes)
    return Record(found.status, _model(found.timestamp), writes)


def normal(outcome: Outcome) -> Outcome:
    """Return an outcome without what differs in form only."""
    ranges, reply = outcome
    if ranges.record is not None:
        ranges = ranges.with_record(_normal_record(ranges.record))
    if isinstance(reply, server.Stands) and reply.record is not None:
        reply = server.Stands(_normal_record(reply.record))
    return ranges, reply


def _normal_record(record: Record) -> Record:
    """Return a record without what its reader has no use for."""
    writes = record.writes if record.status == server.STAGING else ()
    timestamp = 0 if record.status == server.ABORTED else record.timestamp
    return Record(record.status, timestamp, writes)


def _intent(scene: Scene, name: bytes) -> Write | None:
    found = intents.get(scene.reader, name)
    return None if found is None else Write(_model(found.timestamp), found.sequence)


def _version(scene: Scene, name: bytes) -> Write | None:
    found = reads.newest(scene.reader, name)
    return None if found is None else Write(_model(found.timestamp), int(found.value))


def _reply(request: Request, outcome: Evaluated) -> Reply:
    error = outcome.error
    if isinstance(error, errors.TransactionPushedError):
        return server.Pushed(_model(error.timestamp))
    if isinstance(error, errors.TransactionAbortedError):
        return server.STANDS_ABORTED
    if isinstance(error, errors.OutcomeUnknownError):
        return server.Unknown()
    assert error is None, f"{request}: {error}"
    result = outcome.results[-1]
    if isinstance(result, QueryIntentResult):
        return server.Found(result.found)
    if isinstance(request, Resolve):
        return server.DONE
    if isinstance(result, RecordResult):
        record = None if result.record is None else _record(result.record)
        if isinstance(request, Stage) and record is not None and record.status == server.STAGING:
            return server.Laid(_model(outcome.timestamp))
        return server.Stands(record)
    return server.Laid(_model(outcome.timestamp))


assert len(NAMES) == len(KEYS)
assert NAMES[ANCHOR] < BORDER < NAMES[OTHER] < keys.END
