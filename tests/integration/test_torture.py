"""About a minute of torture: real processes are hurt, and every answer is checked."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from multiraft.cli.torture.run import TortureResult, TortureRun
from multiraft.testing.faults.cuts import IsolateLeader, OneWayCut, Partition, Reset
from multiraft.testing.faults.freezes import FreezeLeader
from multiraft.testing.faults.kills import KillAll, KillOne
from multiraft.testing.spec import Spec
from multiraft.testing.workloads.counter import CounterWorkload
from multiraft.testing.workloads.register import RegisterWorkload
from tests.support import processes

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

DEATHS_AND_STOPS = Spec(
    name="deaths-and-stops",
    about="One dies, all die, leaders stand still.",
    seconds=20.0,
    splits=("register/m",),
    workload=(RegisterWorkload(clients=6), CounterWorkload(clients=4)),
    fault=(
        KillOne(every_s=(1.0, 3.0), down_s=(0.1, 1.0)),
        KillAll(every_s=(4.0, 8.0), down_s=(0.1, 1.0)),
        FreezeLeader(every_s=(1.0, 3.0), long_s=(3.0, 5.0)),
    ),
)

SEPARATIONS = Spec(
    name="separations",
    about="Ways are cut and connections break.",
    nodes=5,
    seconds=20.0,
    workload=(RegisterWorkload(clients=6), CounterWorkload(clients=4)),
    fault=(
        Partition(every_s=(1.0, 3.0), cut_s=(0.1, 3.0)),
        OneWayCut(every_s=(1.0, 4.0), cut_s=(0.1, 3.0)),
        IsolateLeader(every_s=(1.0, 4.0), cut_s=(0.1, 3.0)),
        Reset(every_s=(0.5, 2.0)),
    ),
)


def tortured(spec: Spec, directory: Path) -> TortureResult:
    """Return what a run of `spec` showed; nothing may have been wrong."""
    result = processes.run(TortureRun(spec, 1, directory).execute())
    assert not result.problems, "\n".join(result.problems)
    assert all(verdict.operations for verdict in result.verdicts), "a history is empty"
    assert result.outcomes["ok"], "nothing was answered"
    assert result.ranges == 2 + len(spec.splits), "a range was not compared"
    return result


def test_nodes_that_die_and_stop_answer_nothing_wrong(tmp_path: Path) -> None:
    result = tortured(DEATHS_AND_STOPS, tmp_path / "run")
    assert result.faults["kill-one"], "no node was killed"
    assert result.faults["kill-all"], "never all at once"


def test_nodes_that_are_cut_off_answer_nothing_wrong(tmp_path: Path) -> None:
    result = tortured(SEPARATIONS, tmp_path / "run")
    assert result.faults["partition"], "no way was cut"
    assert result.faults["reset"], "no connection was broken"


def test_an_interrupt_leaves_no_process_and_no_directory(tmp_path: Path) -> None:
    data = tmp_path / "data"

    def nodes() -> list[int]:
        """Return the nodes under `data` that run."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    line = (entry / "cmdline").read_bytes()
                except OSError:
                    continue
                if str(data / "deaths-1" / "node").encode() in line:
                    found.append(int(entry.name))
        return found

    async def main() -> None:
        torture = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "multiraft", "torture", "deaths"),
            *("--seed", "1", "--minutes", "10", "--data", str(data)),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await processes.until(lambda: len(nodes()) == 3, "three nodes run")
            os.kill(torture.pid, signal.SIGINT)
            assert await torture.wait() == 130
        finally:
            if torture.returncode is None:
                torture.kill()
                await torture.wait()
        assert nodes() == []
        assert not data.exists()

    processes.run(main())
