"""The counter workload, on a cluster that is well and on ones that lie."""

import pytest

from multiraft.testing import History
from multiraft.testing.checkers import Verdict
from multiraft.testing.workloads.counter import CounterWorkload
from multiraft.testing.workloads.workload import FINAL
from tests.support.driving import on_cluster, on_liar
from tests.support.liars import DoubleIncrements, Liar, LostWrites, RepeatedIncrements

WORKLOAD = CounterWorkload()


def judged(*calls: tuple[str, int]) -> Verdict:
    history = History(lambda: 0.0)
    for function, answer in calls:
        history.ok(history.invoke(FINAL if function == "get" else 1, function, key="k"), answer)
    return WORKLOAD.check(history)[0]


def test_a_cluster_that_is_well_counts_exactly_once() -> None:
    history = on_cluster(WORKLOAD, splits=(b"counter/2",))
    (verdict,) = WORKLOAD.check(history)
    assert verdict.ok, verdict
    assert verdict.operations > 100


def test_a_slow_cluster_leaves_some_outcomes_unknown_and_counts_exactly_once() -> None:
    history = on_cluster(WORKLOAD, sync_s=0.05, link_s=0.02, seconds=20)
    (verdict,) = WORKLOAD.check(history)
    assert verdict.ok, verdict
    assert any(o.outcome == "unknown" for o in history)


@pytest.mark.parametrize(
    ("kind", "anomaly"),
    [
        (LostWrites, "counted-twice"),  # Two answers are the same sum.
        (LostWrites, "lost-increment"),
        (DoubleIncrements, "counted-twice"),
        (RepeatedIncrements, "counted-twice"),
    ],
)
def test_a_lie_is_noticed(kind: type[Liar], anomaly: str) -> None:
    history, liar = on_liar(kind, WORKLOAD)
    (verdict,) = WORKLOAD.check(history)
    assert liar.lies
    assert anomaly in {a.name for a in verdict.anomalies}


def test_an_increment_that_found_too_little_is_noticed() -> None:
    verdict = judged(("increment", 1), ("increment", 2), ("increment", 1))
    assert [a.name for a in verdict.anomalies] == ["counted-twice", "out-of-order"]


def test_a_final_read_that_found_too_little_is_noticed() -> None:
    verdict = judged(("increment", 1), ("increment", 2), ("get", 1))
    assert [a.name for a in verdict.anomalies] == ["out-of-order", "lost-increment"]
