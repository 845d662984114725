"""The register workload, on a cluster that is well and on ones that lie."""

import pytest

from multiraft.sim.clock import VirtualClock
from multiraft.testing.workloads.register import RegisterWorkload
from tests.support.driving import on_cluster, on_liar
from tests.support.fake_cluster import Plan
from tests.support.liars import Liar, LostWrites, StaleReads

WORKLOAD = RegisterWorkload()


def test_a_cluster_that_is_well_is_linearizable() -> None:
    history = on_cluster(WORKLOAD, splits=(b"register/cold/030",))
    (verdict,) = WORKLOAD.check(history)
    assert verdict.ok, verdict
    assert {o.function for o in history} == {"get", "put", "cas", "delete"}
    assert any(o.function == "cas" and o.result is True for o in history)
    assert any(o.function == "cas" and o.result is False for o in history)


@pytest.mark.parametrize("kind", [StaleReads, LostWrites])
def test_a_lie_is_noticed(kind: type[Liar]) -> None:
    history, liar = on_liar(kind, WORKLOAD)
    (verdict,) = WORKLOAD.check(history)
    assert liar.lies
    assert verdict.anomalies


def slow(clock: VirtualClock) -> Liar:
    liar = Liar(clock)
    liar.intercept = lambda _node, _request: Plan(reply_delay_s=0.3)
    return liar


def test_a_slow_call_is_followed_by_reads_of_everything_hot() -> None:
    workload = RegisterWorkload(clients=1, keys_cold=0)
    history, _ = on_liar(slow, workload, seconds=10)
    operations = list(history)
    puts = [o for o in operations if o.function == "put"]
    assert puts
    for put in puts:
        following = operations[put.id + 1 : put.id + 4]
        assert {o.key for o in following if o.function == "get"} == {
            "register/hot/0",
            "register/hot/1",
            "register/hot/2",
        }
