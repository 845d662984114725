"""The counter workload, on a cluster that is well and on ones that lie."""

import pytest

from multiraft.testing.workloads.counter import CounterWorkload
from tests.support.driving import on_cluster, on_liar
from tests.support.liars import DoubleIncrements, Liar, LostWrites, RepeatedIncrements

WORKLOAD = CounterWorkload()


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
        (LostWrites, "duplicate-result"),
        (LostWrites, "lost-increment"),
        (DoubleIncrements, "extra-increment"),
        (RepeatedIncrements, "extra-increment"),
    ],
)
def test_a_lie_is_noticed(kind: type[Liar], anomaly: str) -> None:
    history, liar = on_liar(kind, WORKLOAD)
    (verdict,) = WORKLOAD.check(history)
    assert liar.lies
    assert anomaly in {a.name for a in verdict.anomalies}
