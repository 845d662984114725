"""Groups of keys that must lie in one range: what if a split cuts one."""

from multiraft.sim.clock import VirtualClock
from multiraft.testing.workloads import groups
from multiraft.testing.workloads.batches import BatchesWorkload
from tests.support.driving import on_liar
from tests.support.fake_cluster import Plan
from tests.support.liars import Liar
from tests.support.told import Call, told

WORKLOAD = BatchesWorkload()


def splitting(clock: VirtualClock) -> Liar:
    """A cluster that splits a group, and is late to write the addressing record."""
    cluster = Liar(clock)

    def split_once(*_: object) -> Plan:
        if clock.monotonic() > 1:
            cluster.split(b"batches/2/2", update_meta=False)
        return Plan()

    cluster.intercept = split_once
    return cluster


def test_a_group_that_was_cut_is_noted_even_if_its_records_are_old() -> None:
    history, _ = on_liar(splitting, WORKLOAD, seconds=5)
    assert groups.cut(history) == {"batches/2": None}
    verdicts = WORKLOAD.check(history)
    assert all(verdict.ok for verdict in verdicts)
    assert verdicts[0].notes == ("batches/2 is not judged as one: a split has cut it",)


def test_only_what_was_cut_is_left_out() -> None:
    history = told(Call("get", "a"), Call("get", "b"), Call("put", "a"), Call("cut", "a"))
    by_group, notes = groups.whole(history)
    assert [operation.id for operation in by_group["b"]] == [1]
    assert list(by_group) == ["b"]
    assert len(notes) == 1
