"""What a transaction has written, kept by its client until the commit.

Purpose
    Reads of the transaction see its own writes: what the servers answer is overlaid with them. Each
    write is sent once, at the commit, or earlier when the buffer is full; then its place is known
    by a sequence number, and its value is kept all the same, since servers read through intents.
Invariants
    - A key is in `values` from its first write to the end, with the newest value (None: removed).
    - A key is unsent, or was sent in its newest form under the sequence that `sent` tells.
    - Keys and bytes are within the limits: a write beyond them changes nothing.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from multiraft import config, errors
from multiraft.model.requests import Delete, Put
from multiraft.model.transaction import IntentRef


class WriteBuffer:
    """See the module. Keys are logical."""

    __slots__ = (
        "_bytes_max",
        "_key_bytes",
        "_key_bytes_max",
        "_keys_max",
        "_sorted",
        "_unsent",
        "sent",
        "size_bytes",
        "unsent_bytes",
        "values",
    )

    def __init__(self, limits: config.LimitsConfig) -> None:
        self._keys_max = limits.transaction_keys_max
        self._bytes_max = limits.transaction_bytes_max
        self._key_bytes = 0
        self._key_bytes_max = limits.batch_bytes_max // 2
        """The part that ends the transaction names all keys, and may hold writes besides."""
        self.values: dict[bytes, bytes | None] = {}
        self.sent: dict[bytes, int] = {}
        """Under which sequence a key was sent last: what a record names."""
        self.size_bytes = 0
        self.unsent_bytes = 0
        self._unsent: dict[bytes, None] = {}
        self._sorted: list[bytes] | None = None
        """All keys in order, once a scan has asked for them."""

    def set(self, key: bytes, value: bytes | None) -> None:
        """Write `value`, or remove the key. Raises TransactionTooLargeError."""
        values = self.values
        length = 0 if value is None else len(value)
        if key in values:
            before = values[key]
            growth = length - (0 if before is None else len(before))
        elif len(values) < self._keys_max:
            growth = len(key) + length
        else:
            raise errors.TransactionTooLargeError(
                what="keys", size=len(values) + 1, limit=self._keys_max
            )
        key_bytes = self._key_bytes + (0 if key in values else len(key))
        if key_bytes > self._key_bytes_max:
            raise errors.TransactionTooLargeError(
                what="bytes of keys", size=key_bytes, limit=self._key_bytes_max
            )
        size_bytes = self.size_bytes + growth
        if size_bytes > self._bytes_max:
            raise errors.TransactionTooLargeError(
                what="bytes", size=size_bytes, limit=self._bytes_max
            )
        if self._sorted is not None and key not in values:
            insort(self._sorted, key)
        self.size_bytes = size_bytes
        self._key_bytes = key_bytes
        values[key] = value
        if key in self._unsent:
            self.unsent_bytes += growth
        else:
            self._unsent[key] = None
            self.unsent_bytes += len(key) + length

    @property
    def unsent_count(self) -> int:
        """How many keys have to be sent."""
        return len(self._unsent)

    def operations(self) -> list[Put | Delete]:
        """Return what has to be sent."""
        values = self.values
        return [
            Delete(key) if (value := values[key]) is None else Put(key, value)
            for key in self._unsent
        ]

    def mark_sent(self, sequence: int) -> tuple[bytes, ...]:
        """Everything has been sent, under `sequence`. Return the keys that were."""
        sent = tuple(self._unsent)
        for key in sent:
            self.sent[key] = sequence
        self._unsent.clear()
        self.unsent_bytes = 0
        return sent

    def forget_sent(self) -> None:
        """Everything has to be sent anew, as if nothing had been."""
        self.sent.clear()
        self._unsent = dict.fromkeys(self.values)
        self.unsent_bytes = self.size_bytes

    def take_back(self, keys: Iterable[bytes], sequence: int) -> None:
        """What was sent under `sequence` for these keys has to be sent again, under a new one."""
        for key in keys:
            if self.sent[key] == sequence and key not in self._unsent:
                self._unsent[key] = None
                self.unsent_bytes += len(key) + len(self.values[key] or b"")

    def references(self) -> tuple[IntentRef, ...]:
        """Return what was sent, as a record names it."""
        return tuple(IntentRef(key, sequence) for key, sequence in self.sent.items())

    # -- for scans ---------------------------------------------------------------------------------

    def removals(self, start: bytes, end: bytes) -> int:
        """Return how many keys of `[start, end)` were removed: a scan may find as many in vain."""
        values = self.values
        return sum(values[key] is None for key in self._within(start, end))

    def over(
        self, rows: Sequence[bytes], start: bytes, end: bytes, *, reverse: bool
    ) -> list[tuple[bytes, bytes]]:
        """Return what the transaction sees in `[start, end)`, where the servers have `rows`.

        `rows` alternates keys and values, as in ScanResult.
        """
        own = self._within(start, end)
        found = zip(rows[0::2], rows[1::2], strict=True)
        if not own:
            return list(found)
        merged = dict(found)
        for key in own:
            value = self.values[key]
            if value is None:
                merged.pop(key, None)
            else:
                merged[key] = value
        return sorted(merged.items(), reverse=reverse)

    def _within(self, start: bytes, end: bytes) -> list[bytes]:
        if not self.values:
            return []
        if self._sorted is None:
            self._sorted = sorted(self.values)
        return self._sorted[bisect_left(self._sorted, start) : bisect_left(self._sorted, end)]
