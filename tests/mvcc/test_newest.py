"""What is remembered of the newest versions, against the engine that has them all."""

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import Timestamp
from multiraft.mvcc import reads
from multiraft.mvcc.newest import VERSION_BYTES_MAX, LeaseholderReader, NewestVersions
from multiraft.mvcc.reader import EngineReader
from multiraft.mvcc.writes import Effects, WriteSet
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine

KEYS = (b"a", b"a\x00", b"a\x00\x01", b"b")


class Step(NamedTuple):
    """A change to a key: who makes it, and what it does."""

    how: str
    key: bytes
    value: bytes
    reader: int


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(("put", "delete", "outcome", "other put", "removal")),
        st.sampled_from(KEYS),
        st.sampled_from((b"", b"v", bytes(VERSION_BYTES_MAX))),
        st.integers(0, 1),
    ),
    max_size=20,
)


def write(engine: MemoryEngine, effects: Effects) -> None:
    batch = engine.new_batch()
    for physical, stored in zip(effects.puts[::2], effects.puts[1::2], strict=True):
        batch.put(physical, stored, engine.data)
    engine.write(batch)


@given(STEPS, st.integers(1, 4), st.integers(1, 25))
def test_reads_find_what_they_find_without_it(
    steps: list[Step], entries_max: int, asked_at: int
) -> None:
    """Two terms of leaseholders, one after the other, with changes that are noted and others."""
    engine = MemoryEngine()
    plain = EngineReader(engine)
    newest = NewestVersions(entries_max)
    readers = [LeaseholderReader(engine, newest) for _ in range(2)]
    for number, step in enumerate(sorted(steps, key=lambda each: each.reader), 1):
        reader = readers[step.reader]
        write_set = WriteSet(plain, Timestamp(number), number.to_bytes(16, "big"))
        if step.how == "removal":
            found = reads.newest(plain, step.key)
            if found is not None:
                physical = layout.version_key(step.key, found.timestamp)
                reader.forget((), (physical,))
                batch = engine.new_batch()
                batch.delete(physical, engine.data)
                engine.write(batch)
            continue
        if step.how == "delete":
            write_set.delete(step.key)
        elif step.how == "outcome":
            write_set.outcome(step.key)
        else:
            write_set.put(step.key, step.value)
        effects = write_set.effects()
        if step.how == "other put":
            reader.forget(effects.puts, ())
        else:
            reader.wrote(effects.puts, write_set.written)
        write(engine, effects)
        assert len(newest.entries) <= entries_max
        for key in KEYS:
            assert reads.newest(reader, key) == reads.newest(plain, key)
            assert reads.newest_and_last(reader, key) == reads.newest_and_last(plain, key)
            at = Timestamp(asked_at)
            assert reads.get(reader, key, at) == reads.get(plain, key, at)


def note(reader: LeaseholderReader, engine: MemoryEngine, key: bytes, value: bytes) -> None:
    write_set = WriteSet(EngineReader(engine), Timestamp(7), bytes(16))
    write_set.put(key, value)
    reader.wrote(write_set.effects().puts, write_set.written)


def test_what_was_noted_in_one_term_is_not_known_in_another() -> None:
    engine, newest = MemoryEngine(), NewestVersions(10)
    first, second = (LeaseholderReader(engine, newest) for _ in range(2))
    note(first, engine, b"k", b"v")
    prefix = layout.version_prefix(b"k")
    known = first.known(prefix)
    assert known is not None
    assert known.value == b"v"
    assert second.known(prefix) is None


def test_the_oldest_is_forgotten_for_the_newest_and_large_versions_are_not_kept() -> None:
    engine = MemoryEngine()
    reader = LeaseholderReader(engine, NewestVersions(2))
    for key in (b"a", b"b", b"c"):
        note(reader, engine, key, b"v")
    known = {key: reader.known(layout.version_prefix(key)) is not None for key in (*KEYS, b"c")}
    assert [key for key, is_known in known.items() if is_known] == [b"b", b"c"]
    note(reader, engine, b"c", bytes(VERSION_BYTES_MAX))
    assert reader.known(layout.version_prefix(b"c")) is None
    note(reader, engine, bytes(VERSION_BYTES_MAX), b"v")
    assert len(reader._newest.entries) == 1, "nor are long keys"


def test_what_is_known_costs_no_look_at_the_engine() -> None:
    engine = MemoryEngine()
    reader = LeaseholderReader(engine, NewestVersions(2))
    note(reader, engine, b"k", b"only here")
    found = reads.newest(reader, b"k")
    assert found is not None
    assert found.value == b"only here"
    assert reads.get(reader, b"k", Timestamp(7)) == found
    assert reads.get(reader, b"k", Timestamp(6)) is None, "older ones are for the engine"


def test_all_that_is_changed_otherwise_is_forgotten_at_once() -> None:
    engine = MemoryEngine()
    reader = LeaseholderReader(engine, NewestVersions(10))
    other = WriteSet(EngineReader(engine), Timestamp(9), bytes(16))
    for key in KEYS:
        note(reader, engine, key, b"v")
        other.put(key, b"newer")
    reader.forget(other.effects().puts, ())
    assert [key for key in KEYS if reader.known(layout.version_prefix(key)) is not None] == []
