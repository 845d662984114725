import itertools
from pathlib import Path

from multiraft.cli.torture import evidence
from multiraft.cli.torture.run import Clients, TortureRun
from multiraft.testing import history_file
from multiraft.testing.history import History
from multiraft.testing.spec import Spec
from multiraft.testing.workloads.register import RegisterWorkload


def test_a_failed_run_keeps_its_history_and_says_how_to_check_it(tmp_path: Path) -> None:
    workload = RegisterWorkload()
    run = TortureRun(Spec(name="x", about="", workload=(workload,)), 1, tmp_path)
    clock = itertools.count()
    history = History(lambda: float(next(clock)))
    history.ok(history.invoke(1, "put", key="k", argument=1))
    history.ok(history.invoke(2, "get", key="k"), None)
    clients = Clients(workload, history)
    clients.verdicts = workload.check(history)
    run.clients.append(clients)

    lines = evidence.keep(run, ("something was wrong",))

    file = tmp_path / "history1-register.jsonl"
    assert lines == (f"multiraft check {file} --model register",)
    assert history_file.load(file) == tuple(history)
    assert (tmp_path / "problems.txt").read_text() == "something was wrong\n"
