"""What every bar has in common: cases that are counted by kind and outcome, and what went wrong."""

from collections import Counter
from collections.abc import Callable

import msgspec

PROBLEMS_SHOWN_MAX = 20


class Case(msgspec.Struct, frozen=True):
    """One thing that was tried, or `count` alike, and what came of it."""

    kind: str
    outcome: str
    problem: str = ""
    """Why the bar is not reached, and what repeats it; empty if nothing is wrong."""
    count: int = 1
    note: str = ""
    """What is measured besides, and is in order."""


Tell = Callable[[Case], None]


class Bar(msgspec.Struct, frozen=True):
    """A count that a release must reach without one bad case."""

    name: str
    about: str
    full: int
    """How many cases docs/testing.md asks for."""
    run: Callable[[int, int, Tell], None]
    """Given a number and a seed, tries that many cases at least, and tells each."""


class Tally:
    """Cases by kind and outcome."""

    def __init__(self) -> None:
        self.counts: dict[str, Counter[str]] = {}
        self.total = 0
        self.problems: list[str] = []
        self.notes: list[str] = []

    def add(self, case: Case) -> None:
        """Count a case."""
        if case.count:
            self.counts.setdefault(case.kind, Counter())[case.outcome] += case.count
            self.total += case.count
        if case.note:
            self.notes.append(f"{case.kind}: {case.note}")
        if case.problem:
            self.problems.append(f"{case.kind}: {case.problem}")

    @property
    def outcomes(self) -> list[str]:
        """The outcomes that there were, in the order in which they came."""
        return list(dict.fromkeys(name for counts in self.counts.values() for name in counts))


def count(bar: Bar, wanted: int, seed: int, show: Callable[[Tally], None] | None = None) -> Tally:
    """Count so many cases, or those until it is interrupted; `show` is called after each."""
    tally = Tally()

    def tell(case: Case) -> None:
        tally.add(case)
        if show is not None:
            show(tally)

    try:
        bar.run(wanted, seed, tell)
    except KeyboardInterrupt:
        tally.problems.append(f"interrupted after {tally.total:,} of {wanted:,} cases")
    return tally
