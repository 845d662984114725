"""A few transactions over a few keys, all interleavings: is what they saw that of some order?

Purpose
    What `model.py` leaves out: read timestamps, the timestamp cache and its owners, refreshes, and
    one-phase commits. A commit is one step here, and takes its intents with it.
Invariants
    When all transactions are over there is an order of those that committed in which each would
    have read what it did read, and which leaves what is there.
Source
    Rules S10 and S11; Adya, "Weak consistency" (1999).
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import Enum
from typing import NamedTuple

from tests.transactions.explorer import Explored, Step, explore


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Each true: the protocol as it is. Each one false: not serializable."""

    writes_stay_above_reads: bool = True
    """A write lies above the latest read of its key."""
    only_the_owner_writes_at_its_read: bool = True
    """At the very timestamp of a read only who read may write (rule S11)."""
    equal_reads_are_shared: bool = True
    """A read of two transactions at one timestamp belongs to neither (rule S11)."""
    reads_wait_for_intents: bool = True
    """A read does not pass an intent of another at or below its timestamp."""
    commit_above_reads_needs_a_refresh: bool = True
    """Whoever commits above its read timestamp has looked at all it read again."""
    one_phase_stays_at_the_read: bool = True
    """A leaseholder does not move a one-phase commit by itself (rule S10)."""
    refresh_sees_versions: bool = True
    """A refresh fails by a version between the two timestamps."""
    refresh_sees_intents: bool = True
    """A refresh fails by an intent at or below the new timestamp."""
    refresh_is_a_read: bool = True
    """A refreshed key counts as read at the new timestamp."""


RULES = Rules()

NAMES = tuple(field.name for field in fields(Rules))

TIMESTAMP_MAX = 5
"""Two transactions may push each other for ever: who would have to go above this gives up."""

SHARED = -1
NOBODY = -2
"""Who wrote what is there at the beginning."""


class Program(NamedTuple):
    """What a transaction does: first all reads, then all writes."""

    reads: str = ""
    writes: str = ""


class Outcome(Enum):
    """How a transaction ended."""

    OPEN = "open"
    COMMITTED = "committed"
    ABORTED = "aborted"


class Transaction(NamedTuple):
    """How far a transaction is."""

    timestamp: int = 0
    """At which it reads, and commits; 0: it has not begun."""
    seen: tuple[int, ...] = ()
    """Of each key read, in the order of the program, the writer."""
    laid: int = 0
    """How many intents it has."""
    needed: int = 0
    """The timestamp that its writes need."""
    refreshed: int = 0
    """How many keys were read again at `needed`."""
    outcome: Outcome = Outcome.OPEN


class Write(NamedTuple):
    """A version, or an intent."""

    timestamp: int
    writer: int


class Key(NamedTuple):
    """What is known of a key."""

    versions: tuple[Write, ...] = (Write(0, NOBODY),)
    intent: Write | None = None
    read_at: int = 0
    reader: int = SHARED

    def read(self, timestamp: int, reader: int, rules: Rules) -> "Key":
        """Return it with a read in the timestamp cache."""
        if timestamp > self.read_at:
            return self._replace(read_at=timestamp, reader=reader)
        if timestamp == self.read_at and reader != self.reader:
            return self._replace(reader=SHARED if rules.equal_reads_are_shared else reader)
        return self

    def floor(self, writer: int, rules: Rules) -> int:
        """Return the lowest timestamp that a write may take."""
        floor = 0
        if rules.writes_stay_above_reads:
            is_own = self.reader == writer or not rules.only_the_owner_writes_at_its_read
            floor = self.read_at + (not is_own)
        return max(floor, self.versions[-1].timestamp + 1)

    def with_version(self, write: Write) -> "Key":
        """Return it with a version more, and without that writer's intent."""
        is_own = self.intent is not None and self.intent.writer == write.writer
        versions = tuple(sorted((*self.versions, write)))
        return self._replace(versions=versions, intent=None if is_own else self.intent)

    def blocks(self, timestamp: int, number: int) -> bool:
        """Return whether an intent of another is at or below the timestamp."""
        intent = self.intent
        return intent is not None and intent.writer != number and intent.timestamp <= timestamp


class State(NamedTuple):
    """All of it."""

    transactions: tuple[Transaction, ...]
    keys: tuple[Key, ...]


class Isolation:
    """Some programs under some rules."""

    def __init__(self, programs: tuple[Program, ...], rules: Rules = RULES) -> None:
        self.programs = programs
        self.rules = rules
        self.names = "".join(sorted({key for p in programs for key in p.reads + p.writes}))

    def explore(self) -> Explored:
        """Look at all states. Raises CounterexampleError."""
        transactions = (Transaction(),) * len(self.programs)
        return explore((State(transactions, (Key(),) * len(self.names)),), self.steps, self.check)

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Yield what each transaction may do next."""
        for number, transaction in enumerate(state.transactions):
            if transaction.outcome == Outcome.OPEN:
                yield from self._steps_of(state, number, transaction)

    def _steps_of(self, state: State, number: int, t: Transaction) -> Iterator[Step[State]]:
        program = self.programs[number]
        if not t.timestamp:
            for timestamp in (1, 2):
                begun = t._replace(timestamp=timestamp, needed=timestamp)
                yield Step(f"T{number} begins at {timestamp}", self._with(state, number, begun))
        elif len(t.seen) < len(program.reads):
            yield from self._read(state, number, t, program.reads[len(t.seen)])
        elif not program.writes:
            yield from self._commit(state, number, t)
        elif t.needed > TIMESTAMP_MAX:
            yield from self._abort(state, number, t)
        elif t.needed > t.timestamp:
            yield from self._refresh(state, number, t)
        elif len(program.writes) == 1:
            yield from self._one_phase(state, number, t, program.writes)
        elif t.laid < len(program.writes):
            yield from self._lay(state, number, t, program.writes[t.laid])
        else:
            yield from self._commit(state, number, t)
        if t.laid:
            yield from self._abort(state, number, t)  # Somebody pushes it.

    def _read(self, state: State, number: int, t: Transaction, name: str) -> Iterator[Step[State]]:
        key = self._key(state, name)
        if key.blocks(t.timestamp, number) and self.rules.reads_wait_for_intents:
            return
        writer = next(v.writer for v in reversed(key.versions) if v.timestamp <= t.timestamp)
        after = self._with(state, number, t._replace(seen=(*t.seen, writer)))
        label = f"T{number} reads {name} at {t.timestamp}: {_named(writer)}"
        yield Step(label, self._set(after, name, key.read(t.timestamp, number, self.rules)))

    def _lay(self, state: State, number: int, t: Transaction, name: str) -> Iterator[Step[State]]:
        key = self._key(state, name)
        if key.intent is not None:
            return
        timestamp = max(t.timestamp, key.floor(number, self.rules))
        moved = t._replace(laid=t.laid + 1, needed=max(t.needed, timestamp))
        after = self._with(state, number, moved)
        intent = key._replace(intent=Write(timestamp, number))
        yield Step(f"T{number} lays {name} at {timestamp}", self._set(after, name, intent))

    def _refresh(self, state: State, number: int, t: Transaction) -> Iterator[Step[State]]:
        program, rules = self.programs[number], self.rules
        if t.refreshed == len(program.reads) or not rules.commit_above_reads_needs_a_refresh:
            moved = t._replace(timestamp=t.needed, refreshed=0)
            yield Step(f"T{number} moves to {t.needed}", self._with(state, number, moved))
            return
        name = program.reads[t.refreshed]
        key = self._key(state, name)
        has_changed = rules.refresh_sees_versions and any(
            t.timestamp < version.timestamp <= t.needed for version in key.versions
        )
        if has_changed or (rules.refresh_sees_intents and key.blocks(t.needed, number)):
            yield from self._abort(state, number, t)
            return
        if rules.refresh_is_a_read:
            key = key.read(t.needed, number, rules)
        after = self._with(state, number, t._replace(refreshed=t.refreshed + 1))
        yield Step(f"T{number} refreshes {name} to {t.needed}", self._set(after, name, key))

    def _one_phase(
        self, state: State, number: int, t: Transaction, name: str
    ) -> Iterator[Step[State]]:
        key = self._key(state, name)
        if key.intent is not None:
            return
        needed = key.floor(number, self.rules)
        if needed > t.timestamp and self.rules.one_phase_stays_at_the_read:
            pushed = t._replace(needed=needed)
            yield Step(f"T{number} is pushed to {needed}", self._with(state, number, pushed))
            return
        write = Write(max(needed, t.timestamp), number)
        over = t._replace(outcome=Outcome.COMMITTED)
        after = self._set(self._with(state, number, over), name, key.with_version(write))
        yield Step(f"T{number} commits {name} at {write.timestamp}", after)

    def _commit(self, state: State, number: int, t: Transaction) -> Iterator[Step[State]]:
        after = self._with(state, number, t._replace(outcome=Outcome.COMMITTED))
        for name in self.programs[number].writes:
            write = Write(t.timestamp, number)
            after = self._set(after, name, self._key(after, name).with_version(write))
        yield Step(f"T{number} commits at {t.timestamp}", after)

    def _abort(self, state: State, number: int, t: Transaction) -> Iterator[Step[State]]:
        after = self._with(state, number, t._replace(outcome=Outcome.ABORTED))
        for name in self.programs[number].writes[: t.laid]:
            after = self._set(after, name, self._key(after, name)._replace(intent=None))
        yield Step(f"T{number} aborts", after)

    def check(self, before: State, after: State) -> None:
        """Raise AssertionError if all are over, and no order explains what they saw."""
        if any(t.outcome == Outcome.OPEN for t in after.transactions):
            return
        committed = [
            number for number, t in enumerate(after.transactions) if t.outcome == Outcome.COMMITTED
        ]
        orders = itertools.permutations(committed)
        assert any(self._explains(order, after) for order in orders), "no order explains it"

    def _explains(self, order: tuple[int, ...], state: State) -> bool:
        held = dict.fromkeys(self.names, NOBODY)
        for number in order:
            program, transaction = self.programs[number], state.transactions[number]
            if tuple(held[name] for name in program.reads) != transaction.seen:
                return False
            held |= dict.fromkeys(program.writes, number)
        return all(self._key(state, name).versions[-1].writer == held[name] for name in self.names)

    def _key(self, state: State, name: str) -> Key:
        return state.keys[self.names.index(name)]

    def _set(self, state: State, name: str, key: Key) -> State:
        place = self.names.index(name)
        return state._replace(keys=(*state.keys[:place], key, *state.keys[place + 1 :]))

    def _with(self, state: State, number: int, transaction: Transaction) -> State:
        given = state.transactions
        return state._replace(transactions=(*given[:number], transaction, *given[number + 1 :]))


def _named(writer: int) -> str:
    return "as it was" if writer == NOBODY else f"T{writer}'s"
