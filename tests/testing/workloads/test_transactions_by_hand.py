"""Judgements of what transactions were told, in histories so small that one can see them."""

import pytest

from multiraft.testing import Outcome
from multiraft.testing.workloads import Workload
from multiraft.testing.workloads.crossings import CrossingsWorkload
from multiraft.testing.workloads.groups import CUT
from multiraft.testing.workloads.lists import ListsWorkload
from multiraft.testing.workloads.locks import LocksWorkload
from multiraft.testing.workloads.long_fork import LongForkWorkload
from multiraft.testing.workloads.rooms import RoomsWorkload
from multiraft.testing.workloads.transfers import TransfersWorkload
from multiraft.testing.workloads.workload import FINAL
from multiraft.testing.workloads.write_skew import WriteSkewWorkload
from tests.support.told import Call, told

TWO = TransfersWorkload(accounts=2, paid_in=5)


def names(workload: Workload, *calls: Call) -> list[str]:
    return [a.name for verdict in workload.check(told(*calls)) for a in verdict.anomalies]


def moved(*, outcome: Outcome = "ok", had_enough: bool = True) -> Call:
    return Call("transfer", None, ("e", 0, 1, 2), had_enough, outcome)


def at_the_end(first: int, second: int, *ledger: tuple[str, int, int, int]) -> list[Call]:
    accounts = ((0, first), (1, second))
    return [
        Call("read", None, "scan", accounts, process=FINAL),
        Call("ledger", None, None, ledger, process=FINAL),
    ]


MOVED = ("e", 0, 1, 2)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([moved(), *at_the_end(3, 7, MOVED)], []),
        ([moved(outcome="unknown"), *at_the_end(3, 7, MOVED)], []),
        ([moved(outcome="unknown"), *at_the_end(5, 5)], []),
        ([moved(), *at_the_end(5, 5)], ["lost-transfer"]),
        ([moved(outcome="failed"), *at_the_end(3, 7, MOVED)], ["unwanted-transfer"]),
        ([moved(had_enough=False), *at_the_end(3, 7, MOVED)], ["unwanted-transfer"]),
        (at_the_end(3, 7, MOVED), ["unwanted-transfer"]),
        ([moved(), *at_the_end(5, 5, MOVED)], ["wrong-balance", "wrong-balance"]),
        ([moved(), *at_the_end(3, 5, MOVED)], ["wrong-total", "wrong-balance"]),
        (
            [Call("read", None, "get", ((0, -1), (1, 11))), moved(), *at_the_end(3, 7, MOVED)],
            ["negative-balance"],
        ),
    ],
)
def test_transfers(calls: list[Call], expected: list[str]) -> None:
    assert names(TWO, *calls) == expected


def read(*seen: int) -> Call:
    return Call("read", 0, (0, 1, 2), seen)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("write", 0, 1, None, "unknown"), read(), read(1)], []),
        (
            [Call("write", 0, n, None, "unknown") for n in (0, 1)] + [read(0), read(1)],
            ["long-fork"],
        ),
        ([Call("write", 0, 1), read()], ["lost"]),
        ([Call("write", 0, 1, None, "failed"), read(1)], ["unwritten"]),
    ],
)
def test_long_fork(calls: list[Call], expected: list[str]) -> None:
    assert names(LongForkWorkload(), *calls) == expected


def test_write_skew_is_two_switches_that_are_off() -> None:
    calls = [Call("turn", 0, "a", ("on", "off")), Call("look", 0, None, ("off", "off"))]
    assert names(WriteSkewWorkload(), *calls) == ["both-off"]


def at(function: str, first: int, second: int, outcome: Outcome = "ok") -> Call:
    return Call(function, "p", None, (first, second), outcome)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([at("batch", 0, 1), at("transaction", 1, 1), at("look", 1, 1)], []),
        ([at("transaction", 1, 0), at("batch", 1, 1)], []),
        ([at("batch", 0, 1), at("transaction", 1, 0)], ["crossed"]),
        ([at("batch", 2, 5), at("look", 1, 6), at("transaction", 3, 6)], ["crossed"]),
        ([at("batch", 0, 1), at("transaction", 1, 0, "unknown")], []),
        ([at("batch", 0, 1), at("transaction", 1, 0), Call(CUT, "p", None, None)], []),
    ],
)
def test_crossings(calls: list[Call], expected: list[str]) -> None:
    assert names(CrossingsWorkload(), *calls) == expected


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([Call("enter", 0, "p", (0, "p", ())), Call("look", 0, None, ("p",))], []),
        ([Call("enter", 0, "p", (0, "p", ())), Call("look", 0, None, ())], ["lost"]),
        ([Call("enter", 0, "p", None, "unknown"), Call("look", 0, None, ("p",))], []),
        ([Call("enter", 0, "p", None, "failed"), Call("look", 0, None, ("p",))], ["unwanted"]),
        ([Call("enter", 0, "p", (3, "", ("q",)))], ["overfull"]),
        ([Call("look", 0, None, ("p", "q"))], ["overfull", "unwanted", "unwanted"]),
        ([Call("enter", 0, n, (1, "", ("q",))) for n in "pr"], ["gone-twice"]),
        ([Call("clear", 0, "a", (1, "", ("q",), 1))], []),
        ([Call("clear", 0, "a", (1, "", ("q",), 2))], ["torn"]),
    ],
)
def test_rooms(calls: list[Call], expected: list[str]) -> None:
    assert names(RoomsWorkload(places=1 if "overfull" in expected else 2), *calls) == expected


@pytest.mark.parametrize(
    ("sums", "final", "expected"),
    [
        ((1, 2), (2,), []),
        ((1, 1), (2,), ["lost-update"]),
        ((1, 2), (1,), ["wrong-sum"]),
        ((1, 2), (3,), ["wrong-sum"]),
    ],
)
def test_locks(sums: tuple[int, int], final: tuple[int], expected: list[str]) -> None:
    counts = [Call("count", None, (0,), (made,)) for made in sums]
    last = Call("read", None, None, final, process=FINAL)
    assert names(LocksWorkload(counters=1), *counts, last) == expected


def did(*parts: tuple[str, str, object]) -> Call:
    asked = tuple((kind, key, None if kind == "r" else value) for kind, key, value in parts)
    return Call("txn", None, asked, parts)


def test_lists_of_which_two_writers_each_missed_the_other() -> None:
    skewed = [
        did(("r", "x", ()), ("r", "y", ()), ("append", "y", "2")),
        did(("r", "y", ()), ("r", "x", ()), ("append", "x", "1")),
        did(("r", "x", ("1",)), ("r", "y", ("2",))),
    ]
    assert "G2-item" in names(ListsWorkload(), *skewed)


def test_a_list_that_is_older_than_what_was_there_before_is_found_by_its_real_time() -> None:
    stale = [
        did(("r", "x", ()), ("append", "x", "1")),
        did(("r", "y", ()), ("r", "x", ())),
        did(("r", "x", ("1",))),
    ]
    assert "G-single-realtime" in names(ListsWorkload(), *stale)
