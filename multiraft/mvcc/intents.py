"""Intents: laid in the lock keyspace, and made versions or removed when their transaction ends.

Purpose
    Read what locks the state holds, and collect the changes of one part that lays, moves, resolves
    or removes them, or writes versions and records of transactions.
Invariants
    - A key has one intent at most. Nobody else writes the key while it lies, so the version that
      comes of it is the newest of its key.
    - A version that comes of an intent has its transaction's ID, as every version has that of its
      write: so a delayed attempt to lay it again finds that it was committed (rule S18).
    - A change set touches each lock, version and record once.
Source
    Design §11; rules S9, S11, S18.
"""

from collections.abc import Iterator

from multiraft.ids import Timestamp
from multiraft.model import transaction
from multiraft.model.transaction import Intent, TransactionRecord
from multiraft.mvcc import reads, versions
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import TOMBSTONE, VALUE, Version
from multiraft.mvcc.writes import Effects
from multiraft.storage import layout


def get(reader: Reader, key: bytes) -> Intent | None:
    """Return the intent on `key`, or None."""
    physical = layout.lock_key(key)
    found = reader.first(physical, physical + b"\x00")
    return None if found is None else transaction.unpack_intent(found[1])


def scan(reader: Reader, start: bytes, end: bytes) -> Iterator[tuple[bytes, Intent]]:
    """Yield the keys of `[start, end)` that have an intent, in order, each with it."""
    for physical, stored in reader.scan(*layout.span(layout.LOCK, start, end)):
        yield layout.unescape(physical[1:]), transaction.unpack_intent(stored)


def get_record(reader: Reader, anchor: bytes, transaction_id: bytes) -> TransactionRecord | None:
    """Return the record of a transaction, or None if nobody has written one."""
    physical = layout.record_key(anchor, transaction_id)
    found = reader.first(physical, physical + b"\x00")
    return None if found is None else transaction.unpack_record(found[1])


class _Difference:
    """What the changes to one key add to the statistics."""

    __slots__ = ("live_bytes", "live_keys", "locks", "version_bytes", "versions")

    def __init__(self) -> None:
        self.live_keys = self.live_bytes = self.versions = self.version_bytes = self.locks = 0

    def stats(self) -> RangeStats:
        return RangeStats(
            self.live_keys, self.live_bytes, self.versions, self.version_bytes, self.locks
        )


class ChangeSet:
    """The changes of one part. Used for one evaluation, under the part's latches, then dropped."""

    __slots__ = (
        "_also",
        "_deletes",
        "_differences",
        "_puts",
        "_reader",
        "laid",
        "moved_to",
        "removed",
        "size_bytes",
        "written",
    )

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._puts: list[bytes] = []
        self._deletes: list[bytes] = []
        self._also: dict[tuple[bytes, Timestamp], None] = {}
        self._differences: dict[bytes, _Difference] = {}
        self.laid: list[tuple[bytes, Intent]] = []
        """The intents that are there once this is applied, by key."""
        self.removed: list[tuple[bytes, bytes]] = []
        """Keys, and whose intent is gone from each once this is applied."""
        self.moved_to = Timestamp(0)
        """The greatest time of a version that lies above the intent that it comes of."""
        self.written: list[Version] = []
        """The versions, in the order of their puts."""
        self.size_bytes = 0
        """Of the versions that are written."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is changed."""
        return not self._puts and not self._deletes

    def lay(self, key: bytes, intent: Intent, before: Intent | None) -> None:
        """Lay an intent; `before` is the one of the same transaction that it replaces, if any."""
        assert before is None or before.txn.id == intent.txn.id, "a key has one intent"
        self._puts += (layout.lock_key(key), transaction.pack_intent(intent))
        self.laid.append((key, intent))
        if before is None:
            self._difference(key).locks += 1

    def remove(self, key: bytes, intent: Intent) -> None:
        """Remove the intent on `key`: its transaction was aborted, or does not write it."""
        self._deletes.append(layout.lock_key(key))
        self.removed.append((key, intent.txn.id))
        self._difference(key).locks -= 1

    def commit(self, key: bytes, intent: Intent, timestamp: Timestamp) -> None:
        """Make the intent on `key` a version at `timestamp`."""
        assert intent.timestamp <= timestamp, "a commit is above all that it commits (rule S18)"
        self.remove(key, intent)
        if intent.timestamp < timestamp:
            self.moved_to = max(self.moved_to, timestamp)
        newest, _ = reads.newest_and_last(self._reader, key)
        self.write(key, intent.value, timestamp, intent.txn.id, newest)
        self._also[intent.txn.id, timestamp] = None

    def write(
        self,
        key: bytes,
        value: bytes | None,
        timestamp: Timestamp,
        write_id: bytes,
        newest: Version | None,
    ) -> None:
        """Write a version of `key`; `newest` is the one that it replaces. None removes the key."""
        assert newest is None or newest.timestamp < timestamp, "a version lies above all others"
        kind = TOMBSTONE if value is None else VALUE
        physical = layout.version_key(key, timestamp)
        version = Version(timestamp, kind, write_id, b"", value or b"")
        stored = versions.encode(version)
        self._puts += (physical, stored)
        self.written.append(version)
        difference = self._difference(key)
        difference.versions += 1
        difference.version_bytes += len(physical) + len(stored)
        self.size_bytes += len(physical) + len(stored)
        if newest is not None and newest.kind == VALUE:
            difference.live_keys -= 1
            difference.live_bytes -= len(key) + len(newest.value)
        if value is not None:
            difference.live_keys += 1
            difference.live_bytes += len(key) + len(value)

    def record(self, record: TransactionRecord) -> None:
        """Write a transaction's record."""
        physical = layout.record_key(record.txn.anchor, record.txn.id)
        self._puts += (physical, transaction.pack_record(record))

    def effects(self) -> Effects:
        """Return what is to be replicated."""
        return Effects(
            tuple(self._puts), self.stats_from(b""), tuple(self._deletes), tuple(self._also)
        )

    def stats_from(self, start: bytes) -> RangeStats:
        """Return the difference that the changes at `start` and above make."""
        if len(self._differences) == 1:
            ((key, difference),) = self._differences.items()
            return difference.stats() if key >= start else RangeStats()
        total = RangeStats()
        for key, difference in self._differences.items():
            if key >= start:
                total = total.plus(difference.stats())
        return total

    def _difference(self, key: bytes) -> _Difference:
        found = self._differences.get(key)
        if found is None:
            found = self._differences[key] = _Difference()
        return found
