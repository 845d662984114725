"""The log of one range's Raft group on the store's engine; all of them share one column family.

Format
    Keys in `raft`, integers big-endian:

        range-id(8) 0x01            hard state: term vote commit-index
                                    fortified-leader fortified-term fortified-epoch, 8 bytes each
        range-id(8) 0x02            truncation point: index(8) term(8); absent means (0, 0)
        range-id(8) 0x03 index(8)   entry: term(8) kind(1) payload

    There is no checksum of our own: RocksDB has one on each log record and each block, verifies
    them whenever it reads, and test_rocks_damage.py flips bits to prove it.
Invariants
    - The log holds exactly the indexes first_index() .. last_index(), without a gap; and the
      truncation point, first_index() - 1, keeps its term.
    - What a method puts into a batch is visible through this object at once. The host writes the
      batch before it calls the core again, or stops.
    - Hard state is one record, written whole (rules S5, S16): nothing here lowers or drops it but
      `destroy`.
    - The log is never searched from its start, where RocksDB would wade through what truncation
      left: reads begin at an index that is known to be there.
Source
    Raft thesis 5.1 for truncation. Terms are kept as runs and sizes as four bytes an entry, so that
    an idle range costs about a kilobyte.
"""

import struct
from array import array
from bisect import bisect_right
from collections.abc import Sequence

from multiraft import errors
from multiraft.ids import Epoch, Index, RangeId, ReplicaId, Term
from multiraft.raft.messages import Configuration, Entry, EntryKind
from multiraft.raft.ready import HardState
from multiraft.raft.storage import InitialState
from multiraft.storage.engine import Batch, Engine

HARD_STATE = b"\x01"
TRUNCATION = b"\x02"
ENTRY = b"\x03"

_HARD_STATE_FORMAT = struct.Struct(">QQQQQQ")
_TRUNCATION_FORMAT = struct.Struct(">QQ")
_ENTRY_HEAD = struct.Struct(">QB")
ENTRY_OVERHEAD_BYTES = 8 + 1 + 8 + _ENTRY_HEAD.size
"""What an entry takes beside its payload: the key, term and kind."""
_KINDS = {kind.value: kind for kind in EntryKind}
_RANGE_ID_MAX = (1 << 64) - 1

NO_CONFIGURATION = Configuration(voters=())
NO_INDEX = Index(0)


class RangeLog:
    """The log of one range: a LogStorage (raft/storage.py), and what the host writes to it."""

    __slots__ = (
        "_applied_index",
        "_configuration",
        "_engine",
        "_entry_prefix",
        "_hard_state_key",
        "_last_index",
        "_payload_sizes",
        "_run_starts",
        "_run_terms",
        "_truncated_index",
        "hard_state",
        "range_id",
        "size_bytes",
    )

    def __init__(self, engine: Engine, range_id: RangeId) -> None:
        """Make the log of a range that has none: empty, truncated at (0, 0)."""
        self.range_id = range_id
        self.hard_state = HardState()
        """As last given to `set_hard_state`, or found at start."""
        self.size_bytes = 0
        """Of all entries, with their keys: what truncation would win."""
        self._engine = engine
        self._entry_prefix = _prefix(range_id) + ENTRY
        self._hard_state_key = _prefix(range_id) + HARD_STATE
        self._configuration = NO_CONFIGURATION
        self._applied_index = Index(0)
        self._start_at(Index(0), Term(0))

    def _start_at(self, index: Index, term: Term) -> None:
        """Be empty, with the truncation point there."""
        self._truncated_index = index
        self._last_index = index
        # Run i has term _run_terms[i] from index _run_starts[i] to the next run; the first one
        # starts at the truncation point.
        self._run_starts = [index]
        self._run_terms = [term]
        self._payload_sizes = array("I")
        self.size_bytes = 0

    # What the core reads

    def initial_state(self) -> InitialState:
        """As LogStorage.initial_state."""
        return InitialState(self.hard_state, self._configuration, self._applied_index)

    def first_index(self) -> Index:
        """As LogStorage.first_index."""
        return Index(self._truncated_index + 1)

    def last_index(self) -> Index:
        """As LogStorage.last_index."""
        return self._last_index

    def term(self, index: Index) -> Term | None:
        """As LogStorage.term. From memory."""
        if not self._truncated_index <= index <= self._last_index:
            return None
        return self._run_terms[bisect_right(self._run_starts, index) - 1]

    def entries(self, low: Index, high: Index, bytes_max: int) -> tuple[Entry, ...]:
        """As LogStorage.entries. Raises CorruptionError if one of them is not there."""
        assert self._truncated_index < low < high <= self._last_index + 1, "entries outside the log"
        stop = self._bounded(low, high, bytes_max)
        engine = self._engine
        if stop == low + 1:
            value = engine.get(self._key(low), engine.raft)
            found = [] if value is None else [_decode(low, value)]
        else:
            rows = engine.scan(self._key(low), self._key(stop), engine.raft)
            found = [_decode(low + i, value) for i, (_, value) in enumerate(rows)]
        if len(found) != stop - low:
            raise _hole(self.range_id, low, f"{len(found)} of {stop - low} entries are there")
        return tuple(found)

    def _bounded(self, low: Index, high: Index, bytes_max: int) -> Index:
        """Return where to stop before `high` so as to stay within `bytes_max`."""
        sizes = self._payload_sizes
        offset = self._truncated_index + 1
        left = bytes_max - sizes[low - offset]
        for index in range(low + 1, high):
            left -= sizes[index - offset]
            if left < 0:
                return Index(index)
        return high

    # What the host writes

    def append(self, batch: Batch, entries: Sequence[Entry]) -> None:
        """Put `entries` into the log, in place of whatever it holds from the first one on."""
        first = entries[0].index
        assert self._truncated_index < first <= self._last_index + 1, "an append leaves no gap"
        if first <= self._last_index:
            self._overwrite(batch, first, entries[-1].index)
        put, family = batch.put, self._engine.raft
        prefix = self._entry_prefix
        last, term = first - 1, self._run_terms[-1]
        for entry in entries:
            index, payload = entry.index, entry.payload
            assert index == last + 1, "entries follow each other"
            last = index
            if entry.term != term:
                assert entry.term > term, "terms never fall along the log"
                term = entry.term
                self._run_starts.append(index)
                self._run_terms.append(term)
            head = _ENTRY_HEAD.pack(term, entry.kind)
            put(prefix + index.to_bytes(8, "big"), head + payload, family)
            size_bytes = len(payload)
            self._payload_sizes.append(size_bytes)
            self.size_bytes += size_bytes + ENTRY_OVERHEAD_BYTES
        self._last_index = index

    def _overwrite(self, batch: Batch, first: Index, last: Index) -> None:
        """Forget the entries from `first` on, and remove those that no new one replaces."""
        if self._last_index > last:
            batch.delete_range(
                self._key(last + 1), self._key(self._last_index + 1), self._engine.raft
            )
        kept = first - self._truncated_index - 1
        self.size_bytes -= _stored_bytes(self._payload_sizes[kept:])
        del self._payload_sizes[kept:]
        while self._run_starts[-1] >= first:
            self._run_starts.pop()
            self._run_terms.pop()
        self._last_index = Index(first - 1)

    def set_hard_state(self, batch: Batch, hard_state: HardState) -> None:
        """Record what the replica must not forget."""
        assert hard_state.term >= self.hard_state.term, "a term never falls"
        batch.put(
            self._hard_state_key,
            _HARD_STATE_FORMAT.pack(
                hard_state.term,
                hard_state.vote,
                hard_state.commit_index,
                hard_state.fortified_leader,
                hard_state.fortified_term,
                hard_state.fortified_epoch,
            ),
            self._engine.raft,
        )
        self.hard_state = hard_state

    def truncate(self, batch: Batch, index: Index) -> None:
        """Remove every entry up to and with `index`; no-op if they have gone."""
        if index <= self._truncated_index:
            return
        term = self.term(index)
        assert term is not None, "only what is in the log can be truncated"
        batch.delete_range(
            self._key(self._truncated_index + 1), self._key(index + 1), self._engine.raft
        )
        self._put_truncation(batch, index, term)
        removed = index - self._truncated_index
        self.size_bytes -= _stored_bytes(self._payload_sizes[:removed])
        del self._payload_sizes[:removed]
        run = bisect_right(self._run_starts, index) - 1
        del self._run_starts[:run]
        del self._run_terms[:run]
        self._run_starts[0] = index
        self._truncated_index = index

    def reset(self, batch: Batch, index: Index, term: Term) -> None:
        """Remove all entries and begin after (index, term): a snapshot, a split, a new range."""
        if self._last_index > self._truncated_index:
            batch.delete_range(
                self._key(self._truncated_index + 1),
                self._key(self._last_index + 1),
                self._engine.raft,
            )
        self._put_truncation(batch, index, term)
        self._start_at(index, term)

    def destroy(self, batch: Batch) -> None:
        """Remove everything of the range, hard state included. The object is of no use after."""
        start, end = _bounds(self.range_id)
        batch.delete_range(start, end, self._engine.raft)

    def set_applied(self, configuration: Configuration, applied_index: Index) -> None:
        """Say what `initial_state` is to return to a core made from now on. Writes nothing."""
        self._configuration = configuration
        self._applied_index = applied_index

    def _put_truncation(self, batch: Batch, index: Index, term: Term) -> None:
        batch.put(
            _prefix(self.range_id) + TRUNCATION,
            _TRUNCATION_FORMAT.pack(index, term),
            self._engine.raft,
        )

    def _key(self, index: int) -> bytes:
        return self._entry_prefix + index.to_bytes(8, "big")

    # Start

    def _load(self) -> None:
        engine, family = self._engine, self._engine.raft
        prefix = _prefix(self.range_id)
        packed = engine.get(prefix + HARD_STATE, family)
        if packed is not None:
            self.hard_state = unpack_hard_state(packed)
        packed = engine.get(prefix + TRUNCATION, family)
        if packed is not None:
            index, term = _TRUNCATION_FORMAT.unpack(packed)
            self._start_at(Index(index), Term(term))
        self._load_entries()

    def _load_entries(self) -> None:
        """Learn terms and sizes, and that each entry follows the one before."""
        head_bytes = _ENTRY_HEAD.size
        sizes = self._payload_sizes
        index: int = self._truncated_index
        term_bytes = self._run_terms[-1].to_bytes(8, "big")
        _, end = _bounds(self.range_id)
        for key, value in self._engine.scan(self._key(index + 1), end, self._engine.raft):
            index += 1
            if key[9:] != index.to_bytes(8, "big"):
                raise _hole(self.range_id, index, "the entry is missing")
            if value[:8] != term_bytes:
                term_bytes = value[:8]
                self._run_starts.append(Index(index))
                self._run_terms.append(Term(int.from_bytes(term_bytes, "big")))
            sizes.append(len(value) - head_bytes)
        self._last_index = Index(index)
        self.size_bytes = _stored_bytes(sizes)

    def _check(self) -> None:
        """Raise CorruptionError unless log, hard state and applied state fit each other."""
        applied, commit = self._applied_index, self.hard_state.commit_index
        if applied < self._truncated_index:
            raise _hole(
                self.range_id,
                applied + 1,
                f"the log begins after {self._truncated_index}, but only {applied} is applied",
            )
        if max(applied, commit) > self._last_index:
            raise _hole(
                self.range_id,
                self._last_index + 1,
                f"the log ends there, but {commit} is committed and {applied} applied",
            )


def load(
    engine: Engine,
    range_id: RangeId,
    *,
    configuration: Configuration = NO_CONFIGURATION,
    applied_index: Index = NO_INDEX,
) -> RangeLog:
    """Return the log found on `engine`; an empty one for a range that has none.

    Configuration and applied index are what the host found in `data`. Raises CorruptionError,
    naming range and index, if the log has a gap or does not fit the applied state: damage to the
    engine's files that leaves a hole shows here and nowhere else.
    """
    log = RangeLog(engine, range_id)
    log._load()
    log.set_applied(configuration, applied_index)
    log._check()
    return log


def range_ids(engine: Engine) -> list[RangeId]:
    """Return the ranges that have anything here, ascending: also those that only ever voted."""
    found: list[RangeId] = []
    start, end = b"", _prefix(RangeId(_RANGE_ID_MAX)) + b"\xff"
    while (row := engine.first(start, end, engine.raft)) is not None:
        range_id = RangeId(int.from_bytes(row[0][:8], "big"))
        found.append(range_id)
        _, start = _bounds(range_id)
    return found


def _stored_bytes(payload_sizes: "array[int]") -> int:
    return sum(payload_sizes) + len(payload_sizes) * ENTRY_OVERHEAD_BYTES


def _prefix(range_id: RangeId) -> bytes:
    return range_id.to_bytes(8, "big")


def _bounds(range_id: RangeId) -> tuple[bytes, bytes]:
    """Return the span of all keys of a range."""
    prefix = _prefix(range_id)
    return prefix, prefix + b"\xff"


def _decode(index: int, value: bytes) -> Entry:
    return Entry(Term(int.from_bytes(value[:8], "big")), Index(index), _KINDS[value[8]], value[9:])


def unpack_hard_state(packed: bytes) -> HardState:
    """Return a hard state from its record."""
    term, vote, commit_index, leader, leader_term, epoch = _HARD_STATE_FORMAT.unpack(packed)
    return HardState(
        Term(term),
        ReplicaId(vote),
        Index(commit_index),
        ReplicaId(leader),
        Term(leader_term),
        Epoch(epoch),
    )


def _hole(range_id: RangeId, index: int, what: str) -> errors.CorruptionError:
    return errors.CorruptionError(reason=f"r{range_id}: hole in the log at index {index}: {what}")
