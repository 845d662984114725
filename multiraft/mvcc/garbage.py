"""Which versions nobody may ask for any more, once reads below a threshold are refused.

Purpose
    Name what garbage collection may remove from a span, and say when there will be more.
Invariants
    - No read at or above the threshold changes its answer, whatever prefix of what is named has
      been removed: the removal may be cut into commands anywhere. That is why older versions come
      first: a tombstone that went before the value below it would bring that value back.
    - Every version above the threshold stays, so every write whose request may still be repeated
      is found (rule S12); outcomes at or below it go.
    - The host replicates the threshold before it removes anything, and only ever raises it.
"""

from itertools import islice

from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import KIND_MASK, OUTCOME, TOMBSTONE, VALUE
from multiraft.storage import layout

Found = tuple[bytes, int]
"""The physical key of a version that may be removed, and the bytes that this frees."""


class GarbageScan:
    """Looks through `[start, end)` of a view in slices, so that the host can do other work.

    Keys come in descending order, the versions of a key oldest first. Nothing named is live, so a
    removal changes `versions` and `version_bytes` of the statistics only. The reader must be of a
    view, and not be used otherwise until the scan is done or dropped.
    """

    __slots__ = ("_at_threshold", "_decided", "_found", "_pairs", "_prefix", "_seen", "_young")

    def __init__(self, reader: Reader, start: bytes, end: bytes, threshold: Timestamp) -> None:
        self._pairs = reader.scan(*layout.span(layout.VERSION, start, end), reverse=True)
        self._at_threshold = layout.version_key(b"", threshold)[-8:]
        self._prefix = b""
        """Of the last version that is no outcome."""
        self._seen: Found | None = None
        """Of the current key, the newest version at or below the threshold so far: what a read
        there sees. It goes when a newer one is met, or if it turns out to be a tombstone."""
        self._decided = 0
        """The kind of `_seen`."""
        self._young = b""
        self._found: list[Found] = []

    def advance(self, versions_max: int) -> bool:
        """Look at up to so many more versions; return whether the whole span was looked at."""
        at_threshold, found = self._at_threshold, self._found
        looked_at = 0
        for physical, stored in islice(self._pairs, versions_max):
            looked_at += 1
            kind = stored[0] & KIND_MASK
            prefix, inverted = physical[:-8], physical[-8:]
            if kind == OUTCOME:
                if inverted >= at_threshold:
                    found.append((physical, len(physical) + len(stored)))
                else:
                    self._young = max(self._young, inverted)
                continue
            is_first = prefix != self._prefix
            if is_first:
                self._leave_key()
                self._prefix = prefix
            if inverted < at_threshold:
                if self._decided == TOMBSTONE and self._seen is not None:
                    self._leave_key()
                    is_first = True
                if kind != VALUE or not is_first:
                    self._young = max(self._young, inverted)
                continue
            if self._seen is not None:
                found.append(self._seen)
            self._seen = physical, len(physical) + len(stored)
            self._decided = kind
        if looked_at == versions_max:
            return False
        self._leave_key()
        return True

    def take(self) -> list[Found]:
        """Return what was found since the last call."""
        found, self._found = self._found, []
        return found

    def next_at(self) -> Timestamp | None:
        """Return the least threshold at which more goes than at this one; None: no threshold does.

        What is written after the view was made aside.
        """
        if not self._young:
            return None
        return Timestamp(hlc.MAX - int.from_bytes(self._young, "big"))

    def _leave_key(self) -> None:
        if self._seen is not None and self._decided == TOMBSTONE:
            self._found.append(self._seen)
        self._seen = None
