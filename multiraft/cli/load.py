"""The command `load`: rows from a file or standard input into the database.

A file's progress is recorded beside it, so that the same command goes on where an interrupted one
stopped. Standard input cannot be read again, so it has no such record; loading the same rows twice
does no harm.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from multiraft.cli import load_progress, rows
from multiraft.cli.failure import ExitCode
from multiraft.cli.loader import Loader, Position, StoppedAtBadRowError
from multiraft.cli.session import AddressOption, JsonOption, Session, TimeoutOption
from multiraft.client.database import Database

STDIN = Path("-")
_RECORD_INTERVAL_S = 0.5
_BAD_ROWS_SHOWN_MAX = 20


class Input(msgspec.Struct, frozen=True):
    """What is loaded; `path` is None for standard input and other pipes."""

    stream: BinaryIO
    path: Path | None
    format: rows.Format
    columns: rows.Columns

    def read_from(self, place: rows.Place) -> Iterator[rows.Row | rows.BadRow]:
        """Yield the rows after `place`. Raises BadHeaderError if the columns are not there."""
        source = rows.Source(self.stream)
        header = None
        if self.format is rows.Format.CSV and self.columns.header:
            header = rows.read_header(source)
        if place != rows.START:
            self.stream.seek(place.offset)
            source.place = place
        if self.format is rows.Format.CSV:
            return rows.read_csv(source, self.columns, header)
        return rows.read_json(source)

    @property
    def size_bytes(self) -> int | None:
        """How long the input is; None for a pipe."""
        return None if self.path is None else os.fstat(self.stream.fileno()).st_size


class Summary(msgspec.Struct, frozen=True):
    """What a load did; the fields are the members of the JSON form."""

    rows: int
    bad_rows: int
    resumed_at_line: int | None
    stopped_at_line: int | None
    seconds: float
    rows_per_second: float


def load(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="JSON lines or CSV; - reads standard input.", metavar="FILE")
    ] = STDIN,
    file_format: Annotated[
        rows.Format | None,
        typer.Option("--format", help="Default: by the file's name.", show_default=False),
    ] = None,
    key_column: Annotated[
        str, typer.Option(help="CSV: the column with the key, by name, or by number from 1.")
    ] = "key",
    value_column: Annotated[
        str, typer.Option(help="CSV: the column with the value, by name, or by number from 1.")
    ] = "value",
    header: Annotated[
        bool, typer.Option("--header/--no-header", help="CSV: the first line names the columns.")
    ] = True,
    on_error: Annotated[
        Literal["stop", "skip"],
        typer.Option(help="At a bad row: stop before it, or report it and go on."),
    ] = "stop",
    restart: Annotated[
        bool, typer.Option("--restart", help="Begin at the first row, whatever was loaded before.")
    ] = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Load rows from a file; the same command again goes on after an interruption.

    JSON lines are objects such as {"key": "a", "value": "1"}. Bad rows are told by line number.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    columns = rows.Columns(key_column, value_column, header)
    with _open(file) as stream:
        # A pipe cannot be read again either, whatever its name.
        path = file if file != STDIN and file.is_file() else None
        source = Input(stream, path, file_format or rows.format_of(file.name), columns)
        work = _Load(session, source, skip_bad_rows=on_error == "skip", restart=restart)
        summary = session.run(work.run)
    _report(session, summary)
    if summary.bad_rows or summary.stopped_at_line is not None:
        raise typer.Exit(ExitCode.BAD_ROWS)


def _open(file: Path) -> contextlib.AbstractContextManager[BinaryIO]:
    return contextlib.nullcontext(sys.stdin.buffer) if file == STDIN else file.open("rb")


class _Load:
    """One run of the command: what is shown and recorded while a `Loader` works."""

    def __init__(
        self, session: Session, source: Input, *, skip_bad_rows: bool, restart: bool
    ) -> None:
        self._session = session
        self._source = source
        self._skip_bad_rows = skip_bad_rows
        self._restart = restart
        self._cluster = ""
        self._recorded_at = session.now()
        self._can_record = True
        self._bad_rows_shown = 0

    async def run(self, database: Database) -> Summary:
        self._cluster = database.status().cluster_id
        start = self._start()
        try:
            incoming = self._source.read_from(start.place)
        except rows.BadHeaderError as error:
            raise typer.BadParameter(str(error)) from None
        with self._bar() as bar:
            task = bar.add_task("", total=self._source.size_bytes, rows="0 rows")

            def show(position: Position) -> None:
                bar.update(task, completed=position.place.offset, rows=f"{position.rows:,} rows")
                self._record(position, at_most_every_s=_RECORD_INTERVAL_S)

            loader = Loader(
                database,
                stop_at_bad_row=not self._skip_bad_rows,
                on_progress=show,
                on_bad_row=self._show_bad_row,
                start=start,
            )
            return await self._run(loader, incoming, start)

    async def _run(
        self, loader: Loader, incoming: Iterator[rows.Row | rows.BadRow], start: Position
    ) -> Summary:
        began = self._session.now()
        stopped_at: int | None = None
        finished = False
        try:
            await loader.run(incoming)
            finished = True
        except StoppedAtBadRowError as stopped:
            stopped_at = stopped.row.line
        finally:
            if finished:
                self._forget()
            else:
                self._record(loader.acknowledged, at_most_every_s=0)
                self._tell_how_to_go_on(loader.acknowledged)
        seconds = self._session.now() - began
        loaded = loader.acknowledged.rows - start.rows
        return Summary(
            rows=loader.acknowledged.rows,
            bad_rows=loader.acknowledged.bad_rows,
            resumed_at_line=None if start.place == rows.START else start.place.line + 1,
            stopped_at_line=stopped_at,
            seconds=round(seconds, 3),
            rows_per_second=round(loaded / seconds, 1) if seconds else 0.0,
        )

    def _bar(self) -> Progress:
        return Progress(
            TextColumn("loading"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
            console=self._session.notes,
            transient=True,
            disable=not self._session.notes.is_terminal,
        )

    def _start(self) -> Position:
        """Return where to begin: behind what an interrupted load of this input has put."""
        path = self._source.path
        if path is None or self._restart:
            return Position()
        progress = load_progress.read(load_progress.path_of(path))
        if progress is None:
            return Position()
        if not load_progress.fits(progress, self._source.stream, self._cluster):
            told = (
                f"{load_progress.path_of(path)} is of other rows or of another cluster: "
                "beginning at the first row"
            )
            self._session.notes.print(Text(told, "yellow"), soft_wrap=True)
            return Position()
        place = rows.Place(progress.offset, progress.line)
        return Position(place, progress.rows, progress.bad_rows)

    def _record(self, position: Position, *, at_most_every_s: float) -> None:
        path = self._source.path
        now = self._session.now()
        if path is None or not self._can_record or now - self._recorded_at < at_most_every_s:
            return
        self._recorded_at = now
        try:
            self._write_record(path, position)
        except OSError as error:
            self._can_record = False
            told = f"progress is not recorded ({error}): after an interruption, begin anew"
            self._session.notes.print(Text(told, "yellow"), soft_wrap=True)

    def _write_record(self, path: Path, position: Position) -> None:
        offset, line = position.place
        # A handle of its own, because the reader's position must not move under it.
        with path.open("rb") as file:
            checksum = load_progress.fingerprint(file, offset)
        load_progress.write(
            load_progress.path_of(path),
            load_progress.Progress(
                self._cluster, offset, line, position.rows, position.bad_rows, checksum
            ),
        )

    def _tell_how_to_go_on(self, position: Position) -> None:
        if self._source.path is not None and self._can_record:
            self._session.notes.print(
                f"in the database: {_rows(position.rows)}; the same command again goes on at "
                f"line {position.place.line + 1:,}"
            )

    def _forget(self) -> None:
        if self._source.path is not None:
            load_progress.path_of(self._source.path).unlink(missing_ok=True)

    def _show_bad_row(self, row: rows.BadRow) -> None:
        self._bad_rows_shown += 1
        if self._bad_rows_shown <= _BAD_ROWS_SHOWN_MAX:
            told = Text.assemble((f"line {row.line}: ", "red"), row.reason)
            self._session.notes.print(told, soft_wrap=True)
        elif self._bad_rows_shown == _BAD_ROWS_SHOWN_MAX + 1:
            self._session.notes.print("more bad rows follow; they are counted only")


def _report(session: Session, summary: Summary) -> None:
    if session.json:
        session.write_json(summary)
        return
    if summary.resumed_at_line is not None:
        session.notes.print(f"went on at line {summary.resumed_at_line:,}")
    session.notes.print(
        f"{_rows(summary.rows)} loaded, {_rows(summary.bad_rows, 'bad ')} passed over, "
        f"{summary.seconds:.1f} s, {summary.rows_per_second:,.0f} rows/s"
    )
    if summary.stopped_at_line is not None:
        session.notes.print(
            f"stopped before line {summary.stopped_at_line:,}: correct it, or pass over bad rows "
            "with --on-error skip"
        )


def _rows(number: int, which: str = "") -> str:
    return f"{number:,} {which}row" if number == 1 else f"{number:,} {which}rows"
