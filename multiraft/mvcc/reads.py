"""Reading: which version of a key is seen at a timestamp.

Purpose
    Get, scan, and the search for what a write left behind. All of it on versions only: locks are
    looked at before, in the lock table.
Invariants
    - A read at `timestamp` sees, of each key, the newest version at or below it that is not an
      outcome.
    - The cost does not grow with the versions of a key that are not seen: after a few of them the
      scan seeks past the rest.
Speed
    The loops over versions are the hot path of scans. They compare physical bytes: an inverted
    timestamp is compared undecoded, and a key is unescaped only when it is returned.
Source
    Design §8 and §12; rules S7, S8 and S11 of safety.md.
"""

from collections.abc import Iterator

import msgspec

from multiraft.ids import Timestamp
from multiraft.model import hlc
from multiraft.mvcc import versions
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import HEADER_BYTES, KIND_MASK, OUTCOME, VALUE, Version
from multiraft.storage import layout

SEEK_AFTER = 16
"""So many unseen versions of one key are stepped over before a seek (worth about five steps)."""

_SUFFIX = -8
"""Where the inverted timestamp of a physical key starts."""
_TERMINATED = -10
"""Where the terminator of the escaped key starts, right before the inverted timestamp."""
_PAST_ALL_VERSIONS = b"\xff" * 9
"""Behind a version prefix: above the oldest possible version, below the next key."""


class ScanPage(msgspec.Struct, frozen=True):
    """A part of a scan. `rows` alternates key and value; `resume` is as in requests.ScanResult."""

    rows: tuple[bytes, ...]
    resume: bytes | None

    @property
    def keys(self) -> int:
        """How many keys the page holds."""
        return len(self.rows) // 2


def newest(reader: Reader, key: bytes) -> Version | None:
    """Return the newest version of `key`, or None; a removed key gives its tombstone."""
    prefix = layout.version_prefix(key)
    return _first_seen(reader, prefix, prefix + _PAST_ALL_VERSIONS)


def get(reader: Reader, key: bytes, timestamp: Timestamp) -> Version | None:
    """Return the version of `key` seen at `timestamp`, as `newest` does."""
    prefix = layout.version_prefix(key)
    return _first_seen(reader, prefix + _inverted(timestamp), prefix + _PAST_ALL_VERSIONS)


def find_write(
    reader: Reader, key: bytes, write_id: bytes, newer_than: Timestamp
) -> Version | None:
    """Return what the write `write_id` left on `key` above `newer_than`, outcomes included.

    Looks at every version above `newer_than`: ask `RecentWrites` first (rule L7).
    """
    prefix = layout.version_prefix(key)
    for physical, stored in reader.scan(prefix, prefix + _inverted(newer_than)):
        if stored[1:HEADER_BYTES] == write_id:
            return versions.decode(_timestamp(physical), stored)
    return None


def scan(
    reader: Reader,
    start: bytes,
    end: bytes,
    timestamp: Timestamp,
    *,
    reverse: bool = False,
    limit_keys: int = 0,
    limit_bytes: int = 0,
) -> ScanPage:
    """Return the live keys of `[start, end)` and their values as seen at `timestamp`.

    Stops once there are `limit_keys` keys, or `limit_bytes` bytes of keys and values or a little
    more; 0 means no limit. There is at least one key in the page if there is one in the span.
    """
    lower, upper = layout.span(layout.VERSION, start, end)
    seen = _descending if reverse else _ascending
    rows: list[bytes] = []
    append = rows.append
    keys_left = limit_keys or -1
    bytes_left = limit_bytes or hlc.MAX
    for escaped, value in seen(reader, lower, upper, _inverted(timestamp)):
        key = escaped.replace(b"\x00\xff", b"\x00") if b"\x00" in escaped else escaped
        append(key)
        append(value)
        keys_left -= 1
        bytes_left -= len(key) + len(value)
        if keys_left == 0 or bytes_left <= 0:
            return ScanPage(tuple(rows), _resume(key, start, end, reverse=reverse))
    return ScanPage(tuple(rows), None)


def _resume(last: bytes, start: bytes, end: bytes, *, reverse: bool) -> bytes | None:
    if reverse:
        return last if last > start else None
    following = last + b"\x00"
    return following if following < end else None


def _ascending(
    reader: Reader, lower: bytes, upper: bytes, suffix: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """Yield escaped key and value of what is live where inverted timestamps are >= `suffix`."""
    decided: bytes | None = None
    unseen = 0
    while True:
        for physical, stored in reader.scan(lower, upper):
            escaped = physical[1:_TERMINATED]
            if escaped == decided or physical[_SUFFIX:] < suffix:
                unseen += 1
                if unseen < SEEK_AFTER:
                    continue
                past = _PAST_ALL_VERSIONS if escaped == decided else suffix
                lower = physical[:_SUFFIX] + past
                break
            unseen = 0
            kind = stored[0]
            if kind == VALUE:
                decided = escaped
                yield escaped, stored[HEADER_BYTES:]
            elif kind & KIND_MASK != OUTCOME:
                decided = escaped
                if kind & KIND_MASK == VALUE:
                    yield escaped, _value(stored)
        else:
            return
        unseen = 0


def _descending(
    reader: Reader, lower: bytes, upper: bytes, suffix: bytes
) -> Iterator[tuple[bytes, bytes]]:
    """As _ascending, from the last key to the first.

    Versions of a key come oldest first, so the last one that fits is the one that is seen.
    """
    current = b""
    candidate: bytes | None = None
    passed = 0
    while True:
        for physical, stored in reader.scan(lower, upper, reverse=True):
            escaped = physical[1:_TERMINATED]
            if escaped != current:
                if candidate is not None and candidate[0] & KIND_MASK == VALUE:
                    yield current, _value(candidate)
                current = escaped
                candidate = None
                passed = 0
            if physical[_SUFFIX:] >= suffix and stored[0] & KIND_MASK != OUTCOME:
                candidate = stored
            passed += 1
            if passed == SEEK_AFTER:
                upper = physical[:_SUFFIX]
                break
        else:
            if candidate is not None and candidate[0] & KIND_MASK == VALUE:
                yield current, _value(candidate)
            return
        version = _first_seen(reader, upper + suffix, upper + _PAST_ALL_VERSIONS)
        if version is not None and version.kind == VALUE:
            yield current, version.value
        candidate = None


def _value(stored: bytes) -> bytes:
    if stored[0] == VALUE:
        return stored[HEADER_BYTES:]
    return versions.decode(hlc.ZERO, stored).value


def _first_seen(reader: Reader, start: bytes, end: bytes) -> Version | None:
    found = reader.first(start, end)
    if found is None:
        return None
    physical, stored = found
    if stored[0] & KIND_MASK == OUTCOME:
        return _skip_outcomes(reader, physical, end)
    return versions.decode(_timestamp(physical), stored)


def _skip_outcomes(reader: Reader, start: bytes, end: bytes) -> Version | None:
    for physical, stored in reader.scan(start, end):
        if stored[0] & KIND_MASK != OUTCOME:
            return versions.decode(_timestamp(physical), stored)
    return None


def _inverted(timestamp: Timestamp) -> bytes:
    return (hlc.MAX - timestamp).to_bytes(8, "big")


def _timestamp(physical: bytes) -> Timestamp:
    return Timestamp(hlc.MAX - int.from_bytes(physical[_SUFFIX:], "big"))
