"""What a transaction has read: what must not change for it to move to another time.

Purpose
    Every read is remembered, so that a later time can be tried by asking the ranges whether
    anything in these spans has changed since (a refresh).
Invariants
    - A read is in here from before it is sent: a refresh that overtakes it covers it.
    - What is forgotten to stay within the bound is covered by a wider span.
"""

from collections.abc import Iterator, Sequence

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.requests import Get, Operation, Scan
from multiraft.model.transaction_requests import Refresh

Span = tuple[bytes, bytes]
"""`[start, end)`; an empty end means the key `start` alone."""


class ReadSpans:
    """See the module. At most about `spans_max` keys and spans are kept."""

    __slots__ = ("_max", "_open", "_points", "_spans", "_token")

    def __init__(self, spans_max: int) -> None:
        self._max = spans_max
        self._points: dict[bytes, None] = {}
        self._spans: list[Span] = []
        self._open: dict[int, Sequence[Operation]] = {}
        self._token = 0

    def __len__(self) -> int:
        return len(self._points) + len(self._spans) + len(self._open)

    def begin(self, operations: Sequence[Operation]) -> int:
        """The operations are about to be sent. Return a token for `end`."""
        self._token += 1
        self._open[self._token] = operations
        return self._token

    def end(self, token: int) -> None:
        """They are not under way any more."""
        del self._open[token]

    def add(self, key: bytes) -> None:
        """The key was read."""
        self._points[key] = None
        if len(self._points) > self._max:
            self._coalesce()

    def add_span(self, start: bytes, end: bytes) -> None:
        """`[start, end)` was read. What goes on where the last span ended, or began, makes one."""
        if start >= end:
            return
        if self._spans:
            last_start, last_end = self._spans[-1]
            if start == last_end:
                self._spans[-1] = (last_start, end)
                return
            if end == last_start:
                self._spans[-1] = (start, last_end)
                return
        self._spans.append((start, end))
        if len(self._spans) > self._max:
            self._coalesce()

    def all(self) -> Iterator[Span]:
        """Yield everything that was read, or is being read."""
        for key in self._points:
            yield key, b""
        yield from self._spans
        for operations in self._open.values():
            for operation in operations:
                if isinstance(operation, Get):
                    yield operation.key, b""
                elif isinstance(operation, Scan):
                    yield operation.start, operation.end

    @property
    def size_bytes(self) -> int:
        """How many bytes the keys have that name everything."""
        return sum(len(first) + len(last) for first, last in self.all())

    def within(self, start: bytes, end: bytes) -> bool:
        """Return whether everything that was read lies in `[start, end)`."""
        return all(start <= first < end and last <= end for first, last in self.all())

    def refreshes(self, since: Timestamp) -> list[Refresh]:
        """Return what to ask in order to move on from `since`."""
        return [Refresh(start, end, since) for start, end in self.all()]

    def _coalesce(self) -> None:
        """Replace what is kept by at most half as many spans, which cover it."""
        spans = sorted([*((key, keys.next_key(key)) for key in self._points), *self._spans])
        merged = [spans[0]]
        for start, end in spans[1:]:
            last_start, last_end = merged[-1]
            if start <= last_end:
                merged[-1] = (last_start, max(end, last_end))
            else:
                merged.append((start, end))
        while len(merged) > max(1, self._max // 2):
            pairs = [(a[0], b[1]) for a, b in zip(merged[0::2], merged[1::2], strict=False)]
            merged = [*pairs, merged[-1]] if len(merged) % 2 else pairs
        self._points.clear()
        self._spans = merged
