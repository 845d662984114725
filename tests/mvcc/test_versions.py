import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft import errors
from multiraft.ids import Timestamp
from multiraft.mvcc import versions
from multiraft.mvcc.versions import OUTCOME, TOMBSTONE, VALUE, Version

ID = bytes(range(16))
AT = Timestamp(77)

GOLDEN = [
    (Version(AT, VALUE, ID, b"", b"v"), b"\x01" + ID + b"v"),
    (Version(AT, VALUE, ID, b"", b""), b"\x01" + ID),
    (Version(AT, TOMBSTONE, ID), b"\x02" + ID),
    (Version(AT, VALUE, ID, b"re", b"v"), b"\x81" + ID + b"\x00\x00\x00\x02rev"),
    (Version(AT, TOMBSTONE, ID, b"re"), b"\x82" + ID + b"\x00\x00\x00\x02re"),
    (Version(AT, OUTCOME, ID, b"re"), b"\x83" + ID + b"\x00\x00\x00\x02re"),
]


@pytest.mark.parametrize(("version", "stored"), GOLDEN)
def test_stored_bytes_are_pinned(version: Version, stored: bytes) -> None:
    assert versions.encode(version) == stored
    assert versions.decode(AT, stored) == version


@given(
    st.sampled_from([VALUE, TOMBSTONE, OUTCOME]),
    st.binary(min_size=16, max_size=16),
    st.binary(max_size=300),
    st.binary(max_size=300),
)
def test_decode_undoes_encode(kind: int, id_: bytes, result: bytes, value: bytes) -> None:
    version = Version(AT, kind, id_, result, value)
    assert versions.decode(AT, versions.encode(version)) == version


@pytest.mark.parametrize("first", [0x00, 0x04, 0x7F, 0x80, 0x84, 0xFF])
def test_unknown_kind_is_corruption(first: int) -> None:
    with pytest.raises(errors.CorruptionError, match=f"0x{first:02x}"):
        versions.decode(AT, bytes([first]) + ID + b"\x00\x00\x00\x00")
