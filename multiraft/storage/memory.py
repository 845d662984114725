"""The engine in memory: for clusters inside one process, and the simulated disk of a simulation.

Purpose
    The semantics of storage/engine.py without a disk, and what a disk does on its bad days: crashes
    that lose a suffix of the unsynced batches, slow syncs, failing writes and syncs, no space,
    damaged values.
Invariants
    - Each batch that is not synced keeps what it overwrote, so that a crash can undo any suffix.
    - A view, and a scan, sees the state as of its creation: while one lives, writes save what they
      overwrite into its overlay. So a view costs nothing to make and nothing when nobody writes.
    - A damaged value fails its checksum: whoever reads it gets CorruptionError, never the value.
Source
    Undo logs are the oldest form of recovery; copying the maps for each view was slower from a few
    hundred keys on.
"""

import asyncio
import contextlib
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from sortedcontainers import SortedDict

from multiraft import errors
from multiraft.storage.engine import Family
from multiraft.storage.syncer import Done, Syncer

_SCAN_CHUNK_KEYS = 64
_BEHIND_ALL_KEYS = b"\xff" * 32
_UNLIMITED_BYTES = 1 << 50

_Undo = list[tuple["_Map", bytes, bytes | None]]


class MemoryEngine:
    """See the module and storage/engine.py.

    `sync_delay_s` is asked how long each sync takes; without it a sync ends in the loop's next
    turn.
    """

    def __init__(
        self,
        *,
        sync_delay_s: Callable[[], float] | None = None,
        capacity_bytes: int = _UNLIMITED_BYTES,
    ) -> None:
        self.raft: Family = _Map()
        self.data: Family = _Map()
        self.new_batch = MemoryBatch
        self.capacity_bytes = capacity_bytes
        self._sync_delay_s = sync_delay_s
        self._used_bytes = 0
        self._written_count = 0
        self._unsynced: deque[_Undo] = deque()
        self._error: errors.MultiraftError | None = None
        self._next_write_error: errors.MultiraftError | None = None
        self._next_sync_error: errors.MultiraftError | None = None
        self._syncer = Syncer(self._start_sync)

    # Writing

    def write(self, batch: Any) -> None:  # noqa: ANN401
        """As Engine.write; the batch is one of `new_batch`."""
        if self._next_write_error is not None:
            self._error = self._error or self._next_write_error
        if self._error is not None:
            raise self._error
        if self._used_bytes + batch.size_bytes > self.capacity_bytes:
            self._error = errors.StoreFailedError(reason="no space left in the memory engine")
            raise self._error
        undo: _Undo = []
        for family, key, value, end in batch.consume():
            if end is None:
                self._set(family, key, value, undo)
            else:
                for each in list(family.newest.irange(key, end, (True, False))):
                    self._set(family, each, None, undo)
        self._unsynced.append(undo)
        self._written_count += 1

    def sync(self, done: Done) -> None:
        """As Engine.sync."""
        self._syncer.request(done)

    def _set(self, family: "_Map", key: bytes, value: bytes | None, undo: _Undo) -> None:
        old = family.set(key, value)
        undo.append((family, key, old))
        if value is not None:
            self._used_bytes += len(key) + len(value)
        if old is not None:
            self._used_bytes -= len(key) + len(old)

    def _start_sync(self, finished: Done) -> None:
        covered = self._written_count

        def complete() -> None:
            self._error = self._error or self._next_sync_error
            if self._error is None:
                self._forget_undo(covered)
            finished(self._error)

        delay_s = 0.0 if self._sync_delay_s is None else self._sync_delay_s()
        asyncio.get_running_loop().call_later(delay_s, complete)

    def _forget_undo(self, covered: int) -> None:
        for _ in range(covered - (self._written_count - len(self._unsynced))):
            self._unsynced.popleft()

    # Reading

    def get(self, key: bytes, family: Family) -> bytes | None:
        """As Engine.get."""
        if self._error is not None:
            raise self._error
        return _checked(key, family.newest.get(key))

    def first(self, start: bytes, end: bytes, family: Family) -> tuple[bytes, bytes] | None:
        """As Engine.first."""
        if self._error is not None:
            raise self._error
        for key in family.newest.irange(start, end, (True, False)):
            _checked(key, family.newest[key])
            return key, family.newest[key]
        return None

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As Engine.scan."""
        if self._error is not None:
            raise self._error
        return _scan(family, family.overlay(), start, end, reverse=reverse)

    def scan_unchecked(
        self, start: bytes, end: bytes, family: Family
    ) -> Iterator[tuple[bytes, bytes]]:
        """As Engine.scan_unchecked: goes on to the last key, or to damage, as RocksDB does."""
        return _until_damage(self.scan(start, _BEHIND_ALL_KEYS, family))

    def view(self) -> "MemoryView":
        """As Engine.view."""
        if self._error is not None:
            raise self._error
        return MemoryView({family: family.overlay() for family in (self.raft, self.data)})

    # State

    def free_bytes(self) -> int:
        """As Engine.free_bytes: what `capacity_bytes` leaves, counting keys and values."""
        return max(0, self.capacity_bytes - self._used_bytes)

    @property
    def unsynced_count(self) -> int:
        """How many batches a crash may lose."""
        return len(self._unsynced)

    @property
    def views(self) -> int:
        """How many views, and scans that have not ended, keep what is overwritten meanwhile."""
        return len(self.data._overlays)

    @property
    def has_failed(self) -> bool:
        """Whether a write or a sync has failed, so that its store must stop."""
        return isinstance(self._error, errors.StoreFailedError)

    @property
    def written_count(self) -> int:
        """How many batches were written."""
        return self._written_count

    @property
    def synced_count(self) -> int:
        """How many batches no crash can lose any more."""
        return self._written_count - len(self._unsynced)

    def close(self) -> None:
        """As Engine.close."""
        self._unsynced.clear()
        self._stop("the memory engine is closed")

    # Bad days

    def crash(self, keep: int) -> None:
        """Lose all but the first `keep` unsynced batches, and be as closed as after a power cut.

        `reopen` gives what a restart finds.
        """
        assert 0 <= keep <= len(self._unsynced), "a crash keeps some of the unsynced batches"
        while len(self._unsynced) > keep:
            for family, key, old in reversed(self._unsynced.pop()):
                family.set(key, old)
        self._unsynced.clear()
        self._stop("the memory engine has crashed")

    def reopen(self) -> "MemoryEngine":
        """Return the engine that a restart opens on what is left, after `close` or `crash`."""
        assert self._error is not None, "an engine in use cannot be opened again"
        opened = MemoryEngine(sync_delay_s=self._sync_delay_s, capacity_bytes=self.capacity_bytes)
        for old, new in ((self.raft, opened.raft), (self.data, opened.data)):
            new.newest = old.newest
            old.newest = SortedDict()
            opened._used_bytes += sum(len(key) + len(value) for key, value in new.newest.items())
        return opened

    def fail_next_write(self, reason: str) -> None:
        """Let the next write raise StoreFailedError, and everything after it."""
        self._next_write_error = errors.StoreFailedError(reason=reason)

    def fail_next_sync(self, reason: str) -> None:
        """Let the sync that ends next report StoreFailedError, and everything after it."""
        self._next_sync_error = errors.StoreFailedError(reason=reason)

    def limit(self, free_bytes: int | None) -> None:
        """Leave so much space from now on; None: as much as anybody could want."""
        space = _UNLIMITED_BYTES if free_bytes is None else self._used_bytes + free_bytes
        self.capacity_bytes = space

    def damage(self, index: int) -> None:
        """Flip bits in one value: `index`, modulo their number, counts those of both families."""
        families: tuple[_Map, _Map] = (self.raft, self.data)
        index %= sum(len(family.newest) for family in families)
        for family in families:
            if index < len(family.newest):
                key, value = family.newest.peekitem(index)
                family.newest[key] = _Damaged(value)
                return
            index -= len(family.newest)

    def mend(self) -> None:
        """Read rightly again what was damaged: the fault was on the way from the disk."""
        families: tuple[_Map, _Map] = (self.raft, self.data)
        for family in families:
            for key, value in family.newest.items():
                if type(value) is _Damaged:
                    family.newest[key] = bytes(value)

    def _stop(self, what: str) -> None:
        self._syncer.close()
        self._error = errors.StoppedError(what=what)


class _Damaged(bytes):
    """A value whose checksum does not fit. It holds what was written, for `mend`."""


class MemoryBatch:
    """See Batch in storage/engine.py."""

    __slots__ = ("_operations", "size_bytes")

    def __init__(self) -> None:
        self._operations: list[tuple[_Map, bytes, bytes | None, bytes | None]] | None = []
        self.size_bytes = 0

    def put(self, key: bytes, value: bytes, family: Family) -> None:
        """As Batch.put."""
        self.operations.append((family, key, value, None))
        self.size_bytes += len(key) + len(value)

    def delete(self, key: bytes, family: Family) -> None:
        """As Batch.delete."""
        self.operations.append((family, key, None, None))

    def delete_range(self, start: bytes, end: bytes, family: Family) -> None:
        """As Batch.delete_range."""
        assert start <= end, "a range ends where it begins or after"
        self.operations.append((family, start, None, end))

    @property
    def operations(self) -> "list[tuple[_Map, bytes, bytes | None, bytes | None]]":
        """What a batch that is not written yet will do, as `consume` returns it."""
        assert self._operations is not None, "a batch is written once, and then takes no more"
        return self._operations

    def consume(self) -> "list[tuple[_Map, bytes, bytes | None, bytes | None]]":
        """Return the operations (family, key, value, end of a range); the batch is used up."""
        operations = self.operations
        self._operations = None
        return operations


class MemoryView:
    """See View in storage/engine.py."""

    __slots__ = ("_overlays",)

    def __init__(self, overlays: "dict[_Map, _Overlay]") -> None:
        self._overlays = overlays

    def get(self, key: bytes, family: Family) -> bytes | None:
        """As View.get."""
        return _checked(key, family.as_of(self._overlay(family), key))

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As View.scan."""
        return _scan(family, self._overlay(family), start, end, reverse=reverse)

    def close(self) -> None:
        """As View.close."""
        self._overlays = {}

    def _overlay(self, family: Family) -> "_Overlay":
        overlay = self._overlays.get(family)
        if overlay is None:
            raise errors.StoppedError(what="the view")
        return overlay


class _Overlay:
    """What the keys that were written since held before: a value, or None. At first nothing."""

    __slots__ = ("__weakref__", "old")

    def __init__(self) -> None:
        self.old: SortedDict[bytes, bytes | None] | None = None

    def save(self, key: bytes, value: bytes | None) -> None:
        """Keep what `key` held, unless an older value is kept already."""
        if self.old is None:
            self.old = SortedDict()
        self.old.setdefault(key, value)


class _Map:
    """One column family."""

    __slots__ = ("_overlays", "newest")

    def __init__(self) -> None:
        self.newest: SortedDict[bytes, bytes] = SortedDict()
        self._overlays: list[weakref.ref[_Overlay]] = []

    def set(self, key: bytes, value: bytes | None) -> bytes | None:
        """Set `key`, or remove it, and return what it held."""
        newest = self.newest
        old: bytes | None = newest.get(key)
        for reference in self._overlays:
            overlay = reference()
            if overlay is not None:
                overlay.save(key, old)
        if value is None:
            if old is not None:
                del newest[key]
        elif old is None:
            newest[key] = value
        else:
            dict.__setitem__(newest, key, value)  # It has its place in the order already.
        return old

    def overlay(self) -> _Overlay:
        """Return an overlay that writes keep up from now on, as long as somebody holds it."""
        overlay = _Overlay()
        self._overlays.append(weakref.ref(overlay, self._overlays.remove))
        return overlay

    def as_of(self, overlay: _Overlay, key: bytes) -> bytes | None:
        """Return what `key` held when `overlay` was made."""
        if overlay.old is not None and key in overlay.old:
            old: bytes | None = overlay.old[key]
            return old
        value: bytes | None = self.newest.get(key)
        return value


def _until_damage(rows: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    with contextlib.suppress(errors.CorruptionError):
        yield from rows


def _scan(
    family: _Map, overlay: _Overlay, start: bytes, end: bytes, *, reverse: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield what `[start, end)` held when `overlay` was made.

    Goes in chunks of keys, since a map must not change under an iteration. A key written between
    two steps is in the overlay by then, so its old value is found there.
    """
    low, high = start, end
    include_low = True
    while low < high:
        bounds = (include_low, False)
        keys = list(
            islice(family.newest.irange(low, high, bounds, reverse=reverse), _SCAN_CHUNK_KEYS)
        )
        is_last = len(keys) < _SCAN_CHUNK_KEYS
        # The part of [low, high) that this chunk speaks for.
        reached = keys[-1] if not is_last else None
        if overlay.old is not None:
            keys = _merged(overlay.old, keys, low, high, bounds, reached, reverse=reverse)
        for key in keys:
            value = family.as_of(overlay, key) if overlay.old else family.newest.get(key)
            if type(value) is _Damaged:
                raise _bad_checksum(key)
            if value is not None:
                yield key, value
        if reached is None:
            return
        if reverse:
            high = reached
        else:
            low, include_low = reached, False


def _merged(
    old: "SortedDict[bytes, bytes | None]",
    keys: list[bytes],
    low: bytes,
    high: bytes,
    bounds: tuple[bool, bool],
    reached: bytes | None,
    *,
    reverse: bool,
) -> list[bytes]:
    """Return `keys` with an overlay's keys of the same stretch, in order."""
    include_low, include_high = bounds
    if reached is not None and reverse:
        low, include_low = reached, True
    elif reached is not None:
        high, include_high = reached, True
    saved = old.irange(low, high, (include_low, include_high))
    return sorted({*keys, *saved}, reverse=reverse)


def _checked(key: bytes, value: bytes | None) -> bytes | None:
    if type(value) is _Damaged:
        raise _bad_checksum(key)
    return value


def _bad_checksum(key: bytes) -> errors.CorruptionError:
    return errors.CorruptionError(reason=f"the value at {key.hex()} fails its checksum")
