"""How the command line's tables look: narrow enough for a terminal of 80 columns."""

from rich import box
from rich.table import Table


def table(title: str | None = None) -> Table:
    """Return an empty table in the house's form."""
    return Table(
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
