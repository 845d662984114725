"""Reading RocksDB through raw iterators, safely: scans and views.

Purpose
    `Cursor` is one iterator, which sees the state as of its creation. A view is one per family.
Invariants
    - A scan never ends early without an error: whenever the iterator ends, its status is asked.
    - Bounds are compared here, in Python.
    - Gets and scans of one cursor may interleave: a scan that finds the iterator moved goes back.
Source
    The traps of the binding, pinned in tests/storage/test_rocks_traps.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import rocksdict

from multiraft import errors
from multiraft.storage import rocks_errors
from multiraft.storage.engine import Family


class RocksView:
    """See View in storage/engine.py.

    Gets and scans share one iterator per family, since no other can be had that sees the same
    state; a scan that finds it moved goes back to where it was.
    """

    __slots__ = ("__weakref__", "_cursors")

    def __init__(self, cursors: "dict[Family, Cursor]") -> None:
        self._cursors = cursors

    def get(self, key: bytes, family: Family) -> bytes | None:
        """As View.get."""
        return self._cursor(family).get(key)

    def scan(
        self, start: bytes, end: bytes, family: Family, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As View.scan."""
        return self._cursor(family).scan(start, end, reverse=reverse)

    def close(self) -> None:
        """As View.close."""
        for cursor in self._cursors.values():
            cursor.close()
        self._cursors = {}

    def _cursor(self, family: Family) -> "Cursor":
        cursor = self._cursors.get(family)
        if cursor is None:
            raise errors.StoppedError(what="the view")
        return cursor


class Cursor:
    """A raw iterator, read safely: consistent from its creation, and never silent about damage."""

    __slots__ = ("_fail", "_iterator", "_moves")

    def __init__(
        self,
        iterator: rocksdict.RdictIter,
        fail: Callable[[BaseException], errors.MultiraftError],
    ) -> None:
        self._iterator: Any = iterator
        self._fail = fail
        # Counts who placed the iterator: a scan that finds another number than its own was moved.
        self._moves = 0

    def close(self) -> None:
        """Free the iterator, which pins memory and files, and keeps the database open."""
        self._iterator = rocks_errors.Refusal(errors.StoppedError(what="the view"))
        self._moves += 1

    def get(self, key: bytes) -> bytes | None:
        """Return the value at `key`, or None."""
        iterator = self._iterator
        self._moves += 1
        try:
            iterator.seek(key)
            found = iterator.key()
            if found is None:
                iterator.status()
                return None
            value: bytes | None = iterator.value() if found == key else None
        except Exception as error:
            raise self._fail(error) from error
        return value

    def scan(self, start: bytes, end: bytes, *, reverse: bool) -> Iterator[tuple[bytes, bytes]]:
        """Yield keys and values of `[start, end)`; other use in between does no harm."""
        return self._backward(start, end) if reverse else self._forward(start, end)

    def _forward(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            key = self._place_at_or_after(start)
            moves = self._moves
            while key is not None and key < end:
                yield key, self._iterator.value()
                if self._moves != moves:
                    self._place_at_or_after(key)
                    moves = self._moves
                self._iterator.next()
                key = self._iterator.key()
            if key is None:
                self._iterator.status()
        except Exception as error:
            raise self._fail(error) from error

    def _backward(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        try:
            key = self._place_at_or_before(end)
            if key == end:
                self._iterator.prev()
                key = self._iterator.key()
            moves = self._moves
            while key is not None and key >= start:
                yield key, self._iterator.value()
                if self._moves != moves:
                    self._place_at_or_before(key)
                    moves = self._moves
                self._iterator.prev()
                key = self._iterator.key()
            if key is None:
                self._iterator.status()
        except Exception as error:
            raise self._fail(error) from error

    def _place_at_or_after(self, key: bytes) -> bytes | None:
        self._moves += 1
        self._iterator.seek(key)
        found: bytes | None = self._iterator.key()
        return found

    def _place_at_or_before(self, key: bytes) -> bytes | None:
        self._moves += 1
        self._iterator.seek_for_prev(key)
        found: bytes | None = self._iterator.key()
        return found
