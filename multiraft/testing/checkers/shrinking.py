"""The smallest part of a history that still cannot be explained.

Purpose
    Leave out as much as possible of a key's operations while the rest still has no order. Only
    what is sure to make the rest easier to explain is left out: reads, and writes that nothing in
    the rest observes. So what remains proves by itself that the whole is wrong.
Source
    Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input" (2002).
"""

from collections.abc import Sequence

import msgspec

from multiraft.testing.checkers import effects, linearization
from multiraft.testing.checkers.linearization import Budget
from multiraft.testing.history import Operation


def shortest_prefix(operations: Sequence[Operation], budget: Budget) -> list[Operation]:
    """Return the least that no order explains of `operations`, seen up to some return."""
    returns = sorted(o.deadline for o in operations if o.outcome == "ok")
    low, high = 0, len(returns) - 1
    while low < high:
        middle = (low + high) // 2
        if _is_unexplained(_seen_until(operations, returns[middle]), budget):
            high = middle
        else:
            low = middle + 1
    return _seen_until(operations, returns[high])


def _seen_until(operations: Sequence[Operation], moment: float) -> list[Operation]:
    """Return the history as it stood then: what had not returned might never."""
    seen = []
    for operation in operations:
        if operation.invoked > moment or operation.outcome == "failed":
            continue
        if operation.outcome == "ok" and operation.deadline > moment:
            operation = msgspec.structs.replace(  # noqa: PLW2901
                operation, outcome="unknown", result=None, completed=None
            )
        seen.append(operation)
    return seen


def _is_unexplained(operations: Sequence[Operation], budget: Budget) -> bool:
    result = linearization.search(effects.actions_of(operations), budget)
    return not result.explained and not result.undecided


def shrink(operations: Sequence[Operation], budget: Budget) -> list[Operation]:
    """Return a part of `operations`, which no order explains, that no order explains either."""
    # Failed conditions are the costliest to explain, and seldom the reason.
    kept = [operation for operation in operations if not _is_mismatch(operation)]
    if not _is_unexplained(kept, budget):
        kept = list(operations)
    while True:
        before = len(kept)
        kept = _without(kept, [o for o in kept if _only_looks(o)], budget)
        kept = _without(kept, _unobserved(kept), budget)
        if len(kept) == before or budget.steps < 0:
            return kept


def _without(kept: list[Operation], removable: list[Operation], budget: Budget) -> list[Operation]:
    size = max(1, len(removable) // 2)
    while removable:
        for start in range(0, len(removable), size):
            gone = {operation.id for operation in removable[start : start + size]}
            rest = [operation for operation in kept if operation.id not in gone]
            if _is_unexplained(rest, budget):
                kept = rest
        if size == 1:
            break
        left = {operation.id for operation in kept}
        removable = [operation for operation in removable if operation.id in left]
        size //= 2
    return kept


def _is_mismatch(operation: Operation) -> bool:
    is_conditional = operation.function in effects.CONDITIONALS
    return is_conditional and operation.outcome == "ok" and operation.result is False


def _only_looks(operation: Operation) -> bool:
    return (
        _is_mismatch(operation)
        or operation.function in effects.READS
        or operation.outcome == "failed"
    )


def _unobserved(operations: list[Operation]) -> list[Operation]:
    """Return the writes whose value nothing among `operations` could have met."""
    actions = effects.actions_of(operations)
    counted = {action.operation.id for action in actions}
    junk = {
        action.operation.id
        for action in actions
        if action.effect == effects.Effect(effects.WRITE, value=effects.JUNK)
    }
    if any(action.effect.kind == effects.MISMATCH for action in actions):
        junk = set()  # A condition may fail because of any write.
    return [o for o in operations if o.id in junk or o.id not in counted]
