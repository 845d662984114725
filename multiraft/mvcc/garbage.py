"""Which versions nobody may ask for any more, once reads below a threshold are refused.

Purpose
    Name what garbage collection may remove from a span.
Invariants
    - No read at or above the threshold changes its answer, whatever prefix of what is named has
      been removed: the removal may be cut into commands anywhere. That is why older versions come
      first: a tombstone that went before the value below it would bring that value back.
    - Every version above the threshold stays, so every write whose request may still be repeated
      is found (rule S12); outcomes at or below it go.
    - The host replicates the threshold before it removes anything, and only ever raises it.
"""

from collections.abc import Iterator

from multiraft.ids import Timestamp
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import KIND_MASK, OUTCOME, TOMBSTONE
from multiraft.storage import layout


def removable(
    reader: Reader, start: bytes, end: bytes, threshold: Timestamp
) -> Iterator[tuple[bytes, int]]:
    """Yield the physical key, and the bytes it frees, of each version that may be removed.

    Keys come in descending order, the versions of a key oldest first. Nothing named is live, so a
    removal changes `versions` and `version_bytes` of the statistics only.
    """
    at_threshold = layout.version_key(b"", threshold)[-8:]
    # Of the current key, the newest version at or below the threshold so far: what a read there
    # sees. It goes when a newer one is met, or if it turns out to be a tombstone.
    seen: tuple[bytes, int] | None = None
    seen_prefix = b""
    seen_kind = 0
    for physical, stored in reader.scan(*layout.span(layout.VERSION, start, end), reverse=True):
        prefix = physical[:-8]
        if seen is not None and prefix != seen_prefix:
            if seen_kind == TOMBSTONE:
                yield seen
            seen = None
        if physical[-8:] < at_threshold:
            continue
        kind = stored[0] & KIND_MASK
        found = (physical, len(physical) + len(stored))
        if kind == OUTCOME:
            yield found
            continue
        if seen is not None:
            yield seen
        seen, seen_prefix, seen_kind = found, prefix, kind
    if seen is not None and seen_kind == TOMBSTONE:
        yield seen
