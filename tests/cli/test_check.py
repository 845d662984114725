from pathlib import Path

import pytest

from multiraft.testing import Operation, history_file
from tests.cli.conftest import Terminal

GOOD = (
    Operation(0, "a", "put", 0.0, "x", 1, None, 1.0, "ok"),
    Operation(1, "b", "get", 2.0, "x", None, 1, 3.0, "ok"),
)
STALE = (*GOOD, Operation(2, "b", "get", 4.0, "x", None, None, 5.0, "ok"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "history.jsonl"


def test_the_verdict_comes_first(terminal: Terminal, file: Path) -> None:
    history_file.save(file, GOOD)
    outcome = terminal.run("check", str(file), "--model", "register")
    assert outcome.exit_code == 0
    assert outcome.text.startswith("ok  register · 2 operations · ")


def test_each_anomaly_is_explained(terminal: Terminal, file: Path) -> None:
    history_file.save(file, STALE)
    outcome = terminal.run("check", str(file), "--model", "register")
    assert outcome.exit_code == 1
    first, _, rest = outcome.text.partition("\n")
    assert first.startswith("1 anomaly  register")
    assert "nonlinearizable  no order of these operations on x" in rest
    assert "#2 by b: get, from 4 -> absent at 5" in rest


def test_the_verdict_as_json(terminal: Terminal, file: Path) -> None:
    history_file.save(file, STALE)
    outcome = terminal.run("check", str(file), "--model", "register", "--json")
    assert outcome.exit_code == 1
    assert outcome.json["ok"] is False
    assert outcome.json["operations"] == 3
    assert outcome.json["anomalies"][0]["operations"] == [0, 2]


def test_many_anomalies_are_cut_off(terminal: Terminal, file: Path) -> None:
    reads = [Operation(n, 1, "get", 0.0, f"k{n}", None, 7, 1.0, "ok") for n in range(25)]
    history_file.save(file, reads)
    outcome = terminal.run("check", str(file), "--model", "register")
    assert outcome.text.startswith("25 anomalies")
    assert "and 5 more, which --json lists" in outcome.text


def test_undecided_has_its_own_exit_code(terminal: Terminal, file: Path) -> None:
    # A value that two wrote takes a search.
    again = Operation(2, "a", "put", 1.5, "x", 1, None, 1.7, "ok")
    history_file.save(file, (*GOOD, again))
    outcome = terminal.run("check", str(file), "--model", "register", "--steps", "1")
    assert outcome.exit_code == 9
    assert outcome.text.startswith("undecided  register")


def test_real_time_is_asked_of_list_append_only(terminal: Terminal, file: Path) -> None:
    txns = [
        Operation(0, 1, "txn", 0.0, result=(("append", "x", 1),), completed=1.0, outcome="ok"),
        Operation(1, 2, "txn", 2.0, result=(("r", "x", ()),), completed=3.0, outcome="ok"),
    ]
    history_file.save(file, txns)
    assert terminal.run("check", str(file), "--model", "list-append").exit_code == 0
    strictly = terminal.run("check", str(file), "--model", "list-append", "--real-time")
    assert strictly.exit_code == 1
    assert "G-single-realtime" in strictly.text
    assert terminal.run("check", str(file), "--model", "set", "--real-time").exit_code == 2
    assert terminal.run("check", str(file), "--model", "set", "--steps", "5").exit_code == 2


@pytest.mark.parametrize(
    ("text", "model", "reason"),
    [
        ("{}\n", "register", "line 1"),
        ("", "register", "no operation"),
        ('{"id":0,"process":1,"function":"get","invoked":0}', "list-append", "no operation"),
        ('{"id":0,"process":1,"function":"cas","invoked":0}', "register", "operation 0"),
        ("", "serial", "serial"),
    ],
)
def test_bad_input_is_told(
    terminal: Terminal, file: Path, text: str, model: str, reason: str
) -> None:
    file.write_text(text)
    outcome = terminal.run("check", str(file), "--model", model)
    assert outcome.exit_code == 2
    assert reason in " ".join(outcome.notes.split())


def test_a_bad_file_is_told_in_one_line(terminal: Terminal, file: Path) -> None:
    file.write_text('{"id":0,')
    outcome = terminal.run("check", str(file), "--model", "register")
    assert outcome.notes.startswith(f"error: {file}: line 1: not JSON: ")
    assert outcome.notes.count("\n") == 1


def test_one_operation_is_counted_as_one(terminal: Terminal, file: Path) -> None:
    history_file.save(file, GOOD[:1])
    outcome = terminal.run("check", str(file), "--model", "register")
    assert outcome.text.startswith("ok  register · 1 operation · ")


def test_a_file_that_is_not_there(terminal: Terminal, file: Path) -> None:
    assert terminal.run("check", str(file), "--model", "register").exit_code == 2
