"""Transactions over several lists that only grow: everything can be read off the last values.

Purpose
    Each transaction reads some lists and appends to others, in any ranges. An append is a read and
    a put: the checker infers from what was read which transaction comes before which.
Anomalies
    See checkers/listappend.py. All transactions must be serializable, in the order of each client
    too; and what is done to any single list must respect real time as well.
"""

import itertools
from collections.abc import Iterator

import msgspec

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Verdict, listappend
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Part = tuple[str, str, object]
"""What is done, with which list, and the element or what was read."""

READ, APPEND = "r", "append"
FUNCTION = "txn"


class ListsWorkload(Workload, frozen=True, kw_only=True, tag="lists"):
    """See the module. A list of `elements_max` elements is full: clients turn to a fresh one."""

    lists: int = 6
    elements_max: int = 30
    parts_max: int = 4
    """How much one transaction does."""
    locking_share: float = 0.2
    """How many transactions lock what they are about to append to."""

    async def client(self, c: ClientRun) -> None:
        """Append and read."""
        known = {self._list(place, 0): 0 for place in range(self.lists)}
        """How many elements each list is known to have."""
        elements = (f"{c.number}.{serial}" for serial in itertools.count())

        def noted(parts: tuple[Part, ...]) -> tuple[Part, ...]:
            for function, key, found in parts:
                if function == READ and isinstance(found, tuple):
                    known[key] = max(known.get(key, 0), len(found))
            return parts

        while not c.is_over():
            if c.rng.random() < 0.15:
                call = self._read_all(c.db, list(known))
                await c.ask(FUNCTION, None, (), call, result_of=noted)
            else:
                asked = tuple(self._drawn(c, known, elements))
                is_locking = c.rng.random() < self.locking_share
                call = _carry_out(c.db, asked, is_locking=is_locking)
                await c.ask(FUNCTION, None, asked, call, result_of=noted)
            await c.pause()

    def _drawn(
        self, c: ClientRun, known: dict[str, int], elements: Iterator[str]
    ) -> Iterator[Part]:
        for place in c.rng.sample(range(self.lists), c.rng.randint(1, self.parts_max)):
            key = self._open_list(place, known)
            yield READ, key, None
            if c.rng.random() < 0.5:
                yield APPEND, key, next(elements)

    def _list(self, place: int, generation: int) -> str:
        return self.key(place, f"{generation:04}")

    def _open_list(self, place: int, known: dict[str, int]) -> str:
        """Return the first list in a place that is not known to be full."""
        for generation in itertools.count():
            key = self._list(place, generation)
            if known.get(key, 0) < self.elements_max:
                return key
        raise AssertionError("counting has no end")

    async def _read_all(self, db: Database, known: list[str]) -> tuple[Part, ...]:
        """Read all lists at one moment; those of `known` that are not there are empty."""

        async def read(txn: Transaction) -> tuple[Part, ...]:
            found: dict[str, tuple[str, ...]] = dict.fromkeys(known, ())
            async for key, value in txn.scan(prefix=self.key("").encode()):
                found[key.decode()] = _decoded(value)
            return tuple((READ, key, elements) for key, elements in found.items())

        return await db.run(read)

    async def finish(self, db: Database, history: History) -> None:
        """Read every list that somebody appended to."""
        keys = dict.fromkeys(part[1] for o in history for part in o.argument)
        for key in keys:
            asked = ((READ, key, None),)
            await history.record(FINAL, FUNCTION, None, asked, _carry_out(db, asked))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Judge all transactions, and then each list by itself, real time included."""
        return listappend.check(history, process=True), self._check_singly(history)

    def _check_singly(self, history: History) -> Verdict:
        by_list: dict[str, list[Operation]] = {}
        for operation in history:
            parts: dict[str, list[Part]] = {}
            given = operation.result if operation.outcome == "ok" else operation.argument
            for part in given:
                parts.setdefault(part[1], []).append(part)
            for key, mine in parts.items():
                single = msgspec.structs.replace(
                    operation,
                    argument=tuple(mine),
                    result=tuple(mine) if operation.outcome == "ok" else None,
                )
                by_list.setdefault(key, []).append(single)
        verdicts = [listappend.check(operations, strict=True) for operations in by_list.values()]
        anomalies = tuple(anomaly for verdict in verdicts for anomaly in verdict.anomalies)
        return Verdict(f"{self.name}, one by one", sum(v.operations for v in verdicts), anomalies)


async def _carry_out(
    db: Database, asked: tuple[Part, ...], *, is_locking: bool = False
) -> tuple[Part, ...]:
    """Do what a transaction is asked for, and return what it found."""

    async def work(txn: Transaction) -> tuple[Part, ...]:
        done: list[Part] = []
        appended = {key for function, key, _ in asked if function == APPEND}
        for function, key, element in asked:
            name = key.encode()
            if function == READ:
                held = await txn.get(name, for_update=is_locking and key in appended)
                done.append((READ, key, _decoded(held)))
            else:
                before = await txn.get(name)
                added = str(element).encode()
                await txn.put(name, added if before is None else before + b" " + added)
                done.append((APPEND, key, element))
        return tuple(done)

    return await db.run(work)


def _decoded(value: bytes | None) -> tuple[str, ...]:
    return () if value is None else tuple(value.decode().split(" "))
