"""The table of mutants fits the product as it is."""

import ast

import pytest

from multiraft.testing import spec
from tests.mutants import mutants
from tests.mutants.mutants import Mutant

ALL = mutants.load()


@pytest.mark.parametrize("mutant", ALL, ids=lambda m: m.name)
def test_every_mutant_is_python_that_parses(mutant: Mutant) -> None:
    for text in mutant.sources().values():
        ast.parse(text)
    assert mutant.before != mutant.after


def test_every_mutant_has_a_name_of_its_own() -> None:
    assert len({mutant.name for mutant in ALL}) == len(ALL)


@pytest.mark.parametrize("mutant", ALL, ids=lambda m: m.name)
def test_the_spec_or_test_that_must_catch_it_exists(mutant: Mutant) -> None:
    if mutant.spec:
        assert mutant.spec in spec.names()
    else:
        file, _, function = mutant.test.partition("::")
        assert f"def {function.rpartition('::')[2]}(" in (mutants.ROOT / file).read_text()


def test_every_mutant_has_its_row_in_the_docs() -> None:
    told = (mutants.ROOT / "docs" / "testing.md").read_text()
    assert [mutant.name for mutant in mutants.load() if f"| `{mutant.name}` |" not in told] == []
