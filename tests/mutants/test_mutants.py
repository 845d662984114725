"""The table of mutants fits the product as it is."""

import ast

import pytest

from multiraft.testing import spec
from tests.mutants import mutants
from tests.mutants.mutants import Mutant

ALL = mutants.load()


@pytest.mark.parametrize("mutant", ALL, ids=lambda m: m.name)
def test_every_mutant_changes_one_place_into_python_that_parses(mutant: Mutant) -> None:
    ast.parse(mutant.source())
    assert mutant.before != mutant.after


def test_every_mutant_has_a_name_of_its_own_and_a_spec_that_exists() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)
    assert {mutant.spec for mutant in ALL} <= set(spec.names())
