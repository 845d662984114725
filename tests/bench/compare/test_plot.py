from pathlib import Path

import pytest

from bench.compare import plot
from bench.compare.peer import Operation
from tests.bench.compare.conftest import Recorded


def test_a_picture_is_written_in_every_format(recorded: Recorded, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records = [
        recorded(peer, number, 100 * number * callers, callers=callers, operation=operation)
        for operation in (Operation.PUT, Operation.GET, Operation.SCAN_100)
        for peer in ("multiraft", "etcd")
        for callers in (1, 16)
        for number in (1, 2, 3)
    ]
    files = plot.draw(records, tmp_path)
    assert [file.name for file in files] == ["throughput.png", "throughput.svg"]
    assert all(file.stat().st_size > 10_000 for file in files)


def test_there_is_no_picture_of_what_has_no_throughput(recorded: Recorded, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert plot.draw([recorded("etcd", 1, 0, operation=Operation.IDLE)], tmp_path) == []


def test_without_matplotlib_it_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    assert plot.missing() == "matplotlib (PyPI)"
