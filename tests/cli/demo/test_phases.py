"""All phases of the demo on real processes, with a hundredth of its rows and of its patience."""

import asyncio
import itertools
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

import multiraft
from multiraft.cli import cluster_process, machine
from multiraft.cli.demo import characters, phases, report
from multiraft.cli.demo.phases import Stage
from multiraft.cli.demo.workload import Rows
from multiraft.runtime import SystemClock

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(phases, "STEADY_S", 0.5)
    monkeypatch.setattr(phases, "SETTLE_S", 0.2)
    monkeypatch.setattr(phases, "HURT_S", 3.0)


async def play(stage: Stage) -> report.Result:
    """Go through all phases in the order of the demo."""
    loaded = await phases.load(stage)
    async with phases.busy(stage):
        split = await phases.split(stage)
        victim, killed = await phases.kill(stage)
        restarted = await phases.restart(stage, victim)
    verified = await phases.verify(stage)
    here = machine.describe(stage.cluster.directory)
    return report.Result(here, loaded, split, killed, restarted, verified)


def test_nothing_is_lost_or_stale_and_what_is_would_be_noticed(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            cluster_process.temporary(tmp_path) as cluster,
            multiraft.connect(*cluster.addresses) as database,
        ):
            rows = Rows(itertools.islice(characters.all_characters(), 0, None, 100))
            console = Console(quiet=True)
            stage = Stage(cluster, database, rows, console, SystemClock().monotonic)
            result = await play(stage)
            check(result, len(rows))

            await database.put(rows.keys[3], b"changed")
            await database.put(b"U+", b"added")
            await database.delete(rows.keys[7])
            verified = await phases.verify(stage)
            found = (verified.wrong, verified.unexpected, verified.missing)
            assert found == (1, 1, 1)
            assert not verified.is_right

    asyncio.run(main())


def check(result: report.Result, rows: int) -> None:
    assert result.loaded.rows == result.verified.rows == rows
    assert result.split.ranges == 8
    assert result.split.failed == 0
    assert result.split.snapshots == 0
    assert len({each.range_id for each in result.split.sections}) == 8
    assert {each.leader for each in result.split.sections} == {1, 2, 3}
    assert result.killed.ranges_led > 0
    assert result.killed.failed == 0
    assert result.killed.worst_stall_ms > 0
    assert result.restarted.node_id == result.killed.node_id
    assert result.verified.is_right
    assert result.verified.writes > 0
    assert report.split_table(result.split).row_count == 9
    assert report.stall_table(result.killed).row_count == 8
    assert msgspec.json.encode(result)
