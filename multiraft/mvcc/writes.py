"""Writing: the versions that one part of a request adds, and the difference they make.

Purpose
    While a part is evaluated, its `WriteSet` collects what it writes and lets later operations of
    the part read it. At the end `effects()` gives the flat puts to replicate and the statistics.
Invariants
    - All versions of a write set have its timestamp and ID, at most one for each key: of several
      writes to a key the last one counts.
    - Nothing is written at or below a version that is there already (rule S11).
    - A part leaves outcomes only at keys that it names and does not change: at all of them when it
      writes nothing (rule S7), at the others when it writes some. So another attempt finds a trace
      whatever a split has made of the part.
    - Replaying a part that was applied gives the results of its first evaluation: a replay reads
      what lay below the write's own versions, which garbage collection keeps for as long as the
      request may come again.
"""

from collections.abc import Collection
from typing import Protocol

import msgspec

from multiraft.ids import Timestamp
from multiraft.mvcc import reads, versions
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version
from multiraft.storage import layout


class Effects(msgspec.Struct, frozen=True):
    """`puts` alternates physical key and stored value, in the order of the first write to each.

    `deletes` are physical keys. `also` names writes, and when each wrote, beyond the part's own.
    """

    puts: tuple[bytes, ...]
    stats: RangeStats
    deletes: tuple[bytes, ...] = ()
    also: tuple[tuple[bytes, Timestamp], ...] = ()


class Counted(Protocol):
    """Changes that were applied: a write set, or a change set of transactions."""

    def stats_from(self, start: bytes) -> RangeStats:
        """Return the difference that the changes at `start` and above make, after `effects`."""
        ...


class Written(Counted, Protocol):
    """What the evaluation of a part that writes leads to."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        ...

    @property
    def written(self) -> Collection[Version]:
        """What the part leaves, in the order of the puts of its effects."""
        ...

    def writes(self, key: bytes) -> bool:
        """Whether the part has left something at `key`, an outcome included."""
        ...

    def effects(self) -> Effects:
        """Return what is to be replicated."""
        ...


class PutSet:
    """The fast path of puts, each of another key, of one request or of several.

    What WriteSets come to, at a fraction of the cost.
    """

    __slots__ = ("_puts", "_reader", "_replaced_bytes", "keys", "written")

    is_empty = False

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._puts: list[bytes] = []
        self._replaced_bytes: list[int] = []
        """Of the live value that each put replaces; -1 where there is none."""
        self.keys: dict[bytes, None] = {}
        self.written: list[Version] = []

    def put(self, timestamp: Timestamp, write_id: bytes, key: bytes, value: bytes) -> None:
        """Set `key`, which none of the others has set."""
        prefix = layout.version_prefix(key)
        reader = self._reader
        replaced = reader.known(prefix) or reads.search_newest(reader, prefix)
        assert replaced is None or replaced.timestamp < timestamp, (
            "a write must lie above every version of its key"
        )
        version = Version(timestamp, VALUE, write_id, b"", value)
        self._puts += (layout.version_of(prefix, timestamp), versions.encode(version))
        was_live = replaced is not None and replaced.kind == VALUE
        self._replaced_bytes.append(len(replaced.value) if replaced and was_live else -1)
        self.keys[key] = None
        self.written.append(version)

    def writes(self, key: bytes) -> bool:
        """See Written."""
        return key in self.keys

    def effects(self) -> Effects:
        """See Written."""
        return Effects(tuple(self._puts), self.stats_from(b""))

    def stats_from(self, start: bytes) -> RangeStats:
        """See Counted."""
        live_keys = live_bytes = count = version_bytes = 0
        sizes = map(len, self._puts)
        for key, version, replaced_bytes in zip(
            self.keys, self.written, self._replaced_bytes, strict=True
        ):
            size_bytes = next(sizes) + next(sizes)
            if key < start:
                continue
            count += 1
            version_bytes += size_bytes
            live_bytes += len(version.value)
            if replaced_bytes < 0:
                live_keys += 1
                live_bytes += len(key)
            else:
                live_bytes -= replaced_bytes
        return RangeStats(live_keys, live_bytes, count, version_bytes)


class WriteSet:
    """The writes of one part. Used for one evaluation, under the part's latches, then dropped.

    With `replay`, reads what was there before the write at `timestamp`, for a part that was found
    to be applied already: evaluate it again for its results and drop the effects.
    """

    __slots__ = ("_found", "_id", "_reader", "_replay", "_sizes", "_timestamp", "_written")

    def __init__(
        self, reader: Reader, timestamp: Timestamp, write_id: bytes, *, replay: bool = False
    ) -> None:
        assert len(write_id) == versions.ID_BYTES, "a write ID has 16 bytes"
        self._reader = reader
        self._timestamp = timestamp
        self._id = write_id
        self._replay = replay
        self._found: dict[bytes, Version | None] = {}
        self._written: dict[bytes, Version] = {}
        self._sizes: dict[bytes, int] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written yet."""
        return not self._written

    def writes(self, key: bytes) -> bool:
        """Whether the part has left something at `key`, an outcome included."""
        return key in self._written

    def newest(self, key: bytes) -> Version | None:
        """Return the newest version of `key`, writes of this part included."""
        written = self._written.get(key)
        return self._below(key) if written is None else written

    def put(self, key: bytes, value: bytes) -> None:
        """Set `key`."""
        self._below(key)
        self._write(key, Version(self._timestamp, VALUE, self._id, b"", value))

    def delete(self, key: bytes) -> None:
        """Remove `key`; leaves a tombstone whether or not there was something to remove."""
        self._below(key)
        self._write(key, Version(self._timestamp, TOMBSTONE, self._id))

    def outcome(self, key: bytes) -> None:
        """Leave at `key` that this write changed nothing there."""
        self._below(key)
        self._write(key, Version(self._timestamp, OUTCOME, self._id))

    @property
    def written(self) -> Collection[Version]:
        """What the part leaves, in the order of the puts of its effects."""
        return self._written.values()

    def effects(self) -> Effects:
        """Return what is to be replicated."""
        assert not self._replay, "a replay is evaluated for its results only"
        puts: list[bytes] = []
        for key, version in self._written.items():
            physical = layout.version_key(key, self._timestamp)
            stored = versions.encode(version)
            puts += (physical, stored)
            self._sizes[key] = len(physical) + len(stored)
        return Effects(tuple(puts), self.stats_from(b""))

    def stats_from(self, start: bytes) -> RangeStats:
        """Return the difference that the writes at `start` and above make, after `effects`."""
        live_keys = live_bytes = count = version_bytes = 0
        for key, version in self._written.items():
            if key < start:
                continue
            count += 1
            version_bytes += self._sizes[key]
            if version.kind == OUTCOME:
                continue
            replaced = self._found[key]
            if replaced is not None and replaced.kind == VALUE:
                live_keys -= 1
                live_bytes -= len(key) + len(replaced.value)
            if version.kind == VALUE:
                live_keys += 1
                live_bytes += len(key) + len(version.value)
        return RangeStats(live_keys, live_bytes, count, version_bytes)

    def _write(self, key: bytes, version: Version) -> None:
        before = self._written.get(key)
        assert before is None or (before.kind == OUTCOME) == (version.kind == OUTCOME), (
            "a key has an outcome or is written, not both"
        )
        self._written[key] = version

    def _below(self, key: bytes) -> Version | None:
        """Return what the engine has of `key`, looked up once."""
        found = self._found
        if key in found:
            return found[key]
        if self._replay:
            version = reads.get(self._reader, key, Timestamp(self._timestamp - 1))
        else:
            version = reads.newest(self._reader, key)
            assert version is None or version.timestamp < self._timestamp, (
                "a write must lie above every version of its key"
            )
        found[key] = version
        return version
