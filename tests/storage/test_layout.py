"""Physical keys keep the order of what they stand for, and never run into each other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import RangeId, Timestamp
from multiraft.storage import layout

# Zeros and 0xff are what escaping is about.
KEYS = st.lists(st.sampled_from([0x00, 0x01, 0x41, 0xFE, 0xFF]), max_size=5).map(bytes)
TIMES = st.integers(0, 2**64 - 1).map(Timestamp)


def test_bytes_are_the_documented_ones() -> None:
    assert layout.range_key(RangeId(0x0102), b"d") == bytes.fromhex("01 0000000000000102 64")
    assert layout.record_key(b"a\x00", b"i" * 16) == b"\x02a\x00\xff\x00\x01" + b"i" * 16
    assert layout.lock_key(b"a") == b"\x03a\x00\x01"
    assert layout.version_key(b"a\x00b", Timestamp(1)) == bytes.fromhex(
        "04 61 00ff 62 0001 fffffffffffffffe"
    )


@given(KEYS)
def test_escaping_can_be_undone(key: bytes) -> None:
    assert layout.unescape(layout.escape(key)) == key


@given(KEYS, KEYS)
def test_escaping_keeps_order_and_no_key_is_a_prefix_of_another(one: bytes, other: bytes) -> None:
    escaped, escaped_other = layout.escape(one), layout.escape(other)
    assert (one < other) == (escaped < escaped_other)
    if one != other:
        assert not escaped_other.startswith(escaped)


@given(KEYS, TIMES)
def test_version_key_can_be_split(key: bytes, timestamp: Timestamp) -> None:
    assert layout.split_version_key(layout.version_key(key, timestamp)) == (key, timestamp)


@given(KEYS, TIMES, KEYS, TIMES)
def test_versions_are_in_order_of_key_and_newest_first(
    one: bytes, time: Timestamp, other: bytes, other_time: Timestamp
) -> None:
    versions = layout.version_key(one, time), layout.version_key(other, other_time)
    assert (versions[0] < versions[1]) == ((one, -time) < (other, -other_time))


@given(KEYS, KEYS, TIMES)
def test_prefix_of_a_key_starts_its_versions_and_no_others(
    key: bytes, other: bytes, timestamp: Timestamp
) -> None:
    version = layout.version_key(other, timestamp)
    assert version.startswith(layout.version_prefix(key)) == (key == other)


@pytest.mark.parametrize("prefix", layout.BY_KEY)
@given(key=KEYS, start=KEYS, end=KEYS, timestamp=TIMES)
def test_physical_span_holds_exactly_the_keys_of_the_logical_one(
    prefix: bytes, key: bytes, start: bytes, end: bytes, timestamp: Timestamp
) -> None:
    physical = {
        layout.RECORD: layout.record_key(key, b"\xff" * 16),
        layout.LOCK: layout.lock_key(key),
        layout.VERSION: layout.version_key(key, timestamp),
    }[prefix]
    low, high = layout.span(prefix, start, end)
    assert (low <= physical < high) == (start <= key < end)
