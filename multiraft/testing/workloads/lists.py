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
from multiraft.testing.checkers.appends import APPEND, FUNCTION, READ
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.growing import Elements, KnownLists, Part, appended, decode
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


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
        known = KnownLists(self, self.lists, self.elements_max)
        elements = (f"{c.number}.{serial}" for serial in itertools.count())

        while not c.is_over():
            if c.rng.random() < 0.15:
                call = self._read_all(c.db, known.keys())
                await c.ask(FUNCTION, None, (), call, result_of=known.note)
            else:
                asked = tuple(self._drawn(c, known, elements))
                is_locking = c.rng.random() < self.locking_share
                call = _carry_out(c.db, asked, is_locking=is_locking)
                await c.ask(FUNCTION, None, asked, call, result_of=known.note)
            await c.pause()

    def _drawn(self, c: ClientRun, known: KnownLists, elements: Iterator[str]) -> Iterator[Part]:
        for place in c.rng.sample(range(self.lists), c.rng.randint(1, self.parts_max)):
            key = known.open_list(place)
            yield READ, key, None
            if c.rng.random() < 0.5:
                yield APPEND, key, next(elements)

    async def _read_all(self, db: Database, known: list[str]) -> tuple[Part, ...]:
        """Read all lists at one moment; those of `known` that are not there are empty."""

        async def read(txn: Transaction) -> tuple[Part, ...]:
            found: dict[str, Elements] = dict.fromkeys(known, ())
            async for key, value in txn.scan(prefix=self.key("").encode()):
                found[key.decode()] = decode(value)
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
        to_grow = {key for function, key, _ in asked if function == APPEND}
        for function, key, element in asked:
            name = key.encode()
            if function == READ:
                held = await txn.get(name, for_update=is_locking and key in to_grow)
                done.append((READ, key, decode(held)))
            else:
                await txn.put(name, appended(await txn.get(name), str(element)))
                done.append((APPEND, key, element))
        return tuple(done)

    return await db.run(work)
