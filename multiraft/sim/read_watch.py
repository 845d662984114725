"""What was read stays read: every answer holds for its timestamp, whoever leads later.

Purpose
    Hear what stores answer to reads, and which versions their disks take, and find an answer that
    missed a version: one that is there already, or one that comes later although it lies below.
    Histories of clients that read the present show neither until somebody reads the past. What
    transactions read is for the checkers of their histories: they may write where they have read.
Invariants
    - A get at a timestamp returns the newest version of its key at or below it, of all that any
      replica ever applies.
    - A scan at a timestamp returns all there is: no version of its span comes later at or below it.
    - When a read is answered that came without writes, the lease covers its timestamp. With writes
      it is answered when they are applied, and the lease may have ended since.
    - A key of which nothing is remembered counts as read until `read_until`.
"""

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterable

from multiraft.ids import RangeId, Timestamp
from multiraft.model.requests import (
    BatchReply,
    BatchRequest,
    ConditionalPut,
    Delete,
    Get,
    GetResult,
    Increment,
    Put,
    Scan,
    ScanResult,
)
from multiraft.mvcc.versions import KIND_MASK, OUTCOME, VALUE
from multiraft.ranges.pending import Reply
from multiraft.storage import layout

Report = Callable[[RangeId, str | None], None]
Submit = Callable[[BatchRequest, Reply], None]
Covers = Callable[[RangeId, Timestamp], bool]
"""Whether a store's lease on a range covers a timestamp."""
IsStored = Callable[[bytes], bool]
"""Whether any disk has a version of a key."""
_Read = tuple[Timestamp, Timestamp, RangeId]
"""What was found, by its timestamp; when it was read, and in which range."""

_WRITES = (Put, ConditionalPut, Delete, Increment)
_SCANS_KEPT_MAX = 32
_READS_KEPT_MAX = 16


class ReadWatch:
    """One per cluster."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._versions: dict[bytes, list[Timestamp]] = {}
        self._kinds: dict[tuple[bytes, Timestamp], int] = {}
        self._reads: dict[bytes, deque[_Read]] = {}
        self._scans: deque[tuple[bytes, bytes, Timestamp, RangeId]] = deque(maxlen=_SCANS_KEPT_MAX)
        self._read_until = Timestamp(0)
        self._gone: frozenset[bytes] = frozenset()
        """The keys that no disk had when there was something to forget the last time."""

    @property
    def remembered(self) -> int:
        """How many versions and reads are remembered."""
        return len(self._kinds) + sum(map(len, self._reads.values()))

    def watch(self, name: str, covers: Covers, submit: Submit) -> Submit:
        """Return what a store is to be asked with instead of its own `submit`."""

        def watched(request: BatchRequest, reply: Reply) -> None:
            kind = type(request.operations[0]) if request.operations else None
            if request.txn is not None or (kind is not Get and kind is not Scan):
                submit(request, reply)
                return

            written = frozenset(o.key for o in request.operations if isinstance(o, _WRITES))

            def answered(answer: BatchReply) -> None:
                if answer.error is None:
                    if not written and not covers(request.range_id, answer.timestamp):
                        problem = f"{name} answers a read at {answer.timestamp} without a lease"
                        self._report(request.range_id, problem)
                    self._answered(name, request, written, answer)
                reply(answer)

            submit(request, answered)

        return watched

    def _answered(
        self, name: str, request: BatchRequest, written: frozenset[bytes], answer: BatchReply
    ) -> None:
        for operation, result in zip(request.operations, answer.results, strict=True):
            if type(operation) is Get and type(result) is GetResult:
                if operation.key in written:
                    continue  # Before or behind a write of the same time.
                key, timestamp = operation.key, max(answer.timestamp, result.timestamp)
                known = self._versions.get(key, [])
                newest = known[place - 1] if (place := bisect_right(known, timestamp)) else None
                if newest is None:
                    seen = Timestamp(0)
                elif self._kinds[key, newest] != VALUE and not result.timestamp:
                    seen = newest
                else:
                    seen = result.timestamp
                    if seen < newest:
                        self._report(request.range_id, _missed(name, key, timestamp, seen, newest))
                        continue
                reads = self._reads.setdefault(key, deque(maxlen=_READS_KEPT_MAX))
                if reads and reads[-1][0] == seen:
                    timestamp = max(timestamp, reads.pop()[1])
                reads.append((seen, timestamp, request.range_id))
            elif type(operation) is Scan and type(result) is ScanResult:
                start, end = operation.start, operation.end
                if result.resume is not None:
                    start, end = (
                        (result.resume, end) if operation.reverse else (start, result.resume)
                    )
                self._scans.append((start, end, answer.timestamp, request.range_id))

    def wrote(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Versions were written to a disk, as physical keys and what they hold."""
        for physical, stored in rows:
            kind = stored[0] & KIND_MASK
            key, timestamp = layout.split_version_key(physical)
            if kind == OUTCOME or (key, timestamp) in self._kinds:
                continue
            self._kinds[key, timestamp] = kind
            if timestamp <= self._read_until and key not in self._versions:
                self._report(RangeId(0), _too_late(key, timestamp, self._read_until))
            insort(self._versions.setdefault(key, []), timestamp)
            for seen, read_at, range_id in self._reads.get(key, ()):
                if seen < timestamp <= read_at:
                    self._report(range_id, _too_late(key, timestamp, read_at))
            for start, end, read_at, range_id in self._scans:
                if timestamp <= read_at and start <= key < end:
                    self._report(range_id, _too_late(key, timestamp, read_at))

    def forget(self, read_until: Timestamp, is_stored: IsStored) -> None:
        """Keep nothing of keys that are gone, and have not been written or read since `read_until`.

        To be called when no transaction is left that could still write at or below that time. A key
        is gone if it was deleted last, and its versions have been collected from all disks for two
        calls in a row: none comes back with a crash, or in a snapshot from before. What was not
        deleted is kept even then: whoever does not find it has missed it.
        """
        self._read_until = max(self._read_until, read_until)
        keys = dict.fromkeys((*self._versions, *self._reads))
        gone = [key for key in keys if self._is_over(key) and not is_stored(key)]
        for key in gone:
            if key in self._gone:
                for timestamp in self._versions.pop(key, ()):
                    del self._kinds[key, timestamp]
                self._reads.pop(key, None)
        self._gone = frozenset(gone)

    def _is_over(self, key: bytes) -> bool:
        """Whether a key was deleted, or never there, and that and its reads are long past."""
        versions = self._versions.get(key)
        if versions and (
            versions[-1] > self._read_until or self._kinds[key, versions[-1]] == VALUE
        ):
            return False
        return all(read_at <= self._read_until for _, read_at, _ in self._reads.get(key, ()))


def _missed(name: str, key: bytes, timestamp: Timestamp, seen: Timestamp, newest: Timestamp) -> str:
    return (
        f"{name} read {key!r} at {timestamp} as it was at {seen}, though a version of {newest} had "
        "been applied"
    )


def _too_late(key: bytes, timestamp: Timestamp, read_at: Timestamp) -> str:
    return f"a version of {key!r} at {timestamp} came after the key had been read at {read_at}"
