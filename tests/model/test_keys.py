import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.ids import NodeId
from multiraft.model import keys


def test_keyspaces_lie_in_order_between_the_bounds() -> None:
    assert keys.MIN < keys.META < keys.SYSTEM < keys.PLAIN == keys.FIRST_RANGE_END < keys.END


def test_well_known_keys_lie_in_the_first_range_at_fixed_bytes() -> None:
    well_known = {
        keys.RANGE_ID_COUNTER: b"\x02range-id",
        keys.NODE_ID_COUNTER: b"\x02node-id",
        keys.node_key(NodeId(258)): b"\x02node/\0\0\0\0\0\0\x01\x02",
        keys.meta_key(b"\x10k"): b"\x01\x10k",
        keys.meta_key(keys.MIN): b"\x01",
    }
    for key, expected in well_known.items():
        assert key == expected
        assert keys.MIN < key < keys.FIRST_RANGE_END


def test_addressing_records_sort_as_their_ranges_do() -> None:
    starts = [keys.MIN, keys.PLAIN, keys.PLAIN + b"a", keys.PLAIN + b"a\x00", keys.PLAIN + b"b"]
    records = [keys.meta_key(start) for start in starts]
    assert records == sorted(records)
    assert all(keys.META <= record < keys.SYSTEM for record in records)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [
        (b"a", b"b"),
        (b"ab", b"ac"),
        (b"a\x00", b"a\x01"),
        (b"a\xfe", b"a\xff"),
        (b"a\xff", b"b"),
        (b"a\xff\xff", b"b"),
        (b"\x10", b"\x11"),
        (b"\xfe", b"\xff"),
        (b"\xff", keys.END),
        (b"", keys.END),
    ],
)
def test_the_end_of_a_prefix_is_the_next_prefix_of_its_length_or_shorter(
    prefix: bytes, end: bytes
) -> None:
    assert keys.prefix_end(prefix) == end


legal_keys = st.binary(max_size=4).filter(lambda key: key < keys.END)


@given(legal_keys, legal_keys)
def test_keys_lie_between_a_prefix_and_its_end_exactly_if_they_start_with_it(
    prefix: bytes, key: bytes
) -> None:
    assert (prefix <= key < keys.prefix_end(prefix)) == key.startswith(prefix)


@given(st.binary(max_size=4), st.binary(max_size=4))
def test_no_key_lies_between_a_key_and_the_next(key: bytes, other: bytes) -> None:
    assert key < keys.next_key(key)
    assert not key < other < keys.next_key(key)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        (keys.MIN, "/min"),
        (keys.END, "/max"),
        (b"\xff\x01", "/max"),
        (keys.META, "/meta"),
        (keys.PLAIN, "/plain"),
        (keys.PLAIN + b"user/7", "/plain/user/7"),
        (keys.PLAIN + b"a\x00\xff", r"/plain/a\x00\xff"),
        (keys.PLAIN + b"it's", "/plain/it's"),
        (keys.SYSTEM + b"node-id", "/system/node-id"),
        (keys.meta_key(keys.PLAIN + b"k"), r"/meta/\x10k"),
        (b"\x20k", "/0x20/k"),
        (b"\x00", "/0x00"),
    ],
)
def test_keys_are_shown_as_people_read_them(key: bytes, shown: str) -> None:
    assert keys.pretty(key) == shown
