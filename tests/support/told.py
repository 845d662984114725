"""Histories written down by hand."""

import itertools
from typing import NamedTuple

from multiraft.testing import History, Outcome


class Call(NamedTuple):
    """What was asked, and how it ended."""

    function: str
    key: str | None
    argument: object = None
    result: object = None
    outcome: Outcome = "ok"


def told(*calls: Call) -> History:
    """Return the history of a client that made these calls one after the other."""
    history = History(itertools.count().__next__)
    for call in calls:
        operation = history.invoke(1, call.function, key=call.key, argument=call.argument)
        if call.outcome == "ok":
            history.ok(operation, call.result)
        elif call.outcome == "failed":
            history.failed(operation)
        else:
            history.unknown(operation)
    return history
