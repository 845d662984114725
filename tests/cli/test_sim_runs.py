"""What stands for a run here is found by the processes in this module."""

import multiprocessing
import os
import signal
from collections.abc import Callable

import msgspec
import pytest

from multiraft import errors
from multiraft.cli import sim_runs
from multiraft.cli.sim_runs import SeededRun
from multiraft.testing import runner, spec
from multiraft.testing.runner import RunResult

RUNS = [(spec.load("kills"), seed) for seed in range(3)]
RESULT = RunResult("kills", 0, (), (), 0, {}, {}, (), 0.0, 0.0, 0.0, 0, "")


def of_seed(run: SeededRun) -> RunResult:
    is_ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return msgspec.structs.replace(RESULT, seed=run[1], outcomes={"ignored": int(is_ignored)})


def killed(_run: SeededRun) -> RunResult:
    os.kill(os.getpid(), signal.SIGKILL)
    return RESULT


def endless(run: SeededRun) -> RunResult:
    while run[1]:
        signal.pause()
    return RESULT


def no_words(_line: str) -> None:
    """Nothing is told of rounds."""


def test_one_process_runs_one_after_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "run", lambda *run, tell: tell(f"seed {run[1]}") or of_seed(run))
    told: list[str] = []
    results = sim_runs.run_all(RUNS, 1, told.append)
    assert next(results).seed == 0
    assert told == ["seed 0"]
    assert [result.seed for result in results] == [1, 2]


Running = Callable[[Callable[[SeededRun], RunResult]], None]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Running:
    return lambda run: monkeypatch.setattr(sim_runs, "_run_one", run)


@pytest.mark.integration
def test_results_of_processes_come_in_order_and_these_ignore_ctrl_c(running: Running) -> None:
    before = signal.getsignal(signal.SIGINT)
    running(of_seed)
    results = list(sim_runs.run_all(RUNS, 2, no_words))
    assert [result.seed for result in results] == [0, 1, 2]
    assert all(result.outcomes["ignored"] for result in results)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.integration
def test_a_killed_process_is_told(running: Running) -> None:
    running(killed)
    with pytest.raises(errors.MultiraftError, match="try fewer at a time"):
        list(sim_runs.run_all(RUNS, 2, no_words))


@pytest.mark.integration
def test_who_leaves_early_ends_what_runs(running: Running) -> None:
    running(endless)
    results = sim_runs.run_all(RUNS, 2, no_words)
    assert next(results) == RESULT
    results.close()  # type: ignore[attr-defined]
    assert multiprocessing.active_children() == []
