"""A checksum over everything that replicas of a range must have in common.

Purpose
    All replicas compute it on a view at the same applied index; one that differs is damaged or has
    diverged.
Format
    xxh3_64 over the records, then the locks, then the versions of the span, in physical order; each
    as length(4) of the key, length(4) of the value, key, value.
Invariants
    - Spans have the same input only if they hold the same keys and values: lengths come first, so
      bytes cannot move between neighbours unnoticed.
    - The sum does not depend on how it is sliced.
"""

from itertools import chain, islice
from struct import Struct

import xxhash

from multiraft.mvcc.reader import Reader
from multiraft.storage import layout

_pack_lengths = Struct(">II").pack


class SpanChecksum:
    """Hashes the span `[start, end)` of a view in slices, so that the host can do other work.

    The reader must be of a view, and not be used otherwise until all is hashed or dropped.
    """

    __slots__ = ("_hash", "_pairs")

    def __init__(self, reader: Reader, start: bytes, end: bytes) -> None:
        # Lazy, since a view can have only one scan in progress.
        self._pairs = chain.from_iterable(
            reader.scan(*layout.span(prefix, start, end)) for prefix in layout.BY_KEY
        )
        self._hash = xxhash.xxh3_64()

    def advance(self, keys_max: int) -> bool:
        """Hash up to `keys_max` more physical keys; return whether the whole span is hashed."""
        count = 0
        pieces: list[bytes] = []
        for key, value in islice(self._pairs, keys_max):
            count += 1
            pieces += (_pack_lengths(len(key), len(value)), key, value)
        self._hash.update(b"".join(pieces))
        return count < keys_max

    def digest(self) -> bytes:
        """Return the eight bytes of the checksum of what was hashed so far."""
        return self._hash.digest()
