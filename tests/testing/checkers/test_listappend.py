"""Serializability of transactions over lists; each anomaly has its history."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.testing.checkers import listappend
from multiraft.testing.history import Operation, frozen
from multiraft.testing.history_file import BadHistoryError
from tests.testing.checkers.conftest import Notes


def txn(
    notes: Notes, *parts: Sequence[Any], at: float = 0, process: int | None = None
) -> Operation:
    """An answered transaction, concurrent to others at the same moment."""
    return notes.ok("txn", at, at + 0.5, result=frozen(parts), process=process)


def append(key: str, value: int) -> tuple[str, str, int]:
    return ("append", key, value)


def read(key: str, *values: int) -> tuple[str, str, tuple[int, ...]]:
    return ("r", key, values)


def names(notes: Notes, *, strict: bool = False, process: bool = False) -> list[str]:
    verdict = listappend.check(notes.operations, strict=strict, process=process)
    return [anomaly.name for anomaly in verdict.anomalies]


def test_a_serial_history_is_accepted_strictly(notes: Notes) -> None:
    txn(notes, append("x", 1), read("x", 1), at=0)
    txn(notes, read("x", 1), append("x", 2), append("y", 3), read("y", 3), at=1)
    txn(notes, read("x", 1, 2), read("y", 3), read("x", 1, 2), at=2)
    txn(notes, ("r", "z", None), at=3)
    notes.unknown("txn", 3.0, argument=(append("x", 4), ("r", "x", None)))
    notes.failed("txn", 3, 4, argument=(append("x", 5),))
    txn(notes, read("x", 1, 2, 4), at=5)
    assert names(notes, strict=True, process=True) == []


@pytest.mark.parametrize(
    "parts",
    [
        [append("x", 1), read("x")],
        [read("x"), append("x", 1), read("x", 2, 1)],
        [read("x"), read("x", 2)],
        [read("x", 1), append("x", 1)],
    ],
)
def test_internal(notes: Notes, parts: list[Any]) -> None:
    txn(notes, *parts)
    notes.unknown("txn", 0, argument=(append("x", 2),))
    assert "internal" in names(notes)


def test_unwritten(notes: Notes) -> None:
    txn(notes, read("x", 7))
    assert names(notes) == ["unwritten"]


def test_g1a_and_dirty_update(notes: Notes) -> None:
    notes.failed("txn", 0, 1, argument=(append("x", 1),))
    txn(notes, read("x", 1))
    assert names(notes) == ["G1a"]
    txn(notes, append("x", 2))
    txn(notes, read("x", 1, 2))
    assert names(notes) == ["G1a", "dirty-update"]


def test_g1b(notes: Notes) -> None:
    txn(notes, append("x", 1), append("x", 2))
    txn(notes, read("x", 1))
    (anomaly,) = (a for a in listappend.check(notes.operations).anomalies if a.name == "G1b")
    assert anomaly.operations == (1, 0)
    assert "T0 appended 2 right after 1" in anomaly.explanation


def test_duplicate_append(notes: Notes) -> None:
    txn(notes, append("x", 1))
    txn(notes, read("x", 1, 1))
    assert "duplicate-append" in names(notes)


def test_incompatible_order(notes: Notes) -> None:
    txn(notes, append("x", 1))
    txn(notes, append("x", 2))
    txn(notes, read("x", 1, 2))
    txn(notes, read("x", 2))
    assert "incompatible-order" in names(notes)


def test_orders_are_incompatible_also_where_only_the_shorter_list_shows_a_write(
    notes: Notes,
) -> None:
    txn(notes, append("x", 1))
    txn(notes, append("x", 2))
    notes.unknown("txn", 0, argument=(append("x", 3),))
    txn(notes, read("x", 1, 2))
    txn(notes, read("x", 3))
    assert "incompatible-order" in names(notes)


def test_lost_update(notes: Notes) -> None:
    txn(notes, read("x"), append("x", 1))
    txn(notes, read("x"), append("x", 2))
    txn(notes, read("x", 2))
    assert "lost-update" in names(notes)


def test_g0(notes: Notes) -> None:
    txn(notes, append("x", 1), append("y", 1))
    txn(notes, append("x", 2), append("y", 2))
    txn(notes, read("x", 1, 2))
    txn(notes, read("y", 2, 1))
    assert names(notes)[0] == "G0"


def test_g1c(notes: Notes) -> None:
    txn(notes, append("x", 1), read("y", 2))
    txn(notes, append("y", 2), read("x", 1))
    (anomaly,) = listappend.check(notes.operations).anomalies
    assert (anomaly.name, set(anomaly.operations)) == ("G1c", {0, 1})
    assert "T1 read 1 in x, which T0 appended" in anomaly.explanation


def test_g_single(notes: Notes) -> None:
    txn(notes, append("x", 1), append("y", 1))
    txn(notes, read("x", 1), read("y"))
    txn(notes, read("y", 1))
    (anomaly,) = listappend.check(notes.operations).anomalies
    assert anomaly.name == "G-single"
    assert "T1 read y as [], without 1, which T0 appended" in anomaly.explanation


def test_an_append_that_nobody_read_comes_after_the_readers(notes: Notes) -> None:
    txn(notes, append("x", 1), append("y", 1))
    txn(notes, read("x", 1), read("y"))
    assert names(notes) == ["G-single"]


def test_who_was_seen_has_committed_in_full_whatever_its_client_was_told(notes: Notes) -> None:
    notes.unknown("txn", 0, argument=(append("x", 1), append("y", 2)))
    txn(notes, read("x", 1), read("y"))
    (anomaly,) = listappend.check(notes.operations).anomalies
    assert anomaly.name == "G-single"
    assert "T1 read y as [], without 2, which T0 appended" in anomaly.explanation


def test_g2_item(notes: Notes) -> None:
    txn(notes, read("x"), append("y", 1))
    txn(notes, read("y"), append("x", 1))
    txn(notes, read("x", 1), read("y", 1))
    assert names(notes) == ["G2-item"]


def test_a_stale_read_breaks_real_time_only(notes: Notes) -> None:
    txn(notes, append("x", 1), at=0)
    txn(notes, read("x"), at=1)
    txn(notes, read("x", 1), at=2)
    assert names(notes) == []
    assert names(notes, strict=True) == ["G-single-realtime"]


def test_a_session_that_goes_back_breaks_the_order_of_its_process(notes: Notes) -> None:
    txn(notes, append("x", 1), at=0, process=7)
    txn(notes, read("x"), at=1, process=7)
    txn(notes, read("x", 1), at=1, process=8)
    assert names(notes, process=True) == ["G-single-process"]


def test_real_time_is_followed_over_others_that_ended_between(notes: Notes) -> None:
    txn(notes, append("x", 1), at=0)
    for moment in range(1, 6):
        txn(notes, append("z", moment), at=moment)
    txn(notes, read("x"), at=7)
    txn(notes, read("x", 1), at=8)
    assert names(notes, strict=True) == ["G-single-realtime"]


@pytest.mark.parametrize(
    "result", [5, (1,), (("append", "x"),), (("write", "x", 1),), (("r", "x", 5),)]
)
def test_what_is_no_transaction_is_refused(notes: Notes, result: Any) -> None:  # noqa: ANN401
    notes.ok("txn", 0, 1, result=result)
    with pytest.raises(BadHistoryError, match="operation 0"):
        names(notes)


def test_a_value_appended_twice_is_refused(notes: Notes) -> None:
    txn(notes, append("x", 1))
    txn(notes, append("x", 1))
    with pytest.raises(BadHistoryError, match="must be unique"):
        names(notes)


def test_a_long_chain_needs_no_recursion(notes: Notes) -> None:
    count = 5_000
    for value in range(count):
        txn(notes, append("x", value), at=value)
    txn(notes, read("x", *range(count)), at=count)
    assert names(notes, strict=True) == []


def run_model(seed: int, count: int) -> list[Operation]:
    """Run transactions one by one, each at a moment within its interval."""
    rng = random.Random(seed)
    calls = []
    for number in range(count):
        start = rng.random() * count / 4
        end = start + rng.random() * 3
        is_known = rng.random() > 0.1
        calls.append(
            (rng.uniform(start, end if is_known else end + 3), start, end, number, is_known)
        )
    lists: dict[str, tuple[int, ...]] = {}
    operations = []
    for _, start, end, number, is_known in sorted(calls):
        before = dict(lists)
        parts: list[tuple[str, str, Any]] = []
        for place in range(rng.randint(1, 3)):
            key = rng.choice("xyz")
            if rng.random() < 0.5:
                value = number * 10 + place
                lists[key] = (*lists.get(key, ()), value)
                parts.append(("append", key, value))
            else:
                parts.append(("r", key, lists.get(key, ())))
        asked = tuple((kind, key, None if kind == "r" else value) for kind, key, value in parts)
        operation = Operation(
            number, number % 5, "txn", start, None, asked, tuple(parts), end, "ok"
        )
        if not is_known:
            operation = Operation(number, 100 + number, "txn", start, None, asked)
            if rng.random() < 0.5:
                lists = before
        operations.append(operation)
    return operations


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32))
def test_what_one_transaction_at_a_time_answers_is_accepted(seed: int) -> None:
    verdict = listappend.check(run_model(seed, 60), strict=True)
    assert verdict.ok, str(verdict)


@st.composite
def tiny_histories(draw: st.DrawFn) -> list[Operation]:
    """A few transactions over two keys, whose reads are any prefixes of any lists."""
    count = draw(st.integers(2, 4))
    asked: list[list[tuple[str, str, int | None]]] = []
    values: dict[str, list[int]] = {"x": [], "y": []}
    for number in range(count):
        parts: list[tuple[str, str, int | None]] = []
        for place in range(draw(st.integers(1, 3))):
            key = draw(st.sampled_from("xy"))
            if draw(st.booleans()):
                values[key].append(number * 10 + place)
                parts.append(("append", key, number * 10 + place))
            else:
                parts.append(("r", key, None))
        asked.append(parts)
    lists = {key: draw(st.permutations(of_key)) for key, of_key in values.items()}
    operations = []
    for number, parts in enumerate(asked):
        start, lasts = draw(st.integers(0, 4)), draw(st.integers(1, 3))
        if draw(st.integers(0, 4)) == 0:
            operations.append(Operation(number, number, "txn", start, None, tuple(parts)))
            continue
        answers: list[tuple[str, str, Any]] = []
        for kind, key, value in parts:
            if kind == "append":
                answers.append((kind, key, value))
            else:
                length = draw(st.integers(0, len(lists[key])))
                answers.append((kind, key, tuple(lists[key][:length])))
        operations.append(
            Operation(number, number, "txn", start, None, None, tuple(answers), start + lasts, "ok")
        )
    return operations


def _has_serial_order(operations: list[Operation], *, strict: bool) -> bool:
    """Whether there is one with all that were answered, and any of the others."""
    unknown = [operation for operation in operations if operation.outcome == "unknown"]
    for count in range(len(unknown) + 1):
        for left_out in itertools.combinations(unknown, count):
            happened = [operation for operation in operations if operation not in left_out]
            for order in itertools.permutations(happened):
                if _replays(order) and not (strict and _goes_back(order)):
                    return True
    return False


def _goes_back(order: tuple[Operation, ...]) -> bool:
    return any(later.deadline < one.invoked for one, later in itertools.combinations(order, 2))


def _replays(order: tuple[Operation, ...]) -> bool:
    lists: dict[str, tuple[int, ...]] = {}
    for operation in order:
        is_answered = operation.outcome == "ok"
        for kind, key, value in operation.result if is_answered else operation.argument:
            held = lists.get(key, ())
            if kind == "append":
                lists[key] = (*held, value)
            elif is_answered and value != held:
                return False
    return True


@pytest.mark.parametrize("strict", [False, True])
@settings(max_examples=600, deadline=None)
@given(operations=tiny_histories())
def test_the_verdict_is_that_of_trying_all_serial_orders(
    strict: bool, operations: list[Operation]
) -> None:
    verdict = listappend.check(operations, strict=strict)
    assert verdict.ok == _has_serial_order(operations, strict=strict), str(verdict)
