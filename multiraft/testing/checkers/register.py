"""Single keys: every operation takes effect at one moment between its invocation and its return.

Purpose
    Judge reads, writes, deletes, conditional writes and increments of each key by itself:
    linearizability is local, so keys that are linearizable one by one are so together. Each key
    begins absent.
Anomalies
    nonlinearizable   no order explains the answers; told by a smallest part that shows it
Source
    Herlihy and Wing (1990), section 3.3, locality.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from multiraft.testing.checkers import effects, linearization, shrinking
from multiraft.testing.checkers.effects import JUNK
from multiraft.testing.checkers.linearization import Budget
from multiraft.testing.checkers.verdict import Anomaly, Verdict, passed_over, select, show
from multiraft.testing.history import Operation

STEPS_MAX = 2_000_000
"""What all keys together may cost by default: some seconds."""
_SHRINKING_STEPS = 500_000
_SHOWN_MAX = 40
_STATES_MAX = 10


def check(history: Iterable[Operation], *, steps_max: int = STEPS_MAX) -> Verdict:
    """Judge each key. Raises BadHistoryError for operations that make no sense.

    Undecided if more than `steps_max` steps of search would be needed; keys with few operations
    are judged first.
    """
    operations, others = select(history, effects.FUNCTIONS)
    by_key: dict[Any, list[Operation]] = {}
    for operation in operations:
        by_key.setdefault(operation.key, []).append(operation)
    budget = Budget(steps_max)
    anomalies, open_keys = [], []
    for key, of_key in sorted(by_key.items(), key=lambda entry: len(entry[1])):
        result = linearization.search(effects.actions_of(of_key), budget)
        if result.undecided:
            open_keys.append(key)
            budget.steps = 0
        elif not result.explained:
            anomalies.append(_anomaly(key, of_key))
    notes = [
        f"key {show(key)} is undecided: more than {steps_max} steps would be needed"
        for key in open_keys
    ]
    return Verdict(
        "register",
        len(operations),
        tuple(anomalies),
        (*notes, *passed_over(others)),
        undecided=bool(open_keys),
    )


def _anomaly(key: object, operations: Sequence[Operation]) -> Anomaly:
    budget = Budget(_SHRINKING_STEPS)
    window = shrinking.shrink(shrinking.shortest_prefix(operations, budget), budget)
    found = linearization.search(
        effects.actions_of(window), Budget(_SHRINKING_STEPS), look_ahead=False
    )
    lines = [f"no order of these operations on {show(key)} explains their answers:"]
    if len(window) > _SHOWN_MAX:
        lines.append(f"  (and {len(window) - _SHOWN_MAX} before)")
    lines += [f"  {describe(operation)}" for operation in window[-_SHOWN_MAX:]]
    if found.stuck_at is not None:
        could_hold = " or ".join(_show_state(state) for state in found.states[:_STATES_MAX])
        lines.append(
            f"Whatever the order, until #{found.stuck_at.operation.id} had to be done "
            f"{show(key)} could only be: {could_hold}"
        )
    return Anomaly("nonlinearizable", "\n".join(lines), tuple(operation.id for operation in window))


def _show_state(state: object) -> str:
    return repr(state) if state is JUNK else show(state)


def describe(operation: Operation) -> str:
    """Return an operation on a single key in words."""
    asked = operation.function
    if operation.argument is not None:
        asked += f" {show(operation.argument)}"
    if operation.outcome == "ok":
        answer = "ok" if operation.function in effects.WRITES else show(operation.result)
        ended = f"-> {answer} at {operation.completed:g}"
    else:
        ended = "-> outcome unknown"
    return f"#{operation.id} by {operation.process}: {asked}, from {operation.invoked:g} {ended}"
