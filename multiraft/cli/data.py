"""The commands that read and write single keys and spans: get, put, delete, increment, scan."""

import contextlib
import sys
from typing import Annotated, Any

import typer

from multiraft.cli import keytext, past
from multiraft.cli.failure import ExitCode
from multiraft.cli.past import AtOption
from multiraft.cli.session import (
    AddressOption,
    HexOption,
    JsonOption,
    Session,
    TimeoutOption,
    write_line,
)
from multiraft.client.database import Database
from multiraft.model import encoding

STDIN = "-"

KeyArgument = Annotated[
    str,
    typer.Argument(
        metavar="KEY", help=r"The key: text, with \xNN for a byte and \\ for a backslash."
    ),
]


def get(
    context: typer.Context,
    key: KeyArgument,
    raw: Annotated[
        bool, typer.Option("--raw", help="Write the value's bytes exactly, with no line end.")
    ] = False,
    counter: Annotated[
        bool, typer.Option("--counter", help="Show the value as the number `increment` keeps.")
    ] = False,
    at: AtOption = None,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Print the value of a key; exit status 1 if there is no such key."""
    session = Session(context, json=json, address=address, timeout=timeout)
    key_bytes = keytext.parse(key, as_hex=as_hex)

    async def read(database: Database) -> bytes | None:
        async with past.reading(database, at, "multiraft get") as source:
            return await source.get(key_bytes)

    value = session.run(read)
    if session.json:
        members: dict[str, Any] = keytext.to_json("key", key_bytes) | {"found": value is not None}
        if value is not None:
            members |= {"value": as_counter(value)} if counter else keytext.to_json("value", value)
        session.write_json(members)
    elif value is None:
        session.notes.print("not found", style="yellow")
    elif raw:
        sys.stdout.buffer.write(value)
    else:
        text = str(as_counter(value)) if counter else keytext.show_value(value, as_hex=as_hex)
        write_line(text.encode())
    if value is None:
        raise typer.Exit(ExitCode.NEGATIVE)


def put(
    context: typer.Context,
    key: KeyArgument,
    value: Annotated[
        str,
        typer.Argument(metavar="VALUE", help="The value, taken as it is; - reads it from stdin."),
    ],
    expect: Annotated[
        str | None, typer.Option("--expect", help="Put only if the key holds this value now.")
    ] = None,
    if_absent: Annotated[
        bool, typer.Option("--if-absent", help="Put only if there is no such key.")
    ] = False,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Set a key. On return the value is durable on a majority of the range's nodes."""
    session = Session(context, json=json, address=address, timeout=timeout)
    if expect is not None and if_absent:
        raise typer.BadParameter("--expect and --if-absent exclude each other: use one of them")
    key_bytes = keytext.parse(key, as_hex=as_hex)
    value_bytes = _value_from(value, as_hex=as_hex)
    if expect is not None or if_absent:
        expected = None if expect is None else keytext.literal(expect, as_hex=as_hex)
        session.run(lambda database: database.put(key_bytes, value_bytes, expected=expected))
    else:
        session.run(lambda database: database.put(key_bytes, value_bytes))
    if session.json:
        session.write_json(keytext.to_json("key", key_bytes) | {"value_bytes": len(value_bytes)})


def delete(
    context: typer.Context,
    key: KeyArgument,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Remove a key; exit status 1 if there was no such key."""
    session = Session(context, json=json, address=address, timeout=timeout)
    key_bytes = keytext.parse(key, as_hex=as_hex)
    existed = session.run(lambda database: database.delete(key_bytes))
    if session.json:
        session.write_json(keytext.to_json("key", key_bytes) | {"existed": existed})
    elif not existed:
        session.notes.print("not found", style="yellow")
    if not existed:
        raise typer.Exit(ExitCode.NEGATIVE)


def increment(
    context: typer.Context,
    key: KeyArgument,
    by: Annotated[int, typer.Option("--by", metavar="N", help="What to add; may be negative.")] = 1,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Add to a counter and print what it is now; an absent key counts as 0."""
    session = Session(context, json=json, address=address, timeout=timeout)
    if not encoding.COUNTER_MIN <= by <= encoding.COUNTER_MAX:
        raise typer.BadParameter(f"--by {by} does not fit into 64 signed bits")
    key_bytes = keytext.parse(key, as_hex=as_hex)
    number = session.run(lambda database: database.increment(key_bytes, by))
    if session.json:
        session.write_json(keytext.to_json("key", key_bytes) | {"value": number})
    else:
        write_line(str(number).encode())


def scan(
    context: typer.Context,
    start: Annotated[
        str | None, typer.Argument(metavar="START", help="The first key; default: the first.")
    ] = None,
    end: Annotated[
        str | None,
        typer.Argument(metavar="END", help="The key before which to stop; default: none."),
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", help="Only keys that begin so.")] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the last key down.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", min=0, metavar="N", help="At most N rows.")
    ] = None,
    keys_only: Annotated[bool, typer.Option("--keys-only", help="Leave the values out.")] = False,
    at: AtOption = None,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Print the rows of a span in order, all as of one moment.

    A row is its key, a tab and its value; with --json, an object on a line of its own.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    if prefix is not None and (start is not None or end is not None):
        raise typer.BadParameter("--prefix and START or END exclude each other: use one of them")
    if limit == 0:
        return
    first, last, common = (
        None if text is None else keytext.parse(text, as_hex=as_hex)
        for text in (start, end, prefix)
    )

    async def print_rows(database: Database) -> None:
        async with past.reading(database, at, "multiraft scan") as source:
            rows = source.scan(
                first or b"", last, prefix=common or b"", reverse=reverse, limit=limit
            )
            # Closed at once when the reader of our output goes away, as `head` does.
            async with contextlib.aclosing(rows):
                async for key, value in rows:
                    _print_row(session, key, None if keys_only else value, as_hex=as_hex)

    session.run(print_rows)


def _print_row(session: Session, key: bytes, value: bytes | None, *, as_hex: bool) -> None:
    if session.json:
        members = keytext.to_json("key", key)
        session.write_json(members if value is None else members | keytext.to_json("value", value))
        return
    line = keytext.show(key, as_hex=as_hex)
    if value is not None:
        line += "\t" + keytext.show_value(value, as_hex=as_hex)
    write_line(line.encode())


def _value_from(argument: str, *, as_hex: bool) -> bytes:
    if argument != STDIN:
        return keytext.literal(argument, as_hex=as_hex)
    data = sys.stdin.buffer.read()
    return keytext.literal(data.decode().strip(), as_hex=True) if as_hex else data


def as_counter(value: bytes) -> int:
    """Return the number that a counter's value is. Raises KeyTextError."""
    number = encoding.unpack_counter(value)
    if number is None:
        raise keytext.KeyTextError(
            f"the value has {len(value)} bytes, but a counter has {encoding.COUNTER_BYTES}: "
            "leave out --counter"
        )
    return number
