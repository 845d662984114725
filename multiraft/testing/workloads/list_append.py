"""Lists that only grow: the history of every key can be read off its last value.

Purpose
    The checker infers from what was read which append or read comes before which. Here an append
    is a read and a conditional put on one key, tried again only if the condition failed, which
    means that nothing was written, and all lists are read by a scan; in lists.py either may be part
    of a transaction.
Anomalies
    See checkers/listappend.py. All must respect the order in each client; what is on a single key
    also real time, which scans, over keys that nothing connects, need not.
"""

import itertools

from multiraft import errors
from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict, listappend
from multiraft.testing.checkers.appends import APPEND, FUNCTION, READ
from multiraft.testing.history import History
from multiraft.testing.workloads.growing import Elements, KnownLists, Part, appended, decode
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class ListAppendWorkload(Workload, frozen=True, kw_only=True, tag="list-append"):
    """See the module. A list of `elements_max` elements is full: clients turn to a fresh one."""

    lists: int = 4
    elements_max: int = 40

    async def client(self, c: ClientRun) -> None:
        """Append and read."""
        known = KnownLists(self, self.lists, self.elements_max)
        elements = (f"{c.number}.{serial}" for serial in itertools.count())

        while not c.is_over():
            drawn = c.rng.random()
            key = known.open_list(c.rng.randrange(self.lists))
            if drawn < 0.6:
                element = next(elements)
                asked: tuple[Part, ...] = ((READ, key, None), (APPEND, key, element))
                call = _append(c.db, key, element)
            elif drawn < 0.85:
                asked, call = ((READ, key, None),), _read_one(c.db, key)
            else:
                asked, call = (), _read_all(c.db, self.key(), known.keys())
            await c.ask(FUNCTION, None, asked, call, result_of=known.note)
            await c.pause()

    async def finish(self, db: Database, history: History) -> None:
        """Read every list that somebody appended to."""
        keys = dict.fromkeys(part[1] for o in history for part in o.argument)
        for key in keys:
            await history.record(FINAL, FUNCTION, None, ((READ, key, None),), _read_one(db, key))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Serializable with the scans, process by process, and strictly so without them."""
        single = [operation for operation in history if operation.argument]
        return listappend.check(history, process=True), listappend.check(single, strict=True)


async def _append(db: Database, key: str, element: str) -> tuple[Part, ...]:
    """Append, and return what was there before."""
    while True:
        held = await db.get(key.encode())
        try:
            await db.put(key.encode(), appended(held, element), expected=held)
        except errors.ConditionFailedError:
            continue  # Another append came between; this one wrote nothing.
        return (READ, key, decode(held)), (APPEND, key, element)


async def _read_one(db: Database, key: str) -> tuple[Part, ...]:
    return ((READ, key, decode(await db.get(key.encode()))),)


async def _read_all(db: Database, prefix: str, known: list[str]) -> tuple[Part, ...]:
    """Read all lists at one moment; those of `known` that are not there are empty."""
    found: dict[str, Elements] = dict.fromkeys(known, ())
    async for key, value in db.scan(prefix=f"{prefix}/".encode()):
        found[key.decode()] = decode(value)
    return tuple((READ, key, elements) for key, elements in found.items())
