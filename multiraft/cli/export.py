"""The command `export`: all rows of a span, as of one moment, to a file or standard output.

A file gets its name only when it is complete, so that an interrupted export cannot be taken for
one that finished.
"""

import contextlib
import os
import platform
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from multiraft.cli import keytext, past, rows
from multiraft.cli.past import AtOption
from multiraft.cli.session import AddressOption, HexOption, JsonOption, Session, TimeoutOption
from multiraft.client.database import Database

STDOUT = Path("-")
_SHOW_EVERY_ROWS = 1_000


def export(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="Where to write; - is standard output.", metavar="FILE")
    ] = STDOUT,
    file_format: Annotated[
        rows.Format | None,
        typer.Option("--format", help="Default: by the file's name.", show_default=False),
    ] = None,
    prefix: Annotated[str, typer.Option("--prefix", help="Only keys that begin so.")] = "",
    at: AtOption = None,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Write all rows as JSON lines or CSV that `load` reads; all as of one moment.

    However long that takes: garbage collection leaves alone what is still to be read. With --json,
    what was done is told as JSON on standard error.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    chosen = file_format or rows.format_of(file.name)
    prefix_bytes = keytext.parse(prefix, as_hex=as_hex)
    began = session.now()
    with _create(file) as stream:
        if chosen is rows.Format.CSV:
            stream.write(rows.CSV_HEADER)
        write = rows.write_csv if chosen is rows.Format.CSV else rows.write_json
        count = session.run(
            lambda database: _copy(session, database, at, prefix_bytes, stream, write)
        )
    seconds = round(session.now() - began, 3)
    if session.json:
        session.note_json({"rows": count, "seconds": seconds})
    else:
        session.notes.print(f"{count:,} rows exported in {seconds:.1f} s")


async def _copy(
    session: Session,
    database: Database,
    at: str | None,
    prefix: bytes,
    stream: BinaryIO,
    write: Callable[[bytes, bytes], bytes],
) -> int:
    count = 0
    with Progress(
        SpinnerColumn(),
        TextColumn("exporting  {task.completed:,.0f} rows"),
        console=session.notes,
        transient=True,
        disable=not session.notes.is_terminal,
    ) as bar:
        task = bar.add_task("", total=None)
        async with (
            database.snapshot(None if at is None else past.parse(at), owner=_owner()) as then,
            contextlib.aclosing(then.scan(prefix=prefix)) as rows_found,
        ):
            async for key, value in rows_found:
                stream.write(write(key, value))
                count += 1
                if count % _SHOW_EVERY_ROWS == 0:
                    bar.update(task, completed=count)
    return count


def _owner() -> str:
    """Return who protects the time of the export, as operators are told."""
    return f"multiraft export on {platform.node()[:100]}, process {os.getpid()}"


@contextlib.contextmanager
def _create(file: Path) -> Iterator[BinaryIO]:
    if file == STDOUT:
        yield sys.stdout.buffer
        return
    partial = file.with_name(file.name + ".partial")
    try:
        with partial.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
