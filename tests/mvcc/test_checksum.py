from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import RangeId, Timestamp
from multiraft.model import keys
from multiraft.mvcc.checksum import SpanChecksum
from multiraft.mvcc.reader import EngineReader
from multiraft.storage import layout
from multiraft.storage.memory import MemoryEngine
from tests.support.version_model import Model, histories


def holding(pairs: dict[bytes, bytes]) -> MemoryEngine:
    engine = MemoryEngine()
    batch = engine.new_batch()
    for key, value in pairs.items():
        batch.put(key, value, engine.data)
    engine.write(batch)
    return engine


def digest(
    engine: MemoryEngine, start: bytes = keys.MIN, end: bytes = keys.END, slice_keys: int = 1000
) -> bytes:
    checksum = SpanChecksum(EngineReader(engine), start, end)
    while not checksum.advance(slice_keys):
        pass
    return checksum.digest()


PAIRS = {
    layout.record_key(b"k", b"t" * 16): b"record",
    layout.lock_key(b"k"): b"lock",
    layout.version_key(b"k", Timestamp(7)): b"version",
}


def test_digest_is_pinned() -> None:
    # Replicas of two releases compare these.
    assert digest(holding(PAIRS)).hex() == "edbae98d906d989b"


def test_every_key_and_value_counts() -> None:
    whole = digest(holding(PAIRS))
    for key, value in PAIRS.items():
        assert digest(holding({k: v for k, v in PAIRS.items() if k != key})) != whole
        assert digest(holding(PAIRS | {key: value + b"\x00"})) != whole


def test_bytes_that_move_between_key_and_value_count() -> None:
    one = {layout.LOCK + b"ab\x00\x01": b"c"}
    other = {layout.LOCK + b"ab\x00": b"\x01c"}
    assert digest(holding(one)) != digest(holding(other))


def test_what_lies_outside_the_span_does_not_count() -> None:
    outside = {
        layout.lock_key(b"j"): b"",
        layout.lock_key(b"l"): b"",
        layout.range_key(RangeId(1), b"x"): b"state of one replica",
    }
    assert digest(holding(PAIRS | outside), b"k", b"l") == digest(holding(PAIRS), b"k", b"l")


@given(histories(), st.integers(1, 9))
def test_slices_do_not_matter(model: Model, slice_keys: int) -> None:
    engine = MemoryEngine()
    model.store(engine)
    assert digest(engine, slice_keys=slice_keys) == digest(engine)
