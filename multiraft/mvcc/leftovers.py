"""What transactions have left in a span and is older than a threshold: records, and intents.

Purpose
    Name them, for whoever brings them to their end (ranges/leftovers.py), and say when there will
    be more.
"""

from itertools import chain, islice

from multiraft.ids import Timestamp
from multiraft.model import transaction
from multiraft.model.transaction import Intent, TransactionRecord
from multiraft.mvcc.reader import Reader
from multiraft.storage import layout

OldRecord = tuple[bytes, TransactionRecord]
"""The physical key of the record of a transaction that was issued at or below the threshold."""
OldIntent = tuple[bytes, Intent]
"""The key of an intent that was laid at or below the threshold."""


class LeftoverScan:
    """Looks through `[start, end)` of a view in slices, so that the host can do other work.

    The reader must be of a view, and not be used otherwise until the scan is done or dropped.
    """

    __slots__ = ("_intents", "_next_at", "_pairs", "_records", "_threshold")

    def __init__(self, reader: Reader, start: bytes, end: bytes, threshold: Timestamp) -> None:
        # Lazy, since a view can have only one scan in progress.
        self._pairs = chain.from_iterable(
            reader.scan(*layout.span(prefix, start, end)) for prefix in (layout.RECORD, layout.LOCK)
        )
        self._threshold = threshold
        self._next_at: Timestamp | None = None
        self._records: list[OldRecord] = []
        self._intents: list[OldIntent] = []

    def advance(self, keys_max: int) -> bool:
        """Look at up to so many more; return whether the whole span was looked at."""
        looked_at = 0
        for physical, stored in islice(self._pairs, keys_max):
            looked_at += 1
            if physical.startswith(layout.RECORD):
                record = transaction.unpack_record(stored)
                if self._is_old(record.issued_at):
                    self._records.append((physical, record))
            else:
                intent = transaction.unpack_intent(stored)
                if self._is_old(intent.laid_at):
                    self._intents.append((layout.unescape(physical[1:]), intent))
        return looked_at < keys_max

    def take(self) -> tuple[list[OldRecord], list[OldIntent]]:
        """Return what was found since the last call."""
        found = self._records, self._intents
        self._records, self._intents = [], []
        return found

    def next_at(self) -> Timestamp | None:
        """Return the least threshold at which something more is old; None: no threshold is."""
        return self._next_at

    def _is_old(self, time: Timestamp) -> bool:
        if time <= self._threshold:
            return True
        if self._next_at is None or time < self._next_at:
            self._next_at = time
        return False
