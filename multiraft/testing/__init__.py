"""What users import in their tests: histories of what clients saw, and judges of them.

Life of a history
    Clients note each call with a `History` when they make it and when it ends (history.py). The
    history is judged at once, or written as JSON lines (history_file.py) and judged later by
    `multiraft check`. A checker (checkers/) is a pure function from the operations to a `Verdict`
    that names and explains each anomaly.

Caveats
    A verdict speaks of the history alone: what no client looked at may be wrong all the same. So
    let workloads read what they wrote, and end with reads of everything.
"""

from multiraft.testing.history import History, Operation, Outcome
from multiraft.testing.history_file import BadHistoryError, load, save

__all__ = ["BadHistoryError", "History", "Operation", "Outcome", "load", "save"]
