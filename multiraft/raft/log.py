"""The log of one replica: the newest entries in memory, the rest in the host's storage.

Purpose
    One view of the log for all of Raft, so that replicating and applying what was just appended
    reads no storage.
Invariants
    - `written_index`: everything up to it was handed to the host to write. Above it entries are in
      memory only.
    - `durable_index` <= `written_index`: everything up to it is synced, as known by `synced`.
    - Entries in memory are the log's tail without a gap; those not written never leave memory.
    - Truncation of a suffix always comes with the entries that replace it.
Source
    Raft paper 5.3; safety rule A1 (a sync vouches for the (term, index) written before it).
"""

from collections.abc import Sequence

from multiraft.config import MIB
from multiraft.ids import Index, Term
from multiraft.raft.messages import Entry
from multiraft.raft.ready import SnapshotMark
from multiraft.raft.storage import LogStorage

RECENT_BYTES_MAX = 2 * MIB
"""Applied entries are kept for slow followers up to this many payload bytes."""


class RaftLog:
    """See the module. Owned by one RaftCore."""

    __slots__ = (
        "_before_recent_term",
        "_mark",
        "_recent",
        "_recent_bytes",
        "_recent_first",
        "_storage",
        "durable_index",
        "last_index",
        "last_term",
        "written_index",
    )

    def __init__(self, storage: LogStorage) -> None:
        self._storage = storage
        self.last_index = storage.last_index()
        last_term = storage.term(self.last_index)
        assert last_term is not None, "the storage must know the term of its last index"
        self.last_term = last_term
        self.written_index = self.last_index
        self.durable_index = self.last_index
        self._recent: list[Entry] = []
        self._recent_first = Index(self.last_index + 1)
        self._before_recent_term = last_term
        self._recent_bytes = 0
        self._mark: SnapshotMark | None = None

    @property
    def first_index(self) -> Index:
        """The first entry that can still be read; its predecessor's term is known."""
        if self._mark is not None:
            return Index(self._mark.index + 1)
        return self._storage.first_index()

    def term(self, index: Index) -> Term | None:
        """Return the term at `index`, or None if the log does not reach it any more or yet."""
        if index == self.last_index:
            return self.last_term
        if index > self.last_index:
            return None
        if index >= self._recent_first:
            return self._recent[index - self._recent_first].term
        if index == self._recent_first - 1:
            return self._before_recent_term
        if self._mark is not None:
            return None
        return self._storage.term(index)

    def matches(self, index: Index, term: Term) -> bool:
        """Return whether the entry at `index` is the one of `term`."""
        return self.term(index) == term

    def is_up_to_date(self, last_index: Index, last_term: Term) -> bool:
        """Return whether a log ending so is at least as good as this one (paper 5.4.1)."""
        if last_term != self.last_term:
            return last_term > self.last_term
        return last_index >= self.last_index

    def append(self, entry: Entry) -> None:
        """Add one entry at the end; the leader's way."""
        assert entry.index == self.last_index + 1, "a leader appends without a gap"
        self._recent.append(entry)
        self._recent_bytes += len(entry.payload)
        self.last_index = entry.index
        self.last_term = entry.term

    def accept(self, entries: Sequence[Entry], committed: Index) -> None:
        """Take a leader's entries that follow an entry known to match; the follower's way.

        Those already here stay; from the first that differs on the log is replaced. What is behind
        the last of `entries` and agrees is never removed: the message may be an old one (T6).
        """
        for position, entry in enumerate(entries):
            if entry.index > self.last_index:
                self.extend(entries[position:] if position else entries)
                return
            if self.term(entry.index) != entry.term:
                assert entry.index > committed, "a committed entry is never overwritten"
                self._truncate_from(entry.index)
                self.extend(entries[position:])
                return

    def extend(self, entries: Sequence[Entry]) -> None:
        """Take a leader's entries that follow the last one here."""
        assert entries[0].index == self.last_index + 1, "a follower appends without a gap"
        self._recent.extend(entries)
        for entry in entries:
            self._recent_bytes += len(entry.payload)
        last = entries[-1]
        self.last_index = last.index
        self.last_term = last.term

    def extend_written(self, entries: Sequence[Entry]) -> None:
        """As `extend`, for entries that the host is told to write at once."""
        is_written = self.written_index == self.last_index and self._mark is None
        assert is_written, "what is before them was taken to be written"
        self.extend(entries)
        self.written_index = self.last_index

    def _truncate_from(self, index: Index) -> None:
        kept = Index(index - 1)
        kept_term = self.term(kept)
        assert kept_term is not None, "only a suffix that follows a known entry is replaced"
        if index <= self._recent_first:
            self._recent.clear()
            self._recent_bytes = 0
            self._recent_first = index
            self._before_recent_term = kept_term
        else:
            position = index - self._recent_first
            self._recent_bytes -= sum([len(entry.payload) for entry in self._recent[position:]])
            del self._recent[position:]
        self.last_index = kept
        self.last_term = kept_term
        self.written_index = min(self.written_index, kept)
        self.durable_index = min(self.durable_index, kept)

    def slice(self, low: Index, high: Index, bytes_max: int) -> tuple[tuple[Entry, ...], int]:
        """Return entries from `low` below `high` and their bytes, within `bytes_max`.

        At least one entry, and perhaps fewer than fit when they lie half in storage.
        """
        assert low < high <= self.last_index + 1, "the slice is in the log"
        if low < self._recent_first:
            assert low >= self.first_index, "the slice is not truncated"
            high = min(high, self._recent_first)
            found = self._storage.entries(low, high, bytes_max)
            assert found, "storage returns at least one entry of its log"
            return found, sum([len(entry.payload) for entry in found])
        position = low - self._recent_first
        end = high - self._recent_first
        first = self._recent[position]
        size = len(first.payload)
        if end == position + 1:
            return (first,), size
        for count in range(position + 1, end):
            larger = size + len(self._recent[count].payload)
            if larger > bytes_max:
                return tuple(self._recent[position:count]), size
            size = larger
        return tuple(self._recent[position:end]), size

    def take_unwritten(self) -> tuple[SnapshotMark | None, tuple[Entry, ...]]:
        """Return what the host must write now: a snapshot to install first, and entries, once.

        From here on storage shows them.
        """
        mark, self._mark = self._mark, None
        if self.written_index == self.last_index:
            return mark, ()
        entries = tuple(self._recent[self.written_index + 1 - self._recent_first :])
        self.written_index = self.last_index
        return mark, entries

    def synced(self, term: Term, index: Index) -> None:
        """Note that the log up to (term, index), as written then, is durable (rule A1).

        Says nothing when that entry has been replaced since.
        """
        if self.durable_index < index <= self.written_index and self.term(index) == term:
            self.durable_index = index

    def restore(self, mark: SnapshotMark) -> None:
        """Start over behind a snapshot."""
        self._recent.clear()
        self._recent_bytes = 0
        self._recent_first = Index(mark.index + 1)
        self._before_recent_term = mark.term
        self._mark = mark
        self.last_index = mark.index
        self.last_term = mark.term
        self.written_index = mark.index
        self.durable_index = Index(0)

    def trim(self, needed_after: Index, applied: Index) -> None:
        """Drop written and applied entries up to `needed_after` from memory.

        When more than RECENT_BYTES_MAX are held all applied entries go: followers that still need
        them are served from storage.
        """
        end = applied
        if needed_after < applied and self._recent_bytes <= RECENT_BYTES_MAX:
            end = needed_after
        if end > self.written_index:  # noqa: PLR1730 - min() takes three times as long
            end = self.written_index
        count = end - self._recent_first + 1
        if count <= 0:
            return
        dropped = self._recent[:count]
        del self._recent[:count]
        for entry in dropped:
            self._recent_bytes -= len(entry.payload)
        self._before_recent_term = dropped[-1].term
        self._recent_first = Index(end + 1)

    def last_with_term_at_most(self, index: Index, term: Term) -> tuple[Index, Term]:
        """Return the last entry at or before `index` whose term is at most `term`.

        (0, 0) when the log was truncated above it. This is how whole conflicting terms are skipped
        at once (paper 5.3, at the end).
        """
        index = min(index, self.last_index)
        while index > 0:
            found = self.term(index)
            if found is None:
                break
            if found <= term:
                return index, found
            index = Index(index - 1)
        return Index(0), Term(0)
