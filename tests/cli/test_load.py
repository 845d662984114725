import os
from pathlib import Path

import msgspec
import orjson
import pytest

from multiraft import errors
from multiraft.cli import load_progress, loader
from multiraft.model import requests
from tests.cli.conftest import Terminal
from tests.support.fake_cluster import EVALUATE, Plan


def jsonl(count: int, *, first: int = 0) -> bytes:
    return b"".join(
        orjson.dumps({"key": f"k{number:04}", "value": str(number)}) + b"\n"
        for number in range(first, first + count)
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "BATCH_ROWS_MAX", 50)
    monkeypatch.setattr(loader, "BATCHES_IN_FLIGHT_MAX", 2)


def fail_after(terminal: Terminal, puts: int) -> None:
    """Let that many puts through, and refuse the others for good."""
    seen = 0

    def decide(_node: object, request: requests.BatchRequest) -> Plan:
        nonlocal seen
        if isinstance(request.operations[0], requests.Put):
            seen += len(request.operations)
            if seen > puts:
                full = errors.DiskFullError(path="/data", free_bytes=1, reserve_bytes=2)
                return Plan(refusal=full)
        return EVALUATE

    terminal.cluster.intercept = decide


def test_a_file_is_loaded_and_summed_up(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(120))
    outcome = terminal.run("load", str(file), "--json")
    assert outcome.exit_code == 0
    assert outcome.json["rows"] == 120
    assert outcome.json["bad_rows"] == 0
    assert outcome.json["resumed_at_line"] is None
    assert len(terminal.rows()) == 120
    assert not load_progress.path_of(file).exists()


def test_standard_input_is_loaded(terminal: Terminal) -> None:
    assert terminal.run("load", stdin=jsonl(3)).exit_code == 0
    assert terminal.rows() == {b"k0000": b"0", b"k0001": b"1", b"k0002": b"2"}


def test_csv_from_standard_input(terminal: Terminal) -> None:
    outcome = terminal.run(
        *("load", "-", "--format", "csv", "--key-column", "b", "--value-column", "a"),
        stdin=b"a,b\n1,x\n",
    )
    assert outcome.exit_code == 0
    assert terminal.rows() == {b"x": b"1"}


def test_an_interrupted_load_goes_on_where_it_stopped(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(400))
    fail_after(terminal, 200)
    outcome = terminal.run("load", str(file))
    assert outcome.exit_code == 3
    assert "below the reserve" in outcome.notes
    recorded = load_progress.read(load_progress.path_of(file))
    assert recorded is not None
    assert 0 < recorded.rows <= 200

    sent_before = len(terminal.cluster.sent(requests.Put))
    terminal.cluster.intercept = lambda _node, _request: EVALUATE
    outcome = terminal.run("load", str(file), "--json")
    assert outcome.exit_code == 0
    assert outcome.json["rows"] == 400
    assert outcome.json["resumed_at_line"] == recorded.line + 1
    assert len(terminal.rows()) == 400
    again = terminal.cluster.sent(requests.Put)[sent_before:]
    keys_again = {put.key for _, request in again for put in request.operations}  # type: ignore[union-attr]
    assert len(keys_again) == 400 - recorded.rows
    assert not load_progress.path_of(file).exists()


def test_progress_of_another_file_is_not_believed(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(400))
    fail_after(terminal, 200)
    terminal.run("load", str(file))
    terminal.cluster.intercept = lambda _node, _request: EVALUATE
    file.write_bytes(jsonl(400, first=1_000))
    outcome = terminal.run("load", str(file), "--json")
    assert outcome.json["resumed_at_line"] is None
    assert "of other rows or of another cluster" in outcome.notes
    assert b"k1000" in terminal.rows()


def test_progress_in_another_cluster_is_not_believed(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(400))
    fail_after(terminal, 200)
    terminal.run("load", str(file))
    path = load_progress.path_of(file)
    recorded = load_progress.read(path)
    assert recorded is not None
    load_progress.write(path, msgspec.structs.replace(recorded, cluster="another"))
    other = Terminal()
    assert other.run("load", str(file)).exit_code == 0
    assert len(other.rows()) == 400


def test_damaged_progress_counts_as_absent(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(10))
    load_progress.path_of(file).write_bytes(b'{"cluster": "c1", "off')
    assert terminal.run("load", str(file)).exit_code == 0
    assert len(terminal.rows()) == 10


def test_restart_begins_at_the_first_row(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(400))
    fail_after(terminal, 200)
    terminal.run("load", str(file))
    terminal.cluster.intercept = lambda _node, _request: EVALUATE
    outcome = terminal.run("load", str(file), "--restart", "--json")
    assert outcome.json["resumed_at_line"] is None
    assert outcome.json["rows"] == 400


def test_a_bad_row_stops_and_the_corrected_file_goes_on(terminal: Terminal, file: Path) -> None:
    file.write_bytes(jsonl(60) + b"oops\n" + jsonl(60, first=60))
    outcome = terminal.run("load", str(file))
    assert outcome.exit_code == 8
    assert "line 61" in outcome.notes
    assert len(terminal.rows()) == 60

    file.write_bytes(jsonl(120))
    outcome = terminal.run("load", str(file), "--json")
    assert outcome.exit_code == 0
    assert outcome.json["resumed_at_line"] == 61
    assert len(terminal.rows()) == 120


def test_bad_rows_are_passed_over_when_asked(terminal: Terminal, file: Path) -> None:
    file.write_bytes(b"oops\n" + jsonl(5) + b'{"key": "x"}\n')
    outcome = terminal.run("load", str(file), "--on-error", "skip", "--json")
    assert outcome.exit_code == 8
    assert outcome.json["bad_rows"] == 2
    assert outcome.json["stopped_at_line"] is None
    assert "line 1:" in outcome.notes
    assert "line 7:" in outcome.notes
    assert len(terminal.rows()) == 5


def test_a_value_over_the_limit_is_a_bad_row(terminal: Terminal, file: Path) -> None:
    large = orjson.dumps({"key": "big", "value": "x" * (1 << 20) + "y"}) + b"\n"
    file.write_bytes(jsonl(2) + large + jsonl(2, first=2))
    outcome = terminal.run("load", str(file), "--on-error", "skip")
    assert outcome.exit_code == 8
    assert "line 3: the value has 1048577 bytes; the limit is 1048576" in outcome.notes
    assert len(terminal.rows()) == 4


def test_a_missing_column_is_a_wrong_command_line(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"a,b\n1,2\n")
    outcome = terminal.run("load", str(file))
    assert outcome.exit_code == 2
    assert "no column 'key'" in outcome.notes


def test_a_missing_file_is_one_clear_line(terminal: Terminal, file: Path) -> None:
    outcome = terminal.run("load", str(file))
    assert outcome.exit_code == 2
    assert outcome.notes.count("\n") == 1
    assert "No such file" in outcome.notes


def test_an_empty_file_is_no_error(terminal: Terminal, file: Path) -> None:
    file.write_bytes(b"")
    assert terminal.run("load", str(file), "--json").json["rows"] == 0


def test_a_load_goes_on_when_its_progress_cannot_be_recorded(
    terminal: Terminal, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: Path, _progress: load_progress.Progress) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(load_progress, "write", refuse)
    monkeypatch.setattr("multiraft.cli.load._RECORD_INTERVAL_S", 0.0)
    file.write_bytes(jsonl(200))
    outcome = terminal.run("load", str(file))
    assert outcome.exit_code == 0
    assert outcome.notes.count("progress is not recorded") == 1
    assert len(terminal.rows()) == 200


def test_a_pipe_with_a_name_is_loaded_without_a_record(terminal: Terminal, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.write(writer, jsonl(3))
    os.close(writer)
    try:
        assert terminal.run("load", f"/dev/fd/{reader}").exit_code == 0
    finally:
        os.close(reader)
    assert len(terminal.rows()) == 3
    assert list(tmp_path.iterdir()) == []
