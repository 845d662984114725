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
    Safety rules S7, S8 and S11.
"""

from collections.abc import Iterator
from typing import NamedTuple

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
    return reader.known(prefix) or search_newest(reader, prefix)


def search_newest(reader: Reader, prefix: bytes) -> Version | None:
    """Do as `newest` for the key with that version prefix, of which the reader knows nothing."""
    return _first_seen(reader, prefix, prefix + _PAST_ALL_VERSIONS)


def newest_and_last(reader: Reader, key: bytes) -> tuple[Version | None, Timestamp]:
    """Return what `newest` does, and the time of the last that was left there, outcomes included.

    Who chooses a time that is not the clock's must not write over an outcome.
    """
    prefix = layout.version_prefix(key)
    known = reader.known(prefix)
    if known is not None:
        return known, known.timestamp
    end = prefix + _PAST_ALL_VERSIONS
    found = reader.first(prefix, end)
    if found is None:
        return None, hlc.ZERO
    last = _timestamp(found[0])
    if found[1][0] & KIND_MASK == OUTCOME:
        return _skip_outcomes(reader, found[0], end), last
    return versions.decode(last, found[1]), last


def get(reader: Reader, key: bytes, timestamp: Timestamp) -> Version | None:
    """Return the version of `key` seen at `timestamp`, as `newest` does."""
    prefix = layout.version_prefix(key)
    known = reader.known(prefix)
    if known is not None and known.timestamp <= timestamp:
        return known
    return _first_seen(reader, prefix + _inverted(timestamp), prefix + _PAST_ALL_VERSIONS)


def find_write(
    reader: Reader, key: bytes, write_id: bytes, newer_than: Timestamp
) -> Version | None:
    """Return what the write `write_id` left on `key` above `newer_than`, outcomes included.

    Looks at every version above `newer_than`; where the write's timestamp is known, `get_write`
    needs not.
    """
    prefix = layout.version_prefix(key)
    for physical, stored in reader.scan(prefix, prefix + _inverted(newer_than)):
        if stored[1:HEADER_BYTES] == write_id:
            return versions.decode(_timestamp(physical), stored)
    return None


def get_write(reader: Reader, key: bytes, write_id: bytes, timestamp: Timestamp) -> Version | None:
    """Return what the write `write_id` left on `key` at `timestamp`, an outcome included."""
    physical = layout.version_key(key, timestamp)
    found = reader.first(physical, physical + b"\x00")
    if found is None or found[1][1:HEADER_BYTES] != write_id:
        return None
    return versions.decode(timestamp, found[1])


class Change(NamedTuple):
    """A key that has changed, and when; without a time, nothing has up to there: look further."""

    key: bytes
    timestamp: Timestamp


def first_change(
    reader: Reader,
    start: bytes,
    end: bytes,
    since: Timestamp,
    until: Timestamp,
    except_id: bytes = b"",
    *,
    limit_passed: int = 0,
) -> Change | None:
    """Return the first key of `[start, end)` with a version in (since, until], the newest such.

    Outcomes are none, and what the write `except_id` made does not count. Ends before the next key
    when it has passed `limit_passed` versions (0: no limit).
    """
    newest, oldest = _inverted(until), _inverted(since)
    lower, upper = layout.span(layout.VERSION, start, end)
    passed = unseen = 0
    current = b""
    while True:
        for physical, stored in reader.scan(lower, upper):
            suffix = physical[_SUFFIX:]
            if (
                newest <= suffix < oldest
                and stored[0] & KIND_MASK != OUTCOME
                and stored[1:HEADER_BYTES] != except_id
            ):
                return Change(*layout.split_version_key(physical))
            prefix = physical[:_SUFFIX]
            if prefix != current:
                if limit_passed and passed > limit_passed:
                    return Change(layout.split_version_key(physical)[0], hlc.ZERO)
                current = prefix
                unseen = 0
            passed += 1
            unseen += 1
            if unseen >= SEEK_AFTER and not newest <= suffix < oldest:
                break
        else:
            return None
        unseen = 0
        lower = current + (newest if suffix < newest else _PAST_ALL_VERSIONS)


def change_of(
    reader: Reader, key: bytes, since: Timestamp, until: Timestamp, except_id: bytes = b""
) -> Change | None:
    """Return the newest version of `key` in (since, until], as `first_change` does."""
    prefix = layout.version_prefix(key)
    for physical, stored in reader.scan(prefix + _inverted(until), prefix + _inverted(since)):
        if stored[0] & KIND_MASK != OUTCOME and stored[1:HEADER_BYTES] != except_id:
            return Change(key, _timestamp(physical))
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
    limit_passed: int = 0,
) -> ScanPage:
    """Return the live keys of `[start, end)` and their values as seen at `timestamp`.

    Stops once there are `limit_keys` keys, or `limit_bytes` bytes of keys and values or a little
    more; there is then at least one key in the page. Stops also when it has passed `limit_passed`
    keys that are not live, or outcomes, so that a caller can let others run; the page may then be
    empty. 0 means no limit.
    """
    lower, upper = layout.span(layout.VERSION, start, end)
    limits = _Limits(limit_keys or hlc.MAX, limit_bytes or hlc.MAX, limit_passed or hlc.MAX)
    look = _descending if reverse else _ascending
    rows, last = look(reader, lower, upper, _inverted(timestamp), limits)
    if 0 in b"".join(rows[0::2]):
        rows[0::2] = [_unescaped(key) for key in rows[0::2]]
    if last is None:
        return ScanPage(tuple(rows), None)
    return ScanPage(tuple(rows), _resume(_unescaped(last), start, end, reverse=reverse))


class _Limits(NamedTuple):
    """What ends a page, see `scan`."""

    keys: int
    bytes: int
    passed: int


_Found = tuple[list[bytes], bytes | None]
"""Escaped keys and their values, in turn; and the escaped key at which limits ended the page."""


def _unescaped(key: bytes) -> bytes:
    return key.replace(b"\x00\xff", b"\x00")


def _resume(last: bytes, start: bytes, end: bytes, *, reverse: bool) -> bytes | None:
    if reverse:
        return last if last > start else None
    following = last + b"\x00"
    return following if following < end else None


def _ascending(
    reader: Reader, lower: bytes, upper: bytes, suffix: bytes, limits: _Limits
) -> _Found:
    """Return what is seen at the inverted timestamp `suffix`, up to the limits.

    One loop does it all, over what the reader does not check: calls and generators for each row
    would cost as much again.
    """
    rows: list[bytes] = []
    append = rows.append
    keys_left, bytes_left, passes_left = limits
    decided: bytes | None = None
    physical = lower
    pairs = reader.scan_unchecked(lower, upper)
    is_checked = False
    while True:
        unseen = 0
        for physical, stored in pairs:
            if physical >= upper:
                return rows, None
            escaped = physical[1:_TERMINATED]
            if escaped == decided or physical[_SUFFIX:] < suffix:
                unseen += 1
                if unseen < SEEK_AFTER:
                    continue
                if escaped == decided:
                    break
                value = _seek_value(reader, physical[:_SUFFIX], suffix)
            else:
                unseen = 0
                kind = stored[0]
                if kind == VALUE:
                    value = stored[HEADER_BYTES:]
                elif kind & KIND_MASK != OUTCOME:
                    value = _value(stored)
                else:
                    passes_left -= 1
                    if passes_left > 0:
                        continue
                    # The page ends with this key, so it is decided at once.
                    value = _seek_value(reader, physical[:_SUFFIX], suffix)
            decided = escaped
            if value is None:
                passes_left -= 1
            else:
                append(escaped)
                append(value)
                keys_left -= 1
                bytes_left -= len(escaped) + len(value)
            if keys_left == 0 or bytes_left <= 0 or passes_left <= 0:
                return rows, escaped
            if unseen:  # So many that the value was sought: past the rest.
                break
        else:
            if is_checked:
                return rows, None
            # The end, or damage. To look at the last version again changes nothing.
            pairs = reader.scan(physical, upper)
            is_checked = True
            continue
        physical = physical[:_SUFFIX] + _PAST_ALL_VERSIONS
        pairs = reader.scan_unchecked(physical, upper)
        is_checked = False


def _descending(
    reader: Reader, lower: bytes, upper: bytes, suffix: bytes, limits: _Limits
) -> _Found:
    """As _ascending, from the last key to the first."""
    rows: list[bytes] = []
    keys_left, bytes_left, passes_left = limits
    for escaped, value in _values_descending(reader, lower, upper, suffix):
        if value is None:
            passes_left -= 1
        else:
            rows += escaped, value
            keys_left -= 1
            bytes_left -= len(escaped) + len(value)
        if keys_left == 0 or bytes_left <= 0 or passes_left == 0:
            return rows, escaped
    return rows, None


def _values_descending(
    reader: Reader, lower: bytes, upper: bytes, suffix: bytes
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yield escaped keys from the last to the first, each with the value that is seen.

    The value is None for a removed key; what began to exist later may be left out. Versions of a
    key come oldest first, so the last one that fits is the one that is seen.
    """
    while True:
        current: bytes | None = None
        value: bytes | None = None
        passed = 0
        for physical, stored in reader.scan(lower, upper, reverse=True):
            escaped = physical[1:_TERMINATED]
            if escaped != current:
                if current is not None:
                    yield current, value
                current = escaped
                value = None
                passed = 0
            passed += 1
            if passed == SEEK_AFTER:
                break
            if physical[_SUFFIX:] >= suffix:
                kind = stored[0]
                if kind == VALUE:
                    value = stored[HEADER_BYTES:]
                elif kind & KIND_MASK != OUTCOME:
                    value = _value(stored)
        else:
            if current is not None:
                yield current, value
            return
        upper = physical[:_SUFFIX]
        yield escaped, _seek_value(reader, upper, suffix)


def _value(stored: bytes) -> bytes | None:
    version = versions.decode(hlc.ZERO, stored)
    return version.value if version.kind == VALUE else None


def _seek_value(reader: Reader, prefix: bytes, suffix: bytes) -> bytes | None:
    version = _first_seen(reader, prefix + suffix, prefix + _PAST_ALL_VERSIONS)
    return version.value if version is not None and version.kind == VALUE else None


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
