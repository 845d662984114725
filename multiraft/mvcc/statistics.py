"""What a range holds: counted by every command, recounted for splits and checks.

Purpose
    `RangeStats` is part of the replicated state: each command carries the difference it makes. A
    recount from the data gives each half of a split its share, and must equal what was added up.
Invariants
    - Counts are exact, so the recount of a view equals the sum of all differences up to it.
Definitions
    live          keys whose newest version, outcomes aside, is a value: key and value bytes
    versions      all versions, outcomes included: physical key and stored bytes
    locks         locks held
"""

from itertools import chain, islice

import msgspec

from multiraft.mvcc import versions
from multiraft.mvcc.reader import Reader
from multiraft.mvcc.versions import KIND_MASK, OUTCOME, VALUE
from multiraft.storage import layout


class RangeStats(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a range holds, or the difference that a command makes. See the module."""

    live_keys: int = 0
    live_bytes: int = 0
    versions: int = 0
    version_bytes: int = 0
    locks: int = 0

    def plus(self, other: "RangeStats") -> "RangeStats":
        """Return the sum, field by field."""
        return RangeStats(
            self.live_keys + other.live_keys,
            self.live_bytes + other.live_bytes,
            self.versions + other.versions,
            self.version_bytes + other.version_bytes,
            self.locks + other.locks,
        )

    def minus(self, other: "RangeStats") -> "RangeStats":
        """Return the difference, field by field."""
        return RangeStats(
            self.live_keys - other.live_keys,
            self.live_bytes - other.live_bytes,
            self.versions - other.versions,
            self.version_bytes - other.version_bytes,
            self.locks - other.locks,
        )


class StatsScan:
    """Counts the span `[start, end)` of a view in slices, so that the host can do other work.

    The reader must be of a view, and not be used otherwise until the scan is done or dropped.
    """

    __slots__ = ("_decided", "_pairs", "_stats")

    def __init__(self, reader: Reader, start: bytes, end: bytes) -> None:
        # Lazy, since a view can have only one scan in progress.
        self._pairs = chain.from_iterable(
            reader.scan(*layout.span(prefix, start, end))
            for prefix in (layout.LOCK, layout.VERSION)
        )
        self._decided = b""
        self._stats = RangeStats()

    @property
    def stats(self) -> RangeStats:
        """What was counted so far."""
        return self._stats

    def advance(self, keys_max: int) -> bool:
        """Count up to `keys_max` more physical keys; return whether the whole span is counted."""
        live_keys = live_bytes = count = size = locks = 0
        for physical, stored in islice(self._pairs, keys_max):
            if physical.startswith(layout.LOCK):
                locks += 1
                continue
            count += 1
            size += len(physical) + len(stored)
            escaped = physical[1:-8]
            kind = stored[0] & KIND_MASK
            if kind == OUTCOME or escaped == self._decided:
                continue
            self._decided = escaped
            if kind == VALUE:
                key, timestamp = layout.split_version_key(physical)
                live_keys += 1
                live_bytes += len(key) + len(versions.decode(timestamp, stored).value)
        self._stats = self._stats.plus(RangeStats(live_keys, live_bytes, count, size, locks))
        return count + locks < keys_max


def count(reader: Reader, start: bytes, end: bytes) -> RangeStats:
    """Return what the span `[start, end)` holds, counted in one go."""
    recount = StatsScan(reader, start, end)
    while not recount.advance(1 << 20):
        pass
    return recount.stats
