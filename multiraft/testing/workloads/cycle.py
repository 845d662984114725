"""Keys that point at each other in one ring, and stay one ring however they are re-ordered.

Purpose
    A swap reads three links in a row and turns two keys round. A swap that is carried out in part,
    twice, or on links that had changed leaves the ring broken for good. Here a ring lies in one
    range and a swap is a batch of three conditions; in rings.py it is a transaction.
Source
    FoundationDB's Cycle workload.
"""

import random
from collections.abc import Sequence

from multiraft import errors
from multiraft.client.batch import Batch
from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict, cycle
from multiraft.testing.history import History
from multiraft.testing.workloads import groups, values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Links = tuple[tuple[int, int | None], ...]
"""Each key's number, and where it points."""


class CycleWorkload(Workload, frozen=True, kw_only=True, tag="cycle"):
    """See the module."""

    rings: int = 2
    keys_per_ring: int = 8

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Let each key point at the next one."""
        for ring in self._rings:
            batch = Batch()
            keys = self._keys(ring)
            for number, key in enumerate(keys):
                batch.put(key, values.encode((number + 1) % len(keys)))
            await db.batch(batch)

    async def client(self, c: ClientRun) -> None:
        """Turn keys round, and look at all links."""
        while not c.is_over():
            ring = c.rng.choice(self._rings)
            if c.rng.random() < 0.7:
                first = c.rng.randrange(self.keys_per_ring)
                await c.ask("swap", ring, first, self._swap(c.db, self._keys(ring), first))
            else:
                await c.ask("read", ring, None, self._read(c.db, ring))
            await c.pause()

    async def _read(self, db: Database, ring: str) -> Links:
        rows = {key: value async for key, value in db.scan(prefix=f"{ring}/".encode())}
        keys = self._keys(ring)
        return tuple((n, values.decode(rows.get(key))) for n, key in enumerate(keys))

    @property
    def _rings(self) -> list[str]:
        return [self.key(number) for number in range(self.rings)]

    def _keys(self, ring: str) -> list[bytes]:
        return [f"{ring}/{number:03}".encode() for number in range(self.keys_per_ring)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every ring, and see which were cut."""
        for ring in self._rings:
            await history.record(FINAL, "read", ring, None, self._read(db, ring))
        members = {ring: [key.decode() for key in self._keys(ring)] for ring in self._rings}
        await groups.note_cuts(db, history, members)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Follow the links of every read."""
        by_ring, notes = groups.whole(history)
        anomalies: list[Anomaly] = []
        judged = 0
        for operations in by_ring.values():
            verdict = cycle.check(operations, length=self.keys_per_ring)
            judged += verdict.operations
            anomalies += verdict.anomalies
        return (Verdict(self.name, judged, tuple(anomalies), notes),)

    async def _swap(self, db: Database, keys: Sequence[bytes], first: int) -> None:
        """Turn a -> b -> c -> d into a -> c -> b -> d, where a is the first.

        Raises ConditionFailedError if one of the links changed meanwhile; then none was changed.
        """
        links = [first]
        for _ in range(3):
            following = values.decode(await db.get(keys[links[-1]]))
            assert following is not None, "no key of a ring is ever removed"
            links.append(following)
        a, b, c, d = links
        if len({a, b, c}) < 3:  # Links of different moments.
            raise errors.ConditionFailedError(key=str(keys[first]), actual=None)
        batch = Batch()
        for place, old, new in ((a, b, c), (b, c, d), (c, d, b)):
            batch.put(keys[place], values.encode(new), expected=values.encode(old))
        await db.batch(batch)
