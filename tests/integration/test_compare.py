"""The comparison with real processes: one tiny round, of peers that are installed."""

from pathlib import Path

import pytest

from bench.compare import records
from bench.compare.__main__ import main
from bench.compare.peers import PEERS

TINY = ("--rounds", "1", "--seconds", "0.2", "--callers", "4", "--keys", "1000")


@pytest.mark.integration
@pytest.mark.parametrize("name", PEERS)
def test_a_tiny_round_of_a_peer(name: str, tmp_path: Path) -> None:
    peer = PEERS[name]
    if missing := peer.missing():
        pytest.skip(f"needs {missing}")
    operations = ",".join(sorted(peer.operations))
    data, output = tmp_path / "data", tmp_path / "output"
    data.mkdir()
    main(
        [
            *("--only", name, "--operations", operations, *TINY),
            *("--data", str(data), "--output", str(output)),
        ]
    )
    found = records.read([output / "rounds.jsonl"])
    assert {each.operation for each in found} == peer.operations
    assert not [each.problem for each in found if each.problem]
    assert not list(data.iterdir())
