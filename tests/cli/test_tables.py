import io

import pytest
from rich.console import Console
from rich.text import Text

from multiraft.cli import tables
from tests.cli.conftest import Terminal


def rendered(width: int) -> list[str]:
    """Return a table of one row in a terminal of that width, line by line."""
    made = tables.table("Ranges")
    made.add_column("range", no_wrap=True)
    made.add_column("up to", overflow="fold")
    made.add_column("requests", justify="right")
    made.add_column("support")
    made.add_row("r1", Text("users/[0]/names"), "1,234,567", "[red]n1[/]\nn2")
    made.add_row("", "(last)", "", "")
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines() if line.strip()]


def test_columns_are_apart_where_there_is_room() -> None:
    assert rendered(60) == [
        "Ranges",
        " range  up to             requests  support",
        " ──────────────────────────────────────────",
        " r1     users/[0]/names  1,234,567  n1",
        "                                    n2",
        "        (last)",
    ]


def test_columns_are_folded_where_names_stay_whole() -> None:
    assert rendered(38) == [
        "Ranges",
        " range up to         requests support",
        " ────────────────────────────────────",
        " r1    users/[0]/na 1,234,567 n1",
        "       mes                    n2",
        "       (last)",
    ]


def test_rows_are_records_where_columns_would_be_cut() -> None:
    assert rendered(37) == [
        "Ranges",
        "r1  up to users/[0]/names",
        "    requests 1,234,567  support n1 n2",
        "    up to (last)",
    ]


def test_a_name_of_any_length_is_apart_from_what_follows() -> None:
    made = tables.columns("stage", "runs")
    for name in ("", "n1", "log", "evaluate"):
        made.add_row(name, "17")
    console = Console(file=io.StringIO(), width=12)
    console.print(made)
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue().splitlines()[:3] == [
        "    runs 17",
        "n1  runs 17",
        "log  runs 17",
    ]


@pytest.mark.parametrize("width", range(1, 60))
def test_nothing_is_cut_at_any_width(width: int) -> None:
    shown = "".join("".join(rendered(width)).split())
    for whole in ("range", "r1", "1,234,567", "support", "n1", "n2", "(last)"):
        if whole == "range" and "─" not in shown:
            continue  # The first cell of a record goes without its name.
        assert whole in shown
    assert "…" not in shown
    assert "users/[0]/names" in shown or "─" in shown, "only a table folds it among other cells"


def test_what_is_piped_is_as_wide_as_it_must_be_or_as_it_is_told_to(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    key = "k" * 200
    terminal.run("split", key)
    assert [line for line in terminal.run("ranges").text.splitlines() if key in line]
    monkeypatch.setenv("COLUMNS", "40")
    narrow = terminal.run("ranges").text
    assert max(map(len, narrow.splitlines())) == 40
    assert key in narrow.replace("\n", "")
