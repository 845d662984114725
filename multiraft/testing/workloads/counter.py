"""Counters: every increment happens once or never, and what was answered happened.

Purpose
    Deadlines are so short that some increments end with an unknown outcome while the cluster is
    hurt; those may count once, no more.
Anomalies
    counted-twice   two increments were answered with the same sum, or more were applied than asked
    lost-increment  fewer were applied than answered
    out-of-order    an increment found less than one that had ended before it began
"""

from collections.abc import Iterable, Iterator, Sequence

from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import floors, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class CounterWorkload(Workload, frozen=True, kw_only=True, tag="counter"):
    """See the module. Each increment is by 1."""

    keys: int = 4
    deadline_s: tuple[float, float] = (0.02, 2.0)
    """Each call draws its own, between these."""

    async def client(self, c: ClientRun) -> None:
        """Count on one counter after another."""
        while not c.is_over():
            key = c.rng.choice(self._keys)
            call = c.db.increment(key.encode(), deadline_s=c.rng.uniform(*self.deadline_s))
            await c.ask("increment", key, 1, call)
            await c.pause()

    @property
    def _keys(self) -> list[str]:
        return [self.key(number) for number in range(self.keys)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every counter."""
        for key in self._keys:
            call = db.get(key.encode())
            await history.record(FINAL, "get", key, None, call, result_of=values.decode_counter)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Exactly once, counter by counter."""
        by_key: dict[str, list[Operation]] = {}
        for operation in history:
            by_key.setdefault(operation.key, []).append(operation)
        anomalies = [a for key, of_key in by_key.items() for a in _judge(key, of_key)]
        return (Verdict(self.name, len(history), tuple(anomalies)),)


def _judge(key: str, operations: Sequence[Operation]) -> Iterator[Anomaly]:
    answered = [o for o in operations if o.function == "increment" and o.outcome == "ok"]
    by_sum: dict[int, Operation] = {}
    for operation in answered:
        first = by_sum.setdefault(operation.result, operation)
        if first is not operation:
            yield Anomaly(
                "counted-twice",
                f"two increments of {key} were answered with {operation.result}",
                (first.id, operation.id),
            )
    yield from _out_of_order(key, operations)
    unknown = sum(o.function == "increment" and o.outcome == "unknown" for o in operations)
    for operation in operations:
        if operation.process == FINAL and operation.outcome == "ok":
            yield from _totals(key, operation, answered, unknown)


def _totals(
    key: str, final: Operation, answered: Sequence[Operation], unknown: int
) -> Iterator[Anomaly]:
    story = (
        f"{key} stands at {final.result} after {len(answered)} answered increments and {unknown} "
        "of unknown outcome"
    )
    if final.result < len(answered):
        yield Anomaly("lost-increment", story, (final.id,))
    if final.result > len(answered) + unknown:
        yield Anomaly("counted-twice", story, (final.id,))


def _out_of_order(key: str, operations: Iterable[Operation]) -> Iterator[Anomaly]:
    """Look for answers that are too low: an increment adds to all that had ended before it."""
    for operation, before in floors.with_floor(operations):
        if operation.result < before.result + (operation.function == "increment"):
            yield Anomaly(
                "out-of-order",
                f"{key} stood at {before.result}; a later {operation.function} was answered with "
                f"{operation.result}",
                (before.id, operation.id),
            )
