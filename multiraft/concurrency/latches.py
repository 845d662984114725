"""Latches: requests that touch the same keys of a range take turns.

Purpose
    From before a request is evaluated until its effects are applied it holds latches on what it
    reads and writes, so that it is evaluated on a state that nobody changes meanwhile.
Invariants
    - Two latches conflict if they share a key that at least one of them writes. Of two that
      conflict, the later one is granted only after the earlier one is released or cancelled.
    - Earlier means acquired before. A waiting latch is in the way of later ones as a held one is,
      so writers do not starve; nothing else is ever in the way.
    - A latch is granted in the call that removed the last one in its way: no wake-up is lost. A
      latch waits for earlier ones only: there is no deadlock.
How
    A point is a single key. Each key in use has a queue of the latches on it; a latch waits there
    until nothing (if it writes) or only readers (if it reads) are before it. Spans are rare: a
    latch with spans is compared with everything in flight, and each keeps a list of the latches
    that wait for it because of a span. `in_the_way` counts both; at zero the latch is granted.
Source
    CockroachDB's spanlatch; rule S2 for the latch of a split.
"""

from collections import deque
from collections.abc import Callable, Container, Iterable
from typing import Final

import msgspec

from multiraft.model import keys

Span = tuple[bytes, bytes]

DESCRIPTOR: Final = keys.END + b"descriptor"
"""The point that a change of the range's descriptor writes; no span of keys contains it."""


def record_point(anchor: bytes, transaction_id: bytes) -> bytes:
    """Return the point that whoever changes a transaction's record writes; in no span of keys.

    Who latches it latches the anchor too, at least for reading, so that a split waits (rule S2).
    """
    return b"%brecord%b%b" % (keys.END, transaction_id, anchor)


_NEW, _WAITING, _HELD, _RELEASED = range(4)


class Latch(msgspec.Struct, eq=False):
    """What one request reads and writes, and the handle of its latch. Used for one `acquire`.

    The fields below the spans belong to the LatchManager.
    """

    read_points: tuple[bytes, ...] = ()
    write_points: tuple[bytes, ...] = ()
    read_spans: tuple[Span, ...] = ()
    write_spans: tuple[Span, ...] = ()

    state: int = _NEW
    in_the_way: int = 0
    number: int = 0
    """Order of arrival among those that had to wait."""
    granted: Callable[[], None] | None = None
    dependents: list["Latch"] | None = None
    """Who waits for this latch because of a span; once for each reason."""


class LatchStatus(msgspec.Struct, frozen=True):
    """How many latches a range has in flight, and on how many keys."""

    held: int
    waiting: int
    points: int
    with_spans: int


class LatchManager:
    """The latches of one range. Belongs to one event loop."""

    __slots__ = ("_granting", "_grants", "_points", "_spans", "_waited", "_waiting")

    def __init__(self) -> None:
        self._points: dict[bytes, list[tuple[Latch, bool]]] = {}
        """By key, in order of arrival: the latch, and whether it writes the key."""
        self._spans: dict[Latch, None] = {}
        """Latches with spans, in order of arrival."""
        self._waiting = 0
        self._waited = 0
        self._grants: deque[Latch] = deque()
        self._granting = False

    @property
    def points_in_use(self) -> Container[bytes]:
        """The points that some latch has, or waits for."""
        return self._points

    @property
    def has_spans(self) -> bool:
        """Whether some latch has, or waits for, a span."""
        return bool(self._spans)

    def acquire(self, latch: Latch, granted: Callable[[], None]) -> bool:
        """Return True if `latch` is held at once; otherwise call `granted()` when it is.

        `granted` is called from a later `release` or `cancel`, never from this call, and not at all
        if the latch is cancelled before. It must not raise; it may call any method.
        """
        assert latch.state == _NEW, "a latch is acquired once"
        if len(latch.write_points) + len(latch.read_points) > 1:
            _name_each_point_once(latch)
        if self._spans:
            self._wait_for_spans(latch)
        if latch.read_spans or latch.write_spans:
            self._wait_for_points(latch)
            self._spans[latch] = None
        points = self._points
        for key in latch.write_points:
            queue = points.get(key)
            if queue is None:
                points[key] = [(latch, True)]
            else:
                queue.append((latch, True))
                latch.in_the_way += 1
        for key in latch.read_points:
            queue = points.get(key)
            if queue is None:
                points[key] = [(latch, False)]
            else:
                latch.in_the_way += any(writes for _, writes in queue)
                queue.append((latch, False))
        if latch.in_the_way == 0:
            latch.state = _HELD
            return True
        latch.state = _WAITING
        latch.granted = granted
        latch.number = self._waited
        self._waited += 1
        self._waiting += 1
        return False

    def release(self, latch: Latch) -> None:
        """Give a held latch up, and grant what waited for it, in order of arrival."""
        assert latch.state == _HELD, "only a held latch is released"
        self._remove(latch)

    def cancel(self, latch: Latch) -> None:
        """Give a latch up whether it is held or waits; a waiting one is never granted."""
        if latch.state == _WAITING:
            self._waiting -= 1
        if latch.state in (_WAITING, _HELD):
            self._remove(latch)

    def status(self) -> LatchStatus:
        """Return what is in flight."""
        in_flight = dict.fromkeys(latch for queue in self._points.values() for latch, _ in queue)
        in_flight.update(self._spans)
        return LatchStatus(
            held=len(in_flight) - self._waiting,
            waiting=self._waiting,
            points=len(self._points),
            with_spans=len(self._spans),
        )

    def _wait_for_spans(self, latch: Latch) -> None:
        """Count what earlier latches with spans are in the way of `latch`."""
        for other in self._spans:
            if (
                _contain(other.write_spans, latch.write_points)
                or _contain(other.write_spans, latch.read_points)
                or _contain(other.read_spans, latch.write_points)
                or _meet(other.write_spans, latch.write_spans)
                or _meet(other.write_spans, latch.read_spans)
                or _meet(other.read_spans, latch.write_spans)
            ):
                _wait_for(latch, other)

    def _wait_for_points(self, latch: Latch) -> None:
        """Count what earlier latches on points are in the way of the spans of `latch`."""
        # Plain loops, since this looks at every key in use for each scan.
        for start, end in latch.write_spans:
            for key, queue in self._points.items():
                if start <= key < end:
                    for other, _ in queue:
                        _wait_for(latch, other)
        for start, end in latch.read_spans:
            for key, queue in self._points.items():
                if start <= key < end:
                    for other, writes in queue:
                        if writes:
                            _wait_for(latch, other)

    def _remove(self, latch: Latch) -> None:
        latch.state = _RELEASED
        granted: list[Latch] = []
        points = self._points
        for key in latch.write_points:
            queue = points[key]
            if len(queue) == 1:
                del points[key]
            else:
                _count_down(_leave(queue, latch), granted)
        for key in latch.read_points:
            queue = points[key]
            if len(queue) == 1:
                del points[key]
            else:
                _count_down(_leave(queue, latch), granted)
        if latch.read_spans or latch.write_spans:
            del self._spans[latch]
        if latch.dependents is not None:
            _count_down(latch.dependents, granted)
        if granted:
            self._grant(granted)

    def _grant(self, latches: list[Latch]) -> None:
        """Call back those that are held now, never from within another callback."""
        self._waiting -= len(latches)
        latches.sort(key=lambda latch: latch.number)
        self._grants.extend(latches)
        if self._granting:
            return
        self._granting = True
        try:
            while self._grants:
                latch = self._grants.popleft()
                # An earlier callback may have cancelled it.
                if latch.state == _HELD:
                    assert latch.granted is not None, "who waits has a callback"
                    latch.granted()
        finally:
            self._granting = False


def _name_each_point_once(latch: Latch) -> None:
    # A latch must not wait for itself: a key that it reads and writes is written.
    written = dict.fromkeys(latch.write_points)
    latch.write_points = tuple(written)
    latch.read_points = tuple(k for k in dict.fromkeys(latch.read_points) if k not in written)


def _leave(queue: list[tuple[Latch, bool]], latch: Latch) -> Iterable[Latch]:
    """Take `latch` out of the queue of a key; return those that nothing else is before there."""
    position = next(i for i, (queued, _) in enumerate(queue) if queued is latch)
    _, wrote = queue.pop(position)
    if position == 0 and queue[0][1]:
        return (queue[0][0],)
    if not wrote or any(writes for _, writes in queue[:position]):
        return ()
    readers = []
    for other, writes in queue[position:]:
        if writes:
            break
        readers.append(other)
    return readers


def _wait_for(latch: Latch, other: Latch) -> None:
    latch.in_the_way += 1
    if other.dependents is None:
        other.dependents = []
    other.dependents.append(latch)


def _count_down(latches: Iterable[Latch], granted: list[Latch]) -> None:
    """One thing less is in the way of each of `latches`; add those that are free to `granted`."""
    for latch in latches:
        latch.in_the_way -= 1
        # A cancelled latch may still be in the lists of those that it waited for.
        if latch.in_the_way == 0 and latch.state == _WAITING:
            latch.state = _HELD
            granted.append(latch)


def _meet(spans: tuple[Span, ...], others: tuple[Span, ...]) -> bool:
    return any(max(a[0], b[0]) < min(a[1], b[1]) for a in spans for b in others)


def _contain(spans: tuple[Span, ...], points: tuple[bytes, ...]) -> bool:
    return any(start <= point < end for start, end in spans for point in points)
