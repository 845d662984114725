"""Random transactions over two ranges with clocks of their own, checked against their timestamps.

Coordinators die anywhere, parts come again late, leaders change, and whoever is held up pushes,
recovers and resolves. At the end every transaction that has committed must have read, of each key,
what the versions say was there at its commit timestamp; all of its writes are there, and none of
one that has not committed.
"""

import random
from collections.abc import Iterator

import msgspec
import pytest

from multiraft import errors
from multiraft.concurrency.timestamp_cache import SHARED
from multiraft.ids import RangeId, Timestamp
from multiraft.model.requests import BatchRequest, Delete, Get, GetResult, Operation, Put
from multiraft.model.transaction import (
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
    Refresh,
    RefreshResult,
    ResolveIntent,
    TransactionContext,
)
from multiraft.mvcc import intents
from multiraft.mvcc.versions import OUTCOME, VALUE, Version, decode
from multiraft.ranges.commands.setting import Outcome
from multiraft.ranges.transactions import latest_time
from multiraft.storage import layout
from tests.support.range_scene import ABORTED, COMMITTED, EXPIRY, STAGING, Scene

KEYS = (b"a", b"b", b"m", b"n")
MIDDLE = b"c"
SKEW = 40
"""By how much one range's clock may be ahead of the other's; the scenes' offset is 50."""

Value = bytes | None


class GoneError(Exception):
    """The transaction cannot go on."""


class World:
    """Two ranges."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.left, self.right = Scene(locks_max=2), Scene()
        self.left.end = self.right.start = MIDDLE
        self.true_now = 1_000
        self.sent: list[BatchRequest] = []
        self.tick()

    def tick(self, by: int = 0) -> None:
        """Let time pass."""
        self.true_now += by or self.rng.randrange(1, 12)
        for scene in (self.left, self.right):
            shown = self.true_now + self.rng.randrange(SKEW)
            scene.now = Timestamp(max(scene.now + 1, shown))

    def scene_of(self, key: bytes) -> Scene:
        """Return the range of a key."""
        return self.left if key < MIDDLE else self.right

    def evaluate(self, request: BatchRequest) -> Outcome | bytes:
        """Evaluate a part; return the key at which it would have to wait instead, if so."""
        scene = self.scene_of(_key(request.operations[0]))
        self.tick()
        scene.now = Timestamp(max(scene.now, latest_time(request) + 1))
        blocked = self._blocked(scene, request)
        return scene.evaluate(request) if blocked is None else blocked

    def _blocked(self, scene: Scene, request: BatchRequest) -> bytes | None:
        txn = request.txn
        if txn is None:
            return None
        for operation in request.operations:
            if isinstance(operation, Put | Delete | Get):
                key = operation.key
                intent = intents.get(scene.reader, key)
                lock = scene.locks.lock_on(key)
                if isinstance(operation, Get) and not txn.is_locking:
                    limit = request.timestamp or scene.now
                    limit = max(limit, txn.uncertainty_limit)
                    if not request.timestamp:
                        limit = Timestamp(scene.now + scene.offset)
                    if (
                        intent is not None
                        and intent.txn.id != request.id
                        and intent.timestamp <= limit
                    ):
                        return key
                    continue
                holders = [each.txn.id for each in (intent,) if each is not None]
                holders += [each.holder.id for each in (lock,) if each is not None]
                if any(holder != request.id for holder in holders):
                    return key
        return None

    # -- who is held up --------------------------------------------------------------------------

    def push(self, key: bytes, *, force: bool = False) -> None:
        """Push whoever has a key, and resolve what has ended."""
        scene = self.scene_of(key)
        intent = intents.get(scene.reader, key)
        lock = scene.locks.lock_on(key)
        if intent is not None:
            holder, laid_at = intent.txn, intent.laid_at
        elif lock is not None:
            holder, laid_at = lock.holder, lock.laid_at
        else:
            return
        record = self._record(
            PushTransaction(
                holder.anchor, holder, laid_at, laid_at, PushKind.ABORT, force=force, reason="r"
            )
        )
        if record.has_expired and record.record is not None:
            record = self.recover(record.record)
        if record.record is not None and record.record.status.is_final:
            self.resolve(record.record, (key,))

    def recover(self, record: TransactionRecord) -> RecordResult:
        """Decide one that was left STAGING."""
        is_complete = True
        for write in record.writes:
            outcome = self.evaluate(
                _part(QueryIntent(write.key, record.txn.id, write.sequence, record.timestamp))
            )
            assert isinstance(outcome, Outcome)
            result = outcome.results[0]
            assert isinstance(result, QueryIntentResult)
            is_complete &= result.found
            if self.rng.random() < 0.1:
                return RecordResult(record)  # It dies.
        return self._record(
            RecoverTransaction(record.txn.anchor, record.txn.id, record.timestamp, is_complete)
        )

    def resolve(self, record: TransactionRecord, keys: tuple[bytes, ...]) -> None:
        """Resolve what an ended transaction has on some keys."""
        at = record.timestamp if record.status is COMMITTED else Timestamp(0)
        for key in keys:
            self.evaluate(_part(ResolveIntent(key, record.txn.id, record.status, at)))

    def _record(self, operation: Operation) -> RecordResult:
        outcome = self.evaluate(_part(operation))
        assert isinstance(outcome, Outcome)
        assert outcome.error is None, outcome.error
        result = outcome.results[0]
        assert isinstance(result, RecordResult)
        return result

    def put(self, key: bytes, value: bytes) -> None:
        """Write outside transactions, if nobody is in the way."""
        scene = self.scene_of(key)
        self.tick()
        if intents.get(scene.reader, key) is None and scene.locks.lock_on(key) is None:
            scene.put(key, value, max(scene.now, scene.cache.write_floor(key, SHARED)))

    def versions(self, key: bytes) -> Iterator[Version]:
        """Yield the versions of a key, newest first."""
        reader = self.scene_of(key).reader
        prefix = layout.version_prefix(key)
        for physical, stored in reader.scan(prefix, prefix + b"\xff" * 9):
            _, timestamp = layout.split_version_key(physical)
            yield decode(timestamp, stored)


class Coordinator:
    """One attempt of a transaction: reads some keys, writes some, commits; step by step."""

    def __init__(self, world: World, number: int) -> None:
        rng = world.rng
        self.world = world
        self.rng = rng
        self.issued_at = Timestamp(world.true_now - 1)
        self.to_read = rng.sample(KEYS, rng.randrange(3))
        written = rng.sample(KEYS, rng.randrange(1, 4))
        self.to_write: dict[bytes, Value] = {
            key: None if rng.random() < 0.2 else b"%d" % number for key in written
        }
        self.meta = TransactionMeta(number.to_bytes(16, "big"), written[0], 0, self.issued_at)
        self.read_at = self.limit = Timestamp(0)
        self.found: dict[bytes, Value] = {}
        self.laid: dict[bytes, int] = {}
        self.laid_at = Timestamp(0)
        self.sequence = 0
        self.told: TransactionStatus | None = None
        """What its application was told."""
        self.committed_at = Timestamp(0)
        self.steps = self._run()

    def _send(self, *operations: Operation, at: int = -1, is_locking: bool = False) -> Outcome:
        context = TransactionContext(self.meta, self.sequence, self.limit, is_locking)
        request = BatchRequest(
            RangeId(1),
            operations,
            self.meta.id,
            issued_at=self.issued_at,
            timestamp=Timestamp(self.read_at if at < 0 else at),
            txn=context,
        )
        for _ in range(4):
            self.world.sent.append(request)
            outcome = self.world.evaluate(request)
            if isinstance(outcome, Outcome):
                if self.rng.random() < 0.1:
                    again = self.world.evaluate(request)  # The reply was lost.
                    if isinstance(again, Outcome):
                        outcome = again
                if isinstance(outcome.error, errors.TransactionAbortedError):
                    raise GoneError
                return outcome
            self.world.push(outcome)
        raise GoneError

    def _refresh(self, to: Timestamp) -> None:
        """Move all reads to a later time."""
        for key in self.found:
            outcome = self._send(Refresh(key, b"", self.read_at), at=to)
            result = outcome.results[0]
            assert isinstance(result, RefreshResult)
            if not result.succeeded:
                raise GoneError
        self.read_at = to
        self.limit = max(self.limit, to)

    def _read(self, key: bytes) -> None:
        is_locking = self.rng.random() < 0.2
        for _ in range(5):
            outcome = self._send(Get(key), is_locking=is_locking)
            if isinstance(outcome.error, errors.ReadUncertainError):
                if self.read_at:
                    self._refresh(Timestamp(outcome.error.timestamp))
                continue
            assert outcome.error is None, outcome.error
            result = outcome.results[0]
            assert isinstance(result, GetResult)
            if not self.read_at:
                self.read_at, self.limit = outcome.timestamp, outcome.uncertainty_limit
            self.found[key] = result.value
            return
        raise GoneError

    def _run(self) -> Iterator[None]:
        try:
            for key in self.to_read:
                self._read(key)
                yield
            if self.rng.random() < 0.3:
                self._send(HeartbeatTransaction(self.meta.anchor))
                yield
            ranges = {key < MIDDLE for key in self.to_write}
            if len(ranges) == 1 and self.rng.random() < 0.7:
                yield from self._one_phase()
            else:
                yield from self._two_phases()
        except GoneError:
            yield from self._roll_back()

    def _one_phase(self) -> Iterator[None]:
        here = all((key < MIDDLE) == (self.meta.anchor < MIDDLE) for key in self.found)
        spans = tuple((key, b"") for key in self.found)
        end = EndTransaction(
            self.meta.anchor, COMMITTED, one_phase=True, is_movable=here, read_spans=spans
        )
        if not here:
            end = msgspec.structs.replace(end, read_spans=())
        for _ in range(4):
            outcome = self._send(*_writes(self.to_write), end)
            if isinstance(outcome.error, errors.TransactionPushedError):
                yield
                self._refresh(Timestamp(outcome.error.timestamp))
                continue
            self._has_committed(outcome)
            return
        raise GoneError

    def _two_phases(self) -> Iterator[None]:
        anchor = self.meta.anchor
        writes = dict(self.to_write)
        first = self.rng.randrange(len(writes) + 1)
        for key in list(writes)[:first]:
            self._lay({key: writes.pop(key)})
            yield
        for _ in range(4):
            at = max(self.read_at, self.laid_at, Timestamp(self.issued_at + 1))
            if at > self.read_at and self.found:
                self._refresh(at)
                yield
            mine = {key: writes[key] for key in writes if (key < MIDDLE) == (anchor < MIDDLE)}
            others = {key: writes[key] for key in writes if key not in mine}
            if writes:
                self.sequence += 1
                self.laid |= dict.fromkeys(writes, self.sequence)
            end = EndTransaction(anchor, STAGING, at, self._refs())
            parts: list[tuple[Operation, ...]] = [(*_writes(mine), end)]
            if others:
                parts.append(tuple(_writes(others)))
            self.rng.shuffle(parts)
            pushed = Timestamp(0)
            for part in parts:
                outcome = self._send(*part, at=at)
                if isinstance(outcome.error, errors.TransactionPushedError):
                    pushed = max(pushed, Timestamp(outcome.error.timestamp))
                elif part[-1] is end:
                    record = _record_of(outcome)
                    if record.status is COMMITTED:
                        self._has_committed(outcome)
                        return
                    assert record.status is STAGING
                elif outcome.timestamp > at:
                    pushed = max(pushed, outcome.timestamp)
                    self.laid_at = max(self.laid_at, outcome.timestamp)
                yield
            if not pushed:
                self.told, self.committed_at = COMMITTED, at
                yield
                self._send(EndTransaction(anchor, COMMITTED, at, self._refs()))
                return
            self.laid_at = max(self.laid_at, pushed)
            writes = dict(mine) if self.rng.random() < 0.5 else writes
        raise GoneError

    def _lay(self, writes: dict[bytes, Value]) -> None:
        self.sequence += 1
        self.laid |= dict.fromkeys(writes, self.sequence)
        outcome = self._send(*_writes(writes), at=max(self.read_at, self.issued_at + 1))
        assert outcome.error is None, outcome.error
        self.laid_at = max(self.laid_at, outcome.timestamp)

    def _refs(self) -> tuple[IntentRef, ...]:
        return tuple(IntentRef(key, sequence) for key, sequence in self.laid.items())

    def _has_committed(self, outcome: Outcome) -> None:
        record = _record_of(outcome)
        assert record.status is COMMITTED
        self.told, self.committed_at = COMMITTED, record.timestamp

    def _roll_back(self) -> Iterator[None]:
        """Seek a definite end (rule S9)."""
        while True:
            yield
            try:
                outcome = self._send(EndTransaction(self.meta.anchor, ABORTED, writes=self._refs()))
            except GoneError:
                continue
            record = _record_of(outcome)
            if record.status is STAGING:
                told = self.world.recover(record).record
                if told is None or not told.status.is_final:
                    continue
                record = told
            self.told = record.status
            if record.status is COMMITTED:
                self.committed_at = record.timestamp
            return


def _key(operation: Operation) -> bytes:
    assert hasattr(operation, "key")
    key = operation.key
    assert isinstance(key, bytes)
    return key


def _part(operation: Operation) -> BatchRequest:
    return BatchRequest(RangeId(1), (operation,))


def _writes(writes: dict[bytes, Value]) -> list[Operation]:
    return [Delete(k) if value is None else Put(k, value) for k, value in writes.items()]


def _record_of(outcome: Outcome) -> TransactionRecord:
    assert outcome.error is None, outcome.error
    result = outcome.results[-1]
    assert isinstance(result, RecordResult)
    assert result.record is not None
    return result.record


def run(seed: int) -> tuple[World, list[Coordinator]]:
    """Run many transactions; some die on the way, and nobody tells."""
    rng = random.Random(seed)
    world = World(rng)
    everybody: list[Coordinator] = []
    alive: list[Coordinator] = []
    for step in range(150):
        what = rng.random()
        if len(alive) < 4 and what < 0.3:
            everybody.append(Coordinator(world, len(everybody) + 1))
            alive.append(everybody[-1])
        elif what < 0.34 and world.sent:
            world.evaluate(rng.choice(world.sent[-40:]))  # It sat in a socket.
        elif what < 0.36:
            rng.choice((world.left, world.right)).new_leader()
        elif what < 0.38:
            world.tick(EXPIRY)
        elif what < 0.42:
            world.push(rng.choice(KEYS), force=rng.random() < 0.3)
        elif what < 0.46:
            world.put(rng.choice(KEYS), b"p%d" % step)
        elif alive:
            one = rng.choice(alive)
            if next(one.steps, alive) is alive or rng.random() < 0.03:
                alive.remove(one)
    return world, everybody


def settle(world: World) -> None:
    """Let those who were left behind be pushed until no lock is there."""
    for _ in range(50):
        world.tick(EXPIRY + SKEW + 10)
        for key in KEYS:
            world.push(key)
        if not any(intents.get(world.scene_of(key).reader, key) for key in KEYS):
            return
    raise AssertionError("a lock stays for ever")


def check(world: World, one: Coordinator) -> bool:
    """Check one transaction; return whether it has committed."""
    mine = {
        key: version
        for key in KEYS
        for version in world.versions(key)
        if version.id == one.meta.id and version.kind != OUTCOME
    }
    if not mine:
        assert one.told is not COMMITTED, "what was told to have committed is lost"
        return False
    assert one.told is not ABORTED, "what was told to be aborted has committed"
    assert set(mine) == set(one.to_write), "all of its writes or none"
    (committed_at,) = {version.timestamp for version in mine.values()}
    if one.told is COMMITTED:
        assert committed_at == one.committed_at
    for key, version in mine.items():
        assert (version.value if version.kind == VALUE else None) == one.to_write[key]
    for key, value in one.found.items():
        before = None
        for version in world.versions(key):
            if version.id != one.meta.id and version.timestamp <= committed_at:
                before = version.value if version.kind == VALUE else None
                break
        assert value == before, f"it read {value!r} of {key!r}, and {before!r} was there"
    return True


@pytest.mark.parametrize("first_seed", range(0, 400, 50))
def test_what_commits_has_read_what_was_there_when_it_committed(first_seed: int) -> None:
    committed = aborted = 0
    for seed in range(first_seed, first_seed + 50):
        world, everybody = run(seed)
        settle(world)
        for one in everybody:
            try:
                if check(world, one):
                    committed += 1
                else:
                    aborted += 1
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, transaction {one.meta.id.hex()}") from error
    assert committed > 200
    assert aborted > 50
