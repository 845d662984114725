"""Rooms with two doors: who counts the people inside and lets one more in cannot miss another.

Purpose
    A room is two spans of keys, which may lie in different ranges. A transaction scans both, and
    inserts into one if there is room, else removes somebody. What it must not miss are keys that
    were not there when it looked: phantoms. Removals of whole sides are in it, too.
Anomalies
    overfull     a transaction that committed has counted more than there is room for
    gone-twice   two transactions have sent out the same one
    torn         a transaction has removed others from a side than it had seen there
    lost         somebody who was let in, whom nobody has sent out, is not there at the end
    unwanted     somebody is there at the end who was not let in, or was sent out
Source
    Adya (1999): G2 with predicates; Jepsen's G2 workload.
"""

import itertools
from collections.abc import Iterator

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

SIDES = ("a", "z")

Visit = tuple[int, str, tuple[str, ...], int]
"""How many were inside, who came in (or nobody: empty), who was sent out, and how many."""


class RoomsWorkload(Workload, frozen=True, kw_only=True, tag="rooms"):
    """See the module."""

    rooms: int = 2
    places: int = 3
    """For how many a room has room."""
    locking_share: float = 0.2
    """How many of those who go in lock whom they find."""

    async def client(self, c: ClientRun) -> None:
        """Go into rooms, and clear them."""
        names = (f"{c.number}-{serial:05}" for serial in itertools.count())
        while not c.is_over():
            room, side = c.rng.randrange(self.rooms), c.rng.choice(SIDES)
            if c.rng.random() < 0.85:
                name = next(names)
                is_locking = c.rng.random() < self.locking_share
                call = self._enter(c.db, room, side, name, is_locking=is_locking)
                await c.ask("enter", room, name, call)
            else:
                await c.ask("clear", room, side, self._clear(c.db, room, side))
            await c.pause()

    async def _enter(
        self, db: Database, room: int, side: str, name: str, *, is_locking: bool
    ) -> Visit:
        async def enter(txn: Transaction) -> Visit:
            inside = await self._inside(txn, room, is_locking=is_locking)
            if len(inside) < self.places:
                await txn.put(self._prefix(room, side) + name.encode(), b"x")
                return len(inside), name, (), 0
            await txn.delete(inside[0])
            return len(inside), "", (_name(inside[0]),), 1

        return await db.run(enter)

    async def _clear(self, db: Database, room: int, side: str) -> Visit:
        async def clear(txn: Transaction) -> Visit:
            inside = await self._inside(txn, room)
            prefix = self._prefix(room, side)
            removed = await txn.delete_range(prefix=prefix)
            gone = tuple(_name(key) for key in inside if key.startswith(prefix))
            return len(inside), "", gone, removed

        return await db.run(clear)

    def _prefix(self, room: int, side: str) -> bytes:
        return self.key(side, room, "").encode()

    async def _inside(
        self, txn: Transaction, room: int, *, is_locking: bool = False
    ) -> list[bytes]:
        inside: list[bytes] = []
        for side in SIDES:
            rows = txn.scan(prefix=self._prefix(room, side), for_update=is_locking)
            inside += [key async for key, _ in rows]
        return inside

    async def finish(self, db: Database, history: History) -> None:
        """Look who is there."""
        for room in range(self.rooms):
            await history.record(FINAL, "look", room, None, self._look(db, room))

    async def _look(self, db: Database, room: int) -> tuple[str, ...]:
        async def look(txn: Transaction) -> tuple[str, ...]:
            return tuple(_name(key) for key in await self._inside(txn, room))

        return await db.run(look)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Look for rooms with too many, and compare the end with who came and went."""
        anomalies: list[Anomaly] = []
        for operation in history:
            if operation.function == "look":
                anomalies += self._at_the_end(history, operation)
            elif operation.outcome == "ok" and operation.result[0] > self.places:
                story = f"#{operation.id} found {operation.result[0]} in a room for {self.places}"
                anomalies.append(Anomaly("overfull", story, (operation.id,)))
        anomalies += _gone_twice(history)
        anomalies += _torn(history)
        return (Verdict(self.name, len(history), tuple(anomalies)),)

    def _at_the_end(self, history: History, look: Operation) -> Iterator[Anomaly]:
        if look.outcome != "ok":
            return
        visits = [o for o in history if o.key == look.key and o.function != "look"]
        answered = [o for o in visits if o.outcome == "ok"]
        came = {o.result[1]: o for o in answered if o.result[1]}
        gone = {name: o for o in answered for name in o.result[2]}
        maybe = [o for o in visits if o.outcome == "unknown"]
        asked = {o.argument: o for o in maybe if o.function == "enter"}
        if len(look.result) > self.places:
            story = f"at the end {len(look.result)} are in a room for {self.places}"
            yield Anomaly("overfull", story, (look.id,))
        for name in look.result:
            if name in gone or (name not in came and name not in asked):
                story = f"{name} is in room {look.key} at the end, but was sent out or never let in"
                yield Anomaly("unwanted", story, (look.id,))
        for name, operation in came.items():
            if name not in look.result and name not in gone and not maybe:
                story = f"{name} was let into room {look.key}, and nobody has sent them out"
                yield Anomaly("lost", story, (operation.id, look.id))


def _torn(history: History) -> Iterator[Anomaly]:
    for operation in history:
        if operation.function == "clear" and operation.outcome == "ok":
            _, _, seen, removed = operation.result
            if removed != len(seen):
                story = f"#{operation.id} saw {len(seen)} where it removed {removed}"
                yield Anomaly("torn", story, (operation.id,))


def _gone_twice(history: History) -> Iterator[Anomaly]:
    gone: dict[str, int] = {}
    for operation in history:
        if operation.function != "look" and operation.outcome == "ok":
            for name in operation.result[2]:
                other = gone.setdefault(name, operation.id)
                if other != operation.id:
                    story = f"#{other} and #{operation.id} have both sent out {name}"
                    yield Anomaly("gone-twice", story, (other, operation.id))


def _name(key: bytes) -> str:
    return key.rpartition(b"/")[2].decode()
