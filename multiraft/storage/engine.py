"""The engine: an ordered map in two column families, written in atomic batches.

Purpose
    The one thing that touches a disk. `rocks.py` is the durable one, `memory.py` has the same
    semantics for clusters inside a process and for simulation.
Invariants
    - A batch is atomic over both families; batches become durable in the order written. A crash
      loses a suffix of the batches that were not synced, nothing else.
    - A batch is visible to reads as soon as `write` returns.
    - Any exception from `write`, or handed to a sync's callback, is final: the store stops.
Ownership
    An engine belongs to one event loop. Only the thread inside it touches the disk for a sync.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

Family = Any
"""What names a column family; each engine has its own type for it."""


class Batch(Protocol):
    """Writes that become visible and durable together. Used once, then dropped.

    The order inside counts: a later write to a key wins, and a delete_range removes only what comes
    before it.
    """

    @property
    def size_bytes(self) -> int:
        """About how many bytes the batch writes; not after it was written."""
        ...

    def put(self, key: bytes, value: bytes, family: Family) -> None:
        """Set `key`."""
        ...

    def delete(self, key: bytes, family: Family) -> None:
        """Remove `key` if it is there."""
        ...

    def delete_range(self, start: bytes, end: bytes, family: Family) -> None:
        """Remove every key of `[start, end)`; cheap whatever their number.

        An `end` before `start` is the caller's mistake.
        """
        ...


class View(Protocol):
    """Both families as they were when the view was made, whatever is written later.

    Holds memory and files in the engine until closed, and must be closed before the engine is.
    """

    def get(self, key: bytes, family: Family) -> bytes | None:
        """Return the value at `key`, or None."""
        ...

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of `[start, end)` in order, descending when `reverse`.

        Raises CorruptionError where the engine finds damage; never ends early without it. Gets and
        other scans may come in between, at the price of a seek.
        """
        ...

    def close(self) -> None:
        """Let go of what the view holds. Closing twice is harmless."""
        ...


class Engine(Protocol):
    """See the module."""

    raft: Family
    """Logs and hard states: short-lived."""
    data: Family
    """Everything else."""

    def new_batch(self) -> Batch:
        """Return an empty batch."""
        ...

    def write(self, batch: Batch) -> None:
        """Apply `batch`: atomic, ordered, visible at once, not yet durable.

        Never waits for a sync. Uses the batch up.
        """
        ...

    def sync(self, done: Callable[[BaseException | None], None]) -> None:
        """Make everything written so far durable, then call `done(None)` on the loop.

        `done(error)` means that durability is unknown: the store must stop. Callbacks come in the
        order of the calls. Syncs are grouped: while one runs, the next waits and covers all batches
        written until it starts.
        """
        ...

    def get(self, key: bytes, family: Family) -> bytes | None:
        """Return the newest value at `key`, or None. Raises CorruptionError on damage."""
        ...

    def first(self, start: bytes, end: bytes, family: Family) -> tuple[bytes, bytes] | None:
        """Return the first key and value of `[start, end)`, or None."""
        ...

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the newest keys and values as of this call; otherwise as View.scan."""
        ...

    def scan_unchecked(
        self, start: bytes, end: bytes, family: Family
    ) -> Iterator[tuple[bytes, bytes]]:
        """Do as `scan` for less, with two things left to the caller.

        What lies at or behind `end` may follow. And it may end early, on damage and without a word:
        who gets to its end goes on with `scan` from the last key, before anything is written.
        """
        ...

    def view(self) -> View:
        """Return a consistent view of both families."""
        ...

    def free_bytes(self) -> int:
        """Return the bytes that may still be written before the disk is full."""
        ...

    def close(self) -> None:
        """Sync, then release the directory. Every view and scan must be done with before.

        Callbacks of `sync` that have not run by then never do. Drop `raft` and `data` too: in
        RocksDB they keep the directory locked.
        """
        ...
