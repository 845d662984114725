"""Keys with one writer each and many readers: a read is never older than what was known before.

Purpose
    A check of real time that costs next to nothing, for histories of any length: every client
    reads its own writes, never goes back in time, and sees what others were acknowledged.
Invariants
    - Only client `n` writes its key, growing numbers, one after the other. So a smaller number was
      overwritten for good when a greater one was seen, unless its own outcome is unknown: then it
      may still be written late.
Anomalies
    stale-read      an older value than one that had been written or read before
    invented-value  a value that was not asked for yet, or whose write was refused
"""

from collections.abc import Iterable, Iterator, Sequence

from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

_RECENT = 50


class FreshnessWorkload(Workload, frozen=True, kw_only=True, tag="freshness"):
    """See the module."""

    write_share: float = 0.4

    async def client(self, c: ClientRun) -> None:
        """Write the own key, read it, and read what others wrote lately."""
        own = self.key(c.number)
        value = 0
        while not c.is_over():
            if c.rng.random() < self.write_share:
                value += 1
                await self._put(c, own, value)
            else:
                recent = [operation.key for operation in c.history][-_RECENT:]
                key = c.rng.choice([own, *recent])
                call = c.db.get(key.encode())
                await c.ask("get", key, None, call, result_of=_decoded)
            await c.pause()

    async def _put(self, c: ClientRun, key: str, value: int) -> None:
        call = c.db.put(key.encode(), values.encode(value))
        await c.ask("put", key, value, call, result_of=lambda _: value)

    async def finish(self, db: Database, history: History) -> None:
        """Read every key."""
        for key in dict.fromkeys(operation.key for operation in history):
            call = db.get(key.encode())
            await history.record(FINAL, "get", key, None, call, result_of=_decoded)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Freshness, key by key."""
        by_key: dict[str, list[Operation]] = {}
        for operation in history:
            by_key.setdefault(operation.key, []).append(operation)
        anomalies = [a for of_key in by_key.values() for a in _judge(of_key)]
        return (Verdict(self.name, len(history), tuple(anomalies)),)


def _decoded(value: bytes | None) -> int:
    return values.decode(value) or 0


def _judge(operations: Sequence[Operation]) -> Iterator[Anomaly]:
    writes = {o.argument: o for o in operations if o.function == "put"}
    for operation in operations:
        if operation.function != "get" or operation.outcome != "ok" or not operation.result:
            continue
        write = writes.get(operation.result)
        if write is None or write.outcome == "failed" or write.invoked > operation.deadline:
            yield Anomaly(
                "invented-value",
                f"a read of {operation.key} found {operation.result}, which nobody had written",
                (operation.id,) if write is None else (write.id, operation.id),
            )
    for operation, before in _with_floor(operations):
        write = writes.get(operation.result)
        may_come_late = write is not None and write.outcome == "unknown"
        if operation.result < before.result and not may_come_late:
            yield Anomaly(
                "stale-read",
                f"a read of {operation.key} found {operation.result}, but {before.result} was "
                "known before it began",
                (before.id, operation.id),
            )


def _with_floor(operations: Iterable[Operation]) -> Iterator[tuple[Operation, Operation]]:
    """Yield each answered operation with one that bounds it, where there is one.

    That is, of those that had been answered before it was invoked, the one with the greatest
    result.
    """
    by_end = sorted((o for o in operations if o.outcome == "ok"), key=lambda o: o.deadline)
    greatest: Operation | None = None
    position = 0
    for operation in sorted(by_end, key=lambda o: o.invoked):
        while position < len(by_end) and by_end[position].deadline < operation.invoked:
            ended = by_end[position]
            if greatest is None or ended.result > greatest.result:
                greatest = ended
            position += 1
        if greatest is not None:
            yield operation, greatest
