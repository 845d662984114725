"""Keys that are written once, in different ranges: readers must agree on the order of the writes.

Purpose
    Blind writes of single keys, and transactions that read all keys of a group. Of two such reads
    one must have seen everything that the other has seen: else each has missed a write of the
    other's, which parallel snapshot isolation allows.
Anomalies
    long-fork      two reads of which neither has seen all that the other has
    lost           a write that was acknowledged before the read began, and that it has missed
    unwritten      a key found written, though its write has failed
Source
    Sovran et al., "Transactional storage for geo-replicated systems" (2011).
"""

import itertools
from collections.abc import Iterator

from multiraft.client.database import Database
from multiraft.client.transaction import Transaction
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

Seen = tuple[int, ...]
"""The keys that were found written."""


class LongForkWorkload(Workload, frozen=True, kw_only=True, tag="long-fork"):
    """See the module."""

    keys: int = 4
    """In a group, each in another place of the key space."""

    async def client(self, c: ClientRun) -> None:
        """Write keys of the present group, and read all of it, until it is full."""
        group = 0
        while not c.is_over():
            if c.rng.random() < 0.4:
                place = c.rng.randrange(self.keys)
                await c.ask("write", group, place, self._write(c, group, place))
            else:
                order = c.rng.sample(range(self.keys), self.keys)
                seen: list[Seen] = []

                def noted(found: Seen, seen: list[Seen] = seen) -> Seen:
                    seen.append(found)
                    return found

                call = self._read(c.db, group, order)
                await c.ask("read", group, tuple(order), call, result_of=noted)
                if seen and len(seen[0]) == self.keys:
                    group += 1
            await c.pause()

    def _name(self, group: int, place: int) -> bytes:
        return self.key(place, f"{group:05}").encode()

    async def _write(self, c: ClientRun, group: int, place: int) -> None:
        key = self._name(group, place)
        if c.rng.random() < 0.5:
            await c.db.put(key, b"x")
            return

        async def write(txn: Transaction) -> None:
            await txn.put(key, b"x")

        await c.db.run(write)

    async def _read(self, db: Database, group: int, order: list[int]) -> Seen:
        async def read(txn: Transaction) -> Seen:
            found = [place for place in order if await txn.get(self._name(group, place))]
            return tuple(sorted(found))

        return await db.run(read)

    async def finish(self, db: Database, history: History) -> None:
        """Read every group once more."""
        order = list(range(self.keys))
        for group in dict.fromkeys(o.key for o in history):
            call = self._read(db, group, order)
            await history.record(FINAL, "read", group, tuple(order), call)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Compare the reads of each group with each other, and with the writes."""
        by_group: dict[int, list[Operation]] = {}
        for operation in history:
            by_group.setdefault(operation.key, []).append(operation)
        anomalies = tuple(a for group in by_group.values() for a in _anomalies(group))
        return (Verdict(self.name, len(history), anomalies),)


def _anomalies(group: list[Operation]) -> Iterator[Anomaly]:
    reads = [o for o in group if o.function == "read" and o.outcome == "ok"]
    writes = [o for o in group if o.function == "write"]
    for one, other in itertools.pairwise(sorted(reads, key=lambda read: len(read.result))):
        if not set(one.result) <= set(other.result):
            story = (
                f"of group {one.key}, #{one.id} has seen {list(one.result)}, but not all of what "
                f"#{other.id} has seen: {list(other.result)}"
            )
            yield Anomaly("long-fork", story, (one.id, other.id))
    for read in reads:
        for place in sorted({write.argument for write in writes}):
            mine = [write for write in writes if write.argument == place]
            done = next((w for w in mine if w.outcome == "ok" and w.deadline < read.invoked), None)
            if done is not None and place not in read.result:
                story = f"#{read.id} has missed key {place} of group {read.key}, written before it"
                yield Anomaly("lost", story, (read.id, done.id))
        for place in read.result:
            if all(w.outcome == "failed" for w in writes if w.argument == place):
                story = f"#{read.id} found key {place} of group {read.key}, which nobody wrote"
                yield Anomaly("unwritten", story, (read.id,))
