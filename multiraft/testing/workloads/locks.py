"""A few counters that everybody wants at once: transactions lock some of them in any order.

Purpose
    Deadlocks all the time. Each has one victim, which runs again, so everybody comes through, and
    every increment is carried out once on all counters of its transaction, or on none.
Anomalies
    wrong-sum     a counter that does not end with what its increments make of it
    lost-update   two transactions that made the same of one counter
"""

from collections.abc import Iterator

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class LocksWorkload(Workload, frozen=True, kw_only=True, tag="locks"):
    """See the module."""

    counters: int = 4
    locks_max: int = 3
    """How many counters one transaction wants."""
    locking_share: float = 0.7
    """How many transactions lock what they read."""
    think_s: float = 0.03

    async def client(self, c: ClientRun) -> None:
        """Count, and look."""
        while not c.is_over():
            count = c.rng.randint(1, self.locks_max)
            wanted = tuple(c.rng.sample(range(self.counters), count))
            if c.rng.random() < 0.9:
                is_locking = c.rng.random() < self.locking_share
                call = self._count(c.db, wanted, is_locking=is_locking)
                await c.ask("count", None, wanted, call)
            else:
                await c.ask("read", None, None, self._read(c.db))
            await c.pause()

    @property
    def _keys(self) -> list[bytes]:
        return [self.key(f"{number:02}").encode() for number in range(self.counters)]

    async def _count(
        self, db: Database, wanted: tuple[int, ...], *, is_locking: bool
    ) -> tuple[int, ...]:
        keys = self._keys

        async def count(txn: Transaction) -> tuple[int, ...]:
            sums = []
            for number in wanted:
                held = await txn.get(keys[number], for_update=is_locking)
                sums.append(values.decode_counter(held) + 1)
                await txn.increment(keys[number])
            return tuple(sums)

        return await db.run(count)

    async def _read(self, db: Database) -> tuple[int, ...]:
        keys = self._keys

        async def read(txn: Transaction) -> tuple[int, ...]:
            found = await txn.get_many(keys)
            return tuple(values.decode_counter(found[key]) for key in keys)

        return await db.run(read)

    async def finish(self, db: Database, history: History) -> None:
        """Read all counters."""
        await history.record(FINAL, "read", None, None, self._read(db))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Add up; and no two increments of a counter may have made the same of it."""
        anomalies = [*self._same_sums(history), *self._final_sums(history)]
        return (Verdict(self.name, len(history), tuple(anomalies)),)

    def _same_sums(self, history: History) -> Iterator[Anomaly]:
        seen: dict[tuple[int, int], int] = {}
        for operation in history:
            if operation.function == "count" and operation.outcome == "ok":
                for made in zip(operation.argument, operation.result, strict=True):
                    other = seen.setdefault(made, operation.id)
                    if other != operation.id:
                        story = f"#{other} and #{operation.id} both made {made[1]} of {made[0]}"
                        yield Anomaly("lost-update", story, (other, operation.id))

    def _final_sums(self, history: History) -> Iterator[Anomaly]:
        counts = [o for o in history if o.function == "count"]
        for final in (o for o in history if o.process == FINAL and o.outcome == "ok"):
            for number, total in enumerate(final.result):
                mine = [o for o in counts if number in o.argument]
                least = sum(o.outcome == "ok" for o in mine)
                most = sum(o.outcome != "failed" for o in mine)
                if not least <= total <= most:
                    story = f"counter {number} ends with {total}: {least} to {most} were asked for"
                    yield Anomaly("wrong-sum", story, (final.id,))
