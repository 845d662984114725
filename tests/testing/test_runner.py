"""A run of a spec: decided by its seed, and hard to please."""

import asyncio
import gc
import os
import subprocess
import sys
from typing import Any

import msgspec
import pytest

from multiraft.client.database import Database
from multiraft.ranges.commands import writes
from multiraft.sim import footprint
from multiraft.sim.loop import VirtualLoop
from multiraft.testing import runner, spec
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.faults import AnyFault
from multiraft.testing.history import History
from multiraft.testing.recovery import Recovery
from multiraft.testing.spec import Spec
from multiraft.testing.workloads import AnyWorkload, ClientRun
from multiraft.testing.workloads.register import RegisterWorkload

SMALL = msgspec.structs.replace(spec.load("kills"), seconds=3.0)


def test_the_same_seed_gives_the_same_run() -> None:
    first, second = runner.run(SMALL, 5), runner.run(SMALL, 5)
    assert first == second
    assert first.ok, first.problems


def test_another_seed_gives_another_run() -> None:
    assert runner.run(SMALL, 5).digest != runner.run(SMALL, 6).digest


def test_nothing_is_kept_of_a_run_that_is_over() -> None:
    def of_runs() -> list[object]:
        return [each for each in gc.get_objects() if type(each) in (runner.Run, VirtualLoop)]

    before = of_runs()  # Other tests may keep theirs.
    runner.run(SMALL, 5)
    assert [each for each in of_runs() if not any(each is other for other in before)] == []


def test_a_run_depends_on_no_hash_order() -> None:
    program = (
        "import msgspec; from multiraft.testing import runner, spec; "
        "small = msgspec.structs.replace(spec.load('kills'), seconds=2.0); "
        "print(runner.run(small, 3).digest)"
    )

    def digest(hash_seed: str) -> bytes:
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        return subprocess.run(
            [sys.executable, "-c", program], env=environment, check=True, capture_output=True
        ).stdout

    assert digest("1") == digest("2") != b""


def test_a_database_that_writes_twice_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "replay", lambda *_: None)
    lost_replies = msgspec.structs.replace(spec.load("lost-replies"), seconds=6.0)
    assert any(not runner.run(lost_replies, seed).ok for seed in range(1, 6))


def test_what_breaks_in_a_run_is_a_problem_of_its_result(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("made to fail")

    monkeypatch.setattr(writes, "evaluate", broken)
    result = runner.run(SMALL, 1)
    assert not result.ok
    assert any("made to fail" in problem for problem in result.problems)


@pytest.mark.parametrize("name", spec.names())
def test_every_spec_is_named_as_its_file_and_says_what_it_is_for(name: str) -> None:
    loaded = spec.load(name)
    assert loaded.name == name
    assert loaded.about.endswith(".")


def test_every_workload_and_every_fault_is_in_some_spec() -> None:
    specs = [spec.load(name) for name in spec.names()]
    used = {type(part) for each in specs for part in (*each.workload, *each.fault)}
    missing = {kind.__name__ for kind in _kinds() if kind not in used}
    assert not missing


def test_every_fault_hurts_transactions_in_some_spec() -> None:
    hurt = {
        type(fault)
        for each in map(spec.load, spec.names())
        if any(workload.name in TRANSACTIONS for workload in each.workload)
        for fault in each.fault
    }
    spared = {kind for kind in AnyFault.__args__ if kind not in hurt}
    assert {kind.__struct_config__.tag for kind in spared} == OF_GROUPS_ALONE


def _kinds() -> tuple[type, ...]:
    return (*AnyWorkload.__args__, *AnyFault.__args__)


CALM = Spec(name="calm", about="Nothing goes wrong.", workload=SMALL.workload, seconds=1.0)
TRANSACTIONS = {"lists", "transfers", "write-skew", "long-fork"}
"""Workloads."""
OF_GROUPS_ALONE = {
    "kill-host",
    "late-requests",
    "restart-supporters",
    "split-under-snapshot",
    "stale-tail",
    "swap-supporter",
}
"""Faults that set up one situation of a Raft group, and no other."""
REGISTER = (RegisterWorkload(),)
FAR = 40
"""Entries."""


def test_a_round_leaves_no_key_and_no_call_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[tuple[list[str], int]] = []
    check = RegisterWorkload.check

    def noted(self: RegisterWorkload, history: History) -> tuple[Verdict, ...]:
        judged.append((list(dict.fromkeys(o.key.split("/")[0] for o in history)), len(history)))
        return check(self, history)

    stored: list[set[bytes]] = []
    work = runner.Run._work

    async def looking(self: runner.Run, admin: Database, *others: Any) -> None:  # noqa: ANN401
        stored.append({key async for key, _ in admin.scan()})
        await work(self, admin, *others)

    monkeypatch.setattr(RegisterWorkload, "check", noted)
    monkeypatch.setattr(runner.Run, "_work", looking)
    result = runner.run(msgspec.structs.replace(CALM, workload=REGISTER, rounds=3), 1)
    assert result.ok, result.problems
    assert stored == [set(), set(), set()]
    assert [spaces for spaces, _ in judged] == [[f"register.000{n}"] for n in range(3)]
    assert result.operations == sum(calls for _, calls in judged) > 0
    assert result.faults == {"lost": 3}


def test_every_round_tells_what_is_held_and_the_most_is_in_the_result() -> None:
    told: list[str] = []
    several = msgspec.structs.replace(CALM, workload=REGISTER, rounds=2)
    result = runner.run(several, 1, tell=told.append)
    assert [line.split(":")[0] for line in told] == ["round 1 of 2", "round 2 of 2"]
    assert f" calls={result.operations} replicas=" in told[-1]
    assert tuple(result.held) == footprint.NAMES
    assert all(result.held[name] > 0 for name in ("replicas", "log_bytes", "tasks", "watched"))
    runner.run(CALM, 1, tell=told.append)
    assert len(told) == 2, "one round is the run"


def test_a_round_that_ends_with_more_than_its_bounds_is_the_last() -> None:
    assert runner.run(msgspec.structs.replace(CALM, bounds={"replicas": 2}), 1).ok
    told: list[str] = []
    strict = msgspec.structs.replace(CALM, bounds={"replicas": 1}, rounds=3)
    result = runner.run(strict, 1, tell=told.append)
    assert result.problems == ("round 1 ends with 2 replicas, more than 1",)
    assert len(told) == 1


def test_a_round_in_which_something_was_wrong_is_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Verdict("register", 1, (Anomaly("nonlinearizable", "told"),))
    monkeypatch.setattr(RegisterWorkload, "check", lambda *_: (wrong,))
    result = runner.run(msgspec.structs.replace(CALM, workload=REGISTER, rounds=3), 1)
    assert result.problems == (str(wrong),)
    assert result.faults == {"lost": 1}


def test_a_seed_that_starts_with_no_fault_still_ends() -> None:
    result = runner.run(CALM, 1)
    assert result.ok, result.problems
    assert result.faults == {"lost": 1}, "a minority is away at the end"


def test_an_election_is_a_problem_where_none_is_allowed() -> None:
    strict = msgspec.structs.replace(SMALL, no_elections=True)
    assert any("one was enough" in problem for problem in runner.run(strict, 5).problems)


def test_a_call_that_waits_for_longer_than_it_may_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def client(self: RegisterWorkload, c: ClientRun) -> None:
        asked = self.key(c.number)
        await c.ask("read", asked, None, asyncio.sleep(0.0 if c.number > 1 else FAR))

    monkeypatch.setattr(RegisterWorkload, "client", client)
    result = runner.run(CALM, 1)
    (problem,) = (each for each in result.problems if "did not end" in each)
    assert problem.startswith("1 clients did not end within")
    assert "read of 'register/1' by 1, begun 1.0 s before that" in problem
    assert result.ended_s < runner.DEADLINES_S[-1], "the most patient clients wait longer"


def test_a_cluster_that_comes_no_nearer_has_not_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Recovery, "is_well", lambda self, replicas_of: False)
    monkeypatch.setattr(Recovery, "entries_behind", lambda self: FAR)
    assert any("not within" in problem for problem in runner.run(CALM, 1).problems)
