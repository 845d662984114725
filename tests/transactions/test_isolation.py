"""Every interleaving of small programs is serializable; and without any one rule, one is not."""

import dataclasses

import pytest

from tests.transactions.explorer import CounterexampleError
from tests.transactions.isolation import NAMES, RULES, Isolation, Program

PROGRAMS = {
    "write-skew": (Program("x", "y"), Program("y", "x")),
    "lost-update": (Program("x", "x"), Program("x", "x")),
    "lost-update-of-three": (Program("x", "x"), Program("x", "x"), Program("x", "x")),
    "long-fork": (Program("", "x"), Program("", "y"), Program("xy"), Program("yx")),
    "read-only": (Program("xy", "x"), Program("y", "y"), Program("xy")),
    "torn-read": (Program("", "xy"), Program("yx"), Program("x", "y")),
    "predicate": (Program("xy", "x"), Program("xy", "y")),
    "crossing-writes": (Program("x", "yx"), Program("y", "xy")),
    "writes-that-meet": (Program("z", "xy"), Program("x", "zy")),
}
"""Transactions that would break weaker levels, by the anomaly."""

BROKEN = {
    "writes_stay_above_reads": "write-skew",
    "only_the_owner_writes_at_its_read": "write-skew",
    "equal_reads_are_shared": "predicate",
    "reads_wait_for_intents": "torn-read",
    "commit_above_reads_needs_a_refresh": "write-skew",
    "one_phase_stays_at_the_read": "write-skew",
    "refresh_sees_versions": "lost-update",
    "refresh_sees_intents": "writes-that-meet",
    "refresh_is_a_read": "write-skew",
}
"""Of each rule, the programs that show what it is good for."""


@pytest.mark.parametrize("name", PROGRAMS)
def test_every_interleaving_is_serializable(name: str) -> None:
    assert Isolation(PROGRAMS[name]).explore().states > 100


def test_every_rule_is_broken_once() -> None:
    assert sorted(BROKEN) == sorted(NAMES)


@pytest.mark.parametrize("rule", BROKEN)
def test_without_the_rule_an_anomaly_is_found(rule: str) -> None:
    rules = dataclasses.replace(RULES, **{rule: False})
    with pytest.raises(CounterexampleError, match="no order explains it"):
        Isolation(PROGRAMS[BROKEN[rule]], rules).explore()
