"""Transactions on a FakeCluster: what a leaseholder would answer, without any replication.

Invariants
    - Locks, records and the times of reads lie beside the versions, and belong to keys, so a split
      moves nothing.
    - Nobody is pushed: whoever meets a lock of a transaction that has not ended is answered
      LockWaitError, again and again; but who closes a circle of waits is aborted.
"""

from typing import TYPE_CHECKING

import msgspec

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.model import hlc, keys
from multiraft.model import transaction_requests as asked
from multiraft.model.requests import (
    BatchRequest,
    Delete,
    DeleteResult,
    Get,
    GetResult,
    Operation,
    Put,
    PutResult,
    Result,
    Scan,
)
from multiraft.model.transaction import (
    Intent,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)

if TYPE_CHECKING:
    from tests.support.fake_cluster import FakeCluster, FakeRange

KINDS = (
    asked.EndTransaction,
    asked.HeartbeatTransaction,
    asked.PushTransaction,
    asked.QueryTransaction,
    asked.RecoverTransaction,
    asked.QueryIntent,
    asked.ResolveIntent,
    asked.Refresh,
)
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED
STAGING, PENDING = TransactionStatus.STAGING, TransactionStatus.PENDING


class FakeTransactions:
    """See the module."""

    def __init__(self, cluster: "FakeCluster") -> None:
        self._cluster = cluster
        self.intents: dict[bytes, Intent] = {}
        self.locks: dict[bytes, TransactionMeta] = {}
        """Unreplicated ones."""
        self.records: dict[bytes, TransactionRecord] = {}
        """By the ID."""
        self.written: dict[tuple[bytes, bytes], Timestamp] = {}
        """When an ID committed a version of a key."""
        self.reads: list[tuple[bytes, bytes, Timestamp, bytes]] = []
        """What was read, up to which time and by whom: start, end, time, owner."""
        self._waits: dict[bytes, bytes] = {}
        """By the ID of who was answered LockWaitError last: who has the lock."""
        self.uncertainty = Timestamp(0)
        """How far the uncertainty limit lies above a read timestamp that is chosen here."""

    def evaluate(
        self, found: "FakeRange", request: BatchRequest
    ) -> tuple[tuple[Result, ...], Timestamp, Timestamp]:
        """Return the results, the time, and the uncertainty limit."""
        self._waits.pop(request.id, None)
        try:
            return self._evaluate(found, request)
        except errors.LockWaitError as wait:
            if request.txn is not None:
                self._waits[request.id] = bytes.fromhex(wait.facts["holder"])
                if self._is_in_a_circle(request.id):
                    del self._waits[request.id]
                    self._decide(self._record(request, ABORTED, Timestamp(0)), ABORTED)
                    raise errors.TransactionAbortedError(reason="deadlock") from wait
            raise

    def _is_in_a_circle(self, waiter: bytes) -> bool:
        holder = self._waits.get(waiter)
        for _ in range(len(self._waits)):
            if holder is None or holder == waiter:
                break
            holder = self._waits.get(holder)
        return holder == waiter

    def _evaluate(
        self, found: "FakeRange", request: BatchRequest
    ) -> tuple[tuple[Result, ...], Timestamp, Timestamp]:
        first = request.operations[0]
        if isinstance(first, Get | Scan):
            return self._read(request)
        if isinstance(first, Put | Delete) or (
            isinstance(first, asked.EndTransaction) and first.status is STAGING
        ):
            return self._write(found, request)
        results = tuple(self._ask(each, request) for each in request.operations)
        return results, request.timestamp, Timestamp(0)

    def wait_for(self, key: bytes, owner: bytes, limit: Timestamp = hlc.MAX) -> None:
        """Raise LockWaitError if another transaction's intent at or below `limit` is there."""
        intent = self.intents.get(key)
        if intent is None or intent.txn.id == owner or intent.timestamp > limit:
            return
        record = self.records.get(intent.txn.id)
        if record is None or not record.status.is_final:
            raise errors.LockWaitError(
                key=keys.pretty(key), holder=intent.txn.id.hex(), waited_ms=20
            )
        self._resolve(key, intent.txn.id, record.status, record.timestamp)

    def abort(self, transaction_id: bytes) -> None:
        """Abort a transaction that has a record, as a pusher would."""
        aborted = msgspec.structs.replace(
            self.records[transaction_id], reason="somebody aborted it"
        )
        self._decide(aborted, ABORTED)

    def abandon(self) -> None:
        """Decide everything that is left, as those whom it blocks would in the end."""
        for key, intent in list(self.intents.items()):
            record = self.records.get(intent.txn.id)
            if record is not None and record.status is STAGING:
                found = all(
                    self._is_there(write.key, intent.txn.id, write.sequence, record.timestamp)
                    for write in record.writes
                )
                self._decide(record, COMMITTED if found else ABORTED)
            elif record is not None and record.status is COMMITTED:
                self._resolve(key, intent.txn.id, COMMITTED, record.timestamp)
            else:
                self._resolve(key, intent.txn.id, ABORTED, Timestamp(0))

    def decide(self, record: TransactionRecord, *, committed: bool) -> None:
        """Decide a transaction that was left STAGING, as a pusher would."""
        self._decide(record, COMMITTED if committed else ABORTED)

    # -- reads -------------------------------------------------------------------------------------

    def _read(self, request: BatchRequest) -> tuple[tuple[Result, ...], Timestamp, Timestamp]:
        txn = request.txn
        assert txn is not None, "outside transactions the cluster reads by itself"
        at = request.timestamp or self._cluster.now()
        limit = txn.uncertainty_limit
        if not request.timestamp:
            limit = Timestamp(at + self.uncertainty)
        results: list[Result] = []
        for operation in request.operations:
            if isinstance(operation, Get):
                self._look_at(operation.key, txn, at, limit, is_locking=txn.is_locking)
                results.append(GetResult(self._cluster.read(operation.key, at), at))
                self.reads.append((operation.key, b"", at, txn.meta.id))
            else:
                assert isinstance(operation, Scan), "reads only"
                start, end = operation.start, operation.end
                new = [key for key in self.intents if start <= key < end]
                for key in [*self._cluster.keys_within(start, end), *new]:
                    self._look_at(key, txn, at, limit, is_locking=False)
                page = self._cluster.scan(operation, at)
                for key in page.rows[::2]:
                    self._look_at(key, txn, at, limit, is_locking=txn.is_locking)
                results.append(page)
                if page.resume is not None:
                    start, end = (page.resume, end) if operation.reverse else (start, page.resume)
                self.reads.append((start, end, at, txn.meta.id))
        return tuple(results), at, limit

    def note_reads(self, request: BatchRequest, at: Timestamp) -> None:
        """Remember what a part outside of transactions has read."""
        for operation in request.operations:
            if isinstance(operation, Get):
                self.reads.append((operation.key, b"", at, b""))
            elif isinstance(operation, Scan):
                self.reads.append((operation.start, operation.end, at, b""))

    def _look_at(
        self,
        key: bytes,
        txn: asked.TransactionContext,
        at: Timestamp,
        limit: Timestamp,
        *,
        is_locking: bool,
    ) -> None:
        self.wait_for(key, txn.meta.id, hlc.MAX if is_locking else max(at, limit))
        newest = self._newest(key)
        if newest > at and (is_locking or newest <= limit):
            raise errors.ReadUncertainError(key=keys.pretty(key), timestamp=newest)
        if is_locking:
            self._wait_for_lock(key, txn.meta.id)
            self.locks[key] = txn.meta

    def _wait_for_lock(self, key: bytes, owner: bytes) -> None:
        holder = self.locks.get(key)
        if holder is not None and holder.id != owner:
            raise errors.LockWaitError(key=keys.pretty(key), holder=holder.id.hex(), waited_ms=20)

    # -- writes ------------------------------------------------------------------------------------

    def _write(
        self, found: "FakeRange", request: BatchRequest
    ) -> tuple[tuple[Result, ...], Timestamp, Timestamp]:
        txn = request.txn
        assert txn is not None, "writes of a transaction"
        last = request.operations[-1]
        end = last if isinstance(last, asked.EndTransaction) else None
        writes = request.operations if end is None else request.operations[:-1]
        named = [getattr(each, "key", b"") for each in writes]
        known = [self.written[txn.meta.id, k] for k in named if (txn.meta.id, k) in self.written]
        if known:
            ended = self._record(request, COMMITTED, known[0])
            return self._done(writes, end, ended), known[0], Timestamp(0)
        self._check_record(txn.meta.id)
        for key in named:
            self.wait_for(key, txn.meta.id)
            self._wait_for_lock(key, txn.meta.id)
        if end is not None and end.one_phase:
            return self._commit_at_once(found, request, end, writes, named)
        new = [
            (each, key)
            for each, key in zip(writes, named, strict=True)
            if key not in self.intents or self.intents[key].sequence < txn.sequence
        ]
        at = max([request.timestamp, *(self._floor(key, txn.meta.id) for _, key in new)])
        at = max([at, *(self.intents[key].timestamp for key in named if key in self.intents)])
        if end is not None and at > end.timestamp:
            raise errors.TransactionPushedError(timestamp=at)
        for each, key in new:
            value = each.value if isinstance(each, Put) else None
            self.intents[key] = Intent(txn.meta, Timestamp(at), txn.sequence, value)
        record = None
        if end is not None:
            record = self.records.get(txn.meta.id)
            if record is None or record.timestamp <= end.timestamp:
                record = self._record(request, STAGING, end.timestamp, end)
                self.records[txn.meta.id] = record
        return self._done(writes, end, record), Timestamp(at), Timestamp(0)

    def _commit_at_once(
        self,
        found: "FakeRange",
        request: BatchRequest,
        end: asked.EndTransaction,
        writes: tuple[Operation, ...],
        named: list[bytes],
    ) -> tuple[tuple[Result, ...], Timestamp, Timestamp]:
        owner = request.id
        assert found.descriptor.contains(end.key), "it commits where its anchor is (rule S9)"
        at = request.timestamp or self._cluster.now()
        needed = Timestamp(max([at, *(self._floor(key, owner) for key in named)]))
        if needed > at:
            if not end.is_movable:
                raise errors.TransactionPushedError(timestamp=needed)
            for start, stop in end.read_spans:
                if self._changed(start, stop, at, needed, owner) is not None:
                    raise errors.TransactionPushedError(timestamp=needed)
        for each, key in zip(writes, named, strict=True):
            self._commit(key, each.value if isinstance(each, Put) else None, needed, owner)
        self._let_go(owner, end.locked)
        record = self._record(request, COMMITTED, needed)
        if end.key not in named:
            self.records[owner] = record
        self._cluster.evaluations[owner] += 1
        return self._done(writes, end, record), needed, Timestamp(0)

    def _done(
        self,
        writes: tuple[Operation, ...],
        end: asked.EndTransaction | None,
        record: TransactionRecord | None,
    ) -> tuple[Result, ...]:
        results: list[Result] = [
            PutResult() if isinstance(each, Put) else DeleteResult(True) for each in writes
        ]
        return (*results, asked.RecordResult(record)) if end is not None else tuple(results)

    # -- records and intents -----------------------------------------------------------------------

    def _ask(self, operation: Operation, request: BatchRequest) -> Result:
        match operation:
            case asked.EndTransaction():
                return asked.RecordResult(self._end(operation, request))
            case asked.HeartbeatTransaction():
                record = self.records.get(request.id)
                if record is None:
                    record = self.records[request.id] = self._record(request, PENDING, Timestamp(0))
                return asked.RecordResult(record)
            case asked.QueryTransaction(_, transaction_id):
                return asked.RecordResult(self.records.get(transaction_id))
            case asked.RecoverTransaction(_, transaction_id, timestamp, committed):
                record = self.records[transaction_id]
                if record.status is STAGING and record.timestamp == timestamp:
                    status = COMMITTED if committed else ABORTED
                    self._decide(record, status, timestamp)
                return asked.RecordResult(self.records[transaction_id])
            case asked.QueryIntent(key, transaction_id, sequence, timestamp):
                return asked.QueryIntentResult(
                    self._is_there(key, transaction_id, sequence, timestamp)
                )
            case asked.ResolveIntent(key, transaction_id, status, timestamp):
                self._resolve(key, transaction_id, status, timestamp)
                return PutResult()
            case asked.Refresh(key, end, since):
                conflict = self._changed(key, end, since, request.timestamp, request.id)
                if conflict is not None:
                    return asked.RefreshResult(False, conflict)
                self.reads.append((key, end, request.timestamp, request.id))
                return asked.RefreshResult(True)
        raise AssertionError(f"{operation} is not known here")

    def _end(self, end: asked.EndTransaction, request: BatchRequest) -> TransactionRecord:
        at = self.written.get((request.id, end.key))
        if at is not None:
            return self._record(request, COMMITTED, at, end)
        record = self.records.get(request.id)
        if record is not None and record.status is COMMITTED:
            return record
        if end.status is COMMITTED:
            self._check_record(request.id)
            return self._decide(self._record(request, COMMITTED, end.timestamp, end), COMMITTED)
        if record is not None and record.status is STAGING and record.timestamp != end.timestamp:
            return record
        self._let_go(request.id, end.locked)
        return self._decide(self._record(request, ABORTED, Timestamp(0), end), ABORTED)

    def _decide(
        self,
        record: TransactionRecord,
        status: TransactionStatus,
        timestamp: Timestamp | None = None,
    ) -> TransactionRecord:
        at = record.timestamp if timestamp is None else timestamp
        decided = TransactionRecord(
            record.txn, status, at, record.heartbeat, record.issued_at, record.writes, record.reason
        )
        self.records[record.txn.id] = decided
        if status is COMMITTED:
            self._cluster.evaluations[record.txn.id] += 1
        for key in [key for key, each in self.intents.items() if each.txn.id == record.txn.id]:
            self._resolve(key, record.txn.id, status, at)
        for key in [key for key, each in self.locks.items() if each.id == record.txn.id]:
            del self.locks[key]
        return decided

    def _resolve(self, key: bytes, owner: bytes, status: TransactionStatus, at: Timestamp) -> None:
        intent = self.intents.get(key)
        if intent is not None and intent.txn.id == owner:
            del self.intents[key]
            if status is COMMITTED:
                self._commit(key, intent.value, at, owner)
        self._let_go(owner, (key,))

    def _is_there(self, key: bytes, owner: bytes, sequence: int, at: Timestamp) -> bool:
        if (owner, key) in self.written:
            return True
        intent = self.intents.get(key)
        if (
            intent is not None
            and intent.txn.id == owner
            and intent.sequence == sequence
            and intent.timestamp <= at
        ):
            return True
        self.reads.append((key, b"", at, b""))
        return False

    def _check_record(self, owner: bytes) -> None:
        record = self.records.get(owner)
        if record is not None and record.status is ABORTED:
            raise errors.TransactionAbortedError(reason=record.reason or "somebody aborted it")

    def _record(
        self,
        request: BatchRequest,
        status: TransactionStatus,
        at: Timestamp,
        end: asked.EndTransaction | None = None,
    ) -> TransactionRecord:
        assert request.txn is not None, "of a transaction"
        return TransactionRecord(
            request.txn.meta,
            status,
            at,
            self._cluster.now(),
            request.issued_at,
            () if end is None else end.writes,
            "" if end is None else end.reason,
        )

    def _commit(self, key: bytes, value: bytes | None, at: Timestamp, owner: bytes) -> None:
        self._cluster.write(key, value, at)
        self.written[owner, key] = at

    def _let_go(self, owner: bytes, locked: tuple[bytes, ...]) -> None:
        for key in locked:
            if key in self.locks and self.locks[key].id == owner:
                del self.locks[key]

    # -- times -------------------------------------------------------------------------------------

    def _newest(self, key: bytes) -> Timestamp:
        versions = self._cluster.versions.get(key)
        return Timestamp(max(at for at, _ in versions)) if versions else Timestamp(0)

    def _floor(self, key: bytes, owner: bytes) -> Timestamp:
        """Return the least time at which the key may be written."""
        read = [
            at if reader == owner else at + 1
            for start, end, at, reader in self.reads
            if key == start or (end and start <= key < end)
        ]
        return Timestamp(max([self._newest(key) + 1, *read]))

    def _changed(
        self, start: bytes, end: bytes, since: Timestamp, to: Timestamp, owner: bytes
    ) -> bytes | None:
        """Return a key of the span that another has written in `(since, to]`, or may yet."""
        for key in (start,) if not end else self._cluster.keys_within(start, end):
            intent = self.intents.get(key)
            if intent is not None and intent.txn.id != owner and intent.timestamp <= to:
                return key
            for at, _ in self._cluster.versions.get(key, ()):
                if since < at <= to and self.written.get((owner, key)) != at:
                    return key
        for key, intent in self.intents.items():
            inside = key == start or (end and start <= key < end)
            if inside and intent.txn.id != owner and intent.timestamp <= to:
                return key
        return None
