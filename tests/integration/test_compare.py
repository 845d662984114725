"""The comparison with real processes: one tiny round of each peer that is installed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.compare import records
from bench.compare.__main__ import main
from bench.compare.peers import peers

TINY = ("--rounds", "1", "--seconds", "0.2", "--callers", "4", "--keys", "2000")

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("name", peers())
def test_a_tiny_round_of_a_peer(name: str, tmp_path: Path) -> None:
    peer = peers()[name]
    if missing := peer.missing():
        pytest.skip(f"needs {missing}")
    data, output = tmp_path / "data", tmp_path / "output"
    data.mkdir()
    callers = TINY if peer.callers_max is None else (*TINY, "--callers", str(peer.callers_max))
    operations = ",".join(sorted(peer.operations))
    main(
        [
            *("--only", name, "--operations", operations, *callers),
            *("--data", str(data), "--output", str(output)),
        ]
    )
    found = records.read([output / "rounds.jsonl"])
    assert not [each.problem for each in found if each.problem]
    assert {each.operation for each in found} == peer.operations
    assert not list(data.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing_behind(number: signal.Signals, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    command = [
        *(sys.executable, "-m", "bench.compare", "--only", "multiraft", "--operations", "put"),
        *("--seconds", "60", "--data", str(data), "--output", str(tmp_path / "output")),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        assert any("1 callers" in line for line in run.stdout)
        assert processes_that_name(data)
        os.kill(run.pid, number)
        assert "interrupted" in run.stdout.read()
    assert run.returncode == 130
    assert not processes_that_name(data)
    assert not list(data.iterdir())


def processes_that_name(directory: Path) -> list[int]:
    """Return the processes whose command line has files of the directory, the run's own apart."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
        if f"{directory}/".encode() in command:
            found.append(int(file.parent.name))
    return found
