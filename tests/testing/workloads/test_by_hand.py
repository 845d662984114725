"""Judgements of histories so small that one can see what they must be."""

import msgspec
import pytest

from multiraft.testing.workloads import AnyWorkload, Workload
from multiraft.testing.workloads.batches import BatchesWorkload
from multiraft.testing.workloads.conditional import ConditionalWorkload
from multiraft.testing.workloads.freshness import FreshnessWorkload
from multiraft.testing.workloads.scans import ScansWorkload
from multiraft.testing.workloads.sets import SetsWorkload
from tests.support.told import Call, told

SPAN = ("scans/000/", "scans/001/")
UP, DOWN, ONE = (*SPAN, None, False), (*SPAN, None, True), (*SPAN, 1, False)
FIXED = ("scans/000/fixed", 0)
PAIR_A, PAIR_B = ("scans/000/pair-1-a", 1), ("scans/000/pair-1-b", 1)
LOW, HIGH = "scans/000/rung-1.1-0", "scans/000/rung-1.1-1"
ELEMENT = "sets/a/1"


def names(workload: Workload, *calls: Call) -> list[str]:
    return [a.name for verdict in workload.check(told(*calls)) for a in verdict.anomalies]


def scanned(span: tuple[str, str, int | None, bool], *rows: tuple[str, int]) -> Call:
    return Call("scan", None, span, rows)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("put", "k", 1, 1), Call("get", "k", None, 1)], []),
        ([Call("get", "k", None, 1)], ["invented-value"]),
        ([Call("put", "k", 1, None, "failed"), Call("get", "k", None, 1)], ["invented-value"]),
        ([Call("get", "k", None, 1), Call("put", "k", 1, 1)], ["invented-value"]),
        ([Call("put", "k", 1, 1), Call("get", "k", None, 0)], ["stale-read"]),
    ],
)
def test_freshness(calls: list[Call], expected: list[str]) -> None:
    assert names(FreshnessWorkload(), *calls) == expected


def test_a_write_of_unknown_outcome_may_come_late() -> None:
    lost, newer = Call("put", "k", 1, None, "unknown"), Call("put", "k", 2, 2)
    assert names(FreshnessWorkload(), lost, newer, Call("get", "k", None, 1)) == []


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("add", ELEMENT), Call("scan", "sets/a", False, (ELEMENT,))], []),
        ([Call("scan", "sets/a", False, (ELEMENT,))], ["invented"]),
        (
            [Call("add", ELEMENT, outcome="failed"), Call("scan", "sets/a", False, (ELEMENT,))],
            ["invented"],
        ),
        ([Call("add", ELEMENT), Call("scan", "sets/a", False, ())], ["lost"]),
        ([Call("add", ELEMENT, outcome="unknown"), Call("scan", "sets/a", False, ())], []),
        ([Call("add", ELEMENT), Call("remove", ELEMENT, None, False)], ["lost"]),
        (
            [
                Call("add", ELEMENT, outcome="unknown"),
                Call("scan", "sets/a", False, (ELEMENT,)),
                Call("scan", "sets/a", False, ()),
            ],
            ["lost"],
        ),
        (
            [
                Call("add", ELEMENT),
                Call("remove", ELEMENT, outcome="unknown"),
                Call("scan", "sets/a", False, ()),
                Call("scan", "sets/a", False, (ELEMENT,)),
            ],
            ["resurrected"],
        ),
    ],
)
def test_sets(calls: list[Call], expected: list[str]) -> None:
    assert names(SetsWorkload(), *calls) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([scanned(UP, FIXED)], []),
        ([scanned(DOWN, FIXED)], []),
        ([scanned(UP)], ["missed"]),
        ([scanned(UP, FIXED, FIXED)], ["repeated"]),
        ([scanned(UP, FIXED, (LOW, 1))], ["resurrected"]),
        ([scanned(UP, (FIXED[0], 7))], ["wrong-value"]),
        ([Call("put", LOW, 1), scanned(UP, FIXED, (LOW, 1))], []),
        ([Call("put", LOW, 1), scanned(ONE, FIXED)], []),
        ([Call("put", LOW, 1), scanned(UP, FIXED)], ["missed", "stale-scan"]),
        (
            [
                Call("put", LOW, 1),
                Call("put", HIGH, 1, outcome="unknown"),
                scanned(UP, FIXED, (LOW, 2)),
            ],
            ["out-of-order"],
        ),
        (
            [
                Call("put", LOW, 1, outcome="unknown"),
                Call("put", HIGH, 1, outcome="unknown"),
                scanned(UP, FIXED, (HIGH, 1)),
            ],
            ["out-of-order"],
        ),
    ],
)
def test_scans(calls: list[Call], expected: list[str]) -> None:
    assert names(ScansWorkload(places=1, pairs=0), *calls) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([scanned(UP, FIXED, PAIR_A, PAIR_B)], []),
        ([scanned(UP, FIXED, PAIR_A)], ["missed"]),
        ([scanned(UP, FIXED, PAIR_A, (PAIR_B[0], 2))], ["torn-pair"]),
        ([scanned(ONE, FIXED)], []),
        ([Call("cut", "scans/000/pair-1"), scanned(UP, FIXED, PAIR_A, (PAIR_B[0], 2))], []),
    ],
)
def test_pairs_of_scans(calls: list[Call], expected: list[str]) -> None:
    assert names(ScansWorkload(places=1, pairs=1), *calls) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("put", "g", 1, 1), Call("get", "g", None, (1, 1))], []),
        ([Call("put", "g", 1, 1), Call("get", "g", None, (1, None))], ["torn"]),
        ([Call("put", "g", 1, None)], ["disorder"]),
        ([Call("cas", "g", (None, 1), 2)], ["disorder"]),
        ([Call("put", "g", 1, 1), Call("cas", "g", (1, 2), False)], ["nonlinearizable"]),
        ([Call("get", "g", None, (1, None)), Call("cut", "g")], []),
    ],
)
def test_batches(calls: list[Call], expected: list[str]) -> None:
    assert names(BatchesWorkload(), *calls) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("swap", "k", (None, 1), (True, None))], []),
        ([Call("swap", "k", (1, 2), (False, None))], []),
        ([Call("swap", "k", (1, 2), (False, 3))], ["nonlinearizable"]),
        ([Call("swap", "k", (None, 1), (False, None))], ["contradiction"]),
        (
            [Call("swap", "k", (None, 1), (True, None)), Call("delete", "k", None, False)],
            ["nonlinearizable"],
        ),
    ],
)
def test_conditional(calls: list[Call], expected: list[str]) -> None:
    assert names(ConditionalWorkload(), *calls) == expected


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(msgspec.ValidationError, match="unknown field `keys_hto`"):
        msgspec.convert({"kind": "register", "keys_hto": 1}, AnyWorkload)
