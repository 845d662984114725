"""Intents and what becomes of them, on both engines; counts equal a recount."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from multiraft.ids import Timestamp
from multiraft.model import keys
from multiraft.model.transaction import (
    Intent,
    IntentRef,
    TransactionMeta,
    TransactionRecord,
    TransactionStatus,
)
from multiraft.mvcc import intents, reads, statistics
from multiraft.mvcc.intents import ChangeSet
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.statistics import RangeStats
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE
from multiraft.mvcc.writes import Counted, Effects, WriteSet
from multiraft.storage.engine import Engine

ID, OTHER_ID = bytes(range(16)), bytes(16)
META = TransactionMeta(ID, b"a", 1, Timestamp(2))
KEYS = (b"", b"a", b"a\x00", b"b")


def intent(timestamp: int, value: bytes | None = b"v", sequence: int = 1) -> Intent:
    return Intent(META, Timestamp(timestamp), sequence, value, Timestamp(9))


def carry_out(engine: Engine, effects: Effects) -> RangeStats:
    batch = engine.new_batch()
    for position in range(0, len(effects.puts), 2):
        batch.put(effects.puts[position], effects.puts[position + 1], engine.data)
    for key in effects.deletes:
        batch.delete(key, engine.data)
    engine.write(batch)
    return effects.stats


def put(engine: Engine, key: bytes, value: bytes, timestamp: int) -> RangeStats:
    write_set = WriteSet(EngineReader(engine), Timestamp(timestamp), OTHER_ID)
    write_set.put(key, value)
    return carry_out(engine, write_set.effects())


def lay(engine: Engine, key: bytes, laid: Intent) -> RangeStats:
    changes = ChangeSet(EngineReader(engine))
    changes.lay(key, laid, intents.get(EngineReader(engine), key))
    return carry_out(engine, changes.effects())


@pytest.mark.parametrize("key", KEYS)
def test_an_intent_lies_beside_the_versions_of_its_key(engine: Engine, key: bytes) -> None:
    reader = EngineReader(engine)
    put(engine, key, b"old", 1)
    assert intents.get(reader, key) is None
    assert lay(engine, key, intent(5)) == RangeStats(locks=1)
    assert intents.get(reader, key) == intent(5)
    version = reads.newest(reader, key)
    assert version is not None
    assert version.value == b"old", "nobody reads an intent as a version"
    assert lay(engine, key, intent(6, b"w", 2)) == RangeStats(), "laid anew: one lock"
    assert intents.get(reader, key) == intent(6, b"w", 2)


def test_a_scan_finds_the_intents_of_its_span_in_order(engine: Engine) -> None:
    for key in (b"b", b"", b"a\x00", b"a"):
        lay(engine, key, intent(5, key))
    reader = EngineReader(engine)
    assert list(intents.scan(reader, keys.MIN, keys.END)) == [(k, intent(5, k)) for k in KEYS]
    assert [key for key, _ in intents.scan(reader, b"a", b"b")] == [b"a", b"a\x00"]


@pytest.mark.parametrize("value", [b"new", b"", None])
def test_a_committed_intent_becomes_a_version_with_the_id_of_its_transaction(
    engine: Engine, value: bytes | None
) -> None:
    """S9, S18: whoever comes late finds the ID."""
    put(engine, b"a", b"old", 1)
    lay(engine, b"a", intent(5, value))
    changes = ChangeSet(EngineReader(engine))
    changes.commit(b"a", intent(5, value), Timestamp(7))
    effects = changes.effects()
    assert effects.also == ((ID, Timestamp(7)),)
    assert changes.removed == [(b"a", ID)]
    carry_out(engine, effects)
    reader = EngineReader(engine)
    assert intents.get(reader, b"a") is None
    found = reads.get_write(reader, b"a", ID, Timestamp(7))
    assert found is not None
    assert found.kind == (TOMBSTONE if value is None else VALUE)
    assert found.value == (value or b"")


def test_a_removed_intent_leaves_nothing(engine: Engine) -> None:
    before = put(engine, b"a", b"old", 1)
    lay(engine, b"a", intent(5))
    changes = ChangeSet(EngineReader(engine))
    changes.remove(b"a", intent(5))
    effects = changes.effects()
    assert effects.also == ()
    carry_out(engine, effects)
    assert statistics.count(EngineReader(engine), keys.MIN, keys.END) == before


def test_an_intent_above_the_commit_timestamp_is_our_mistake(engine: Engine) -> None:
    """S18."""
    with pytest.raises(AssertionError):
        ChangeSet(EngineReader(engine)).commit(b"a", intent(5), Timestamp(4))


def test_a_version_is_not_written_below_another(engine: Engine) -> None:
    """S11."""
    put(engine, b"a", b"v", 5)
    newest = reads.newest(EngineReader(engine), b"a")
    with pytest.raises(AssertionError):
        ChangeSet(EngineReader(engine)).write(b"a", b"w", Timestamp(5), ID, newest)


def test_the_last_thing_left_at_a_key_counts_outcomes(engine: Engine) -> None:
    reader = EngineReader(engine)
    assert reads.newest_and_last(reader, b"a") == (None, 0)
    put(engine, b"a", b"v", 5)
    write_set = WriteSet(reader, Timestamp(6), OTHER_ID)
    write_set.outcome(b"a")
    carry_out(engine, write_set.effects())
    newest, last = reads.newest_and_last(reader, b"a")
    assert newest is not None
    assert newest.timestamp == 5
    assert newest.kind != OUTCOME
    assert last == 6


def test_a_record_is_found_by_anchor_and_id(engine: Engine) -> None:
    record = TransactionRecord(
        META,
        TransactionStatus.STAGING,
        Timestamp(5),
        Timestamp(6),
        Timestamp(4),
        (IntentRef(b"a", 1),),
    )
    changes = ChangeSet(EngineReader(engine))
    changes.record(record)
    assert changes.effects().stats == RangeStats(), "records are not counted"
    carry_out(engine, changes.effects())
    reader = EngineReader(engine)
    assert intents.get_record(reader, b"a", ID) == record
    assert intents.get_record(reader, b"a", OTHER_ID) is None
    assert intents.get_record(reader, b"a\x00", ID) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "lay", "commit", "remove", "one phase"]),
        st.sampled_from(KEYS),
        st.one_of(st.none(), st.binary(max_size=3)),
    ),
    max_size=12,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(STEPS, st.sampled_from(KEYS))
def test_what_changes_add_equals_a_recount(
    engine: Engine, steps: list[tuple[str, bytes, bytes | None]], middle: bytes
) -> None:
    """Of the whole, and of what a split would cut off at `middle`."""
    batch = engine.new_batch()
    batch.delete_range(b"\x02", b"\x05", engine.data)
    engine.write(batch)
    reader = EngineReader(engine)
    total, right = RangeStats(), RangeStats()
    for number, (step, key, value) in enumerate(steps):
        now = Timestamp(10 * number + 10)
        there = intents.get(reader, key)
        counted: Counted
        if step == "put":
            if there is not None:
                continue  # It would have to wait.
            counted = write_set = WriteSet(reader, now, OTHER_ID)
            write_set.put(key, value or b"")
            effects = write_set.effects()
        else:
            counted = changes = ChangeSet(reader)
            if step == "lay":
                changes.lay(key, intent(now, value, number), there)
            elif step == "one phase" and there is None:
                newest, _ = reads.newest_and_last(reader, key)
                changes.write(key, value, now, ID, newest)
            elif there is None:
                continue
            elif step == "commit":
                changes.commit(key, there, now)
            else:
                changes.remove(key, there)
            effects = changes.effects()
        total = total.plus(carry_out(engine, effects))
        right = right.plus(counted.stats_from(middle))
    assert statistics.count(reader, keys.MIN, keys.END) == total
    assert statistics.count(reader, middle, keys.END) == right
