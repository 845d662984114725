"""What a checker says: whether a history can be, and if not, why not."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from multiraft.testing.history import Operation


class Anomaly(msgspec.Struct, frozen=True):
    """One thing that a correct system cannot have answered."""

    name: str
    explanation: str
    """Sentences for people; a long one has several lines."""
    operations: tuple[int, ...] = ()
    """The ids of the operations that show it."""


class Verdict(msgspec.Struct, frozen=True):
    """The judgement of one model over one history.

    Neither `ok` nor with anomalies it is `undecided`: the search ended at its bound.
    """

    model: str
    operations: int
    """How many operations were judged; 0 means that the history has none for this model."""
    anomalies: tuple[Anomaly, ...] = ()
    notes: tuple[str, ...] = ()
    undecided: bool = False

    @property
    def ok(self) -> bool:
        """Whether the history is fully explained."""
        return not self.anomalies and not self.undecided

    def __str__(self) -> str:
        if self.anomalies:
            told = f"{len(self.anomalies)} anomalies" if len(self.anomalies) > 1 else "an anomaly"
        else:
            told = "undecided" if self.undecided else "ok"
        lines = [f"{self.model}: {told} in {self.operations} operations"]
        lines += [f"{anomaly.name}: {anomaly.explanation}" for anomaly in self.anomalies]
        return "\n".join([*lines, *self.notes])


Checker = Callable[[Iterable[Operation]], Verdict]


def select(history: Iterable[Operation], functions: Iterable[str]) -> tuple[list[Operation], int]:
    """Return the operations of these functions, by invocation, and how many others there are."""
    wanted = frozenset(functions)
    operations = list(history)
    chosen = [operation for operation in operations if operation.function in wanted]
    chosen.sort(key=lambda operation: (operation.invoked, operation.id))
    return chosen, len(operations) - len(chosen)


def passed_over(others: int) -> tuple[str, ...]:
    """Return the note about operations that are not the model's."""
    return (f"operations of other functions that were passed over: {others:,}",) if others else ()


def show(value: object) -> str:
    """Return a key or value as it stands in explanations."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple):
        return f"[{', '.join(show(item) for item in value)}]"
    return "absent" if value is None else repr(value)


def listed(values: Sequence[object], limit: int = 5) -> str:
    """Return the first few values, and how many more there are."""
    shown = ", ".join(show(value) for value in values[:limit])
    more = len(values) - limit
    return f"{shown} and {more} more" if more > 0 else shown
