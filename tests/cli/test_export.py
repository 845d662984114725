from pathlib import Path

import orjson

from multiraft import errors
from multiraft.model import requests
from tests.cli.conftest import Terminal
from tests.support.fake_cluster import EVALUATE, Plan


def test_rows_are_exported_and_load_back(terminal: Terminal, tmp_path: Path) -> None:
    table = {b"a": b"1", b"b\xff": b"\x00\xfe", "é".encode(): b'"quoted"\n'}
    for key, value in table.items():
        terminal.cluster.put(key, value)
    file = tmp_path / "rows.jsonl"
    outcome = terminal.run("export", str(file), "--json")
    assert outcome.exit_code == 0
    assert orjson.loads(outcome.notes)["rows"] == 3
    other = Terminal()
    assert other.run("load", str(file)).exit_code == 0
    assert other.rows() == table


def test_csv_to_standard_output_with_a_prefix(terminal: Terminal) -> None:
    for key in (b"a1", b"b1", b"b2"):
        terminal.cluster.put(key, b"x,y")
    outcome = terminal.run("export", "--format", "csv", "--prefix", "b")
    assert outcome.text == 'key,value\nb1,"x,y"\nb2,"x,y"\n'


def test_an_export_that_fails_leaves_no_file(terminal: Terminal, tmp_path: Path) -> None:
    terminal.cluster.put(b"a", b"1")
    file = tmp_path / "rows.jsonl"

    def refuse(_node: object, request: requests.BatchRequest) -> Plan:
        failed = errors.StoreFailedError(reason="broken")
        is_scan = isinstance(request.operations[0], requests.Scan)
        return Plan(refusal=failed) if is_scan else EVALUATE

    terminal.cluster.intercept = refuse
    outcome = terminal.run("export", str(file), "--timeout", "1")
    assert outcome.exit_code in (3, 7)
    assert list(tmp_path.iterdir()) == []


def test_csv_of_bytes_that_are_not_text_is_refused_with_the_remedy(
    terminal: Terminal, tmp_path: Path
) -> None:
    terminal.cluster.put(b"a", b"\xff")
    outcome = terminal.run("export", str(tmp_path / "rows.csv"))
    assert outcome.exit_code == 2
    assert "JSON lines" in outcome.notes
    assert list(tmp_path.iterdir()) == []
