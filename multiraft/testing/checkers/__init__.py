"""Judges of histories: pure functions from operations to a `Verdict`.

    register      single keys are linearizable: get, put, delete, cas, increment
    counter       increments happen exactly once
    list-append   transactions over lists are serializable
    set           what was added stays, and nothing else is there
    bank          transfers keep the total
    scan          scans have all keys, each once and in order
    cycle         a ring that transactions rearrange stays one ring

What is where
    verdict.py    what a checker says
    register.py   with effects.py (the model), zones.py (values with one writer need no search),
                  linearization.py (the search), shrinking.py (the smallest explanation)
    listappend.py with appends.py (transactions), dependencies.py (what comes before what),
                  graph.py (cycles)
    counter.py, sets.py, bank.py, scans.py, cycle.py
                  one model each

Caveats
    Functions of other models are passed over and counted in the notes. A history that holds
    nothing for a model is `ok`, with 0 operations: look at that number.
"""

from multiraft.testing.checkers import bank, counter, cycle, listappend, register, scans, sets
from multiraft.testing.checkers.verdict import Anomaly, Checker, Verdict

MODELS: dict[str, Checker] = {
    "register": register.check,
    "counter": counter.check,
    "list-append": listappend.check,
    "set": sets.check,
    "bank": bank.check,
    "scan": scans.check,
    "cycle": cycle.check,
}
"""By the name that `multiraft check --model` takes."""

__all__ = ["MODELS", "Anomaly", "Checker", "Verdict"]
