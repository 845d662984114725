"""Linearizability of single keys, against histories that are right and others that are not."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiraft.testing.checkers import effects, linearization, register, zones
from multiraft.testing.checkers.linearization import Budget
from multiraft.testing.history import Operation, Outcome
from multiraft.testing.history_file import BadHistoryError

FOREVER = float("inf")


def done(
    number: int,
    function: str,
    start: float,
    end: float,
    argument: object = None,
    result: object = None,
) -> Operation:
    return Operation(number, number, function, start, "x", argument, result, end, "ok")


def open_call(number: int, function: str, start: float, argument: object = None) -> Operation:
    return Operation(number, number, function, start, "x", argument)


def test_operations_one_after_another_are_explained() -> None:
    verdict = register.check(
        [
            done(0, "get", 0, 1, None, None),
            done(1, "put", 2, 3, 5),
            done(2, "increment", 4, 5, 2, 7),
            done(3, "cas", 6, 7, (7, 8), True),
            done(4, "cas", 8, 9, (7, 9), False),
            done(5, "get", 10, 11, None, 8),
            done(6, "delete", 12, 13),
            done(7, "get", 14, 15, None, None),
            done(8, "increment", 16, 17, None, 1),
        ]
    )
    assert verdict.ok
    assert verdict.operations == 9


def test_a_stale_read_is_told_by_its_three_operations() -> None:
    verdict = register.check(
        [
            done(0, "put", 0, 1, 1),
            done(1, "get", 1.1, 1.2, None, 1),
            done(2, "put", 2, 3, 2),
            done(3, "get", 3.1, 3.2, None, 2),
            done(4, "get", 4, 5, None, 1),
            done(5, "put", 6, 7, 3),
        ]
    )
    (anomaly,) = verdict.anomalies
    assert anomaly.name == "nonlinearizable"
    assert anomaly.operations == (0, 2, 4)
    assert "#4 by 4: get, from 4 -> 1 at 5" in anomaly.explanation


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([done(0, "get", 0, 1, None, 7)], id="a value that nobody wrote"),
        pytest.param(
            [done(0, "put", 0, 1, 7), done(1, "get", 2, 3, None, None)], id="a lost write"
        ),
        pytest.param(
            [
                done(0, "put", 0, 9, 7),
                done(1, "get", 1, 2, None, 7),
                done(2, "get", 3, 4, None, None),
            ],
            id="a read that goes back",
        ),
        pytest.param(
            [done(0, "increment", 0, 9, 1, 1), done(1, "increment", 0, 9, 1, 1)],
            id="a lost increment",
        ),
        pytest.param(
            [done(0, "cas", 0, 9, (None, 1), True), done(1, "cas", 0, 9, (None, 2), True)],
            id="two winners of one condition",
        ),
        pytest.param([done(0, "cas", 0, 9, (None, 1), False)], id="a condition that did hold"),
        pytest.param(
            [
                done(0, "put", 0, 1, 1),
                open_call(1, "delete", 2),
                done(2, "get", 3, 4, None, None),
                done(3, "get", 5, 6, None, 1),
            ],
            id="a delete that is undone",
        ),
        pytest.param(
            [
                Operation(0, 0, "put", 0.0, "x", 7, None, 1.0, "failed"),
                done(1, "get", 2, 3, None, 7),
            ],
            id="a refused write that was made",
        ),
    ],
)
def test_wrong_answers_are_found(wrong: list[Operation]) -> None:
    verdict = register.check(wrong)
    assert [anomaly.name for anomaly in verdict.anomalies] == ["nonlinearizable"]


def test_a_write_of_unknown_outcome_may_happen_late_or_never() -> None:
    late = [
        open_call(0, "put", 0, 7),
        done(1, "get", 1, 2, None, None),
        done(2, "get", 3, 4, None, 7),
    ]
    assert register.check(late).ok
    assert register.check(late[:2]).ok
    twice = [*late, done(3, "put", 5, 6, 8), done(4, "get", 7, 8, None, 7)]
    assert not register.check(twice).ok


def test_keys_are_judged_by_themselves() -> None:
    other = Operation(1, 1, "get", 0.0, b"y", None, 1, 1.0, "ok")
    verdict = register.check([done(0, "put", 0, 1, 1), other])
    (anomaly,) = verdict.anomalies
    assert anomaly.operations == (1,)
    assert "b'y'" in anomaly.explanation


def test_other_functions_are_passed_over_and_told() -> None:
    verdict = register.check([done(0, "txn", 0, 1)])
    assert verdict.operations == 0
    assert verdict.notes == ("operations of other functions that were passed over: 1",)


@pytest.mark.parametrize(
    "operation",
    [
        done(0, "cas", 0, 1, 5),
        done(0, "increment", 0, 1, "a", 1),
        done(0, "increment", 0, 1, 1, "a"),
    ],
)
def test_operations_that_make_no_sense_are_refused(operation: Operation) -> None:
    with pytest.raises(BadHistoryError, match="operation 0"):
        register.check([operation])


def test_a_search_that_would_take_too_long_is_undecided() -> None:
    # Twenty failed conditions that need the value changed, by writes that are all pending.
    writes = [done(i, "cas", 0, 100, (i % 7, (i * 3 + 1) % 7), True) for i in range(24)]
    verdict = register.check([done(99, "put", -2, -1, 0), *writes], steps_max=20)
    assert verdict.undecided
    assert not verdict.ok
    assert "undecided" in verdict.notes[0]


# --- random histories -------------------------------------------------------------------------


def run_model(seed: int, count: int, clients: int, keys: int = 1) -> list[Operation]:
    """Run random operations on a real register, each at a moment within its interval."""
    rng = random.Random(seed)
    stored: dict[str, Any] = {}
    free_at = [0.0] * clients
    calls = []
    for number in range(count):
        client = min(range(clients), key=lambda c: free_at[c])
        start = free_at[client] + rng.random() * 0.1 + 1e-9
        end = start + rng.random()
        free_at[client] = end
        is_known = rng.random() > 0.05
        latest = end if is_known else end + 2
        calls.append((rng.uniform(start, latest), start, end, client, number, is_known))
    operations = []
    for _, start, end, client, number, is_known in sorted(calls):
        key = f"k{rng.randrange(keys)}"
        happens = is_known or rng.random() < 0.5
        kind = rng.choice(["get", "get", "put", "put", "delete", "cas", "increment"])
        held = stored.get(key)
        argument: Any = None
        result: Any = None
        after = held
        if kind == "get":
            result = held
        elif kind == "put":
            argument = after = rng.randrange(4) if rng.random() < 0.5 else 1000 + number
        elif kind == "delete":
            after = None
        elif kind == "cas":
            expected = held if rng.random() < 0.5 else rng.choice([None, 0, 1, 2])
            argument = (expected, rng.randrange(4))
            result = held == expected
            after = argument[1] if result else held
        else:
            argument = rng.choice([1, 2])
            result = after = (held or 0) + argument
        if happens:
            stored[key] = after
        if is_known:
            operations.append(
                Operation(number, client, kind, start, key, argument, result, end, "ok")
            )
        else:
            operations.append(Operation(number, client, kind, start, key, argument, None, end))
    return operations


@pytest.mark.parametrize("clients", [1, 3, 8])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_what_a_real_register_answers_is_explained(clients: int, seed: int) -> None:
    verdict = register.check(run_model(seed, 120, clients, keys=2))
    assert verdict.ok, str(verdict)


def _explained_by_some_order(operations: Sequence[Operation]) -> bool:
    """Try all orders of all subsets that hold every acknowledged operation."""
    acting = [o for o in operations if o.outcome != "failed"]
    sure = [o for o in acting if o.outcome == "ok"]
    maybe = [o for o in acting if o.outcome == "unknown"]
    return any(
        _may_follow(order) and _replays(order)
        for count in range(len(maybe) + 1)
        for chosen in itertools.combinations(maybe, count)
        for order in itertools.permutations([*sure, *chosen])
    )


def _may_follow(order: tuple[Operation, ...]) -> bool:
    latest_start = -FOREVER
    for operation in order:
        if operation.deadline < latest_start:
            return False
        latest_start = max(latest_start, operation.invoked)
    return True


def _replays(order: tuple[Operation, ...]) -> bool:
    state: Any = None
    for operation in order:
        is_ok, argument = operation.outcome == "ok", operation.argument
        match operation.function:
            case "get":
                if is_ok and operation.result != state:
                    return False
            case "put":
                state = argument
            case "delete":
                state = None
            case "cas":
                held = state == argument[0]
                if is_ok and operation.result != held:
                    return False
                state = argument[1] if held else state
            case _:
                state = (state or 0) + argument
                if is_ok and operation.result != state:
                    return False
    return True


OUTCOMES: list[Outcome] = ["ok", "ok", "ok", "ok", "unknown", "failed"]
VALUES = st.sampled_from([None, 1, 2])


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation]:
    operations = []
    for number in range(draw(st.integers(1, 6))):
        function = draw(st.sampled_from(["get", "get", "put", "delete", "cas", "increment"]))
        start = draw(st.integers(0, 8))
        end = start + draw(st.integers(0, 5))
        outcome: Outcome = draw(st.sampled_from(OUTCOMES))
        argument: Any = None
        result: Any = None
        if function == "get":
            result = draw(VALUES)
        elif function == "put":
            argument = draw(st.sampled_from([1, 2, 3]))
        elif function == "cas":
            argument, result = (draw(VALUES), draw(VALUES)), draw(st.booleans())
        elif function == "increment":
            argument, result = draw(st.sampled_from([1, 2])), draw(st.integers(1, 3))
        if outcome != "ok":
            result = None
        operations.append(
            Operation(number, number, function, start, "x", argument, result, end, outcome)
        )
    return operations


@settings(max_examples=600, deadline=None)
@given(small_histories())
def test_the_verdict_is_that_of_trying_all_orders(operations: list[Operation]) -> None:
    verdict = register.check(operations)
    assert verdict.ok == _explained_by_some_order(operations)
    for anomaly in verdict.anomalies:
        part = [o for o in operations if o.id in anomaly.operations]
        assert not _explained_by_some_order(part), "the part told proves nothing"


@settings(max_examples=600, deadline=None)
@given(small_histories())
def test_zones_decide_nothing_that_trying_all_orders_does_not(operations: list[Operation]) -> None:
    decided = zones.judge(effects.actions_of(operations))
    assert decided in (None, _explained_by_some_order(operations))


@st.composite
def histories_of_unique_values(draw: st.DrawFn) -> list[Operation]:
    operations = []
    for number in range(1, draw(st.integers(2, 7))):
        function = draw(st.sampled_from(["get", "get", "put", "cas"]))
        start = draw(st.integers(0, 8))
        end = start + draw(st.integers(0, 6))
        outcome: Outcome = draw(st.sampled_from(OUTCOMES))
        value = draw(st.sampled_from([None, 1, 2, 3, 4]))
        argument = (value, number) if function == "cas" else number if function == "put" else None
        answers: dict[str, Any] = {"get": value, "cas": True, "put": None}
        result = answers[function] if outcome == "ok" else None
        operations.append(
            Operation(number, number, function, start, "x", argument, result, end, outcome)
        )
    return operations


@settings(max_examples=1000, deadline=None)
@given(histories_of_unique_values())
def test_zones_decide_all_histories_of_unique_values(operations: list[Operation]) -> None:
    decided = zones.judge(effects.actions_of(operations))
    assert decided is _explained_by_some_order(operations)
    found = linearization.search(effects.actions_of(operations), Budget(10**6), look_ahead=False)
    assert found.explained is decided


def test_a_hot_key_of_unique_values_is_judged_without_a_search() -> None:
    writes = [done(i, "put", i, i + 40, i) for i in range(2_000)]
    reads = [done(2_000 + i, "get", i + 5, i + 60, None, i) for i in range(2_000)]
    assert register.check([*writes, *reads]).ok
    stale = done(4_000, "get", 2_500, 2_501, None, 5)
    last = done(4_001, "get", 2_400, 2_401, None, 1_999)
    (anomaly,) = register.check([*writes, *reads, stale, last]).anomalies
    assert len(anomaly.operations) <= 4


def test_every_effect_that_observes_agrees_with_apply() -> None:
    for effect in (
        effects.Effect(effects.READ, expected=1),
        effects.Effect(effects.SWAP, expected=1, value=2),
        effects.Effect(effects.ADD, expected=3, value=2),
    ):
        assert effect.observes == 1
        assert effect.apply(1) is not effects.IMPOSSIBLE
        assert effect.apply(2) is effects.IMPOSSIBLE
