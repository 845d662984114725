"""Mutants: the product with one safety rule disabled, and what must notice it.

A rule that no test misses is a rule that anybody may delete. Each entry of `rules.toml` names a
rule, the lines that implement it, what stands there instead in the mutant, and the spec whose
simulation must fail within so many seeds.
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
    spec: str
    seeds: int
    """Within how many seeds, counted from 1, the spec must fail."""

    def source(self) -> str:
        """Return the mutated file. Raises ValueError if the lines are not there exactly once."""
        text = (ROOT / self.file).read_text()
        found = text.count(self.before)
        if found != 1:
            raise ValueError(f"{self.name}: the lines stand {found} times in {self.file}, not once")
        return text.replace(self.before, self.after)

    def make(self, directory: Path) -> None:
        """Write the whole mutated package into `directory`."""
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "multiraft", directory / "multiraft", ignore=ignored)
        (directory / self.file).write_text(self.source())


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    mutant: tuple[Mutant, ...]


def load() -> tuple[Mutant, ...]:
    """Return all mutants."""
    return msgspec.toml.decode(TABLE.read_bytes(), type=_Table).mutant
