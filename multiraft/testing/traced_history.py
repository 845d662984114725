"""A history whose calls also stand in the trace of a simulated run.

Invariants
    - What the trace tells of a call, it tells at the moment at which the history notes it.
"""

from collections.abc import Callable, Iterable

from multiraft.sim.trace import Trace
from multiraft.testing.checkers.verdict import Anomaly
from multiraft.testing.history import History, Operation, Outcome, Process
from multiraft.testing.trace_page import Mark


class TracedHistory(History):
    """See the module. `name` tells apart the clients of several workloads."""

    def __init__(self, now: Callable[[], float], trace: Trace, name: str = "") -> None:
        super().__init__(now)
        self._trace = trace
        self._name = name
        self._numbers: dict[int, int] = {}

    def invoke(
        self, process: Process, function: str, *, key: object = None, argument: object = None
    ) -> Operation:
        """See History."""
        operation = super().invoke(process, function, key=key, argument=argument)
        client = f"{self._name} {process}".strip()
        self._numbers[operation.id] = self._trace.invoked(client, function, operation.key)
        return operation

    def _end(
        self, operation: Operation, outcome: Outcome, *, result: object = None, error: object = None
    ) -> None:
        super()._end(operation, outcome, result=result, error=error)
        detail = type(error).__name__ if isinstance(error, BaseException) else str(error or "")
        self._trace.ended(self._numbers[operation.id], outcome, detail)

    def marks(self, anomalies: Iterable[Anomaly]) -> tuple[Mark, ...]:
        """Return anomalies of this history as marks for the page of its trace."""
        return tuple(
            Mark(
                f"{anomaly.name}: {anomaly.explanation}",
                tuple(self._numbers[number] for number in anomaly.operations),
            )
            for anomaly in anomalies
        )
