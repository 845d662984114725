"""Batches over a group of keys in one range: all of it or nothing, at one moment.

Purpose
    Every batch gives all keys of its group the same value, so whoever sees two values has seen a
    part of a batch. Some batches carry a condition on one of the keys, some remove all, and each
    writing batch ends with a read of one key, which must find what the batch itself wrote. Groups
    are read by batches and by scans.
Anomalies
    torn             a read that found two values in one group
    disorder         a batch whose own last read did not find what the batch had written
    nonlinearizable  a group taken as one register (checkers/register.py)
"""

from collections.abc import Iterable, Iterator

import msgspec

from multiraft.client.batch import Answer, Batch
from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict, register
from multiraft.testing.history import CONDITIONAL, History, Operation
from multiraft.testing.workloads import groups, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class BatchesWorkload(Workload, frozen=True, kw_only=True, tag="batches"):
    """See the module."""

    groups: int = 3
    keys_per_group: int = 4

    async def client(self, c: ClientRun) -> None:
        """Write and read groups."""
        unique = values.unique(c.number)
        known: dict[str, int | None] = {}
        while not c.is_over():
            group = c.rng.choice(self._groups)
            drawn = c.rng.random()
            if drawn < 0.25:
                await c.ask("get", group, None, self._read(c.db, group), result_of=_found)
            elif drawn < 0.5:
                known[group] = await self._scan_noted(c, group)
            elif drawn < 0.7:
                await self._put(c, group, next(unique))
            elif drawn < 0.95:
                await self._swap(c, group, known.get(group), next(unique))
            else:
                await c.ask("delete", group, None, self._delete(c.db, group))
            await c.pause()

    async def _scan_noted(self, c: ClientRun, group: str) -> int | None:
        found: tuple[int | None, ...] = (None,)

        def noted(answers: list[Answer]) -> tuple[int | None, ...]:
            nonlocal found
            found = _found(answers)
            return found

        await c.ask("get", group, "scan", self._scan(c.db, group), result_of=noted)
        return found[0]

    async def _put(self, c: ClientRun, group: str, value: int) -> None:
        batch = Batch()
        for key in self._keys(group):
            batch.put(key, values.encode(value))
        batch.get(c.rng.choice(self._keys(group)))
        await c.ask("put", group, value, c.db.batch(batch), result_of=_last)

    async def _swap(self, c: ClientRun, group: str, expected: int | None, value: int) -> None:
        """Put `value` in all keys, if one of them, drawn by chance, holds `expected`."""
        tested = c.rng.choice(self._keys(group))
        batch = Batch()
        for key in self._keys(group):
            if key == tested:
                condition = values.encode_expected(expected)
                batch.put(key, values.encode(value), expected=condition)
            else:
                batch.put(key, values.encode(value))
        batch.get(tested)
        await c.ask(CONDITIONAL, group, (expected, value), c.db.batch(batch), result_of=_last)

    async def _delete(self, db: Database, group: str) -> None:
        batch = Batch()
        for key in self._keys(group):
            batch.delete(key)
        await db.batch(batch)

    async def _read(self, db: Database, group: str) -> list[Answer]:
        batch = Batch()
        for key in self._keys(group):
            batch.get(key)
        return await db.batch(batch)

    async def _scan(self, db: Database, group: str) -> list[Answer]:
        rows = {key: value async for key, value in db.scan(prefix=f"{group}/".encode())}
        return [rows.get(key) for key in self._keys(group)]

    @property
    def _groups(self) -> list[str]:
        return [self.key(number) for number in range(self.groups)]

    def _keys(self, group: str) -> list[bytes]:
        return [f"{group}/{number}".encode() for number in range(self.keys_per_group)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every group, and see which were cut."""
        for group in self._groups:
            await history.record(FINAL, "get", group, None, self._read(db, group), result_of=_found)
        members = {group: [key.decode() for key in self._keys(group)] for group in self._groups}
        await groups.note_cuts(db, history, members)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Atomic batches, and groups linearizable as a whole."""
        by_group, notes = groups.whole(history)
        operations = [o for of_group in by_group.values() for o in of_group]
        verdict = Verdict(self.name, len(operations), tuple(_torn(operations)), notes)
        if verdict.anomalies:
            return (verdict,)
        return verdict, register.check(map(_as_register, operations))


def _found(answers: Iterable[Answer]) -> tuple[int | None, ...]:
    return tuple(values.decode(values.held(answer)) for answer in answers)


def _last(answers: list[Answer]) -> int | None:
    return values.decode(values.held(answers[-1]))


def _torn(operations: Iterable[Operation]) -> Iterator[Anomaly]:
    for operation in operations:
        if operation.outcome != "ok":
            continue
        if operation.function == "get" and len(set(operation.result)) > 1:
            story = f"{operation.key} held parts of several batches: {operation.result}"
            yield Anomaly("torn", story, (operation.id,))
        written = _written(operation)
        if written is not None and operation.result not in (written, False):
            story = f"a batch put {written} everywhere in {operation.key}, then found "
            yield Anomaly("disorder", f"{story}{operation.result}", (operation.id,))


def _written(operation: Operation) -> int | None:
    if operation.function == "put":
        return int(operation.argument)
    return int(operation.argument[1]) if operation.function == CONDITIONAL else None


def _as_register(operation: Operation) -> Operation:
    """Return the operation as if its group were one key."""
    if operation.outcome != "ok":
        return operation
    if operation.function == "get":
        return msgspec.structs.replace(operation, argument=None, result=operation.result[0])
    if operation.function == CONDITIONAL and operation.result is not False:
        return msgspec.structs.replace(operation, result=True)
    return operation
