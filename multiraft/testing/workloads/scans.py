"""Scans in both directions, cut short or not, while keys change and ranges split under them.

Purpose
    Each scan is judged by itself: no key is missed, none is given twice, and all is of one moment.
    Three kinds of keys lie mixed at numbered places, each telling something else:
    fixed keys were there before and never change; pairs are written together in one batch; and
    the rungs of a ladder, far apart, are written by one client one after the other, each when the
    one before it was acknowledged. So at any moment a rung is as high as the next one, or one
    higher, and the first is at most one higher than the last.
Invariants
    - A ladder is left, and another begun, when a write to it was not answered well: that write
      might still come.
    - Clients split ranges between places, which cuts no pair.
Anomalies
    Those of checkers/scans.py for keys missed, given twice or out of place, and those of
    scan_rows.py for rows of different moments.
"""

import contextlib
import math
import random
from collections.abc import Iterator

from multiraft import errors
from multiraft.client.batch import Batch
from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict, scans
from multiraft.testing.checkers.scans import Span
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import groups, scan_rows, values
from multiraft.testing.workloads.scan_rows import Rows
from multiraft.testing.workloads.workload import EXPLAINED, FINAL, ClientRun, Workload

_NO_SPLIT = (*EXPLAINED, errors.RetryableError, errors.AdminRefusedError)


class ScansWorkload(Workload, frozen=True, kw_only=True, tag="scans"):
    """See the module."""

    places: int = 40
    pairs: int = 3
    rungs: int = 4
    splits_per_client: int = 2

    async def set_up(self, db: Database, rng: random.Random) -> None:
        """Write the fixed keys and the pairs."""
        await db.put_many({key.encode(): values.encode(n) for key, n in self._fixed.items()})
        for pair in self.all_pairs:
            await db.batch(_pair(pair, 0))

    async def client(self, c: ClientRun) -> None:
        """Write, scan, and sometimes split."""
        session = _Session(self, c)
        splits = self.splits_per_client
        while not c.is_over():
            drawn = c.rng.random()
            if drawn < 0.4:
                await session.climb()
            elif drawn < 0.55:
                await session.put_pair()
            elif drawn < 0.6 and splits:
                splits -= 1
                await session.split()
            else:
                await session.scan()
            await c.pause()

    @property
    def _fixed(self) -> dict[str, int]:
        return {self.place(number) + "fixed": number for number in range(self.places)}

    @property
    def all_pairs(self) -> list[str]:
        """The names of the pairs."""
        between = self.places // (self.pairs + 1)
        return [f"{self.place(between * n)}pair-{n}" for n in range(1, self.pairs + 1)]

    def place(self, number: int) -> str:
        """Return what all keys at a place begin with."""
        return self.key(f"{number:03}/")

    async def finish(self, db: Database, history: History) -> None:
        """Scan everything in both directions, and see which pairs were cut."""
        for reverse in (False, True):
            span = Span(self.place(0), self.place(self.places), None, reverse)
            await history.record(FINAL, "scan", None, span, _scan(db, span))
        await groups.note_cuts(
            db, history, {pair: scan_rows.halves(pair) for pair in self.all_pairs}
        )

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Judge scan by scan: which keys it has, and of which moments."""
        cut = groups.cut(history)
        whole = [pair for pair in self.all_pairs if pair not in cut]
        known = [o for o in history if o.function in {"put", "scan"}]
        moments = tuple(scan_rows.judge(history, self._fixed, whole))
        return (
            scans.check([*self._standing(), *known]),
            Verdict(self.name, len(history), moments, groups.notes(cut)),
        )

    def _standing(self) -> Iterator[Operation]:
        """Yield the puts, older than the history, of all that is there throughout."""
        halves = [half for pair in self.all_pairs for half in scan_rows.halves(pair)]
        for number, key in enumerate([*self._fixed, *halves], start=1):
            yield Operation(
                -number, "set-up", "put", -math.inf, key, completed=-math.inf, outcome="ok"
            )


class _Session:
    """One client, and the ladder that it climbs."""

    def __init__(self, workload: ScansWorkload, c: ClientRun) -> None:
        self._workload = workload
        self._c = c
        self._values = values.unique(c.number)
        self._ladders = 0
        self._rungs: list[str] = []
        self._steps = 0
        self._begin_ladder()

    def _begin_ladder(self) -> None:
        self._ladders += 1
        self._steps = 0
        places = self._c.rng.sample(range(self._workload.places), self._workload.rungs)
        ladder = f"rung-{self._c.number}.{self._ladders}-"
        self._rungs = [f"{self._workload.place(p)}{ladder}{n}" for n, p in enumerate(places)]

    async def climb(self) -> None:
        """Raise the next rung by one."""
        height, number = divmod(self._steps, len(self._rungs))
        key, value = self._rungs[number], height + 1
        call = self._c.db.put(key.encode(), values.encode(value))
        if await self._c.ask("put", key, value, call):
            self._steps += 1
        else:
            self._begin_ladder()

    async def put_pair(self) -> None:
        """Give both halves of a pair a new value."""
        pair, value = self._c.rng.choice(self._workload.all_pairs), next(self._values)
        await self._c.ask("pair", pair, value, self._c.db.batch(_pair(pair, value)))

    async def split(self) -> None:
        """Split a range between two places."""
        key = self._workload.place(self._c.rng.randrange(1, self._workload.places))
        with contextlib.suppress(*_NO_SPLIT):
            call = self._c.db.admin.split(key.encode())
            await self._c.history.record(
                self._c.number, "split", key, None, call, result_of=lambda _: None
            )

    async def scan(self) -> None:
        """Scan everything or some of it, in either direction, with or without a limit."""
        rng, places = self._c.rng, self._workload.places
        first, last = 0, places
        if rng.random() < 0.4:
            first, last = sorted(rng.sample(range(places + 1), 2))
        limit = rng.randint(1, places) if rng.random() < 0.4 else None
        place = self._workload.place
        span = Span(place(first), place(last), limit, rng.random() < 0.5)
        await self._c.ask("scan", None, span, _scan(self._c.db, span))


def _pair(pair: str, value: int) -> Batch:
    batch = Batch()
    for half in scan_rows.halves(pair):
        batch.put(half.encode(), values.encode(value))
    return batch


async def _scan(db: Database, span: Span) -> Rows:
    rows = db.scan(
        span.start.encode(), span.end.encode(), reverse=span.is_reversed, limit=span.limit
    )
    return tuple([(key.decode(), values.decode(value) or 0) async for key, value in rows])
