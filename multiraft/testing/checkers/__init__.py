"""Judges of histories: pure functions from operations to a `Verdict`.

    register      single keys, linearizable: get, put, delete, cas, increment

What is where
    verdict.py          what a checker says
    effects.py, linearization.py, shrinking.py
                        the parts of `register`: the model, the search, the smallest explanation
"""

from multiraft.testing.checkers import register
from multiraft.testing.checkers.verdict import Anomaly, Checker, Verdict

MODELS: dict[str, Checker] = {
    "register": register.check,
}
"""By the name that `multiraft check --model` takes."""

__all__ = ["MODELS", "Anomaly", "Checker", "Verdict"]
