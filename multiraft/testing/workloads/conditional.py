"""Writes that often write nothing: every answer is definite, and stays so.

Purpose
    Clients race to create, swap and release a few keys, and delete what is not there. A condition
    that fails now holds a moment later: if any attempt of a call that was answered "nothing was
    written" were carried out after all (rule S7), a value would turn up, or vanish, that no
    order of the answers explains. The value that a failed condition met is judged as a read.
Anomalies
    nonlinearizable  as in checkers/register.py
    contradiction    a condition failed on exactly the value that it asked for
"""

from collections.abc import Iterable, Iterator

import msgspec

from multiraft import errors
from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict, register
from multiraft.testing.history import CONDITIONAL, History, Operation
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Answer = tuple[bool, bytes | None]
"""Whether the condition held, and what the key was found to hold."""


class ConditionalWorkload(Workload, frozen=True, kw_only=True, tag="conditional"):
    """See the module."""

    keys: int = 2

    async def client(self, c: ClientRun) -> None:
        """Create, swap, release and delete."""
        session = _Session(c)
        while not c.is_over():
            await session.step(c.rng.choice(self._keys))
            await c.pause()

    @property
    def _keys(self) -> list[str]:
        return [self.key(number) for number in range(self.keys)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every key."""
        for key in self._keys:
            call = db.get(key.encode())
            await history.record(FINAL, "get", key, None, call, result_of=values.decode)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Linearizability of single keys, failed conditions taken as reads."""
        verdict = register.check(map(_as_single_key, history))
        return (Verdict(self.name, len(history), tuple(_contradictions(history))), verdict)


class _Session:
    """One client, and what it last knew each key to hold."""

    def __init__(self, c: ClientRun) -> None:
        self._c = c
        self._values = values.unique(c.number)
        self._known: dict[str, int | None] = {}

    async def step(self, key: str) -> None:
        """Do something with `key`, drawn by chance."""
        drawn = self._c.rng.random()
        if drawn < 0.4:
            await self._swap(key, None, next(self._values))
        elif drawn < 0.6:
            await self._swap(key, self._known.get(key), next(self._values))
        elif drawn < 0.8:
            await self._swap(key, self._known.get(key), None)
        else:
            call = self._c.db.delete(key.encode())
            await self._c.ask("delete", key, None, call)

    async def _swap(self, key: str, expected: int | None, new: int | None) -> None:
        call = _swap(self._c.db, key.encode(), expected, new)

        def noted(answer: Answer) -> tuple[bool, int | None]:
            succeeded, found = answer[0], values.decode(answer[1])
            self._known[key] = new if succeeded else found
            return succeeded, found

        await self._c.ask("swap", key, (expected, new), call, result_of=noted)


async def _swap(db: Database, key: bytes, expected: int | None, new: int | None) -> Answer:
    condition = values.encode_expected(expected)
    try:
        if new is None:
            await db.delete(key, expected=condition)
        else:
            value = values.encode(new)
            await db.put(key, value, expected=condition)
    except errors.ConditionFailedError as error:
        return False, error.actual
    return True, condition


def _as_single_key(operation: Operation) -> Operation:
    """Return the operation as the register model knows it."""
    answered = operation.outcome == "ok"
    if operation.function == "swap" and answered and not operation.result[0]:
        return msgspec.structs.replace(
            operation, function="get", argument=None, result=operation.result[1]
        )
    if operation.function == "swap":
        return msgspec.structs.replace(
            operation, function=CONDITIONAL, result=True if answered else None
        )
    if operation.function == "delete" and answered and operation.result is False:
        return msgspec.structs.replace(operation, function="get", result=None)
    return operation


def _contradictions(history: Iterable[Operation]) -> Iterator[Anomaly]:
    for operation in history:
        if operation.function != "swap" or operation.outcome != "ok":
            continue
        succeeded, found = operation.result
        if not succeeded and found == operation.argument[0]:
            yield Anomaly(
                "contradiction",
                f"a condition on {operation.key} failed, although it held what was expected",
                (operation.id,),
            )
