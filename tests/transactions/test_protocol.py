"""Every state of a transaction is sound; the product's ranges go the same ways; and without any
one of the rules, some state is not sound.
"""

import dataclasses
import functools

import pytest

from tests.transactions import conformance, server
from tests.transactions.explorer import CounterexampleError, Explored
from tests.transactions.model import Model
from tests.transactions.rules import NAMES, RULES
from tests.transactions.setups import SETUPS

UNDONE = "a commit was undone"
ABORTED_COMMITS = "what was aborted committed"
RUN_TWICE = "what is run again has committed"
LACKS = "a commit lacks a write"
MISSED = "a read missed what committed below it"
UNTRUE = "an acknowledged commit did not happen"
STUCK = "no pusher can bring it to its end"
UNDONE_ALONE = "who comes alone to a commit undoes it"

BROKEN = {
    "writes_stay_above_reads": ("parallel", MISSED),
    "reads_wait_for_intents": ("parallel", MISSED),
    "own_intent_answers": ("pipelined", UNDONE),
    "own_version_answers": ("pipelined", "an overwritten write became a version"),
    "staging_never_goes_back": ("parallel", UNDONE),
    "record_once_final_stays": ("parallel", ABORTED_COMMITS),
    "push_leaves_staging": ("parallel", UNDONE_ALONE),
    "heartbeat_leaves_staging": ("restaged", UNDONE),
    "pushed_lies_above_the_reader": ("pipelined", MISSED),
    "staging_heeds_the_push": ("pipelined", MISSED),
    "query_prevents": ("parallel", UNDONE),
    "proof_needs_the_sequence": ("pipelined", LACKS),
    "proof_needs_the_timestamp": ("parallel", LACKS),
    "recovery_needs_the_timestamp": ("rivals", UNDONE),
    "recovery_asks_for_all": ("parallel", LACKS),
    "commit_after_all_answers": ("parallel", UNTRUE),
    "abort_needs_the_failed_staging": ("parallel", UNDONE),
    "end_before_the_next_attempt": ("parallel", RUN_TWICE),
    "end_looks_for_the_version": ("one-phase", RUN_TWICE),
    "push_looks_for_the_version": ("one-phase", RUN_TWICE),
    "one_phase_looks_at_the_record": ("one-phase", ABORTED_COMMITS),
    "record_outlives_intents": ("collected", STUCK),
    "collected_is_not_created_again": ("collected", UNTRUE),
    "collected_is_not_known_aborted": ("one-phase-collected", RUN_TWICE),
    "push_makes_no_record_of_the_collected": ("one-phase-collected", RUN_TWICE),
}
"""Of each rule: where it is missed, and what goes wrong then."""


@functools.cache
def explored(name: str) -> tuple[Model, Explored]:
    model = Model(SETUPS[name])
    return model, model.explore()


@pytest.mark.parametrize("name", SETUPS)
def test_every_state_is_sound(name: str) -> None:
    _, result = explored(name)
    assert result.states > 5_000, "the setup has become so small that it says little"


@pytest.mark.parametrize("name", SETUPS)
def test_ranges_do_what_the_model_does(name: str) -> None:
    model, _ = explored(name)
    compared = 0
    for (ranges, request), outcomes in model.evaluated.items():
        if isinstance(request, server.OnePhase) and not ranges.are_one:
            continue  # Such a part is refused before it is evaluated.
        wanted = [conformance.normal(outcome) for outcome in outcomes]
        actual = [conformance.normal(each) for each in conformance.evaluate(ranges, request)]
        told = f"{request}\n  asked of {ranges}\n  gives {actual}\n  not   {wanted}"
        assert all(outcome in wanted for outcome in actual), told
        assert all(outcome in actual for outcome in wanted), told
        compared += 1
    assert compared > 400, "the model has been hardly anywhere"


def test_every_rule_is_broken_once() -> None:
    assert sorted(BROKEN) == sorted(NAMES)


@pytest.mark.parametrize("rule", BROKEN)
def test_without_the_rule_something_goes_wrong(rule: str) -> None:
    setup, broken = BROKEN[rule]
    with pytest.raises(CounterexampleError) as told:
        Model(SETUPS[setup], dataclasses.replace(RULES, **{rule: False})).explore()
    assert told.value.broken == broken, str(told.value)
