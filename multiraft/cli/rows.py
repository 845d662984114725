r"""Rows of a file, read for `load` and written by `export`.

Formats
    JSON lines   one object a line: `key` and `value`, or `key_hex` and `value_hex` for bytes that
                 are not UTF-8 text. A `value` that is no string stands for its JSON text.
    CSV          RFC 4180 in UTF-8, with a header line that names the columns; which of them hold
                 key and value is told by name or, without a header, by number from 1.
Invariants
    - What `export` writes, `load` reads back to the same bytes.
    - Reading is exact about where it is: each row says where it ends, so that a load can go on
      there.
    - A bad row costs that row only: the reader goes on with the next one.
"""

import csv
import enum
import io
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import msgspec
import orjson

from multiraft.cli import keytext

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_LINE_BYTES_MAX = 64 << 20
"""A longer line is cut, so that a file without line ends cannot fill the memory."""
csv.field_size_limit(_LINE_BYTES_MAX)


class Format(enum.StrEnum):
    """How rows are written down."""

    JSON = "json"
    CSV = "csv"


class Place(NamedTuple):
    """A place between two rows: how many bytes and lines lie before it."""

    offset: int
    line: int


START = Place(0, 0)


class Row(NamedTuple):
    """One key and value, the line it begins on (from 1), and where it ends."""

    key: bytes
    value: bytes
    line: int
    end: Place


class BadRow(NamedTuple):
    """A row that cannot be used, and why."""

    line: int
    reason: str
    end: Place


class Columns(msgspec.Struct, frozen=True):
    """Which columns of a CSV file hold what: names of the header, or numbers from 1 without one."""

    key: str = "key"
    value: str = "value"
    header: bool = True


class BadHeaderError(ValueError):
    """The columns asked for are not in the file."""


class Source:
    """Counts lines and bytes while a reader takes lines from a binary file."""

    __slots__ = ("_file", "place")

    def __init__(self, file: BinaryIO, place: Place = START) -> None:
        self._file = file
        self.place = place

    def __iter__(self) -> Iterator[bytes]:
        while raw := self._file.readline(_LINE_BYTES_MAX):
            offset, line = self.place
            at_start = offset == 0
            self.place = Place(offset + len(raw), line + 1)
            yield raw.removeprefix(_BYTE_ORDER_MARK) if at_start else raw


def format_of(name: str) -> Format:
    """Return the format that a file name suggests; JSON lines unless it ends in `.csv`."""
    return Format.CSV if name.lower().endswith(".csv") else Format.JSON


def read_json(source: Source) -> Iterator[Row | BadRow]:
    """Yield the rows of JSON lines; empty lines are passed over."""
    for raw in source:
        if not raw.strip():
            continue
        try:
            key, value = _parse_object(raw)
        except (ValueError, keytext.KeyTextError) as error:
            yield BadRow(source.place.line, _first_line(error), source.place)
        else:
            yield Row(key, value, source.place.line, source.place)


def _parse_object(raw: bytes) -> tuple[bytes, bytes]:
    try:
        members = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise keytext.KeyTextError(f"no JSON: {error.msg}, at character {error.colno}") from None
    if not isinstance(members, dict):
        raise keytext.KeyTextError(f"a row must be an object, but is {type(members).__name__}")
    key = keytext.from_json("key", members)
    value = members.get("value")
    if value is None or isinstance(value, str):
        return key, keytext.from_json("value", members)
    return key, orjson.dumps(value)


def read_csv(source: Source, columns: Columns, header: list[str] | None) -> Iterator[Row | BadRow]:
    """Return the rows of a CSV file whose header line is `header` and has been read.

    Raises BadHeaderError at once if the columns are not in it.
    """
    return _pick_columns(source, _column(columns.key, header), _column(columns.value, header))


def _pick_columns(source: Source, key_at: int, value_at: int) -> Iterator[Row | BadRow]:
    records = _records(source)
    while True:
        first_line = source.place.line + 1
        try:
            record = next(records, None)
        except (csv.Error, UnicodeDecodeError) as error:
            yield BadRow(first_line, _first_line(error), source.place)
            # The generator that raised is finished, the file is not.
            records = _records(source)
            continue
        if record is None:
            return
        if not record:
            continue
        if len(record) <= max(key_at, value_at):
            needed = max(key_at, value_at) + 1
            reason = f"column {needed} is needed, but the last one is column {len(record)}"
            yield BadRow(first_line, reason, source.place)
            continue
        key, value = record[key_at].encode(), record[value_at].encode()
        yield Row(key, value, first_line, source.place)


def read_header(source: Source) -> list[str]:
    """Read the header line of a CSV file. Raises BadHeaderError if it is not one."""
    try:
        return next(_records(source), [])
    except (csv.Error, UnicodeDecodeError) as error:
        raise BadHeaderError(f"the header line is unreadable: {error}") from None


def _records(source: Source) -> Iterator[list[str]]:
    # A csv reader takes exactly the lines of one record each time, so the offset stays exact.
    return csv.reader((raw.decode() for raw in source), strict=True)


def _column(name: str, header: list[str] | None) -> int:
    if header is None:
        if not name.isascii() or not name.isdigit() or int(name) < 1:
            raise BadHeaderError(
                f"without a header line, columns are numbers from 1; {name!r} is not"
            )
        return int(name) - 1
    if name not in header:
        raise BadHeaderError(
            f"there is no column {name!r}; the header line names {', '.join(map(repr, header))}"
        )
    return header.index(name)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def write_json(key: bytes, value: bytes) -> bytes:
    """Return the row as one JSON line."""
    members = keytext.to_json("key", key) | keytext.to_json("value", value)
    return orjson.dumps(members, option=orjson.OPT_APPEND_NEWLINE)


def write_csv(key: bytes, value: bytes) -> bytes:
    """Return the row as one CSV record. Raises KeyTextError for bytes that are not UTF-8 text."""
    try:
        return _csv_record([key.decode(), value.decode()])
    except UnicodeDecodeError:
        raise keytext.KeyTextError(
            f"the row of key {keytext.show(key)} is not UTF-8 text, which CSV cannot carry: "
            "export JSON lines instead"
        ) from None


CSV_HEADER = b"key,value\n"


def _csv_record(fields: list[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
