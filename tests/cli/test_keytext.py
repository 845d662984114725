import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.cli import keytext


@given(st.binary())
def test_what_show_writes_parse_reads_back(data: bytes) -> None:
    assert keytext.parse(keytext.show(data)) == data
    assert keytext.parse(keytext.show(data, as_hex=True), as_hex=True) == data


@given(st.binary())
def test_what_is_shown_is_printable_and_on_one_line(data: bytes) -> None:
    assert keytext.show(data).isprintable()
    assert keytext.show_value(data).isprintable()


@given(st.binary())
def test_json_carries_any_bytes(data: bytes) -> None:
    assert keytext.from_json("key", dict(keytext.to_json("key", data))) == data


@pytest.mark.parametrize(
    ("text", "data"),
    [
        ("", b""),
        ("plain", b"plain"),
        ("é😀", "é😀".encode()),
        (r"a\x00b", b"a\x00b"),
        (r"\xFF\xfe", b"\xff\xfe"),
        (r"back\\slash", b"back\\slash"),
        (r"\\x41", rb"\x41"),
        ("\udcff", b"\xff"),
    ],
)
def test_text_stands_for_bytes(text: str, data: bytes) -> None:
    assert keytext.parse(text) == data


@pytest.mark.parametrize("text", ["\\", r"\n", r"\x4", r"\xg0", "a\\"])
def test_an_unknown_escape_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(keytext.KeyTextError, match=r"--hex"):
        keytext.parse(text)


@pytest.mark.parametrize("text", ["abc", "zz", "0x12"])
def test_hex_that_is_not_hex_is_refused(text: str) -> None:
    with pytest.raises(keytext.KeyTextError, match="even number of digits"):
        keytext.parse(text, as_hex=True)


def test_a_value_is_taken_as_it_is_typed() -> None:
    assert keytext.literal(r'{"a": "\n"}') == rb'{"a": "\n"}'


def test_a_printable_value_is_shown_as_it_is_and_others_escaped() -> None:
    assert keytext.show_value(rb'{"a":"\n"}') == r'{"a":"\n"}'
    assert keytext.show_value(b"a\nb\\") == r"a\x0ab\\"
    assert keytext.show_value(b"\x1b[31m") == r"\x1b[31m"


@pytest.mark.parametrize(
    "members", [{}, {"key": 1}, {"key": None}, {"key_hex": 5}, {"key_hex": "xyz"}]
)
def test_json_without_the_bytes_is_refused(members: dict[str, object]) -> None:
    with pytest.raises(keytext.KeyTextError):
        keytext.from_json("key", members)
