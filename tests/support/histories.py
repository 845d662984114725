"""Small workloads that know what their answers must be, whatever happens to the nodes.

Each is started, hurt for a while, stopped, and checked:

    Counters    an increment happens exactly once
    Register    one writer of growing values; a read is never older than what was known before it
    KeySet      what was acknowledged is there, and nothing else is than what was asked for
    Pairs       two keys that transactions write together are equal, and never go back
"""

import asyncio
from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from multiraft import errors
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction

REFUSED = (errors.DeadlineExceededError, errors.DiskFullError)
"""Definite: nothing was written."""


class Workload(ABC):
    """Some callers that go on until `stop`. Entered, it runs; left, it has stopped."""

    def __init__(self, db: Database, name: str, callers: int) -> None:
        self.db = db
        self.name = name
        self.done = 0
        """Calls that were answered well."""
        self.refused = 0
        self.unknown = 0
        self.gaps_s: list[float] = []
        """Between two answers to the same caller."""
        self._callers = callers
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            await self.stop()
            return
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def start(self) -> None:
        """Begin, or go on."""
        self._stopping = False
        self._tasks = [asyncio.create_task(self._run(number)) for number in range(self._callers)]

    async def stop(self) -> None:
        """Finish what is under way. Raises what a caller met."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def more(self, count: int = 20, limit_s: float = 60.0) -> None:
        """Return once so many further calls were answered: the cluster serves."""
        wanted = self.done + count
        try:
            async with asyncio.timeout(limit_s):
                while self.done < wanted:
                    self._raise_failed()
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"{self.name}: no progress within {limit_s:g} s") from None

    @abstractmethod
    async def check(self) -> None:
        """Compare what is stored with what was answered until now."""

    @abstractmethod
    async def _step(self, number: int) -> None:
        """Make one call and look at its answer."""

    async def _run(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        answered = loop.time()
        while not self._stopping:
            await self._step(number)
            now = loop.time()
            self.gaps_s.append(now - answered)
            answered = now

    def _raise_failed(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()


class Counters(Workload):
    """Callers increment a few counters."""

    def __init__(
        self, db: Database, name: str = "counter", *, callers: int = 8, keys: int = 4
    ) -> None:
        super().__init__(db, name, callers)
        self._keys = [f"{name}/{number}".encode() for number in range(keys)]
        self._sums: dict[bytes, set[int]] = {key: set() for key in self._keys}
        self._open: dict[bytes, int] = dict.fromkeys(self._keys, 0)

    async def _step(self, number: int) -> None:
        key = self._keys[(self.done + number) % len(self._keys)]
        try:
            total = await self.db.increment(key)
        except errors.OutcomeUnknownError:
            self.unknown += 1
            self._open[key] += 1
        except REFUSED:
            self.refused += 1
        else:
            assert total not in self._sums[key], f"{key!r} was {total} after two increments"
            self._sums[key].add(total)
            self.done += 1

    async def check(self) -> None:
        for key in self._keys:
            final = await self.db.increment(key, 0)
            answered = len(self._sums[key])
            assert answered <= final <= answered + self._open[key], (
                f"{key!r} is {final} after {answered} answered increments and "
                f"{self._open[key]} of unknown outcome"
            )
            assert max(self._sums[key], default=0) <= final, f"{key!r} went back to {final}"


class Register(Workload):
    """Caller 0 writes growing values, the others read: linearizable with one writer.

    `floor` is what any read that begins now must find at least: the last value that was
    acknowledged, or that another read has already seen.
    """

    def __init__(self, db: Database, name: str = "register", *, readers: int = 4) -> None:
        super().__init__(db, name, readers + 1)
        self._key = name.encode()
        self._floor = 0
        self._started = 0
        self.reads = 0

    async def _step(self, number: int) -> None:
        if number == 0:
            await self._write()
        else:
            await self._read()

    async def _write(self) -> None:
        value = self._started = self._started + 1
        try:
            await self.db.put(self._key, str(value).encode())
        except errors.OutcomeUnknownError:
            self.unknown += 1
        except REFUSED:
            self.refused += 1
        else:
            self._floor = max(self._floor, value)
            self.done += 1

    async def _read(self) -> None:
        floor = self._floor
        try:
            found = await self.db.get(self._key)
        except errors.DeadlineExceededError:
            self.refused += 1
            return
        value = int(found or b"0")
        assert value >= floor, f"a read found {value}, but {floor} was known before it began"
        assert value <= self._started, f"a read found {value}, but only {self._started} was written"
        self._floor = max(self._floor, value)
        self.reads += 1

    async def check(self) -> None:
        await self._read()


class KeySet(Workload):
    """Callers put keys that nobody else puts."""

    def __init__(
        self, db: Database, name: str = "set", *, callers: int = 8, value_bytes: int = 100
    ) -> None:
        super().__init__(db, name, callers)
        self._prefix = name.encode() + b"/"
        self._padding = b"." * value_bytes
        self._next = 0
        self.acknowledged: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._refused: set[bytes] = set()

    async def _step(self, number: int) -> None:
        serial = self._next = self._next + 1
        # Spread over the whole span, so that every range gets its share.
        key = self._prefix + b"%04x/%d" % (serial * 40503 % 65536, serial)
        self._asked.add(key)
        try:
            await self.db.put(key, key + self._padding)
        except errors.OutcomeUnknownError:
            self.unknown += 1
        except REFUSED:
            self.refused += 1
            self._refused.add(key)
        else:
            self.acknowledged.add(key)
            self.done += 1

    async def check(self) -> None:
        known, found = set(self.acknowledged), set()
        async for key, value in self.db.scan(prefix=self._prefix):
            assert value == key + self._padding, f"{key!r} holds something else"
            found.add(key)
        lost = known - found
        assert not lost, f"{len(lost)} acknowledged keys are lost, such as {min(lost)!r}"
        invented = found - self._asked
        assert not invented, f"keys that nobody put: {min(invented)!r}"
        undead = found & self._refused
        assert not undead, f"a refused write was made: {min(undead)!r}"


class Pairs(Workload):
    """One caller writes growing numbers to two keys in one transaction."""

    def __init__(self, db: Database, one: bytes, other: bytes) -> None:
        super().__init__(db, "pairs", callers=1)
        self._keys = (one, other)
        self._acknowledged = 0
        self._started = 0

    async def _step(self, number: int) -> None:
        value = self._started = self._started + 1

        async def write(transaction: Transaction) -> None:
            for key in self._keys:
                await transaction.put(key, str(value).encode())

        try:
            await self.db.run(write)
        except errors.OutcomeUnknownError:
            self.unknown += 1
        except REFUSED:
            self.refused += 1
        else:
            self._acknowledged = value
            self.done += 1

    async def check(self) -> None:
        one, other = [await self.db.get(key) for key in self._keys]
        assert one == other, f"{self._keys} hold {one!r} and {other!r}: half of a transaction"
        found = int(one or b"0")
        assert self._acknowledged <= found <= self._started, (
            f"{self._keys} hold {found}, {self._acknowledged} was acknowledged"
        )
