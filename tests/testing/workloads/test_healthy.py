"""Every workload on a cluster that is well: nothing to find, and all that it looks at was there."""

from typing import get_args

import msgspec
import pytest

from multiraft.config import LimitsConfig
from multiraft.sim.clock import VirtualClock
from multiraft.sim.cluster import FAST
from multiraft.testing.workloads import AnyWorkload, Workload
from tests.support.driving import on_cluster, on_liar
from tests.support.fake_cluster import Plan
from tests.support.liars import Liar

KINDS: tuple[type[Workload], ...] = get_args(AnyWorkload)

SMALL_PAGES = msgspec.structs.replace(FAST, limits=LimitsConfig(scan_keys_max=7))

every_kind = pytest.mark.parametrize(
    "kind", KINDS, ids=[str(kind.__struct_config__.tag) for kind in KINDS]
)


@every_kind
def test_nothing_is_wrong_on_a_cluster_that_is_well(kind: type[Workload]) -> None:
    workload = kind()
    history = on_cluster(workload, settings=SMALL_PAGES)
    for verdict in workload.check(history):
        assert verdict.ok, verdict
        assert not verdict.notes
        assert verdict.operations > 50
    assert {o.outcome for o in history} <= {"ok", "failed"}


@every_kind
def test_nothing_is_wrong_when_ranges_are_cut_anywhere(kind: type[Workload]) -> None:
    workload = kind()
    name = workload.name.encode()
    cuts = tuple(name + cut for cut in (b"/0/002", b"/0/2", b"/010/pair-1-b", b"/02", b"/8"))
    history = on_cluster(workload, splits=cuts)
    verdicts = workload.check(history)
    assert all(verdict.ok for verdict in verdicts), verdicts
    cut = [note for verdict in verdicts for note in verdict.notes]
    assert len(cut) == (workload.name in {"bank", "batches", "cycle", "scans"})


class Forgetful(Liar):
    """Loses replies and requests, as networks do, and tells no lie."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock)
        self.intercept = lambda _node, _request: self._lose()

    def _lose(self) -> Plan:
        self.occasions += 1
        return Plan(
            drop_reply=self.occasions % 5 == 0,
            drop_request=self.occasions % 7 == 0,
            request_delay_s=0.7 if self.occasions % 11 == 0 else 0.0,
        )


@every_kind
def test_lost_requests_and_replies_explain_everything(kind: type[Workload]) -> None:
    workload = kind()
    history, _ = on_liar(Forgetful, workload)
    for verdict in workload.check(history):
        assert verdict.ok, verdict


@every_kind
def test_settings_are_read_from_a_table(kind: type[Workload]) -> None:
    table = {"kind": kind.__struct_config__.tag, "clients": 3}
    assert msgspec.convert(table, AnyWorkload) == kind(clients=3)


@every_kind
def test_a_run_can_be_repeated(kind: type[Workload]) -> None:
    first, second = (on_cluster(kind(), seconds=1, seed=7) for _ in range(2))
    assert list(first) == list(second)


def test_two_of_a_kind_can_have_their_own_keys() -> None:
    workload = KINDS[0](space="other")
    history = on_cluster(workload, seconds=1)
    assert all(operation.key.startswith("other/") for operation in history)
