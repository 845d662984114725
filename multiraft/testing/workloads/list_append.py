"""Lists that only grow: the history of every key can be read off its last value.

Purpose
    Transactions append to lists and read them; the checker infers their order. Until there are
    transactions, one that appends is a read and a conditional put on one key, tried again only if
    the condition failed, which means that nothing was written; and one that reads all lists is a
    scan. `_append` and `_read_all` are all that transactions change.
Anomalies
    See checkers/listappend.py. All transactions must respect the order in each client; those on
    single keys also real time, which scans, over keys that nothing connects, need not.
"""

import itertools

from multiraft import errors
from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict, listappend
from multiraft.testing.history import History
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

List = tuple[str, ...]
Part = tuple[str, str, object]
"""What is done, with which list, and the element or what was read."""

FUNCTION = "txn"


class ListAppendWorkload(Workload, frozen=True, kw_only=True, tag="list-append"):
    """See the module. A list of `elements_max` elements is full: clients turn to a fresh one."""

    lists: int = 4
    elements_max: int = 40

    async def client(self, c: ClientRun) -> None:
        """Append and read."""
        known = {self._list(place, 0): 0 for place in range(self.lists)}
        """How many elements each list is known to have."""
        elements = (f"{c.number}.{serial}" for serial in itertools.count())

        def noted(parts: tuple[Part, ...]) -> tuple[Part, ...]:
            for function, key, found in parts:
                if function == "r" and isinstance(found, tuple):
                    known[key] = max(known.get(key, 0), len(found))
            return parts

        while not c.is_over():
            drawn = c.rng.random()
            key = self._open_list(c.rng.randrange(self.lists), known)
            if drawn < 0.6:
                element = next(elements)
                asked: tuple[Part, ...] = (("r", key, None), ("append", key, element))
                call = _append(c.db, key, element)
            elif drawn < 0.85:
                asked, call = (("r", key, None),), _read_one(c.db, key)
            else:
                asked, call = (), _read_all(c.db, self.key(), list(known))
            await c.ask(FUNCTION, None, asked, call, result_of=noted)
            await c.pause()

    def _list(self, place: int, generation: int) -> str:
        return self.key(place, f"{generation:04}")

    def _open_list(self, place: int, known: dict[str, int]) -> str:
        """Return the first list in a place that is not known to be full."""
        for generation in itertools.count():
            key = self._list(place, generation)
            if known.get(key, 0) < self.elements_max:
                return key
        raise AssertionError("counting has no end")

    async def finish(self, db: Database, history: History) -> None:
        """Read every list that somebody appended to."""
        keys = dict.fromkeys(part[1] for o in history for part in o.argument)
        for key in keys:
            await history.record(FINAL, FUNCTION, None, (("r", key, None),), _read_one(db, key))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Serializable with the scans, process by process, and strictly so without them."""
        single = [operation for operation in history if operation.argument]
        return listappend.check(history, process=True), listappend.check(single, strict=True)


async def _append(db: Database, key: str, element: str) -> tuple[Part, ...]:
    """Append, and return what was there before."""
    while True:
        held = await db.get(key.encode())
        value = element.encode() if held is None else held + b" " + element.encode()
        try:
            await db.put(key.encode(), value, expected=held)
        except errors.ConditionFailedError:
            continue  # Another append came between; this one wrote nothing.
        return ("r", key, _decoded(held)), ("append", key, element)


async def _read_one(db: Database, key: str) -> tuple[Part, ...]:
    return (("r", key, _decoded(await db.get(key.encode()))),)


async def _read_all(db: Database, prefix: str, known: list[str]) -> tuple[Part, ...]:
    """Read all lists at one moment; those of `known` that are not there are empty."""
    found: dict[str, List] = dict.fromkeys(known, ())
    async for key, value in db.scan(prefix=f"{prefix}/".encode()):
        found[key.decode()] = _decoded(value)
    return tuple(("r", key, elements) for key, elements in found.items())


def _decoded(value: bytes | None) -> List:
    return () if value is None else tuple(value.decode().split(" "))
