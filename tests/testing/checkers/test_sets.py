import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiraft.testing.checkers import sets
from multiraft.testing.history import Operation, Outcome
from multiraft.testing.history_file import BadHistoryError
from tests.testing.checkers.conftest import Notes


def names(notes: Notes) -> list[str]:
    return [anomaly.name for anomaly in sets.check(notes.operations).anomalies]


def test_what_was_acknowledged_is_there_and_the_unknown_may_be(notes: Notes) -> None:
    notes.ok("add", 0, 1, argument=1)
    notes.unknown("add", 0, argument=2)
    notes.failed("add", 0, 1, argument=3)
    notes.ok("add", 2, 5, argument=4)
    notes.ok("read", 3, 4, result=(1,))
    notes.ok("read", 3, 4, result=(4, 1))
    notes.ok("read", 6, 7, result=(1, 4, 2))
    verdict = sets.check(notes.operations)
    assert verdict.ok, str(verdict)
    assert verdict.operations == 7


def test_an_acknowledged_element_that_is_gone_is_lost(notes: Notes) -> None:
    add = notes.ok("add", 0, 1, argument=b"a")
    notes.ok("read", 2, 3, result=())
    notes.ok("read", 4, 5, result=())
    (anomaly,) = sets.check(notes.operations).anomalies
    assert (anomaly.name, anomaly.operations) == ("lost", (add.id,))
    assert "gone from read #1 on: b'a'" in anomaly.explanation


def test_an_element_of_unknown_outcome_that_was_seen_must_stay(notes: Notes) -> None:
    notes.unknown("add", 0, argument=1)
    notes.ok("read", 2, 3, result=(1,))
    notes.ok("read", 4, 5, result=())
    assert names(notes) == ["lost"]


def test_a_read_that_lags_behind_is_stale(notes: Notes) -> None:
    add = notes.ok("add", 0, 1, argument=1)
    lagging = notes.ok("read", 2, 3, result=())
    notes.ok("read", 4, 5, result=(1,))
    (anomaly,) = sets.check(notes.operations).anomalies
    assert (anomaly.name, anomaly.operations) == ("stale", (lagging.id, add.id))


def test_elements_of_nobody_or_refused_or_too_early_are_unexpected(notes: Notes) -> None:
    notes.failed("add", 0, 1, argument=1)
    notes.ok("read", 2, 3, result=(1,))
    notes.ok("read", 2, 3, result=(9,))
    notes.unknown("add", 5, argument=2)
    notes.ok("read", 3, 4, result=(2,))
    assert sorted(set(names(notes)) - {"lost"}) == ["unexpected"]
    assert names(notes).count("unexpected") == 3


def test_an_element_that_stands_twice_is_duplicated(notes: Notes) -> None:
    notes.ok("add", 0, 1, argument=1)
    notes.ok("read", 2, 3, result=(1, 1))
    assert names(notes) == ["duplicated"]


def test_sets_are_apart_and_elements_unique(notes: Notes) -> None:
    notes.ok("add", 0, 1, key="x", argument=1)
    notes.ok("add", 0, 1, key="y", argument=1)
    notes.ok("read", 2, 3, key="x", result=(1,))
    assert names(notes) == []
    notes.ok("add", 4, 5, key="y", argument=1)
    with pytest.raises(BadHistoryError, match="unique"):
        names(notes)


def test_a_read_that_is_no_list_is_refused(notes: Notes) -> None:
    notes.ok("read", 0, 1, result=5)
    with pytest.raises(BadHistoryError, match="operation 0"):
        names(notes)


def test_without_reads_nothing_is_known(notes: Notes) -> None:
    notes.ok("add", 0, 1, argument=1)
    assert "nothing is known" in sets.check(notes.operations).notes[0]


@given(st.integers(0, 2**32))
def test_what_a_real_set_answers_is_accepted(seed: int) -> None:
    rng = random.Random(seed)
    calls = []
    for number in range(40):
        start = rng.random() * 10
        end = start + rng.random() * 2
        is_add = rng.random() < 0.5
        is_known = not is_add or rng.random() > 0.1
        moment = rng.uniform(start, end if is_known else end + 3)
        calls.append((moment, start, end, number, is_known, is_add))
    stored: list[int] = []
    operations = []
    for _, start, end, number, is_known, is_add in sorted(calls):
        if is_add:
            if is_known or rng.random() < 0.5:
                stored.append(number)
            outcome: Outcome = "ok" if is_known else "unknown"
            operation = Operation(number, 0, "add", start, None, number, None, end, outcome)
        else:
            found = tuple(stored)
            operation = Operation(number, 0, "read", start, None, None, found, end, "ok")
        operations.append(operation)
    verdict = sets.check(operations)
    assert verdict.ok, str(verdict)
