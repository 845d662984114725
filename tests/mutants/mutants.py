"""Mutants: the product with one safety rule disabled, and what must notice it.

A rule that no test misses is a rule that anybody may delete. Each entry of `rules.toml` names a
rule, the lines that implement it, what stands there instead in the mutant, and the spec whose
simulation must fail within so many seeds. For a rule whose breaking schedule a random cluster
hardly plays, it names the test that plays it, and that must fail, instead.
"""

import shutil
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).parent / "rules.toml"


class Mutant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule, and the product without it."""

    name: str
    rule: str
    """What must hold, in a sentence, with the rule of docs/architecture/safety-rules.md."""
    file: str
    before: str
    """The lines that implement it; they stand exactly once in the file."""
    after: str
    more: tuple[tuple[str, str], ...] = ()
    """Further lines of the file, and what stands there instead: two lines may keep one rule."""
    also: tuple[tuple[str, str, str], ...] = ()
    """The same for lines of other files, each with its file: two layers may keep one rule."""
    spec: str = ""
    seeds: int = 0
    """Within how many seeds, counted from 1, the spec must fail."""
    test: str = ""
    """Instead of a spec: the test that must fail, as pytest names it."""

    def __post_init__(self) -> None:
        """Raise ValueError unless it says who must notice it."""
        if bool(self.test) == bool(self.spec) or bool(self.spec) != (self.seeds > 0):
            raise ValueError(f"{self.name}: needs either a spec and seeds, or a test")

    def sources(self) -> dict[str, str]:
        """Return the mutated files. Raises ValueError if the lines are not there exactly once."""
        texts: dict[str, str] = {}
        own = [(self.file, *change) for change in ((self.before, self.after), *self.more)]
        for file, before, after in (*own, *self.also):
            text = texts.get(file) or (ROOT / file).read_text()
            found = text.count(before)
            if found != 1:
                raise ValueError(f"{self.name}: lines stand {found} times in {file}, not once")
            texts[file] = text.replace(before, after)
        return texts

    def make(self, directory: Path) -> None:
        """Write the whole mutated package into `directory`, and the tests if one must fail."""
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "multiraft", directory / "multiraft", ignore=ignored)
        if self.test:
            shutil.copytree(ROOT / "tests", directory / "tests", ignore=ignored)
            shutil.copy(ROOT / "pyproject.toml", directory)
        for file, text in self.sources().items():
            (directory / file).write_text(text)


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load() -> tuple[Mutant, ...]:
    """Return all mutants."""
    return msgspec.toml.decode(TABLE.read_bytes(), type=_Table).mutant
