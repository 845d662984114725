import pytest

from multiraft.cli import help_text
from tests.cli.conftest import Terminal


def _command() -> None:
    """Do something.

    This is folded
    here.

        this
        is not
    """


def test_a_paragraph_is_one_line_unless_it_is_indented() -> None:
    expected = "Do something.\n\nThis is folded here.\n\n    this\n    is not"
    assert help_text.of(_command) == expected


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("check", "9 undecided within --steps."),
        ("txn run", "    put KEY VALUE [--if-absent | --expect VALUE]"),
        ("debug profile", "Exit status 3 if one does not answer."),
    ],
)
def test_a_wide_terminal_folds_nothing(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, command: str, told: str
) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    lines = terminal.run(*command.split(), "--help").text.splitlines()
    assert any(told in line for line in lines)
