"""Reads of the past: whoever looks at one time sees the same, however often and however late.

Purpose
    Garbage collection, splits and new leaders must not change what a read at a given time finds.
    Clients write, look at everything as of now, and look again, later, at times that any of them
    has looked at before; some times they have protected, and those must stay readable.
Invariants
    - Only client `n` writes its keys, growing numbers, one after the other.
    - A time that is too old may be refused, unless it is protected meanwhile.
Anomalies
    changed-past      two looks at one time that differ
    stale-look        a look that misses what the same client was acknowledged before
    lost-protection   a look at a protected time that was refused as too old
"""

import contextlib
import random
from collections.abc import Iterator
from typing import Any

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.snapshot import Snapshot
from multiraft.ids import Timestamp
from multiraft.testing.checkers import Anomaly, Verdict
from multiraft.testing.history import History, Operation
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import EXPLAINED, FINAL, ClientRun, Workload

Rows = tuple[tuple[str, int], ...]
Look = tuple[int, Rows]
"""The time, and what was there."""

_WAYS = ("scan", "reverse", "gets")


class PastWorkload(Workload, frozen=True, kw_only=True, tag="past"):
    """See the module."""

    keys_per_client: int = 3
    stay_s: float = 3.0
    """How long a time is protected, at most."""

    async def client(self, c: ClientRun) -> None:
        """Write, look at now, at the past, or at a time that is protected."""
        written = dict.fromkeys(range(self.keys_per_client), 0)
        while not c.is_over():
            drawn = c.rng.random()
            if drawn < 0.5:
                await self._write(c, written)
            elif drawn < 0.7:
                await c.ask("look", None, None, self._look(c.db, c.rng))
            elif drawn < 0.95:
                await self._look_again(c)
            else:
                await self._stay(c)
            await c.pause()

    async def _write(self, c: ClientRun, written: dict[int, int]) -> None:
        number = c.rng.randrange(self.keys_per_client)
        written[number] += 1
        key, value = self._key(c.number, number), written[number]
        call = c.db.put(key.encode(), values.encode(value))
        await c.ask("put", key, value, call, result_of=lambda _: value)

    async def _look_again(self, c: ClientRun) -> None:
        times = [operation.result[0] for operation in _looks(c.history)]
        if times:
            at = c.rng.choice(times)
            await c.ask("again", None, at, self._look(c.db, c.rng, at))

    async def _stay(self, c: ClientRun) -> None:
        """Look at now, protect that, and look again after a while."""
        with contextlib.suppress(*EXPLAINED):
            async with c.db.snapshot() as now:
                await c.history.record(
                    c.number, "look", None, None, self._read(now, c.rng.choice(_WAYS))
                )
                assert now.timestamp is not None, "it was read"
                async with c.db.admin.protect(now.timestamp, owner="the workload `past`"):
                    for _ in range(c.rng.randint(1, 3)):
                        await c.stay(c.rng.uniform(0, self.stay_s / 3))
                        look = self._look(c.db, c.rng, now.timestamp)
                        await c.ask("kept", None, now.timestamp, look)

    async def _look(self, db: Database, rng: random.Random, at: int | None = None) -> Look:
        async with db.snapshot(at) as then:
            return await self._read(then, rng.choice(_WAYS))

    async def _read(self, then: Snapshot, way: str) -> Look:
        if way == "gets":
            found = await then.get_many(
                self._key(client, number).encode()
                for client in range(self.clients + 1)
                for number in range(self.keys_per_client)
            )
            rows = [(key, value) for key, value in found.items() if value is not None]
        else:
            prefix = self.key("").encode()
            rows = [row async for row in then.scan(prefix=prefix, reverse=way == "reverse")]
        assert then.timestamp is not None, "it was read"
        return then.timestamp, tuple(
            sorted((key.decode(), values.decode(value) or 0) for key, value in rows)
        )

    def _key(self, client: int, number: int) -> str:
        return self.key(f"{client:03}", number)

    async def finish(self, db: Database, history: History) -> None:
        """Look once more at every time that can still be read."""
        rng = random.Random(0)
        for at in sorted({operation.result[0] for operation in _looks(history)}):
            with contextlib.suppress(errors.ReadTooOldError):
                await history.record(FINAL, "again", None, at, self._look(db, rng, at))

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Compare all looks at one time, and each client's looks with what it wrote."""
        anomalies = (*_changed(history), *_stale(history), *_unprotected(history))
        return (Verdict(self.name, len(history), anomalies),)


def _looks(history: History) -> Iterator[Operation]:
    for operation in history:
        if operation.function in {"look", "again", "kept"} and operation.outcome == "ok":
            yield operation


def _changed(history: History) -> Iterator[Anomaly]:
    first: dict[Timestamp, Operation] = {}
    for operation in _looks(history):
        at, rows = operation.result
        known = first.setdefault(at, operation)
        if known.result[1] != rows:
            yield Anomaly(
                "changed-past",
                f"at {at} there was {_difference(known.result[1], rows)}",
                (known.id, operation.id),
            )


def _difference(one: Rows, other: Rows) -> str:
    was, now = dict(one), dict(other)
    key = next(key for key in sorted({*was, *now}) if was.get(key) != now.get(key))
    return f"{key} = {was.get(key)}, and later {now.get(key)}"


def _stale(history: History) -> Iterator[Anomaly]:
    acknowledged: dict[Any, dict[str, Operation]] = {}
    events = [(o.deadline, 0, o) for o in history if o.function == "put" and o.outcome == "ok"]
    events += [(o.invoked, 1, o) for o in _looks(history) if o.function == "look"]
    for _, is_look, operation in sorted(events, key=lambda event: event[:2]):
        mine = acknowledged.setdefault(operation.process, {})
        if not is_look:
            mine[operation.key] = operation
            continue
        seen = dict(operation.result[1])
        for key, write in mine.items():
            if seen.get(key, 0) < write.argument:
                yield Anomaly(
                    "stale-look",
                    f"a look found {key} = {seen.get(key)}, but {write.argument} was acknowledged "
                    "to the same client before",
                    (write.id, operation.id),
                )


def _unprotected(history: History) -> Iterator[Anomaly]:
    for operation in history:
        is_refused = (operation.error or "").startswith(errors.ReadTooOldError.__name__)
        if operation.function == "kept" and is_refused:
            yield Anomaly(
                "lost-protection",
                f"{operation.argument} was protected, but a look at it was refused: "
                f"{operation.error}",
                (operation.id,),
            )
