"""Pairs of which one must always be on: who looks at both and turns off one cannot miss the other.

Purpose
    Each transaction reads both switches of a pair, which may lie in different ranges, and writes
    one: off only if the other one is on. Snapshot isolation would let two turn off both.
Anomalies
    both-off   a transaction that committed, or the last look, has found both off
Source
    Berenson et al., "A critique of ANSI SQL isolation levels" (1995): A5B.
"""

import random

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

SIDES = ("a", "z")
ON, OFF = b"on", b"off"

Pair = tuple[str, str]


class WriteSkewWorkload(Workload, frozen=True, kw_only=True, tag="write-skew"):
    """See the module."""

    pairs: int = 3

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Turn everything on."""
        for number in range(self.pairs):
            for key in self._keys(number):
                await db.put(key, ON)

    async def client(self, c: ClientRun) -> None:
        """Turn switches off and on, and look at pairs."""
        while not c.is_over():
            number, side = c.rng.randrange(self.pairs), c.rng.randrange(2)
            if c.rng.random() < 0.8:
                await c.ask("turn", number, SIDES[side], self._turn(c.db, number, side))
            else:
                await c.ask("look", number, None, self._look(c.db, number))
            await c.pause()

    def _keys(self, number: int) -> tuple[bytes, bytes]:
        first, second = (self.key(side, number).encode() for side in SIDES)
        return first, second

    async def _turn(self, db: Database, number: int, side: int) -> Pair:
        """Turn one round if the other is on, else that one on; return what was found."""
        keys = self._keys(number)

        async def turn(txn: Transaction) -> Pair:
            # Each begins with its own, so that two cross.
            mine = await txn.get(keys[side])
            other = await txn.get(keys[1 - side])
            if other == ON:
                await txn.put(keys[side], OFF if mine == ON else ON)
            else:
                await txn.put(keys[1 - side], ON)
            return _told(mine), _told(other)

        return await db.run(turn)

    async def _look(self, db: Database, number: int) -> Pair:
        keys = self._keys(number)

        async def look(txn: Transaction) -> Pair:
            found = await txn.get_many(keys)
            return _told(found[keys[0]]), _told(found[keys[1]])

        return await db.run(look)

    async def finish(self, db: Database, history: History) -> None:
        """Look at every pair."""
        for number in range(self.pairs):
            await history.record(FINAL, "look", number, None, self._look(db, number))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Look for a pair of which both were off."""
        anomalies = [
            Anomaly("both-off", f"#{o.id} found both switches of pair {o.key} off", (o.id,))
            for o in history
            if o.outcome == "ok" and "on" not in o.result
        ]
        return (Verdict(self.name, len(history), tuple(anomalies)),)


def _told(value: bytes | None) -> str:
    return "absent" if value is None else value.decode()
