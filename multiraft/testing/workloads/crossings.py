"""Batches and transactions that cross: each reads what the other writes, and none misses the other.

Purpose
    The two counters of a pair lie in one range and only grow. A batch reads the first and adds to
    the second, a transaction reads the second and adds to the first, others look at both. Each is
    so told where both stood at its moment, its own step included, and in any serial order neither
    ever goes back.
Anomalies
    crossed   of two, each found one counter short of what the other had found or left there
Source
    Write skew is A5B of Berenson et al., "A critique of ANSI SQL isolation levels" (1995).
"""

import itertools
from collections.abc import Iterable, Iterator

from multiraft.client.batch import Answer, Batch
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import groups, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Counts = tuple[int, int]


class CrossingsWorkload(Workload, frozen=True, kw_only=True, tag="crossings"):
    """See the module."""

    pairs: int = 2

    async def client(self, c: ClientRun) -> None:
        """Cross one pair or another, and look at pairs."""
        while not c.is_over():
            pair = c.rng.choice(self._pairs)
            drawn = c.rng.random()
            if drawn < 0.4:
                await c.ask("batch", pair, None, self._batch(c.db, pair))
            elif drawn < 0.8:
                await c.ask("transaction", pair, None, self._transaction(c.db, pair))
            else:
                await c.ask("look", pair, None, self._look(c.db, pair))
            await c.pause()

    @property
    def _pairs(self) -> list[str]:
        return [self.key(number) for number in range(self.pairs)]

    async def _batch(self, db: Database, pair: str) -> Counts:
        first, second = _keys(pair)
        found, left = await db.batch(Batch().get(first).increment(second))
        assert isinstance(left, int), "an increment gives the sum"
        return values.decode_counter(values.held(found)), left

    async def _transaction(self, db: Database, pair: str) -> Counts:
        first, second = _keys(pair)

        async def cross(txn: Transaction) -> Counts:
            found = values.decode_counter(await txn.get(second))
            return await txn.increment(first), found

        return await db.run(cross)

    async def _look(self, db: Database, pair: str) -> Counts:
        first, second = _keys(pair)
        return _counts(await db.batch(Batch().get(first).get(second)))

    async def finish(self, db: Database, history: History) -> None:
        """Look at every pair, and see which were cut."""
        for pair in self._pairs:
            await history.record(FINAL, "look", pair, None, self._look(db, pair))
        members = {pair: [key.decode() for key in _keys(pair)] for pair in self._pairs}
        await groups.note_cuts(db, history, members)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Look for two that fit no order, pair by pair."""
        by_pair, notes = groups.whole(history)
        judged = sum(map(len, by_pair.values()))
        anomalies = [anomaly for of_pair in by_pair.values() for anomaly in _crossed(of_pair)]
        return (Verdict(self.name, judged, tuple(anomalies), notes),)


def _keys(pair: str) -> tuple[bytes, bytes]:
    return f"{pair}/first".encode(), f"{pair}/second".encode()


def _counts(answers: Iterable[Answer]) -> Counts:
    first, second = (values.decode_counter(values.held(answer)) for answer in answers)
    return first, second


def _crossed(operations: Iterable[Operation]) -> Iterator[Anomaly]:
    """In the order of the first counter, the second must not fall from one to the next."""
    told = sorted((tuple(o.result), o.id) for o in operations if o.outcome == "ok")
    for (before, one), (after, other) in itertools.pairwise(told):
        if after[1] < before[1]:
            story = f"#{one} was told that the counters stood at {before}, #{other} at {after}"
            yield Anomaly("crossed", story, (one, other))
