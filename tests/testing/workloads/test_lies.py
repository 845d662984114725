"""Every check bites: a stand-in for a cluster that breaks one promise is caught at it."""

import pytest

from multiraft.testing.workloads import Workload
from multiraft.testing.workloads.bank import BankWorkload
from multiraft.testing.workloads.batches import BatchesWorkload
from multiraft.testing.workloads.conditional import ConditionalWorkload
from multiraft.testing.workloads.crossings import CrossingsWorkload
from multiraft.testing.workloads.cycle import CycleWorkload
from multiraft.testing.workloads.freshness import FreshnessWorkload
from multiraft.testing.workloads.list_append import ListAppendWorkload
from multiraft.testing.workloads.lists import ListsWorkload
from multiraft.testing.workloads.locks import LocksWorkload
from multiraft.testing.workloads.long_fork import LongForkWorkload
from multiraft.testing.workloads.past import PastWorkload
from multiraft.testing.workloads.rings import RingsWorkload
from multiraft.testing.workloads.rooms import RoomsWorkload
from multiraft.testing.workloads.scans import ScansWorkload
from multiraft.testing.workloads.sets import SetsWorkload
from multiraft.testing.workloads.transfers import TransfersWorkload
from multiraft.testing.workloads.write_skew import WriteSkewWorkload
from tests.support import liars
from tests.support.driving import on_liar
from tests.support.liars import Liar

CASES: list[tuple[type[Liar], Workload, str]] = [
    (liars.StaleReads, FreshnessWorkload(), "stale-read"),
    (liars.LostWrites, FreshnessWorkload(), "stale-read"),
    (liars.LateWrites, ConditionalWorkload(), "nonlinearizable"),
    (liars.LateDeletes, ConditionalWorkload(), "nonlinearizable"),
    (liars.LostWrites, ConditionalWorkload(), "nonlinearizable"),
    (liars.FalseRefusals, ConditionalWorkload(), "contradiction"),
    (liars.LostWrites, SetsWorkload(), "lost"),
    (liars.StaleScans, SetsWorkload(), "lost"),
    (liars.MissedRows, SetsWorkload(), "lost"),
    (liars.ForgottenDeletes, SetsWorkload(), "resurrected"),
    (liars.MissedRows, ScansWorkload(), "missed"),
    (liars.DoubledRows, ScansWorkload(), "repeated"),
    (liars.MixedMoments, ScansWorkload(), "torn-pair"),
    (liars.MixedMoments, ScansWorkload(), "out-of-order"),
    (liars.StaleScans, ScansWorkload(), "stale-scan"),
    (liars.TornBatches, ScansWorkload(), "torn-pair"),
    (liars.TornBatches, BatchesWorkload(), "torn"),
    (liars.StaleReads, BatchesWorkload(), "torn"),
    (liars.StaleReads, BatchesWorkload(), "disorder"),
    (liars.StaleScans, BatchesWorkload(), "nonlinearizable"),
    (liars.TornBatches, BankWorkload(), "wrong-total"),
    (liars.LostWrites, BankWorkload(), "wrong-total"),
    (liars.MixedMoments, BankWorkload(banks=1, think_s=0.02), "wrong-total"),
    (liars.RepeatedBatches, BankWorkload(), "wrong-balance"),
    (liars.LostWrites, ListAppendWorkload(), "lost-update"),
    (liars.StaleReads, ListAppendWorkload(), "G-single-realtime"),
    (liars.MixedMoments, ListAppendWorkload(think_s=0.02), "G-single-process"),
    (liars.TornBatches, CycleWorkload(), "broken-cycle"),
    (liars.MixedMoments, PastWorkload(), "changed-past"),
    (liars.StaleScans, PastWorkload(), "stale-look"),
    (liars.LostWrites, TransfersWorkload(), "wrong-total"),
    (liars.LostWrites, TransfersWorkload(), "lost-transfer"),
    (liars.LostWrites, TransfersWorkload(), "wrong-balance"),
    (liars.MissedRows, TransfersWorkload(), "wrong-total"),
    (liars.StaleValues, ListsWorkload(), "lost-update"),
    (liars.LostWrites, ListsWorkload(), "lost-update"),
    (liars.StaleValues, RingsWorkload(), "broken-cycle"),
    (liars.StaleValues, WriteSkewWorkload(pairs=1, think_s=0.02), "both-off"),
    (liars.StaleValues, CrossingsWorkload(), "crossed"),
    (liars.LostWrites, LongForkWorkload(), "lost"),
    (liars.MissedRows, RoomsWorkload(rooms=1), "overfull"),
    (liars.LostWrites, RoomsWorkload(rooms=1), "lost"),
    (liars.ForgottenDeletes, RoomsWorkload(rooms=1), "gone-twice"),
    (liars.StaleValues, LocksWorkload(), "lost-update"),
    (liars.LostWrites, LocksWorkload(), "wrong-sum"),
    (liars.MixedMoments, CycleWorkload(rings=1, think_s=0.02), "broken-cycle"),
]


@pytest.mark.parametrize(
    ("kind", "workload", "anomaly"),
    [pytest.param(*case, id=f"{case[0].__name__}-{case[1].name}-{case[2]}") for case in CASES],
)
def test_a_lie_is_noticed(kind: type[Liar], workload: Workload, anomaly: str) -> None:
    history, liar = on_liar(kind, workload)
    assert liar.lies
    names = [a.name for verdict in workload.check(history) for a in verdict.anomalies]
    assert anomaly in names
