"""The models bank, cycle, counter and scan."""

from typing import Any

import pytest

from multiraft.testing.checkers import Checker, bank, counter, cycle, scans
from multiraft.testing.history_file import BadHistoryError
from tests.testing.checkers.conftest import Notes


def names(checker: Checker, notes: Notes) -> list[str]:
    return [anomaly.name for anomaly in checker(notes.operations).anomalies]


# --- bank -------------------------------------------------------------------------------------


def test_money_that_only_moves_is_accepted(notes: Notes) -> None:
    notes.ok("read", 0, 1, result=(("a", 5), ("b", 5)))
    notes.ok("transfer", 1, 2, argument=("a", "b", 3))
    notes.ok("scan", 3, 4, result=(("b", 8), ("a", 2)))
    assert bank.check(notes.operations, total=10).ok


@pytest.mark.parametrize(
    ("balances", "name"),
    [
        ((("a", 5), ("b", 4)), "wrong-total"),
        ((("a", -1), ("b", 11)), "negative-balance"),
        ((("a", 10),), "wrong-accounts"),
        ((("a", 5), ("b", 5), ("c", 0)), "wrong-accounts"),
        ((("a", 5), ("a", 0), ("b", 5)), "wrong-accounts"),
    ],
)
def test_a_bank_that_is_wrong_is_told(notes: Notes, balances: Any, name: str) -> None:  # noqa: ANN401
    notes.ok("read", 0, 1, result=(("a", 5), ("b", 5)))
    notes.ok("read", 2, 3, result=balances)
    assert names(bank.check, notes) == [name]


def test_debt_may_be_allowed_and_the_total_given(notes: Notes) -> None:
    notes.ok("read", 2, 3, result=(("a", -1), ("b", 11)))
    assert bank.check(notes.operations, allow_negative=True).ok
    verdict = bank.check(notes.operations, total=11, allow_negative=True)
    assert [anomaly.name for anomaly in verdict.anomalies] == ["wrong-total"]


@pytest.mark.parametrize("result", [None, 5, (("a",),), (("a", "b"),)])
def test_a_read_that_is_no_bank_is_refused(notes: Notes, result: Any) -> None:  # noqa: ANN401
    notes.ok("read", 2, 3, result=result)
    with pytest.raises(BadHistoryError, match="operation 0"):
        bank.check(notes.operations)


# --- cycle ------------------------------------------------------------------------------------


def test_a_ring_in_any_order_is_accepted(notes: Notes) -> None:
    notes.ok("read", 0, 1, result=((0, 1), (1, 2), (2, 0)))
    notes.ok("swap", 0, 1)
    notes.ok("read", 0, 1, result=((1, 0), (0, 2), (2, 1)))
    assert cycle.check(notes.operations, length=3).ok


@pytest.mark.parametrize(
    ("pointers", "reason"),
    [
        (((0, 1), (1, 0), (2, 2)), "comes round after 2 of 3"),
        (((0, 1), (1, 2), (2, 1)), "never comes round"),
        (((0, 1), (1, 7), (2, 0)), "leads to 7"),
        (((0, 1), (0, 1), (1, 0)), "twice"),
    ],
)
def test_a_ring_that_is_broken_is_told(notes: Notes, pointers: Any, reason: str) -> None:  # noqa: ANN401
    notes.ok("read", 0, 1, result=pointers)
    (anomaly,) = cycle.check(notes.operations).anomalies
    assert anomaly.name == "broken-cycle"
    assert reason in anomaly.explanation


def test_a_ring_of_another_length_is_told(notes: Notes) -> None:
    notes.ok("read", 0, 1, result=((0, 1), (1, 0)))
    notes.ok("read", 2, 3, result=((0, 0),))
    assert names(cycle.check, notes) == ["wrong-length"]
    notes.ok("read", 4, 5, result=())
    assert names(cycle.check, notes) == ["wrong-length", "wrong-length", "broken-cycle"]
    notes.ok("read", 4, 5, result=(1,))
    with pytest.raises(BadHistoryError, match="operation 3"):
        cycle.check(notes.operations)


# --- counter ----------------------------------------------------------------------------------


def test_increments_that_happen_once_are_accepted(notes: Notes) -> None:
    notes.ok("increment", 0, 1, key="x", result=1)
    notes.unknown("increment", 0, key="x", argument=2)
    notes.failed("increment", 0, 1, key="x")
    notes.ok("increment", 2, 3, key="x", argument=5, result=8)
    notes.ok("get", 2, 3, key="x", result=3)
    notes.ok("increment", 4, 5, key="x", argument=0, result=8)
    notes.ok("get", 4, 5, key="y", result=None)
    verdict = counter.check(notes.operations)
    assert verdict.ok, str(verdict)


def test_an_acknowledged_increment_that_is_gone_is_lost(notes: Notes) -> None:
    notes.ok("increment", 0, 1, result=1)
    notes.ok("get", 2, 3, result=0)
    assert names(counter.check, notes) == ["lost-increment"]


def test_an_increment_made_twice_is_extra(notes: Notes) -> None:
    notes.ok("increment", 0, 1, result=2)
    assert names(counter.check, notes) == ["extra-increment"]


def test_a_refused_increment_that_was_made_is_extra(notes: Notes) -> None:
    notes.failed("increment", 0, 1)
    notes.ok("get", 2, 3, result=1)
    assert names(counter.check, notes) == ["extra-increment"]


def test_two_increments_that_return_one_value_are_told(notes: Notes) -> None:
    notes.ok("increment", 0, 9, result=1)
    notes.ok("increment", 0, 9, result=1)
    (anomaly,) = counter.check(notes.operations).anomalies
    assert (anomaly.name, anomaly.operations) == ("duplicate-result", (0, 1))


def test_two_increments_from_one_value_are_told_whatever_they_add(notes: Notes) -> None:
    notes.ok("increment", 0, 9, argument=3, result=3)
    notes.ok("increment", 0, 9, argument=2, result=5)
    notes.ok("increment", 0, 9, argument=4, result=4)
    found = [(a.name, a.operations) for a in counter.check(notes.operations).anomalies]
    assert found == [("overlap", (0, 2)), ("overlap", (2, 1))]


def test_a_counter_that_goes_back_is_told(notes: Notes) -> None:
    notes.unknown("increment", 0)
    notes.ok("get", 1, 2, result=1)
    notes.ok("get", 3, 4, result=0)
    assert names(counter.check, notes) == ["went-back"]


def test_an_increment_that_returns_less_than_it_added_is_told(notes: Notes) -> None:
    notes.ok("increment", 0, 1, argument=3, result=2)
    assert "wrong-result" in names(counter.check, notes)


@pytest.mark.parametrize(
    ("argument", "result"), [(-1, 0), ("a", 1), (None, "a"), (None, None), (1.5, 2)]
)
def test_increments_that_make_no_sense_are_refused(
    notes: Notes,
    argument: Any,  # noqa: ANN401
    result: Any,  # noqa: ANN401
) -> None:
    notes.ok("increment", 0, 1, argument=argument, result=result)
    with pytest.raises(BadHistoryError, match="operation 0"):
        counter.check(notes.operations)


# --- scan -------------------------------------------------------------------------------------


def put(notes: Notes, *keys: str) -> None:
    for key in keys:
        notes.ok("put", 0, 1, key=key)


def test_scans_that_have_what_was_there_are_accepted(notes: Notes) -> None:
    put(notes, "a", "b", "c")
    notes.unknown("put", 0, key="d")
    notes.ok("delete", 2, 5, key="b")
    notes.ok("scan", 3, 4, result=("a", "b", "c"))
    notes.ok("scan", 3, 4, result=(("a", 1), ("c", 3), ("d", 4)))
    notes.ok("scan", 3, 4, argument=("b", "d"), result=("c",))
    notes.ok("scan", 3, 4, argument=(None, "d", 1), result=("a",))
    notes.ok("scan", 3, 4, argument=(None, None, 2, True), result=("c", "b"))
    notes.ok("scan", 3, 4, argument=(None, None, 0), result=())
    notes.ok("scan", 6, 7, result=("a", "c"))
    verdict = scans.check(notes.operations)
    assert verdict.ok, str(verdict)


@pytest.mark.parametrize(
    ("argument", "found", "name"),
    [
        (None, ("a", "c"), "missed"),
        ((None, None, 2), ("a", "c"), "missed"),
        ((None, None, 2, True), ("c", "a"), "missed"),
        ((None, None, 5), ("a", "b"), "missed"),
        (None, ("a", "b", "b", "c"), "repeated"),
        (None, ("b", "a", "c"), "unordered"),
        ((None, None, None, True), ("a", "b", "c"), "unordered"),
        (("a", "c"), ("a", "b", "c"), "out-of-bounds"),
        (("b",), ("a", "b", "c"), "out-of-bounds"),
        ((None, None, 2), ("a", "b", "c"), "too-many"),
        (None, ("a", "b", "c", "z"), "resurrected"),
        (None, ("a", "b", "c", "refused"), "resurrected"),
        (None, ("a", "b", "c", "deleted"), "resurrected"),
        (None, ("a", "b", "c", "later"), "resurrected"),
    ],
)
def test_a_scan_that_is_wrong_is_told(
    notes: Notes,
    argument: Any,  # noqa: ANN401
    found: tuple[str, ...],
    name: str,
) -> None:
    put(notes, "a", "b", "c", "deleted")
    notes.failed("put", 0, 1, key="refused")
    notes.ok("delete", 2, 3, key="deleted")
    notes.ok("scan", 4, 5, argument=argument, result=found)
    notes.ok("put", 6, 7, key="later")
    assert names(scans.check, notes) == [name]


def test_a_key_put_again_after_its_delete_must_be_there(notes: Notes) -> None:
    put(notes, "a")
    notes.ok("delete", 2, 3, key="a")
    notes.ok("put", 4, 5, key="a")
    notes.ok("scan", 6, 7, result=())
    assert names(scans.check, notes) == ["missed"]


@pytest.mark.parametrize(
    ("argument", "result"), [(5, ()), ((1, 2, 3, 4, 5), ()), ((None, None, "x"), ()), (None, 5)]
)
def test_scans_that_make_no_sense_are_refused(
    notes: Notes,
    argument: Any,  # noqa: ANN401
    result: Any,  # noqa: ANN401
) -> None:
    notes.ok("scan", 0, 1, argument=argument, result=result)
    with pytest.raises(BadHistoryError, match="operation 0"):
        scans.check(notes.operations)


def test_keys_of_two_kinds_cannot_be_compared(notes: Notes) -> None:
    notes.ok("scan", 0, 1, result=(b"a", "b"))
    with pytest.raises(BadHistoryError, match="two kinds"):
        scans.check(notes.operations)
