"""What every replica writes, and what it finds after a crash, seen at the engine.

Purpose
    Read each batch that a simulated disk takes, and what is on it when a node starts, and compare
    with the facts of the groups and with what the replica told others before.
Invariants, of each replica
    - In one life the applied index never falls, nor do term and commit index; a vote is not changed
      within its term. Over a restart the same holds of what had been synced.
    - No leader commits by counting what is older than its term (Figure 8 of the paper).
    - Nothing is applied but what is committed, and all replicas have the same applied state,
      statistics included, at an index.
    - It asks, grants and acknowledges only in terms that are durable. So after a restart it has at
      least the term in which it spoke, the vote that it gave in that term, and every committed
      entry that it had acknowledged (rule S14).
"""

from collections.abc import Callable

import msgspec

from multiraft.ids import NO_EPOCH, Index, RangeId, ReplicaId, Term
from multiraft.model import keys
from multiraft.raft import messages as raft
from multiraft.raft.ready import HardState
from multiraft.ranges import state
from multiraft.ranges.messages import GroupEnvelope
from multiraft.ranges.replica import Replica
from multiraft.ranges.state import AppliedState, StoredReplica
from multiraft.ranges.store import Store
from multiraft.sim.durability_watch import DurabilityWatch
from multiraft.sim.group_facts import GroupFacts
from multiraft.sim.read_watch import ReadWatch
from multiraft.sim.start_watch import StartWatch
from multiraft.storage import layout, raft_log
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.raft_log import RangeLog
from multiraft.storage.syncer import Done

Report = Callable[[RangeId, str | None], None]
Place = tuple[int, RangeId]
"""A node and a range."""

_pack = msgspec.msgpack.Encoder().encode
_unpack_applied = msgspec.msgpack.Decoder(AppliedState).decode
_HARD_STATE = raft_log.HARD_STATE[0]
_ENTRY = raft_log.ENTRY[0]
_TRUNCATION = raft_log.TRUNCATION[0]
_RANGE = layout.RANGE[0]
_VERSION = layout.VERSION[0]
_DESCRIPTOR = state.DESCRIPTOR[0]
_APPLIED = state.APPLIED[0]
_TOMBSTONE = state.TOMBSTONE[0]
_APPLIED_KEPT_MAX = 4_096


class _Promises:
    """What one replica has said that a crash must not make untrue."""

    __slots__ = ("acknowledged", "term", "vote")

    def __init__(self) -> None:
        self.term = Term(0)
        self.vote = (Term(0), ReplicaId(0))
        self.acknowledged = (Term(0), Index(0))


class DiskWatch:
    """One per cluster. Tells `reads` which versions are written."""

    def __init__(
        self, facts: Callable[[RangeId], GroupFacts], report: Report, reads: ReadWatch
    ) -> None:
        self._facts = facts
        self._report = report
        self._reads = reads
        self._logs = DurabilityWatch(report)
        self._starts = StartWatch(report)
        self._descriptors: dict[Place, bytes] = {}
        self._hard: dict[Place, HardState] = {}
        self._applied: dict[Place, Index] = {}
        self._durable: dict[Place, tuple[ReplicaId, HardState]] = {}
        self._unsynced: dict[int, dict[RangeId, tuple[ReplicaId, HardState] | None]] = {}
        self._states: dict[RangeId, dict[Index, bytes]] = {}
        self._promises: dict[tuple[int, RangeId, ReplicaId], _Promises] = {}

    # -- the engine ------------------------------------------------------------------------------

    def watch(self, number: int, engine: MemoryEngine, store: Callable[[], Store | None]) -> None:
        """See everything that is written to `engine` from now on; look at what is there."""
        for place in [p for p in (*self._hard, *self._applied) if p[0] == number]:
            self._hard.pop(place, None)
            self._applied.pop(place, None)
        if number not in self._unsynced:  # It was never up: what it has was there from the start.
            low, high = layout.span(layout.VERSION, keys.MIN, keys.END)
            self._reads.wrote(list(engine.scan(low, high, engine.data)))
        self._unsynced[number] = {}
        replicas = list(state.stored_replicas(engine))
        self._logs.start(number, [found.range_id for found in replicas])
        for found in replicas:
            self._find(number, engine, found)
        self._starts.found(number, engine, replicas)
        inner_write, inner_sync = engine.write, engine.sync

        def write(batch: object) -> None:
            operations = batch.operations  # type: ignore[attr-defined]
            inner_write(batch)
            up = store()
            if up is not None:
                self.look(number, engine, up, operations)

        def sync(done: Done) -> None:
            covered, entries = self._unsynced[number], self._logs.take(number)
            self._unsynced[number] = {}

            def synced(error: BaseException | None) -> None:
                if error is None:
                    self._make_durable(number, covered)
                    self._logs.synced(entries)
                done(error)

            inner_sync(synced)

        engine.write = write  # type: ignore[method-assign]
        engine.sync = sync  # type: ignore[method-assign]

    def _make_durable(
        self, number: int, covered: dict[RangeId, tuple[ReplicaId, HardState] | None]
    ) -> None:
        for range_id, known in covered.items():
            if known is None:
                self._durable.pop((number, range_id), None)
            else:
                self._durable[number, range_id] = known

    def look(
        self,
        number: int,
        engine: MemoryEngine,
        store: Store,
        operations: list[tuple[object, bytes, bytes | None, bytes | None]],
    ) -> None:
        """Look at a batch that was just written."""
        raft_family = engine.raft
        applied: list[tuple[RangeId, Index]] = []
        rows: list[tuple[bytes, bytes]] = []
        for family, key, value, _ in operations:
            if value is None:
                continue
            if family is raft_family:
                kind = key[8]
                if kind == _ENTRY:
                    self._entry(number, store, key, value)
                elif kind == _HARD_STATE:
                    self._hard_state(number, store, key, value)
                elif kind == _TRUNCATION:
                    index = Index(int.from_bytes(value[:8], "big"))
                    self._logs.cut((number, _range_id(key[:8])), index)
            elif key[0] == _VERSION:
                rows.append((key, value))
            elif key[0] == _RANGE:
                kind, range_id = key[9], _range_id(key[1:9])
                if kind == _APPLIED:
                    applied.append((range_id, self._apply(number, range_id, value)))
                elif kind == _DESCRIPTOR:
                    self._descriptors[number, range_id] = value
                elif kind == _TOMBSTONE:
                    self._destroyed(number, range_id)
        if rows:
            self._reads.wrote(rows)
        for range_id, index in applied:
            self._starts.applied(number, range_id, index, self._descriptors[number, range_id])

    def _entry(self, number: int, store: Store, key: bytes, value: bytes) -> None:
        range_id = _range_id(key[:8])
        replica = store.replicas.get(range_id)
        if replica is None:
            return  # Destroyed by an entry in the same batch.
        index = int.from_bytes(key[9:], "big")
        term = Term(int.from_bytes(value[:8], "big"))
        place = (number, range_id)
        # The log may be further: a batch can hold entries, and what replaces them.
        prev_term = self._logs.term_written(place, Index(index - 1))
        if prev_term is None:
            prev_term = replica.log.term(Index(index - 1))
        facts = self._facts(range_id)
        self._report(range_id, facts.writes(term, Index(index), prev_term, value[8:]))
        self._logs.wrote(place, Index(index), term)

    def _hard_state(self, number: int, store: Store, key: bytes, value: bytes) -> None:
        range_id = _range_id(key[:8])
        replica = store.replicas.get(range_id)
        if replica is None:
            return
        place = (number, range_id)
        new = raft_log.unpack_hard_state(value)
        old = self._hard.get(place)
        if old is not None:
            self._report(range_id, _went_back(number, old, new))
        self._hard[place] = new
        self._unsynced[number][range_id] = (replica.replica_id, new)
        low = Index(0) if old is None else old.commit_index
        if new.commit_index > low:
            self._count_rightly(number, replica, new.commit_index)
            self._commits(range_id, replica.log, low, new)

    def _count_rightly(self, number: int, replica: Replica, index: Index) -> None:
        """Look at a commit index that rose, where a leader is the first to know of it."""
        leadership = replica.core.leadership
        if leadership is None or index in self._facts(replica.range_id).committed:
            return
        if index < leadership.noop_index:
            problem = f"n{number} committed {index}, of an older term than it leads, by counting"
            self._report(replica.range_id, problem)
        term = replica.log.term(index)
        if term is not None:
            self._logs.commits(number, replica, index, term)

    def _commits(self, range_id: RangeId, log: RangeLog, low: Index, new: HardState) -> None:
        facts = self._facts(range_id)
        for index in range(max(low + 1, log.first_index() - 1), new.commit_index + 1):
            term = log.term(Index(index))
            if term is None:
                self._report(range_id, f"commit index {index} lies outside the log")
            elif index:
                self._report(range_id, facts.commits(Index(index), term, new.term))

    def _apply(self, number: int, range_id: RangeId, value: bytes) -> Index:
        applied = _unpack_applied(value)
        index = applied.index
        known = self._applied.get((number, range_id), Index(0))
        if index < known:
            self._report(range_id, f"n{number} applied {known}, and then {index}")
        self._applied[number, range_id] = index
        committed = self._facts(range_id).committed.get(index)
        if committed is None:
            self._report(range_id, f"n{number} applied {index}, which nobody knows as committed")
        elif committed.term != applied.term:
            self._report(
                range_id,
                f"state machine safety: n{number} applied term {applied.term} at {index}, "
                f"where {committed.term} is committed",
            )
        states = self._states.setdefault(range_id, {})
        if states.setdefault(index, value) != value:
            self._report(range_id, f"n{number} has another applied state at {index} than others")
        if len(states) > _APPLIED_KEPT_MAX:
            del states[next(iter(states))]
        return index

    def _destroyed(self, number: int, range_id: RangeId) -> None:
        self._hard.pop((number, range_id), None)
        self._applied.pop((number, range_id), None)
        self._unsynced[number][range_id] = None
        self._logs.forget((number, range_id))

    # -- what is over ----------------------------------------------------------------------------

    def forget_below(self, range_id: RangeId, floor: Index) -> None:
        """Every log of the range is cut at `floor`, so nobody applies what is below: see facts."""
        states = self._states.get(range_id, {})
        for index in [index for index in states if index < floor]:
            del states[index]
        self._starts.forget_below(range_id, floor)

    @property
    def remembered(self) -> int:
        """How many applied states, and entries on disks, are remembered."""
        return sum(map(len, self._states.values())) + self._logs.remembered

    # -- the wire --------------------------------------------------------------------------------

    def hear(self, number: int, envelope: GroupEnvelope) -> None:
        """Remember what a message that leaves says of the disk of its sender."""
        message = envelope.message
        if type(message) is raft.PreVote or type(message) is raft.PreVoteReply:
            return  # They speak of terms that nobody is in.
        if _is_promise(message):
            durable = self._durable.get((number, envelope.range_id))
            if durable is None or durable[1].term < message.term:
                problem = f"n{number} says {message!r}, and that term is not synced"
                self._report(envelope.range_id, problem)
        speaker = (number, envelope.range_id, envelope.source)
        promises = self._promises.get(speaker)
        if promises is None:
            promises = self._promises[speaker] = _Promises()
        promises.term = max(promises.term, message.term)
        if type(message) is raft.RequestVote:
            promises.vote = max(promises.vote, (message.term, envelope.source))
        elif type(message) is raft.RequestVoteReply and message.granted:
            promises.vote = max(promises.vote, (message.term, envelope.target))
        if type(message) is raft.AppendEntriesReply and message.accepted:
            acknowledged = (message.term, message.match_index)
            promises.acknowledged = max(promises.acknowledged, acknowledged)
            place = (number, envelope.range_id)
            self._logs.acknowledges(place, message.term, message.match_index)

    # -- restart ---------------------------------------------------------------------------------

    def _find(self, number: int, engine: MemoryEngine, found: StoredReplica) -> None:
        range_id, place = found.range_id, (number, found.range_id)
        log, replica_id, applied = _loaded(number, engine, found)
        hard = log.hard_state
        durable = self._durable.get(place)
        if durable is not None and durable[0] == replica_id:
            problem = _went_back(number, durable[1], hard)
            self._report(range_id, problem and f"over a restart: {problem}")
        self._check_promises(number, range_id, replica_id, log)
        self._hard[place] = hard
        self._durable[place] = (replica_id, hard)
        self._logs.found(place, log)
        if found.state is not None:
            self._descriptors[place] = _pack(found.state.descriptor)
            self._applied[place] = applied
            self._commits(range_id, log, Index(applied - 1), hard)

    def _check_promises(
        self, number: int, range_id: RangeId, replica_id: ReplicaId, log: RangeLog
    ) -> None:
        promises = self._promises.get((number, range_id, replica_id))
        if promises is None:
            return
        term, vote = log.hard_state.term, log.hard_state.vote
        if term < promises.term:
            self._report(
                range_id, f"n{number} spoke in term {promises.term} and restarted in {term}"
            )
        if term == promises.vote[0] and vote != promises.vote[1]:
            self._report(
                range_id,
                f"n{number} voted in term {term} for {promises.vote[1]} and restarted with the "
                f"vote {vote}",
            )
        facts = self._facts(range_id)
        problem = facts.lost(promises.acknowledged, log.first_index(), log.term)
        self._report(range_id, problem and f"n{number} lost {problem}")


def _is_promise(message: raft.Message) -> bool:
    """Whether a message must not leave before its term is durable: not so refusals."""
    kind = type(message)
    if kind is raft.AppendEntries or kind is raft.RequestVote:
        return True
    return (
        (type(message) is raft.AppendEntriesReply and message.accepted)
        or (type(message) is raft.RequestVoteReply and message.granted)
        or (type(message) is raft.FortifyReply and message.epoch != NO_EPOCH)
    )


def _loaded(
    number: int, engine: MemoryEngine, found: StoredReplica
) -> tuple[RangeLog, ReplicaId, Index]:
    if found.state is None:
        assert found.placeholder is not None, "neither state nor placeholder was stored"
        return raft_log.load(engine, found.range_id), found.placeholder, Index(0)
    applied = found.state.applied.index
    descriptor = found.state.descriptor
    mine = next(r for r in descriptor.replicas if r.node_id == number)
    configuration = state.configuration(descriptor)
    log = raft_log.load(engine, found.range_id, configuration=configuration, applied_index=applied)
    return log, mine.replica_id, applied


def _went_back(number: int, old: HardState, new: HardState) -> str | None:
    if new.term < old.term:
        return f"n{number} was in term {old.term}, and then in {new.term}"
    if new.commit_index < old.commit_index:
        return f"n{number} knew {old.commit_index} as committed, and then {new.commit_index}"
    if new.term == old.term and old.vote not in (0, new.vote):
        return f"n{number} voted in term {old.term} for {old.vote}, and then for {new.vote}"
    return None


def _range_id(packed: bytes) -> RangeId:
    return RangeId(int.from_bytes(packed, "big"))
