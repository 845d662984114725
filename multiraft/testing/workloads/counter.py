"""Counters: every increment happens once or never, and what was answered happened.

Purpose
    Deadlines are so short that some increments end with an unknown outcome while the cluster is
    hurt; those may count once, no more.
"""

from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict, counter
from multiraft.testing.history import History
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class CounterWorkload(Workload, frozen=True, kw_only=True, tag="counter"):
    """See the module. Each increment is by 1."""

    keys: int = 4
    deadline_s: tuple[float, float] = (0.02, 2.0)
    """Each call draws its own, between these."""

    async def client(self, c: ClientRun) -> None:
        """Count on one counter or another."""
        while not c.is_over():
            key = c.rng.choice(self._keys)
            call = c.db.increment(key.encode(), deadline_s=c.rng.uniform(*self.deadline_s))
            await c.ask("increment", key, 1, call)
            await c.pause()

    @property
    def _keys(self) -> list[str]:
        return [self.key(number) for number in range(self.keys)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every counter."""
        for key in self._keys:
            call = db.get(key.encode())
            await history.record(FINAL, "get", key, None, call, result_of=values.decode_counter)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Exactly once, counter by counter."""
        return (counter.check(history),)
