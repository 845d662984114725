"""The log of one range: what the core reads is what the host wrote, over restarts and damage."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from multiraft import errors
from multiraft.ids import Epoch, Index, RangeId, ReplicaId, Term
from multiraft.raft.messages import Configuration, Entry, EntryKind
from multiraft.raft.ready import HardState
from multiraft.raft.storage import InitialState
from multiraft.storage import raft_log
from multiraft.storage.engine import Engine
from multiraft.storage.memory import MemoryEngine
from multiraft.storage.raft_log import RangeLog
from multiraft.storage.rocks import RocksEngine
from tests.support import engines
from tests.support.engines import SMALL

R7 = RangeId(7)
NO_LIMIT = 1 << 30
THREE = Configuration(voters=(ReplicaId(1), ReplicaId(2), ReplicaId(3)))


@pytest.fixture(params=["rocks", "memory"])
def engine(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Engine]:
    made: Engine = (
        RocksEngine.open(scratch / "store", SMALL) if request.param == "rocks" else MemoryEngine()
    )
    yield made
    made.close()


def entry(index: int, term: int, payload: bytes | None = None) -> Entry:
    body = b"%d@%d" % (index, term) if payload is None else payload
    return Entry(Term(term), Index(index), EntryKind.COMMAND, body)


def run(first: int, terms: list[int]) -> tuple[Entry, ...]:
    """Return entries from index `first` on, with these terms."""
    return tuple(entry(first + i, term) for i, term in enumerate(terms))


def append(log: RangeLog, engine: Engine, entries: tuple[Entry, ...]) -> None:
    batch = engine.new_batch()
    log.append(batch, entries)
    engine.write(batch)


def truncate(log: RangeLog, engine: Engine, index: int) -> None:
    batch = engine.new_batch()
    log.truncate(batch, Index(index))
    engine.write(batch)


def reset(log: RangeLog, engine: Engine, index: int, term: int) -> None:
    batch = engine.new_batch()
    log.reset(batch, Index(index), Term(term))
    engine.write(batch)


def everything(log: RangeLog) -> tuple[Entry, ...]:
    if log.last_index() < log.first_index():
        return ()
    return log.entries(log.first_index(), Index(log.last_index() + 1), NO_LIMIT)


def stored_bytes(engine: Engine) -> int:
    """Return what the entries of the only log on `engine` take there, keys included."""
    rows = engines.contents(engine, engine.raft)
    return sum(len(key) + len(value) for key, value in rows if key[8:9] == raft_log.ENTRY)


def seen(log: RangeLog) -> object:
    """Return all that the core can see of `log`."""
    terms = [log.term(Index(i)) for i in range(log.last_index() + 2)]
    return log.first_index(), log.last_index(), terms, everything(log), log.size_bytes


def reloaded(log: RangeLog, engine: Engine) -> RangeLog:
    """Load the log anew, as applied up to its truncation point."""
    applied = Index(log.first_index() - 1)
    return raft_log.load(engine, log.range_id, applied_index=applied)


# Format


def test_bytes_are_the_documented_ones() -> None:
    engine = MemoryEngine()
    log = RangeLog(engine, R7)
    batch = engine.new_batch()
    log.reset(batch, Index(10), Term(5))
    log.append(batch, (Entry(Term(6), Index(11), EntryKind.CONFIGURATION, b"payload"),))
    log.set_hard_state(
        batch, HardState(Term(6), ReplicaId(2), Index(11), ReplicaId(3), Term(5), Epoch(9))
    )
    engine.write(batch)
    r7 = bytes.fromhex("0000000000000007")
    assert engines.contents(engine, engine.raft) == [
        (
            r7 + b"\x01",
            bytes.fromhex(
                "0000000000000006 0000000000000002 000000000000000b"
                "0000000000000003 0000000000000005 0000000000000009"
            ),
        ),
        (r7 + b"\x02", bytes.fromhex("000000000000000a 0000000000000005")),
        (
            r7 + b"\x03" + bytes.fromhex("000000000000000b"),
            bytes.fromhex("0000000000000006 02") + b"payload",
        ),
    ]


# Reading and appending


def test_new_log_is_empty_and_knows_the_term_before_its_first_entry(engine: Engine) -> None:
    log = raft_log.load(engine, R7)
    assert (log.first_index(), log.last_index(), log.size_bytes) == (1, 0, 0)
    assert log.term(Index(0)) == 0
    assert log.term(Index(1)) is None
    assert log.initial_state() == InitialState(HardState(), Configuration(voters=()), Index(0))


def test_appended_entries_are_read_back_whole(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    entries = (
        Entry(Term(1), Index(1), EntryKind.NOOP, b""),
        Entry(Term(1), Index(2), EntryKind.COMMAND, b"\x00\xff" * 50),
        Entry(Term(3), Index(3), EntryKind.CONFIGURATION, b"c"),
        Entry(Term(3), Index(4), EntryKind.COMMAND, b"d"),
    )
    append(log, engine, entries)
    assert everything(log) == entries
    assert [log.entries(Index(i), Index(i + 1), 0)[0] for i in range(1, 5)] == list(entries)
    assert everything(log)[2].kind is EntryKind.CONFIGURATION
    assert log.size_bytes == stored_bytes(engine) == 4 * (17 + 9) + 102


@pytest.mark.parametrize(
    ("bytes_max", "count"), [(0, 1), (9, 1), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (99, 3)]
)
def test_entries_stop_before_the_limit_but_give_at_least_one(
    engine: Engine, bytes_max: int, count: int
) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, tuple(entry(i, 1, bytes(10)) for i in range(1, 5)))
    truncate(log, engine, 1)
    found = log.entries(Index(2), Index(5), bytes_max)
    assert [each.index for each in found] == list(range(2, 2 + count))


def test_conflicting_suffix_is_replaced_and_what_lies_beyond_it_goes(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1, 2, 2, 2]))
    append(log, engine, run(3, [3, 3]))
    expected = run(1, [1, 1]) + run(3, [3, 3])
    assert everything(log) == expected
    assert [log.term(Index(i)) for i in range(6)] == [0, 1, 1, 3, 3, None]
    assert log.size_bytes == stored_bytes(engine)
    assert seen(reloaded(log, engine)) == seen(log)


def test_whole_log_may_be_replaced(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    append(log, engine, run(1, [2]))
    assert everything(log) == run(1, [2])
    assert seen(reloaded(log, engine)) == seen(log)


def test_append_with_a_gap_is_our_mistake(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1]))
    with pytest.raises(AssertionError, match="leaves no gap"):
        append(log, engine, run(3, [1]))
    with pytest.raises(AssertionError, match="follow each other"):
        append(log, engine, (entry(2, 1), entry(4, 1)))


def test_append_into_the_truncated_part_is_our_mistake(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    truncate(log, engine, 2)
    with pytest.raises(AssertionError, match="leaves no gap"):
        append(log, engine, run(2, [1]))


def test_falling_term_is_our_mistake(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [2]))
    with pytest.raises(AssertionError, match="terms never fall"):
        append(log, engine, run(2, [1]))


@pytest.mark.parametrize(("low", "high"), [(0, 2), (2, 2), (3, 5), (1, 5), (4, 5)])
def test_reading_outside_the_log_is_our_mistake(engine: Engine, low: int, high: int) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    with pytest.raises(AssertionError, match="outside the log"):
        log.entries(Index(low), Index(high), NO_LIMIT)


# Truncation, reset, destruction


def test_truncation_removes_entries_and_keeps_the_term_before_the_first(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 2, 2, 3]))
    truncate(log, engine, 3)
    assert everything(log) == run(4, [2, 3])
    assert [log.term(Index(i)) for i in range(7)] == [None, None, None, 2, 2, 3, None]
    assert log.size_bytes == stored_bytes(engine)
    assert seen(reloaded(log, engine)) == seen(log)
    stored = engines.contents(engine, engine.raft)
    assert [key[9:] for key, _ in stored if key[8:9] == b"\x03"] == [
        Index(4).to_bytes(8, "big"),
        Index(5).to_bytes(8, "big"),
    ]


def test_truncation_of_everything_leaves_an_empty_log_that_goes_on(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 2]))
    truncate(log, engine, 2)
    assert (log.first_index(), log.last_index(), log.term(Index(2))) == (3, 2, 2)
    append(log, engine, run(3, [2, 4]))
    assert seen(reloaded(log, engine)) == seen(log)


def test_truncation_behind_the_truncation_point_changes_nothing(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    truncate(log, engine, 2)
    before = seen(log), engines.contents(engine, engine.raft)
    truncate(log, engine, 1)
    truncate(log, engine, 2)
    assert (seen(log), engines.contents(engine, engine.raft)) == before


def test_truncation_beyond_the_end_is_our_mistake(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1]))
    with pytest.raises(AssertionError, match="only what is in the log"):
        truncate(log, engine, 2)


def test_reset_begins_behind_a_snapshot_and_keeps_the_hard_state(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    batch = engine.new_batch()
    voted = HardState(Term(4), ReplicaId(2), Index(3), ReplicaId(1), Term(4), Epoch(8))
    log.set_hard_state(batch, voted)
    log.reset(batch, Index(100), Term(4))
    engine.write(batch)
    assert (log.first_index(), log.last_index(), log.term(Index(100))) == (101, 100, 4)
    assert log.size_bytes == 0
    append(log, engine, run(101, [4, 5]))
    again = reloaded(log, engine)
    assert seen(again) == seen(log)
    assert again.hard_state == voted
    keys = [key for key, _ in engines.contents(engine, engine.raft)]
    assert len(keys) == 4, "hard state, truncation point, and the two entries behind it"


def test_reset_to_a_point_within_the_log_forgets_what_lies_beyond(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1, 1]))
    reset(log, engine, 2, 1)
    assert seen(reloaded(log, engine)) == seen(log)
    assert everything(log) == ()


def test_destroy_leaves_nothing_and_spares_the_neighbours(engine: Engine) -> None:
    logs = [RangeLog(engine, RangeId(range_id)) for range_id in (6, 7, 8)]
    for log in logs:
        append(log, engine, run(1, [1, 1]))
        batch = engine.new_batch()
        log.set_hard_state(batch, HardState(term=Term(1)))
        log.reset(batch, Index(2), Term(1))
        engine.write(batch)
    batch = engine.new_batch()
    logs[1].destroy(batch)
    engine.write(batch)
    assert raft_log.range_ids(engine) == [6, 8]
    for log in (logs[0], logs[2]):
        assert seen(reloaded(log, engine)) == seen(log)


def test_term_of_the_hard_state_never_falls(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    log.set_hard_state(engine.new_batch(), HardState(term=Term(3)))
    with pytest.raises(AssertionError, match="never falls"):
        log.set_hard_state(engine.new_batch(), HardState(term=Term(2)))


# Start


def test_restart_finds_hard_state_and_what_the_host_says_of_the_applied_state(
    engine: Engine,
) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1]))
    batch = engine.new_batch()
    state = HardState(Term(2), ReplicaId(3), Index(3), ReplicaId(1), Term(2), Epoch(4))
    log.set_hard_state(batch, state)
    engine.write(batch)
    again = raft_log.load(engine, R7, configuration=THREE, applied_index=Index(2))
    assert again.initial_state() == InitialState(state, THREE, Index(2))


def test_split_gives_a_replica_that_only_voted_its_log_and_keeps_its_vote(engine: Engine) -> None:
    log = raft_log.load(engine, R7)
    batch = engine.new_batch()
    voted = HardState(Term(6), ReplicaId(2))
    log.set_hard_state(batch, voted)
    engine.write(batch)
    batch = engine.new_batch()
    log.reset(batch, Index(10), Term(5))
    log.set_hard_state(batch, HardState(Term(6), ReplicaId(2), Index(10)))
    log.set_applied(THREE, Index(10))
    engine.write(batch)
    again = raft_log.load(engine, R7, configuration=THREE, applied_index=Index(10))
    assert again.initial_state() == log.initial_state()
    assert again.hard_state.vote == 2
    assert seen(again) == seen(log)


def test_ranges_are_listed_in_order_whatever_they_have(engine: Engine) -> None:
    for range_id in (300, 1, 2**64 - 1):
        log = RangeLog(engine, RangeId(range_id))
        batch = engine.new_batch()
        log.set_hard_state(batch, HardState(term=Term(1)))
        engine.write(batch)
    append(RangeLog(engine, RangeId(2)), engine, run(1, [1]))
    assert raft_log.range_ids(engine) == [1, 2, 300, 2**64 - 1]


def damaged(engine: Engine, index: int) -> None:
    """Take one entry out of the log of R7."""
    batch = engine.new_batch()
    batch.delete(R7.to_bytes(8, "big") + b"\x03" + index.to_bytes(8, "big"), engine.raft)
    engine.write(batch)


@pytest.mark.parametrize("index", [3, 4, 5])
def test_missing_entry_is_found_at_start_and_named(engine: Engine, index: int) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1, 1, 1, 1]))
    truncate(log, engine, 2)
    damaged(engine, index)
    with pytest.raises(errors.CorruptionError, match=rf"r7: hole in the log at index {index}:"):
        reloaded(log, engine)


@pytest.mark.parametrize("index", [2, 3])
def test_missing_entry_is_found_when_read_and_never_skipped(engine: Engine, index: int) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1, 1]))
    damaged(engine, index)
    with pytest.raises(errors.CorruptionError, match="r7: hole"):
        log.entries(Index(1), Index(5), NO_LIMIT)
    with pytest.raises(errors.CorruptionError, match="r7: hole"):
        log.entries(Index(index), Index(index + 1), NO_LIMIT)


def test_log_that_begins_behind_the_applied_state_is_a_hole(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1, 1, 1]))
    truncate(log, engine, 3)
    raft_log.load(engine, R7, applied_index=Index(3))
    with pytest.raises(errors.CorruptionError, match="index 3: the log begins after 3, but only 2"):
        raft_log.load(engine, R7, applied_index=Index(2))


def test_log_that_ends_before_the_applied_state_is_a_hole(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1]))
    raft_log.load(engine, R7, applied_index=Index(2))
    with pytest.raises(errors.CorruptionError, match=r"index 3: .* 0 is committed and 3 applied"):
        raft_log.load(engine, R7, applied_index=Index(3))


def test_log_that_ends_before_its_commit_index_is_a_hole(engine: Engine) -> None:
    log = RangeLog(engine, R7)
    append(log, engine, run(1, [1, 1]))
    batch = engine.new_batch()
    log.set_hard_state(batch, HardState(term=Term(1), commit_index=Index(3)))
    engine.write(batch)
    with pytest.raises(errors.CorruptionError, match="3 is committed"):
        raft_log.load(engine, R7)


# Against a model


class LogModel(RuleBasedStateMachine):
    """Random appends, truncations, resets and restarts, with a dict of entries beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = MemoryEngine()
        self.log = RangeLog(self.engine, R7)
        self.entries: dict[int, Entry] = {}
        self.truncated: tuple[int, int] = (0, 0)

    @property
    def last(self) -> int:
        return max(self.entries, default=self.truncated[0])

    def term_before(self, index: int) -> int:
        return self.entries[index - 1].term if index - 1 in self.entries else self.truncated[1]

    @rule(back=st.integers(0, 5), rises=st.lists(st.integers(0, 1), min_size=1, max_size=5))
    def append(self, back: int, rises: list[int]) -> None:
        first = max(self.truncated[0] + 1, self.last + 1 - back)
        term = self.term_before(first)
        terms = []
        for rise in rises:
            term += rise
            terms.append(term)
        entries = run(first, terms)
        append(self.log, self.engine, entries)
        self.entries = {i: each for i, each in self.entries.items() if i < first}
        self.entries.update({each.index: each for each in entries})

    @precondition(lambda self: self.entries)
    @rule(ahead=st.integers(1, 6))
    def truncate(self, ahead: int) -> None:
        index = min(self.last, self.truncated[0] + ahead)
        truncate(self.log, self.engine, index)
        self.truncated = (index, self.entries[index].term)
        self.entries = {i: each for i, each in self.entries.items() if i > index}

    @rule(ahead=st.integers(0, 6), rise=st.integers(0, 1))
    def reset(self, ahead: int, rise: int) -> None:
        term = self.term_before(self.last + 1) + rise
        self.truncated = (self.truncated[0] + ahead, term)
        self.entries = {}
        reset(self.log, self.engine, *self.truncated)

    @rule()
    def restart(self) -> None:
        self.engine.close()
        self.engine = self.engine.reopen()
        applied = Index(self.truncated[0])
        self.log = raft_log.load(self.engine, R7, applied_index=applied)

    @invariant()
    def log_is_what_the_model_says(self) -> None:
        log = self.log
        assert (log.first_index(), log.last_index()) == (self.truncated[0] + 1, self.last)
        assert everything(log) == tuple(self.entries[i] for i in sorted(self.entries))
        assert log.term(Index(self.truncated[0])) == self.truncated[1]
        for index, each in self.entries.items():
            assert log.term(Index(index)) == each.term
        assert log.size_bytes == stored_bytes(self.engine)


TestLogModel = LogModel.TestCase
TestLogModel.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
