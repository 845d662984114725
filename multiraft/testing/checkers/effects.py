"""What operations on a single key do to it, as values that the search can compare and repeat.

Purpose
    An `Effect` is an operation without its moments: `apply` gives the state after it, or
    IMPOSSIBLE where its answer contradicts the state before it. A state is the key's value; None
    is an absent key, which counts as 0 when it is incremented.
Invariants
    - A value that no answer depends on is JUNK: one state instead of many, and no choice to make.
    - What cannot be seen has no effect: reads that failed, writes that nobody could notice.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

READS: Final = frozenset({"get", "read"})
WRITES: Final = frozenset({"put", "write"})
DELETES: Final = frozenset({"delete"})
CONDITIONALS: Final = frozenset({"cas"})
INCREMENTS: Final = frozenset({"increment", "add"})
FUNCTIONS: Final = READS | WRITES | DELETES | CONDITIONALS | INCREMENTS


class Sentinel:
    """A value that is no user's, known by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


IMPOSSIBLE: Final = Sentinel("impossible")
JUNK: Final = Sentinel("a value that nobody read")

READ: Final = 0
"""Finds `expected`."""
WRITE: Final = 1
"""Leaves `value`, whatever was there."""
SWAP: Final = 2
"""Finds `expected`, leaves `value`."""
MISMATCH: Final = 3
"""Finds anything but `expected`."""
ADD: Final = 4
"""Adds `value` to a number."""


class Effect(NamedTuple):
    """One change of, or look at, the state of a key."""

    kind: int
    expected: Any = None
    value: Any = None

    def apply(self, state: Any) -> Any:  # noqa: ANN401
        """Return the state after it, or IMPOSSIBLE."""
        kind = self.kind
        if kind == READ:
            return state if state == self.expected else IMPOSSIBLE
        if kind == WRITE:
            return self.value
        if kind == SWAP:
            return self.value if state == self.expected else IMPOSSIBLE
        if kind == MISMATCH:
            return IMPOSSIBLE if state == self.expected else state
        number = 0 if state is None else state
        if not isinstance(number, int):
            return IMPOSSIBLE
        total = number + self.value
        return total if self.expected in (None, total) else IMPOSSIBLE

    @property
    def observes(self) -> Any:  # noqa: ANN401
        """The one state in which it can happen, or IMPOSSIBLE if there are several or none."""
        if self.kind in (READ, SWAP):
            return self.expected
        if self.kind == ADD and self.expected is not None and self.expected != self.value:
            return self.expected - self.value  # 0 might as well be an absent key
        return IMPOSSIBLE

    @property
    def leaves(self) -> Any:  # noqa: ANN401
        """The state after it, or IMPOSSIBLE if that depends on the state before it."""
        if self.kind in (WRITE, SWAP):
            return self.value
        if self.kind == ADD and self.expected is not None:
            return self.expected
        return IMPOSSIBLE


class Action(NamedTuple):
    """An operation that counts, and its effect."""

    operation: Operation
    effect: Effect

    @property
    def is_optional(self) -> bool:
        """Whether it may never have happened."""
        return self.operation.outcome != "ok"


def actions_of(operations: Iterable[Operation]) -> list[Action]:
    """Return what counts of the operations on one key, simplified as this module promises.

    Raises BadHistoryError for an argument or result that its function cannot have.
    """
    actions = []
    for operation in operations:
        effect = _effect(operation)
        if effect is not None:
            actions.append(Action(operation, effect))
    return _simplified(actions)


def _effect(operation: Operation) -> Effect | None:
    if operation.outcome == "failed":
        return None
    function, is_ok = operation.function, operation.outcome == "ok"
    if function in READS:
        return Effect(READ, expected=operation.result) if is_ok else None
    if function in WRITES:
        return Effect(WRITE, value=operation.argument)
    if function in DELETES:
        return Effect(WRITE, value=None)
    if function in CONDITIONALS:
        return _conditional(operation)
    return _increment(operation)


def _conditional(operation: Operation) -> Effect:
    argument = operation.argument
    if not isinstance(argument, tuple) or len(argument) != 2:
        raise BadHistoryError(
            f"operation {operation.id}: the argument of cas is [expected, new], not {argument!r}"
        )
    expected, new = argument
    if operation.outcome == "ok" and operation.result is False:
        return Effect(MISMATCH, expected=expected)
    return Effect(SWAP, expected=expected, value=new)


def _increment(operation: Operation) -> Effect:
    delta = 1 if operation.argument is None else operation.argument
    if not isinstance(delta, int):
        raise BadHistoryError(f"operation {operation.id}: cannot increment by {delta!r}")
    if operation.outcome != "ok":
        return Effect(ADD, value=delta)
    if not isinstance(operation.result, int):
        raise BadHistoryError(
            f"operation {operation.id}: an increment returns the new value, "
            f"not {operation.result!r}"
        )
    return Effect(ADD, expected=operation.result, value=delta)


def _simplified(actions: Sequence[Action]) -> list[Action]:
    kinds = {action.effect.kind for action in actions}
    seen = {
        action.effect.expected for action in actions if action.effect.kind in (READ, SWAP, MISMATCH)
    }
    simplified = []
    for action in actions:
        effect = action.effect
        # A number, or none, is what an increment would see.
        is_added_to = ADD in kinds and isinstance(effect.value, int | None)
        if effect.kind in (WRITE, SWAP) and effect.value not in seen and not is_added_to:
            effect = effect._replace(value=JUNK)
        if action.is_optional and effect == Effect(WRITE, value=JUNK) and MISMATCH not in kinds:
            continue  # Nobody can tell whether it happened.
        simplified.append(Action(action.operation, effect))
    return simplified
