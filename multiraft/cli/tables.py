"""How the command line's tables look: nothing of them is cut, however narrow the terminal is.

Invariants
    - Every column and every cell is shown in full: columns as far apart as there is room, and where
      there is none a record for each row, its cells with the names of their columns.
    - What is not written to a terminal is as wide as it needs to be.
"""

import os
from collections.abc import Iterator

from rich import box
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

_UNBOUNDED = 100_000
"""Columns of a line that nobody looks at in a terminal."""

_FOLDED = 12
"""A column that may be folded is at least that wide, if what it holds is."""

_INDENT = 4


class FittingTable(Table):
    """A table in the house's form, or the same as records; see the module."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for folded in (False, True):
            for apart in (1, 0):
                self.padding = (0, apart)
                if self._needs(console, options, folded=folded) <= options.max_width:
                    return super().__rich_console__(console, options)
        return self._records(console, options)

    def _needs(self, console: Console, options: ConsoleOptions, *, folded: bool) -> int:
        """Return how wide the table must be for no cell to be cut and no name to be broken."""
        wide = options.update_width(_UNBOUNDED)
        needs = super().__rich_measure__(console, wide).maximum
        for column in self.columns if folded else ():
            if not column.no_wrap:
                name = Measurement.get(console, wide, column.header).maximum
                cells = [Measurement.get(console, wide, cell) for cell in column.cells]
                widest = max((cell.maximum for cell in cells), default=0)
                words = max((cell.minimum for cell in cells), default=0)
                needs -= max(0, widest - max(name, min(words, _FOLDED)))
        return needs

    def _records(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        if self.title:
            yield Text(str(self.title), self.title_style or "")
        indent = " " * _INDENT
        for cells in zip(*(column.cells for column in self.columns), strict=True):
            line = _shown(console, cells[0])
            for column, cell in zip(self.columns[1:], cells[1:], strict=True):
                member = _member(console, column, cell)
                if not member:
                    continue
                if line.cell_len + 2 + member.cell_len > options.max_width and line.plain.strip():
                    yield line
                    line = Text(indent)
                else:
                    line.append(" " * max(2, _INDENT - line.cell_len))
                line.append_text(member)
            yield line


def _shown(console: Console, cell: RenderableType) -> Text:
    """Return what a cell says as one line."""
    text = cell if isinstance(cell, Text) else console.render_str(str(cell), highlight=False)
    return Text(" ").join(part for part in text.split("\n") if part)


def _member(console: Console, column: Column, cell: RenderableType) -> Text:
    shown = _shown(console, cell)
    if not shown:
        return shown
    return Text(" ").join((Text(str(column.header), "dim"), shown))


def console() -> Console:
    """Return standard output; COLUMNS tells its width as to any program, terminal or not."""
    made = Console(highlight=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNBOUNDED
    return made


def table(title: str | None = None) -> Table:
    """Return an empty table in the house's form."""
    return FittingTable(
        title=title,
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        header_style="dim",
    )


def columns(*names: str) -> Table:
    """Return an empty table with these columns."""
    made = table()
    for name in names:
        made.add_column(name)
    return made
