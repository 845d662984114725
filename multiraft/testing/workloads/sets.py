"""A set whose elements are keys: added once, some removed, and looked at by scans.

Purpose
    Find acknowledged writes that are lost, removed ones that come back, and scans that are behind.
Invariants
    - An element is added by one call and removed by at most one, after that was acknowledged.
    - An element's value is its key: a scan that finds anything else has found another element.
Anomalies
    lost         an element that was known to be there is missing, now or for good (a stale scan)
    resurrected  an element that was known to be removed is there
    invented     an element that nobody had asked for yet, or whose adding was refused
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence

from multiraft.client.database import Database
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload

_BUCKETS = tuple("0123456789abcdef")


class SetsWorkload(Workload, frozen=True, kw_only=True, tag="sets"):
    """See the module. Each element lies in one of 16 buckets, each scan is of one bucket."""

    async def client(self, c: ClientRun) -> None:
        """Add, remove own elements, scan."""
        own: list[str] = []
        serial = itertools.count()
        while not c.is_over():
            drawn, bucket = c.rng.random(), self.key(c.rng.choice(_BUCKETS))
            if drawn < 0.5:
                element = f"{bucket}/{c.rng.randrange(1000):03}-{c.number}-{next(serial)}"
                key = element.encode()
                call = c.db.put(key, key)
                if await c.ask("add", element, None, call):
                    own.append(element)
            elif drawn < 0.65 and own:
                element = own.pop(c.rng.randrange(len(own)))
                removal = c.db.delete(element.encode())
                await c.ask("remove", element, None, removal)
            else:
                reverse = c.rng.random() < 0.5
                await c.ask("scan", bucket, reverse, self._scan(c.db, bucket, reverse))
            await c.pause()

    async def _scan(self, db: Database, bucket: str, reverse: bool) -> tuple[str, ...]:
        rows = db.scan(prefix=f"{bucket}/".encode(), reverse=reverse)
        return tuple([_element(key, value) async for key, value in rows])

    async def finish(self, db: Database, history: History) -> None:
        """Scan every bucket."""
        for digit in _BUCKETS:
            bucket = self.key(digit)
            await history.record(FINAL, "scan", bucket, False, self._scan(db, bucket, False))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Each scan against what was known of each element of its bucket."""
        buckets: dict[str, list[Operation]] = {self.key(digit): [] for digit in _BUCKETS}
        for operation in history:
            is_scan = operation.function == "scan"
            bucket = operation.key if is_scan else operation.key.rpartition("/")[0]
            buckets[bucket].append(operation)
        anomalies = [a for of_bucket in buckets.values() for a in _judge(of_bucket)]
        return (Verdict(self.name, len(history), tuple(anomalies)),)


def _element(key: bytes, value: bytes) -> str:
    return key.decode() if key == value else f"{key!r} with the value {value!r}"


def _judge(operations: Sequence[Operation]) -> Iterator[Anomaly]:
    adds = {o.key: o for o in operations if o.function == "add"}
    removals = {o.key: o for o in operations if o.function == "remove"}
    scans = sorted(
        (o for o in operations if o.function == "scan" and o.outcome == "ok"),
        key=lambda o: o.deadline,
    )
    for removal in removals.values():
        if removal.outcome == "ok" and not removal.result:
            story = f"{removal.key} was acknowledged, but not there when it was removed"
            yield Anomaly("lost", story, (adds[removal.key].id, removal.id))
    found = {scan.id: frozenset(scan.result) for scan in scans}
    for element, add in adds.items():
        yield from _follow(add, removals.get(element), scans, found)
    for scan in scans:
        for element in scan.result:
            if element not in adds:
                yield Anomaly("invented", f"nobody ever added {element}", (scan.id,))


def _follow(
    add: Operation,
    removal: Operation | None,
    scans: Iterable[Operation],
    found: dict[int, frozenset[str]],
) -> Iterator[Anomaly]:
    """Follow one element through the scans of its bucket, in the order of their ends."""
    there_since = add.deadline if add.outcome == "ok" else math.inf
    gone_since = math.inf
    may_go_at = math.inf
    if removal is not None and removal.outcome != "failed":
        may_go_at = removal.invoked
        gone_since = removal.deadline
    for scan in scans:
        if add.key in found[scan.id]:
            if add.outcome == "failed" or scan.deadline < add.invoked:
                yield Anomaly("invented", f"{add.key} had not been added", (add.id, scan.id))
            if gone_since < scan.invoked:
                yield Anomaly("resurrected", f"{add.key} had been removed", (add.id, scan.id))
            there_since = min(there_since, scan.deadline)
        elif there_since < scan.invoked:
            if scan.deadline < may_go_at:
                yield Anomaly("lost", f"{add.key} was known to be there", (add.id, scan.id))
            else:
                gone_since = min(gone_since, scan.deadline)
