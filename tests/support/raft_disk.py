"""A disk for one replica in tests: batches become durable in order, a crash loses a suffix.

It also is the host's side of the contract with a core: it takes a Ready's writes as one batch, and
shows them to the core at once.
"""

import zlib
from collections.abc import Sequence

import msgspec

from multiraft.ids import Epoch, Index, ReplicaId, Term
from multiraft.raft.messages import Configuration, Entry, EntryKind
from multiraft.raft.ready import HardState, Ready
from multiraft.raft.storage import InitialState

NO_CONFIGURATION = Configuration(voters=())

pack_configuration = msgspec.msgpack.Encoder().encode
unpack_configuration = msgspec.msgpack.Decoder(Configuration).decode


class Machine(msgspec.Struct, frozen=True):
    """What applying has led to: a checksum of all that was applied, in order."""

    index: Index
    checksum: int
    configuration: Configuration

    def apply(self, entry: Entry) -> "Machine":
        assert entry.index == self.index + 1, "entries apply in order, each once"
        checksum = zlib.crc32(entry.payload, self.checksum ^ entry.term)
        configuration = self.configuration
        if entry.kind is EntryKind.CONFIGURATION:
            configuration = unpack_configuration(entry.payload)
        return Machine(entry.index, checksum, configuration)


class Batch(msgspec.Struct):
    """One write: all of it or nothing."""

    restored: Machine | None = None
    restored_term: Term = Term(0)
    entries: tuple[Entry, ...] = ()
    hard_state: HardState | None = None
    machine: Machine | None = None
    truncated: Index | None = None


class State:
    """What a disk holds after some batches."""

    def __init__(self, hard_state: HardState, machine: Machine, truncated_term: int = 0) -> None:
        self.hard_state = hard_state
        self.machine = machine
        self.truncated_index = machine.index
        self.truncated_term = Term(truncated_term)
        self.entries: list[Entry] = []

    def copy(self) -> "State":
        copy = State(self.hard_state, self.machine, self.truncated_term)
        copy.truncated_index = self.truncated_index
        copy.entries = list(self.entries)
        return copy

    def write(self, batch: Batch) -> None:
        if batch.restored is not None:
            self.machine = batch.restored
            self.truncated_index = batch.restored.index
            self.truncated_term = batch.restored_term
            self.entries.clear()
        if batch.entries:
            position = batch.entries[0].index - self.truncated_index - 1
            assert 0 <= position <= len(self.entries), "the log has no gap"
            self.entries[position:] = batch.entries
        if batch.hard_state is not None:
            self.hard_state = batch.hard_state
        if batch.machine is not None:
            self.machine = batch.machine
        if batch.truncated is not None and batch.truncated > self.truncated_index:
            count = batch.truncated - self.truncated_index
            self.truncated_term = self.entries[count - 1].term
            self.truncated_index = batch.truncated
            del self.entries[:count]


class Disk:
    """The LogStorage of one replica."""

    def __init__(self, state: State) -> None:
        self.written = state
        self._durable = state.copy()
        self._unsynced: list[Batch] = []

    # What the core reads.

    def initial_state(self) -> InitialState:
        machine = self.written.machine
        return InitialState(self.written.hard_state, machine.configuration, machine.index)

    def first_index(self) -> Index:
        return Index(self.written.truncated_index + 1)

    def last_index(self) -> Index:
        return Index(self.written.truncated_index + len(self.written.entries))

    def term(self, index: Index) -> Term | None:
        position = index - self.written.truncated_index - 1
        if position == -1:
            return self.written.truncated_term
        if 0 <= position < len(self.written.entries):
            return self.written.entries[position].term
        return None

    def entries(self, low: Index, high: Index, bytes_max: int) -> tuple[Entry, ...]:
        base = self.written.truncated_index + 1
        assert base <= low < high <= self.last_index() + 1, "only what the log holds is asked for"
        found: list[Entry] = []
        size = 0
        for entry in self.written.entries[low - base : high - base]:
            size += len(entry.payload)
            if found and size > bytes_max:
                break
            found.append(entry)
        return tuple(found)

    # What the host does.

    def write(self, batch: Batch) -> None:
        self.written.write(batch)
        self._unsynced.append(batch)

    def write_ready(self, ready: Ready, restored: Machine | None = None) -> list[Machine]:
        """Write all of a Ready as one batch; return the machine after each applied entry."""
        machine = self.written.machine
        restored_term = Term(0)
        if ready.snapshot is not None:
            machine = restored or Machine(ready.snapshot.index, 0, ready.snapshot.configuration)
            restored = machine
            restored_term = ready.snapshot.term
        else:
            restored = None
        machines: list[Machine] = []
        for entry in ready.committed:
            machine = machine.apply(entry)
            machines.append(machine)
        self.write(
            Batch(
                restored=restored,
                restored_term=restored_term,
                entries=ready.entries,
                hard_state=ready.hard_state,
                machine=machine,
            )
        )
        return machines

    def truncate(self, index: Index) -> None:
        """Drop the log up to `index`, which is applied."""
        assert index <= self.written.machine.index, "only what is applied is truncated"
        self.write(Batch(truncated=index))

    @property
    def unsynced(self) -> int:
        """Batches that a crash may lose."""
        return len(self._unsynced)

    def sync(self, count: int | None = None) -> None:
        """Make the oldest `count` unsynced batches durable; all of them by default."""
        count = len(self._unsynced) if count is None else count
        for batch in self._unsynced[:count]:
            self._durable.write(batch)
        del self._unsynced[:count]

    def crash(self, survive: int = 0) -> None:
        """Lose all unsynced batches but the oldest `survive`."""
        self.sync(survive)
        self._unsynced.clear()
        self.written = self._durable.copy()


def empty_disk() -> Disk:
    """Return the disk of a replica that was just created to receive a snapshot."""
    return Disk(State(HardState(), Machine(Index(0), 0, NO_CONFIGURATION)))


def disk_with(
    configuration: Configuration,
    terms: Sequence[int] = (),
    *,
    term: int | None = None,
    vote: int = 0,
    truncated: tuple[int, int] = (0, 0),
    commit_index: int | None = None,
    applied_index: int | None = None,
    fortified: tuple[int, int, int] = (0, 0, 0),
) -> Disk:
    """Return a disk whose log behind `truncated` (index, term) has entries of `terms`, synced."""
    truncated_index, truncated_term = truncated
    committed = truncated_index if commit_index is None else commit_index
    applied = truncated_index if applied_index is None else applied_index
    leader, fortified_term, epoch = fortified
    hard_state = HardState(
        term=Term(max((*terms, truncated_term)) if term is None else term),
        vote=ReplicaId(vote),
        commit_index=Index(committed),
        fortified_leader=ReplicaId(leader),
        fortified_term=Term(fortified_term),
        fortified_epoch=Epoch(epoch),
    )
    state = State(
        hard_state, Machine(Index(truncated_index), 0, configuration), Term(truncated_term)
    )
    state.entries = [
        entry(number, truncated_index + position) for position, number in enumerate(terms, 1)
    ]
    state.machine = Machine(Index(applied), 0, configuration)
    return Disk(state)


def entry(term: int, index: int, payload: bytes | None = None) -> Entry:
    """Return a command whose payload tells where it was made."""
    content = f"{term}.{index}".encode() if payload is None else payload
    return Entry(Term(term), Index(index), EntryKind.COMMAND, content)


def noop(term: int, index: int) -> Entry:
    """Return the entry that begins a term."""
    return Entry(Term(term), Index(index), EntryKind.NOOP, b"")
