"""What versions are read from: the data family of an engine, or of a view of one.

Purpose
    Functions of this package take a `Reader` and need not know which of the two it is. An engine
    shows the newest state at each call; a view shows one state for as long as it is kept.
Invariants
    - A reader has at most one scan in progress (a view can do no more), and gives it up when it
      calls `first`.
"""

from collections.abc import Iterator
from typing import Protocol

from multiraft.mvcc.versions import Version
from multiraft.storage.engine import Engine, Family, View


class Reader(Protocol):
    """Ordered access to physical keys; see layout.py for these."""

    def known(self, prefix: bytes) -> Version | None:
        """Return the newest version of the key with this version prefix, if that is remembered.

        No outcome lies above it. None says nothing.
        """
        ...

    def first(self, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        """Return the first physical key and value of `[start, end)`, or None."""
        ...

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield physical keys and values of `[start, end)` in order, as of this call."""
        ...

    def scan_unchecked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Do the same at less cost, as Engine.scan_unchecked: neither end is certain."""
        ...


class EngineReader:
    """The newest state of an engine."""

    __slots__ = ("_engine", "_family")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._family: Family = engine.data

    def known(self, prefix: bytes) -> Version | None:
        """See Reader."""
        return None

    def first(self, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        """See Reader."""
        return self._engine.first(start, end, self._family)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """See Reader."""
        return self._engine.scan(start, end, self._family, reverse=reverse)

    def scan_unchecked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See Reader."""
        return self._engine.scan_unchecked(start, end, self._family)


class ViewReader:
    """A view; `family` is the `data` of the engine that it was taken of."""

    __slots__ = ("_family", "_view")

    def __init__(self, view: View, family: Family) -> None:
        self._view = view
        self._family = family

    def known(self, prefix: bytes) -> Version | None:
        """See Reader."""
        return None

    def first(self, start: bytes, end: bytes) -> tuple[bytes, bytes] | None:
        """See Reader."""
        return next(self._view.scan(start, end, self._family), None)

    def scan(
        self, start: bytes, end: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """See Reader."""
        return self._view.scan(start, end, self._family, reverse=reverse)

    def scan_unchecked(self, start: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """See Reader."""
        return self._view.scan(start, end, self._family)
