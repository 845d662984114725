"""Looks at every state that a small model can reach, and tells the shortest way to a bad one.

Purpose
    Breadth first over immutable, hashable states. A model is a function from a state to the steps
    that can be taken in it, and a function that raises AssertionError in a state that must not be,
    or on a step that must not be taken.
"""

from collections.abc import Callable, Iterable
from typing import Generic, NamedTuple, TypeVar

S = TypeVar("S")


class Step(NamedTuple, Generic[S]):
    """What happens, for the reader of a counterexample, and the state that follows."""

    label: str
    state: S


class Explored(NamedTuple):
    """How much was looked at."""

    states: int
    steps: int


class CounterexampleError(AssertionError):
    """A rule was broken; the text has the whole story."""

    def __init__(self, broken: str, story: list[str]) -> None:
        lines = [f"{broken}, after {len(story)} steps:"]
        lines += [f"  {number}. {label}" for number, label in enumerate(story, 1)]
        super().__init__("\n".join(lines))
        self.broken = broken
        self.story = story


def explore(
    initial: Iterable[S],
    steps: Callable[[S], Iterable[Step[S]]],
    check: Callable[[S, S], None],
    *,
    states_max: int = 2_000_000,
) -> Explored:
    """Reach every state from `initial`, and call `check(before, after)` for every step.

    Raises CounterexampleError with the shortest story that ends in what `check` forbids.
    """
    parents: dict[S, tuple[S, str] | None] = dict.fromkeys(initial)
    queue = list(parents)
    taken = 0
    for state in queue:  # It grows while it is walked along.
        for label, following in steps(state):
            taken += 1
            if following == state:
                continue
            is_new = following not in parents
            if is_new:
                parents[following] = (state, label)
                queue.append(following)
                assert len(queue) <= states_max, "the model has grown out of what can be explored"
            try:
                check(state, following)
            except AssertionError as broken:
                story = [*_story(parents, state), label]
                raise CounterexampleError(str(broken), story) from None
    return Explored(len(queue), taken)


def _story(parents: dict[S, tuple[S, str] | None], state: S) -> list[str]:
    labels = []
    while (parent := parents[state]) is not None:
        state, label = parent
        labels.append(label)
    return labels[::-1]
