from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import orjson
import pytest
import typer

from multiraft import errors
from multiraft.cli import script, scripted
from multiraft.cli.app import app
from multiraft.cli.script import VERBS, Step
from multiraft.cli.session import Environment, Session
from multiraft.model import encoding
from tests.cli.conftest import Terminal
from tests.support import clients
from tests.support.clients import Bench
from tests.support.fake_cluster import Plan

TRANSFER = b"""
# ann pays bob
increment ann -5
increment bob 5
get 'a name with spaces'
put note "from ann" --if-absent
scan --prefix n
delete nothing
"""


def test_a_script_is_one_transaction(terminal: Terminal, tmp_path: Path) -> None:
    path = tmp_path / "transfer"
    path.write_bytes(TRANSFER)
    terminal.cluster.put(b"a name with spaces", b"\xff")
    outcome = terminal.run("txn", str(path))
    assert outcome.exit_code == 0
    assert outcome.text == "-5\n5\n\\xff\nnote\tfrom ann\nnot found\n"
    assert outcome.notes == "committed\n"
    rows = terminal.rows()
    assert rows[b"ann"] == encoding.pack_counter(-5)
    again = terminal.run("txn", str(path))
    assert again.exit_code == 1
    assert again.text == ""
    assert "line 6: the condition on /plain/note does not hold" in again.notes
    assert terminal.rows() == rows


def test_json(terminal: Terminal) -> None:
    given = b"put a 1\nincrement n\nget n --counter\nget z --for-update\n"
    given += b"scan --for-update\ndelete-range a b\n"
    outcome = terminal.run("txn", "--json", stdin=given)
    lines = [orjson.loads(line) for line in outcome.output.splitlines()]
    assert lines[:-1] == [
        {"line": 1, "operation": "put", "key": "a"},
        {"line": 2, "operation": "increment", "key": "n", "value": 1},
        {"line": 3, "operation": "get", "key": "n", "found": True, "value": 1},
        {"line": 4, "operation": "get", "key": "z", "found": False},
        {"line": 5, "operation": "scan", "key": "a", "value": "1"},
        {"line": 5, "operation": "scan", "key": "n", "value": "\x00" * 7 + "\x01"},
        {"line": 6, "operation": "delete-range", "deleted": 1},
    ]
    assert lines[-1]["committed"] is True
    assert lines[-1]["timestamp"] > 0
    assert set(terminal.rows()) == {b"n"}


def test_a_script_may_roll_back(terminal: Terminal) -> None:
    outcome = terminal.run("txn", "run", "-", stdin=b"put a 1\nget a\nrollback\n")
    assert (outcome.exit_code, outcome.text, outcome.notes) == (0, "1\n", "rolled back\n")
    assert terminal.run("--json", "txn", stdin=b"rollback").json == {"committed": False}
    assert terminal.rows() == {}


def test_help_names_the_script_and_the_commands(terminal: Terminal) -> None:
    outcome = terminal.run("txn", "--help")
    assert outcome.exit_code == 0
    assert "run" in outcome.text
    assert "list" in outcome.text


def test_hexadecimal_digits(terminal: Terminal) -> None:
    terminal.run("txn", "--hex", stdin=b"put 00ff 41\n")
    assert terminal.rows() == {b"\x00\xff": b"A"}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("fetch a", "'fetch' is not known; there are get, put, delete"),
        ("get", "get: write: get KEY"),
        ("get a b", "get: write: get KEY"),
        ("get a --fast", "get: it has no --fast; write: get KEY"),
        ("put a", "put: write: put KEY VALUE"),
        ("put a 1 --expect", "--expect needs a word after it"),
        ("put a 1 --expect 2 --if-absent", "exclude each other"),
        ("increment a many", "N must be a whole number, not 'many'"),
        ("increment a 9223372036854775808", "does not fit into 64 signed bits"),
        ("scan --limit -1", "--limit must be 0 or more"),
        ("scan a b c", "scan: write: scan [START"),
        ("delete-range a", "delete-range: write: delete-range START END"),
        ("commit now", "commit: write: commit"),
        ("get 'a", "close the quotes"),
        (r"get a\q", "unknown escape"),
        ("rollback\nget a", "nothing can follow the rollback"),
    ],
)
def test_a_line_that_makes_no_sense_is_named(terminal: Terminal, line: str, told: str) -> None:
    outcome = terminal.run("txn", stdin=b"# first\nput a 1\n" + line.encode())
    assert outcome.exit_code == 2
    flat = " ".join(outcome.notes.replace("│", " ").split())
    assert told in flat
    assert "line 3: " in flat or "line 4: " in flat
    assert terminal.rows() == {}


def test_values_that_are_no_digits_are_named(terminal: Terminal) -> None:
    for line in (b"put 00 xyz", b"put xyz 00"):
        outcome = terminal.run("txn", "--hex", stdin=line)
        assert outcome.exit_code == 2
        assert "line 1: put: 'xyz' is not" in " ".join(outcome.notes.replace("│", " ").split())


def test_what_is_no_counter_is_named(terminal: Terminal) -> None:
    terminal.cluster.put(b"a", b"text")
    outcome = terminal.run("txn", stdin=b"get a\nget a --counter\n")
    assert outcome.exit_code == 2
    assert "line 2: the value has 4 bytes" in " ".join(outcome.notes.replace("│", " ").split())
    outcome = terminal.run("txn", "--json", stdin=b"increment a\n")
    assert outcome.exit_code == 4
    assert outcome.error["problem"].startswith("line 1: /plain/a cannot be incremented")


def test_a_missing_file_is_told(terminal: Terminal, tmp_path: Path) -> None:
    outcome = terminal.run("txn", str(tmp_path / "nothing"))
    assert outcome.exit_code == 2
    assert "No such file" in outcome.notes


def test_every_verb_of_the_script_is_carried_out() -> None:
    assert set(VERBS) == set(scripted._DOINGS)
    assert script.parse("  # nothing", 1) is None
    assert script.parse(r"put a\x00 'b c' # remark", 7) == Step(7, "put", b"a\x00", b"b c")


def converse(bench: Bench, *lines: str, json: bool = False) -> Coroutine[Any, Any, None]:
    context = typer.Context(typer.main.get_command(app), obj=Environment())
    waiting = iter(lines)

    async def read_line() -> str | None:
        return next(waiting, None)

    return scripted.converse(bench.db, Session(context, json=json), read_line, 60.0, as_hex=False)


def test_at_a_prompt_what_is_wrong_can_be_typed_again(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(bench: Bench) -> None:
        bench.cluster.put(b"a", b"1")
        await converse(
            bench,
            "get a",
            "",
            "gte a",
            "put a 2 --if-absent",
            "put a 2 --expect 1",
            "commit",
            "get a",
        )
        assert bench.cluster.value(b"a") == b"2"

    clients.run(main)
    shown = capsys.readouterr()
    assert shown.out == "1\n"
    assert shown.err.startswith("One transaction: `commit` ends it, ")
    assert "error: line 3: 'gte' is not known" in shown.err
    assert "line 4: the condition on /plain/a does not hold" in shown.err
    assert shown.err.endswith("committed\n")


def test_help_at_a_prompt_lists_how_every_line_is_written(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(bench: Bench) -> None:
        await converse(bench, "help", "rollback")

    clients.run(main)
    told = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in told if line.startswith("  ")] == list(VERBS)


def test_a_prompt_tells_once_that_an_answer_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(bench: Bench) -> None:
        await converse(bench, "get a", "rollback")
        assert scripted.LATE not in capsys.readouterr().err
        bench.cluster.intercept = lambda _node, _request: Plan(drop_request=True)
        with pytest.raises(errors.DeadlineExceededError):
            await converse(bench, "get a")

    clients.run(main)
    assert " ".join(capsys.readouterr().err.split()).count(scripted.LATE) == 1


def test_what_is_wrong_at_a_prompt_is_told_as_json_to_programs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def main(bench: Bench) -> None:
        await converse(bench, "gte a", json=True)

    clients.run(main)
    told = orjson.loads(capsys.readouterr().err)["error"]
    assert told["code"] == "usage"
    assert told["problem"].startswith("line 1: 'gte' is not known")


@pytest.mark.parametrize("last", [("rollback",), ()])
def test_only_commit_commits_at_a_prompt(
    capsys: pytest.CaptureFixture[str], last: tuple[str, ...]
) -> None:
    async def main(bench: Bench) -> None:
        await converse(bench, "put a 1", "scan", *last, json=True)
        assert bench.cluster.value(b"a") is None

    clients.run(main)
    assert [orjson.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"line": 1, "operation": "put", "key": "a"},
        {"line": 2, "operation": "scan", "key": "a", "value": "1"},
        {"committed": False},
    ]
