"""Single keys, few of them hot: put, get, delete and conditional put, all linearizable.

Purpose
    Hot keys make calls meet; cold ones lie in many places of the keyspace, and seldom in anybody's
    memory. A call that took long has waited for a new leader as a rule: then everything hot is
    read at once, because that is when a leader might answer before it knows what was acknowledged.
"""

import asyncio
import random

from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict, register
from multiraft.testing.history import CONDITIONAL, History
from multiraft.testing.workloads import values
from multiraft.testing.workloads.workload import FINAL, ClientRun, Workload


class RegisterWorkload(Workload, frozen=True, kw_only=True, tag="register"):
    """See the module."""

    keys_hot: int = 3
    keys_cold: int = 60
    hot_share: float = 0.8
    """How many of the calls go to hot keys."""
    slow_s: float = 0.2
    """A call that took longer has met a fault."""

    async def client(self, c: ClientRun) -> None:
        """Call, and read everything hot after a slow call."""
        session = _Session(c)
        loop = asyncio.get_running_loop()
        while not c.is_over():
            began = loop.time()
            await session.step(self._pick(c.rng))
            if loop.time() - began > self.slow_s:
                await asyncio.gather(*(session.get(key) for key in self._hot))
            await c.pause()

    def _pick(self, rng: random.Random) -> str:
        is_hot = not self.keys_cold or rng.random() < self.hot_share
        return rng.choice(self._hot if is_hot else self._cold)

    @property
    def _hot(self) -> list[str]:
        return [self.key("hot", number) for number in range(self.keys_hot)]

    @property
    def _cold(self) -> list[str]:
        return [self.key("cold", f"{number:03}") for number in range(self.keys_cold)]

    async def finish(self, db: Database, history: History) -> None:
        """Read every key."""
        for key in self._hot + self._cold:
            call = db.get(key.encode())
            await history.record(FINAL, "get", key, None, call, result_of=values.decode)

    def check(self, history: History) -> tuple[Verdict, ...]:
        """Linearizability, key by key."""
        return (register.check(history),)


class _Session:
    """One client, and the values that only it writes."""

    def __init__(self, c: ClientRun) -> None:
        self._c = c
        self._values = values.unique(c.number)

    async def step(self, key: str) -> None:
        """Do something with `key`, drawn by chance."""
        drawn = self._c.rng.random()
        if drawn < 0.5:
            await self.get(key)
        elif drawn < 0.75:
            await self._put(key)
        elif drawn < 0.95:
            found = await self.get(key)
            await self._c.pause()
            await self._swap(key, found)
        else:
            await self._delete(key)

    async def get(self, key: str) -> int | None:
        """Read `key`. None if it is absent, or if nobody answered."""
        found = None

        def decoded(value: bytes | None) -> int | None:
            nonlocal found
            found = values.decode(value)
            return found

        call = self._c.db.get(key.encode())
        await self._c.ask("get", key, None, call, result_of=decoded)
        return found

    async def _put(self, key: str) -> None:
        value = next(self._values)
        call = self._c.db.put(key.encode(), values.encode(value))
        await self._c.ask("put", key, value, call)

    async def _swap(self, key: str, expected: int | None) -> None:
        value = next(self._values)
        call = self._c.db.put(
            key.encode(),
            values.encode(value),
            expected=values.encode_expected(expected),
        )
        await self._c.ask(CONDITIONAL, key, (expected, value), call, result_of=lambda _: True)

    async def _delete(self, key: str) -> None:
        call = self._c.db.delete(key.encode())
        await self._c.ask("delete", key, None, call)
