"""The durable engine: RocksDB through rocksdict, with every trap of the binding closed here.

Purpose
    Implements storage/engine.py on a directory. Only the modules rocks*.py import rocksdict.
Invariants
    - Reads of several keys go through rocks_view.py, not through `items()`, `keys()`, `values()`
      or a `Snapshot`: the first three end silently on damage, the last shows the newest data. Only
      `scan_unchecked` is `items()`, and leaves its end to the caller. Nor are bounds given to
      RocksDB: the lower one does not work through the binding, and the upper one keeps a pointer
      into memory that Python frees.
    - The first error of any call is final. RocksDB may well sync again after a failed write, but
      what that sync says about the write is nothing (safety rule S15).
    - A sync never happens inside `write`, which would hold the interpreter lock for its length.
    - No range that is deleted is empty or reversed: RocksDB counts an empty one as a write but does
      not keep it, so that it would seem to have lost its newest write; a reversed one it refuses,
      with the whole batch.
    - An engine that opens holds everything that was ever reported durable, or raises
      CorruptionError: see watermark.py and docs/decisions/0002-wal-recovery.md.
    - Iterators and family handles keep the database open after `close`, and the directory locked:
      the engine lets go of all it has, and the caller keeps neither `raft` nor `data`.
Source
    tests/storage/test_rocks_traps.py holds one test per trap, to be run against each new version.
"""

import asyncio
import contextlib
import os
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import rocksdict

from multiraft import errors, runtime
from multiraft.config import StorageConfig
from multiraft.storage import directory as data_directory
from multiraft.storage import rocks_errors, rocks_options, rocks_wal, watermark
from multiraft.storage.engine import Family
from multiraft.storage.rocks_view import Cursor, RocksView
from multiraft.storage.syncer import Done, Syncer, SyncThread
from multiraft.storage.watermark import Watermark

_FREE_SPACE_AGE_S = 1.0
_MONOTONIC = runtime.SystemClock().monotonic


class EngineStatus(msgspec.Struct, frozen=True):
    """What an engine is doing."""

    last_sequence: int
    """Of the newest write, in RocksDB's count of keys written."""
    durable_sequence: int
    """... of the newest write covered by a sync that the watermark knows."""
    sync_count: int
    failure: str
    """Why it stopped; empty while it works."""


class RocksEngine:
    """See the module and storage/engine.py."""

    def __init__(
        self,
        database: rocksdict.Rdict,
        directory: Path,
        lock: BinaryIO,
        config: StorageConfig,
        mark: Watermark,
        monotonic: Callable[[], float],
    ) -> None:
        self.raft: Family = database.get_column_family_handle(rocks_options.RAFT)
        self.data: Family = database.get_column_family_handle(rocks_options.DATA)
        self.new_batch = RocksBatch
        self._database = database
        self._writer: Any = database
        # What reads of each family go to, until a Refusal takes its place.
        self._families: Any = {
            self.raft: database.get_column_family(rocks_options.RAFT),
            self.data: database.get_column_family(rocks_options.DATA),
        }
        self._directory = directory
        self._lock = lock
        self._config = config
        self._monotonic = monotonic
        self._views: weakref.WeakSet[RocksView] = weakref.WeakSet()
        self._error: errors.MultiraftError | None = None
        self._closed = False
        self._free: tuple[float, int] | None = None
        # The three below belong to the sync thread while it runs.
        self._watermark = mark
        self._synced_sequence = -1
        self._watermark_error: OSError | None = None
        self._syncer = Syncer(self._start_sync)
        self._thread = SyncThread(
            work=self._sync_now,
            rest=self._flush_watermark,
            rest_interval_s=config.watermark_interval_ms / 1000,
        )

    @classmethod
    def open(
        cls,
        directory: Path | str,
        config: StorageConfig | None = None,
        *,
        monotonic: Callable[[], float] = _MONOTONIC,
    ) -> "RocksEngine":
        """Open the store in `directory`, making it if it is empty or missing.

        Raises DirectoryInUseError, DirectoryFormatError, another StartupError when the directory
        cannot be read or written, or CorruptionError when what is there is not all that was once
        durable.
        """
        directory = Path(directory)
        config = config or StorageConfig()
        with contextlib.ExitStack() as undo:
            try:
                lock = undo.enter_context(data_directory.lock(directory))
                complete = data_directory.prepare(directory)
                logs = rocks_wal.sizes(directory / data_directory.ROCKS)
                database = _open_database(directory, config, create=not complete)
                undo.callback(database.close)
                if not complete:
                    _finish_creation(directory, database)
                mark = _open_watermark(directory, database, logs)
            except OSError as error:
                raise errors.StartupError(
                    f"{directory} cannot be used as a data directory: {error}"
                ) from error
            undo.pop_all()
        return cls(database, directory, lock, config, mark, monotonic)

    # Writing

    def write(self, batch: Any) -> None:  # noqa: ANN401
        """As Engine.write; the batch is one of `new_batch`."""
        try:
            self._writer.write(batch.raw)
        except Exception as error:
            raise self._fail(error) from error

    def sync(self, done: Done) -> None:
        """As Engine.sync. With `unsafe_no_fsync`, `done` is only put off to the next turn."""
        self._syncer.request(done)

    # Reading

    def get(self, key: bytes, family: Family) -> bytes | None:
        """As Engine.get."""
        try:
            value: bytes | None = self._families[family].get(key)
        except Exception as error:
            raise self._fail(error) from error
        return value

    def first(self, start: bytes, end: bytes, family: Family) -> tuple[bytes, bytes] | None:
        """As Engine.first."""
        try:
            iterator = self._families[family].iter()
            iterator.seek(start)
            key = iterator.key()
            if key is None:
                iterator.status()
                return None
            return (key, iterator.value()) if key < end else None
        except Exception as error:
            raise self._fail(error) from error

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As Engine.scan: the iterator is made here, so what is written later is not seen."""
        return self._cursor(family).scan(start, end, reverse=reverse)

    def scan_unchecked(
        self, start: bytes, end: bytes, family: Family
    ) -> Iterator[tuple[bytes, bytes]]:
        """As Engine.scan_unchecked: the loop of the binding, with one call for a row."""
        try:
            rows: Iterator[tuple[bytes, bytes]] = self._families[family].items(from_key=start)
        except Exception as error:
            raise self._fail(error) from error
        return rows

    def view(self) -> "RocksView":
        """As Engine.view: one iterator per family, made with no write in between."""
        view = RocksView({family: self._cursor(family) for family in (self.raft, self.data)})
        self._views.add(view)
        return view

    def _cursor(self, family: Family) -> "Cursor":
        try:
            return Cursor(self._families[family].iter(), self._fail)
        except Exception as error:
            raise self._fail(error) from error

    # State

    def free_bytes(self) -> int:
        """As Engine.free_bytes; at most a second old."""
        now = self._monotonic()
        if self._free is None or now - self._free[0] > _FREE_SPACE_AGE_S:
            found = os.statvfs(self._directory)
            self._free = (now, found.f_bavail * found.f_frsize)
        return self._free[1]

    def status(self) -> EngineStatus:
        """Return numbers for people."""
        return EngineStatus(
            last_sequence=0 if self._closed else self._database.latest_sequence_number(),
            durable_sequence=self._watermark.sequence,
            sync_count=self._syncer.sync_count,
            failure="" if self._error is None else self._error.message,
        )

    def close(self) -> None:
        """As Engine.close. Raises if the last sync fails; the directory is free either way."""
        if self._closed:
            return
        self._closed = True
        self._syncer.close()
        # RocksDB cannot be closed next to a running sync.
        self._thread.close()
        try:
            if self._error is None:
                self._sync_now()
                self._watermark.flush()
        except Exception as error:
            raise self._fail(error) from error
        finally:
            self._release()

    def _release(self) -> None:
        for view in list(self._views):
            view.close()
        self._refuse(errors.StoppedError(what=f"the engine in {self._directory}"))
        self.raft = self.data = None
        self._watermark.close()
        # It flushes, which after a failed write raises; but it closes.
        with contextlib.suppress(Exception):
            self._database.close()
        del self._database
        self._lock.close()

    # Failing

    def _fail(self, error: BaseException) -> errors.MultiraftError:
        """Make `error` final, and return what to raise for it."""
        if isinstance(error, errors.MultiraftError):
            return rocks_errors.anew(error)
        translated = rocks_errors.translate(error, self._directory)
        if self._error is None:
            self._error = translated
            self._refuse(translated)
        return rocks_errors.anew(translated)

    def _refuse(self, error: errors.MultiraftError) -> None:
        self._writer = self._families = rocks_errors.Refusal(error)

    # Syncing

    def _start_sync(self, finished: Done) -> None:
        def on_loop(error: BaseException | None) -> None:
            finished(None if error is None else self._fail(error))

        if self._config.unsafe_no_fsync:
            asyncio.get_running_loop().call_soon(on_loop, self._error)
        else:
            self._thread.start(on_loop)

    def _sync_now(self) -> None:
        """Sync everything written. In the sync thread; after it has ended, in the loop's."""
        if self._error is not None:
            raise rocks_errors.anew(self._error)
        if self._watermark_error is not None:
            raise self._watermark_error
        # Read first: what is written while the sync runs may not be covered by it.
        covered = self._database.latest_sequence_number()
        if covered == self._synced_sequence:
            return  # RocksDB would wait for the disk all the same
        self._database.flush_wal(True)
        self._synced_sequence = covered
        self._watermark.raise_to(covered)

    def _flush_watermark(self) -> None:
        """The sync thread's rest: see watermark.py."""
        if self._watermark_error is None:
            try:
                self._watermark.flush_when_due(
                    self._monotonic(), self._config.watermark_interval_ms / 1000
                )
            except OSError as error:
                self._watermark_error = error  # the next sync reports it


class RocksBatch:
    """See Batch in storage/engine.py: `put` and `delete` are RocksDB's own, at no extra cost."""

    __slots__ = ("delete", "put", "raw")

    def __init__(self) -> None:
        self.raw = raw = rocksdict.WriteBatch(True)
        self.put: Callable[[bytes, bytes, Family], None] = raw.put
        self.delete: Callable[[bytes, Family], None] = raw.delete

    @property
    def size_bytes(self) -> int:
        """As Batch.size_bytes."""
        size_bytes: int = self.raw.size_in_bytes()
        return size_bytes

    def delete_range(self, start: bytes, end: bytes, family: Family) -> None:
        """As Batch.delete_range."""
        assert start <= end, "a range ends where it begins or after"
        if start < end:
            self.raw.delete_range(start, end, family)


def _open_database(directory: Path, config: StorageConfig, *, create: bool) -> rocksdict.Rdict:
    rocks = directory / data_directory.ROCKS
    rocks_wal.check_manifest(rocks)
    rocks_wal.cut_unreadable(rocks)
    options = rocks_options.database(config, directory / data_directory.OPTIONS, create=create)
    if not create and not (rocks / "CURRENT").exists():
        # RocksDB says "Invalid argument" here, as it does for an option it does not know.
        raise errors.CorruptionError(reason=f"{rocks / 'CURRENT'} is missing")
    try:
        return rocksdict.Rdict(str(rocks), options, column_families=rocks_options.families(config))
    except Exception as error:
        text = str(error)
        if rocks_errors.is_lock_error(text):
            raise data_directory.in_use(directory) from error
        if "No such file or directory" in text:
            raise errors.CorruptionError(reason=text) from error
        raise rocks_errors.translate(error, directory) from error


def _finish_creation(directory: Path, database: rocksdict.Rdict) -> None:
    if database.latest_sequence_number() > 0:
        raise errors.DirectoryFormatError(
            f"{directory} holds data but no {data_directory.FORMAT_NAME} file, which is written "
            "before the first data is: files were removed; name another directory"
        )
    watermark.create(directory / watermark.NAME)
    data_directory.finish(directory)


def _open_watermark(directory: Path, database: rocksdict.Rdict, logs: dict[str, int]) -> Watermark:
    """Return the watermark, having checked that the database, opened on `logs`, reaches it."""
    mark = watermark.open_file(directory / watermark.NAME)
    reached = database.latest_sequence_number()
    if reached < mark.sequence:
        mark.close()
        rocks = directory / data_directory.ROCKS
        why = rocks_wal.dropped(rocks, logs) or f"the log in {rocks} is damaged or incomplete"
        raise errors.CorruptionError(
            reason=f"{why}: it ends at write {reached}, but up to {mark.sequence} was synced; "
            "replace the node"
        )
    return mark
