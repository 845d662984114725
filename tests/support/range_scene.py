"""A range in memory, in which parts of transactions are evaluated and applied one by one."""

from multiraft import errors
from multiraft.concurrency.lock_table import LockTable
from multiraft.concurrency.recent_writes import RecentWrites
from multiraft.concurrency.timestamp_cache import TimestampCache
from multiraft.config import LimitsConfig
from multiraft.ids import NodeId, RangeId, Timestamp
from multiraft.model import keys
from multiraft.model.requests import BatchRequest, Delete, Operation, Put
from multiraft.model.transaction import (
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.model.transaction_requests import (
    EndTransaction,
    RecordResult,
    TransactionContext,
)
from multiraft.mvcc import intents, reads, statistics
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import VALUE, Version
from multiraft.mvcc.writes import Effects, WriteSet
from multiraft.ranges.commands.setting import Outcome, Setting
from multiraft.ranges.transactions import EVALUATE
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine

EXPIRY = Timestamp(100)
NODE = NodeId(1)
"""Whose range it is."""
OTHER_ID = b"o" * 16
PENDING, STAGING = TransactionStatus.PENDING, TransactionStatus.STAGING
COMMITTED, ABORTED = TransactionStatus.COMMITTED, TransactionStatus.ABORTED


def meta(letter: bytes = b"t", anchor: bytes = b"a", priority: int = 0) -> TransactionMeta:
    """Return who a transaction of that name is; it began before anything in a scene."""
    return TransactionMeta(letter * 16, anchor, priority, Timestamp(1))


class Scene:
    """Time stands still unless a test sets `now`. Every evaluation is applied at once."""

    def __init__(self, *, locks_max: int = 100, recent_max: int = 100) -> None:
        self.engine = MemoryEngine()
        self.reader = EngineReader(self.engine)
        self.cache = TimestampCache(Timestamp(0), 100)
        self.recent = RecentWrites(recent_max, Timestamp(0))
        self.locks = LockTable(locks_max)
        self.now = Timestamp(1_000)
        self.offset = Timestamp(50)
        self.gc_threshold = Timestamp(0)
        self.clock_floor = Timestamp(0)
        self.serving_since = Timestamp(0)
        self.waited = Timestamp(0)
        """For how long parts wait for their latches."""
        self.start, self.end = keys.MIN, keys.END
        self.stats = RangeStats()
        self.limits = LimitsConfig()

    def new_leader(self) -> None:
        """Forget what is in memory only, and fill the lock table from the state."""
        self.recent.reset(self.now)
        self.serving_since = self.now
        self.cache.raise_low_water(self.now)
        self.locks.end()
        for key, intent in intents.scan(self.reader, self.start, self.end):
            self.locks.lay(key, intent.txn, intent.timestamp, intent.laid_at)

    def evaluate(self, request: BatchRequest) -> Outcome:
        """Evaluate a part and apply what it leads to."""
        setting = Setting(
            self.reader,
            self.cache,
            self.recent,
            self.locks,
            self.limits,
            self.now,
            self.offset,
            self.gc_threshold,
            self.clock_floor,
            EXPIRY,
            self.start,
            self.end,
            NODE,
            self.serving_since,
            Timestamp(self.now - self.waited - 1),
        )
        outcome = EVALUATE[type(request.operations[-1])](setting, request)
        if outcome.changes is not None:
            assert outcome.error is None, "what fails changes nothing"
            effects = outcome.changes.effects()
            laid = [intent.timestamp for _, intent in outcome.changes.laid]
            written = [
                layout.split_version_key(physical)[1]
                for physical in effects.puts[::2]
                if physical.startswith(layout.VERSION)
            ]
            assert outcome.written_at >= max((*laid, *written), default=0), "nothing lies above it"
            self._apply(effects, outcome.id, outcome.written_at)
            for key, intent in outcome.changes.laid:
                self.locks.lay(key, intent.txn, intent.timestamp, intent.laid_at)
            for key, transaction_id in outcome.changes.removed:
                self.locks.release(key, transaction_id)
            self.locks.note_moved(outcome.changes.moved_to)
        for key, transaction_id in outcome.unlocked:
            self.locks.release_unreplicated(transaction_id, (key,))
        if outcome.ended is not None:
            self.locks.release_unreplicated(outcome.ended.txn.id)
        recount = statistics.count(self.reader, keys.MIN, keys.END)
        assert self.stats == recount, "statistics equal a recount"
        return outcome

    def hold(self, changes: ChangeSet) -> None:
        """Have the range hold what somebody has changed in it."""
        self._apply(changes.effects(), b"", Timestamp(0))
        for key, intent in changes.laid:
            self.locks.lay(key, intent.txn, intent.timestamp, intent.laid_at)

    def _apply(self, effects: Effects, write_id: bytes, timestamp: Timestamp) -> None:
        batch = self.engine.new_batch()
        for position in range(0, len(effects.puts), 2):
            batch.put(effects.puts[position], effects.puts[position + 1], self.engine.data)
        for key in effects.deletes:
            batch.delete(key, self.engine.data)
        self.engine.write(batch)
        self.stats = self.stats.plus(effects.stats)
        self.clock_floor = max(self.clock_floor, timestamp)
        if write_id:
            self.recent.note(write_id, timestamp)
        for also_id, also_at in effects.also:
            self.recent.note(also_id, also_at)

    # -- who is not in a transaction ---------------------------------------------------------------

    def put(self, key: bytes, value: bytes | None, timestamp: int) -> None:
        """Write a version outside transactions; None removes the key."""
        write_set = WriteSet(self.reader, Timestamp(timestamp), OTHER_ID)
        if value is None:
            write_set.delete(key)
        else:
            write_set.put(key, value)
        self._apply(write_set.effects(), OTHER_ID, Timestamp(timestamp))

    def leave_outcome(self, key: bytes, timestamp: int) -> None:
        """Have a write outside transactions change nothing at `key`."""
        write_set = WriteSet(self.reader, Timestamp(timestamp), OTHER_ID)
        write_set.outcome(key)
        self._apply(write_set.effects(), OTHER_ID, Timestamp(timestamp))

    def newest(self, key: bytes) -> Version | None:
        """Return the newest version of a key."""
        return reads.newest(self.reader, key)

    def value(self, key: bytes) -> bytes | None:
        """Return what the newest version of a key holds."""
        version = self.newest(key)
        return version.value if version is not None and version.kind == VALUE else None

    # -- parts of a transaction --------------------------------------------------------------------

    def part(
        self,
        *operations: Operation,
        txn: TransactionMeta | None = None,
        at: int = 0,
        sequence: int = 1,
        issued_at: int = 10,
        limit: int = 0,
        is_locking: bool = False,
        observed: dict[int, int] | None = None,
    ) -> Outcome:
        """Evaluate a part of a transaction."""
        who = meta() if txn is None else txn
        return self.evaluate(
            BatchRequest(
                RangeId(1),
                operations,
                who.id,
                issued_at=Timestamp(issued_at),
                timestamp=Timestamp(at),
                txn=TransactionContext(
                    who,
                    sequence,
                    Timestamp(limit),
                    is_locking,
                    tuple((NodeId(n), Timestamp(at)) for n, at in (observed or {}).items()),
                ),
            )
        )

    def ask(self, *operations: Operation) -> Outcome:
        """Evaluate a part that is about a transaction, by somebody else."""
        return self.evaluate(BatchRequest(RangeId(1), operations))

    def lay(
        self,
        writes: dict[bytes, bytes | None],
        *,
        txn: TransactionMeta | None = None,
        at: int = 0,
        sequence: int = 1,
        issued_at: int = 10,
    ) -> Outcome:
        """Lay intents."""
        operations = writes_of(writes)
        return self.part(*operations, txn=txn, at=at, sequence=sequence, issued_at=issued_at)

    def one_phase(
        self,
        writes: dict[bytes, bytes | None],
        *,
        at: int = 0,
        read_spans: tuple[tuple[bytes, bytes], ...] | None = None,
        issued_at: int = 10,
        locked: tuple[bytes, ...] = (),
        txn: TransactionMeta | None = None,
    ) -> Outcome:
        """Commit in one phase; with `read_spans`, everything that was read is in them."""
        end = EndTransaction(
            (meta() if txn is None else txn).anchor,
            COMMITTED,
            locked=locked,
            one_phase=True,
            is_movable=read_spans is not None,
            read_spans=read_spans or (),
        )
        return self.part(*writes_of(writes), end, at=at, issued_at=issued_at, txn=txn)

    def finish(
        self,
        status: TransactionStatus,
        at: int = 0,
        *named: tuple[bytes, int],
        writes: dict[bytes, bytes | None] | None = None,
        issued_at: int = 10,
        sequence: int = 1,
        locked: tuple[bytes, ...] = (),
    ) -> Outcome:
        """Stage, commit or roll back a transaction that has laid what is `named`."""
        refs = tuple(IntentRef(key, number) for key, number in named)
        end = EndTransaction(meta().anchor, status, Timestamp(at), refs, locked)
        return self.part(*writes_of(writes or {}), end, issued_at=issued_at, sequence=sequence)

    def record(self) -> TransactionRecord | None:
        """Return the record that is there."""
        return intents.get_record(self.reader, meta().anchor, meta().id)


def writes_of(writes: dict[bytes, bytes | None]) -> list[Operation]:
    """Return puts, and deletes where the value is None."""
    return [Delete(k) if value is None else Put(k, value) for k, value in writes.items()]


def record_of(outcome: Outcome) -> TransactionRecord | None:
    """Return the record that an outcome tells."""
    assert outcome.error is None, outcome.error
    result = outcome.results[-1]
    assert isinstance(result, RecordResult), "a record is told"
    return result.record


def code_of(outcome: Outcome) -> str:
    """Return the code of the error that an outcome is; empty if it is none."""
    error = outcome.error
    assert error is None or isinstance(error, errors.MultiraftError), "errors are ours"
    return "" if error is None else error.code
