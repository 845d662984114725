"""Histories written down by hand."""

import itertools
from typing import NamedTuple

from multiraft.testing import History, Outcome


class Call(NamedTuple):
    """What was asked, and how it ended."""

    function: str
    key: object
    argument: object = None
    result: object = None
    outcome: Outcome = "ok"
    process: int | str = 1


def told(*calls: Call) -> History:
    """Return the history in which these calls were made one after the other."""
    history = History(itertools.count().__next__)
    for call in calls:
        operation = history.invoke(
            call.process, call.function, key=call.key, argument=call.argument
        )
        if call.outcome == "ok":
            history.ok(operation, call.result)
        elif call.outcome == "failed":
            history.failed(operation)
        else:
            history.unknown(operation)
    return history
