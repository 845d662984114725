import io
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.cli import keytext, rows
from multiraft.cli.rows import BadRow, Columns, Place, Row, Source

TEXT = st.text().filter(lambda text: text.isprintable() or "\n" in text or '"' in text)


def read_json(data: bytes) -> list[Row | BadRow]:
    return list(rows.read_json(Source(io.BytesIO(data))))


def read_csv(data: bytes, columns: Columns | None = None) -> list[Row | BadRow]:
    columns = columns or Columns()
    source = Source(io.BytesIO(data))
    header = rows.read_header(source) if columns.header else None
    return list(rows.read_csv(source, columns, header))


def pairs(found: Iterable[Row | BadRow]) -> list[tuple[bytes, bytes]]:
    return [(row.key, row.value) for row in found if isinstance(row, Row)]


def test_json_rows_tell_their_line_and_where_they_end() -> None:
    first, second = b'{"key":"a","value":"1"}\n', b'{"key":"b","value":"2"}'
    assert read_json(first + b"\n" + second) == [
        Row(b"a", b"1", 1, Place(len(first), 1)),
        Row(b"b", b"2", 3, Place(len(first) + 1 + len(second), 3)),
    ]


def test_a_value_that_is_no_string_is_stored_as_its_json_text() -> None:
    data = b'{"key":"a","value":{"n": [1, 2.5, null]}}\n{"key":"b","value":7}\n'
    assert pairs(read_json(data)) == [(b"a", b'{"n":[1,2.5,null]}'), (b"b", b"7")]


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    assert pairs(read_json(b'\xef\xbb\xbf{"key":"a","value":"1"}\n')) == [(b"a", b"1")]
    assert pairs(read_csv(b"\xef\xbb\xbfkey,value\na,1\n")) == [(b"a", b"1")]


@pytest.mark.parametrize(
    "bad",
    [
        b"not json",
        b"[1]",
        b'"key"',
        b'{"value":"1"}',
        b'{"key":"a"}',
        b'{"key":"a","value":null}',
        b'{"key":1,"value":"1"}',
        b'{"key":"\xff","value":"1"}',
        b'{"key_hex":"0","value":"1"}',
    ],
)
def test_a_bad_json_row_costs_that_row_only(bad: bytes) -> None:
    good = b'{"key":"a","value":"1"}\n'
    found = read_json(good + bad + b"\n" + good)
    assert [type(row) for row in found] == [Row, BadRow, Row]
    assert found[1].line == 2
    assert "\n" not in found[1].reason if isinstance(found[1], BadRow) else False


def test_what_is_no_json_is_told_with_its_place_in_the_line() -> None:
    (found,) = read_json(b'{"key":"a",}\n')
    assert isinstance(found, BadRow)
    assert found.reason.startswith("no JSON: ")
    assert found.reason.endswith(", at character 11")


@given(st.lists(st.tuples(st.binary(), st.binary())))
def test_exported_json_loads_to_the_same_bytes(table: list[tuple[bytes, bytes]]) -> None:
    written = b"".join(rows.write_json(key, value) for key, value in table)
    assert pairs(read_json(written)) == table


@given(st.lists(st.tuples(TEXT, TEXT)))
def test_exported_csv_loads_to_the_same_bytes(table: list[tuple[str, str]]) -> None:
    encoded = [(key.encode(), value.encode()) for key, value in table]
    written = rows.CSV_HEADER + b"".join(rows.write_csv(key, value) for key, value in encoded)
    assert pairs(read_csv(written)) == encoded


def test_csv_refuses_to_carry_bytes_that_are_not_text() -> None:
    with pytest.raises(keytext.KeyTextError, match="JSON lines"):
        rows.write_csv(b"k", b"\xff")


def test_csv_columns_are_found_by_the_header() -> None:
    data = b"id,city,zip\n1,Bern,3000\n"
    assert pairs(read_csv(data, Columns("city", "zip"))) == [(b"Bern", b"3000")]


def test_csv_columns_are_counted_from_one_without_a_header() -> None:
    assert pairs(read_csv(b"1,Bern,3000\n", Columns("2", "3", header=False))) == [
        (b"Bern", b"3000")
    ]


@pytest.mark.parametrize("columns", [Columns("name"), Columns("0", "1", header=False)])
def test_columns_that_are_not_there_are_refused_before_the_first_row(columns: Columns) -> None:
    with pytest.raises(rows.BadHeaderError):
        read_csv(b"key,value\n", columns)


def test_a_quoted_field_may_hold_line_ends_and_the_next_line_number_is_right() -> None:
    found = read_csv(b'key,value\r\na,"1\n2"\r\nb\r\nc,3\r\n')
    assert pairs(found) == [(b"a", b"1\n2"), (b"c", b"3")]
    assert [row.line for row in found] == [2, 4, 5]


def test_a_bad_csv_row_costs_that_row_only() -> None:
    found = read_csv(b'key,value\na,1\nb,"x"y\n\xff,2\nc\nd,4\n')
    assert [type(row) for row in found] == [Row, BadRow, BadRow, BadRow, Row]
    assert [row.line for row in found] == [2, 3, 4, 5, 6]


def test_reading_goes_on_at_the_place_where_a_row_ends() -> None:
    data = b'key,value\na,"1\n2"\nb,3\n'
    place = read_csv(data)[0].end
    file = io.BytesIO(data)
    file.seek(place.offset)
    again = list(rows.read_csv(Source(file, place), Columns(), ["key", "value"]))
    assert again == read_csv(data)[1:]


def test_the_format_follows_the_file_name() -> None:
    assert rows.format_of("a.CSV") is rows.Format.CSV
    assert rows.format_of("a.jsonl") is rows.Format.JSON
