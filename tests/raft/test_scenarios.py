import os
from pathlib import Path

import pytest

from tests.support import raft_scenario

FILES = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_shows_what_it_tells(path: Path) -> None:
    told = path.read_text()
    seen = raft_scenario.rewrite(told)
    if os.environ.get("REWRITE"):
        path.write_text(seen)
    assert seen == told


def test_there_are_scenarios() -> None:
    assert FILES
