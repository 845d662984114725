"""A ring of nodes, each key naming the next, that transactions cut and join again.

Purpose
    Every transaction moves nodes within the ring, and every read follows it from one node round:
    at each moment it is one cycle through all nodes. A transaction that saw half of another one
    breaks it.
Anomalies
    broken-cycle   the pointers that were read are not one cycle through all nodes
    wrong-length   the cycle has another length than the others
Source
    FoundationDB's Cycle workload.
"""

from collections.abc import Iterable
from typing import Any

from multiraft.testing.checkers.verdict import Anomaly, Verdict, passed_over, select, show
from multiraft.testing.history import Operation
from multiraft.testing.history_file import BadHistoryError

READS = frozenset({"read", "scan"})
MOVES = frozenset({"swap", "txn", "move"})


def check(history: Iterable[Operation], *, length: int | None = None) -> Verdict:
    """Judge all reads. `length` is that of the first read if it is not given.

    Raises BadHistoryError for a read that is not a list of [node, next].
    """
    operations, others = select(history, READS | MOVES)
    reads = [o for o in operations if o.function in READS and o.outcome == "ok"]
    anomalies = []
    for read in reads:
        pointers = _pointers(read)
        length = len(pointers) if length is None else length
        if len(pointers) != length:
            text = f"read #{read.id} finds {len(pointers)} nodes instead of {length}"
            anomalies.append(Anomaly("wrong-length", text, (read.id,)))
        fault = _fault(pointers)
        if fault is not None:
            anomalies.append(Anomaly("broken-cycle", f"read #{read.id}: {fault}", (read.id,)))
    notes = () if reads else ("no read was answered, so nothing is known of the ring",)
    return Verdict("cycle", len(operations), tuple(anomalies), (*notes, *passed_over(others)))


def _pointers(read: Operation) -> list[tuple[Any, Any]]:
    pointers = []
    for entry in read.result if isinstance(read.result, tuple) else (None,):
        if not isinstance(entry, tuple) or len(entry) != 2:
            raise BadHistoryError(
                f"operation {read.id}: a read of the ring is a list of [node, next]"
            )
        pointers.append((entry[0], entry[1]))
    return pointers


def _fault(pointers: list[tuple[Any, Any]]) -> str | None:
    """Return what is wrong with the ring."""
    following = dict(pointers)
    if len(following) != len(pointers):
        return "a node is in it twice"
    if not pointers:
        return "it is empty"
    node = start = pointers[0][0]
    for steps in range(1, len(pointers) + 1):
        after = following[node]
        if after not in following:
            return f"{show(node)} leads to {show(after)}, which is no node"
        if after == start:
            if steps == len(pointers):
                return None
            return f"from {show(start)} it comes round after {steps} of {len(pointers)} nodes"
        node = after
    return f"from {show(start)} it never comes round"
