"""Callers that keep a database busy: a mix of operations over slots of keys.

Operations
    put, get, scan   of a key at random; a scan reads `SCAN_ROWS` rows from there
    update           a transaction that reads a key and writes it
    transfer         a transaction that reads and writes two keys: one of the caller's slot, one of
                     the next slot, which is another range if there are several
    hot              like update, of one key that all callers share

Purpose
    Load that costs the machine little, since the servers share its cores: keys, values and the
    order of operations are made before the run, and a caller's loop does nothing but await.
Invariants
    - A caller has one request in flight and sends the next one at once (a closed loop), so while a
      slot is silent its callers are known to be waiting.
    - A failed request is recorded and the caller goes on.
"""

import asyncio
import itertools
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from multiraft import errors
from multiraft.cli.measure import Failed, Recorder
from multiraft.client.transaction import Transaction

R = TypeVar("R")

OPERATIONS = ("put", "get", "scan", "update", "transfer", "hot")
SCAN_ROWS = 100
_CYCLE = 1_000
"""The order of operations repeats after this many."""


class Target(Protocol):
    """The part of a `Database` that callers use."""

    async def get(self, key: bytes) -> bytes | None:
        """Return the value, or None."""

    async def put(self, key: bytes, value: bytes) -> Any:  # noqa: ANN401
        """Set one key."""

    def scan(
        self, start: bytes, end: bytes | None = None, *, limit: int | None = None
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield rows in order."""

    async def run(self, function: Callable[[Transaction], Awaitable[R]]) -> R:
        """Run a function as a transaction, again and again until it commits."""


class MixError(ValueError):
    """The text does not describe a mix of operations."""


class Mix(msgspec.Struct, frozen=True):
    """How many of a hundred, or of any other sum, are which operation."""

    put: int = 100
    get: int = 0
    scan: int = 0
    update: int = 0
    transfer: int = 0
    hot: int = 0

    def cycle(self, seed: int) -> list[str]:
        """Return operations in a random order with the shares of the mix."""
        weights = [getattr(self, operation) for operation in OPERATIONS]
        return random.Random(seed).choices(OPERATIONS, weights, k=_CYCLE)

    def __str__(self) -> str:
        shares = ((operation, getattr(self, operation)) for operation in OPERATIONS)
        return " ".join(f"{operation}={share}" for operation, share in shares if share)


def parse_mix(text: str) -> Mix:
    """Return the mix that `put=50,get=40,scan=10` describes. Raises MixError."""
    shares: dict[str, int] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in OPERATIONS or not share.isascii() or not share.isdigit():
            raise MixError(
                f"{part.strip()!r} is not an operation and its share: write "
                f"put=50,get=40,scan=10, or others of {', '.join(OPERATIONS)}"
            )
        shares[name] = int(share)
    if not any(shares.values()):
        raise MixError(f"{text!r} leaves nothing to do: give one operation a share above 0")
    return Mix(**{"put": 0} | shares)


class Workload:
    """Callers over `slots`: one list of keys each, in key order."""

    def __init__(
        self,
        target: Target,
        slots: Sequence[Sequence[bytes]],
        *,
        mix: Mix,
        value_bytes: int,
        now: Callable[[], float],
    ) -> None:
        assert all(slots), "a slot without keys has no work"
        self._target = target
        self._slots = slots
        self._mix = mix
        self._now = now
        self._value = os.urandom(value_bytes)
        self.recorder = Recorder(len(slots))

    async def run(self, callers: int, seconds: float) -> None:
        """Keep `callers` callers busy for that long."""
        stop_at = self._now() + seconds
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(self._call(number, callers, stop_at))

    async def _call(self, number: int, callers: int, stop_at: float) -> None:
        recorder, now = self.recorder, self._now
        for operation, slot, key, other in self._plan(
            number, slots_of(number, callers, len(self._slots))
        ):
            began = now()
            if began >= stop_at:
                return
            samples = recorder.writes[slot]
            try:
                if operation == "put":
                    await self._target.put(key, self._value)
                elif operation == "get":
                    await self._target.get(key)
                    samples = recorder.reads[slot]
                elif operation == "scan":
                    rows = await self._scan(key)
                    recorder.rows_read += rows
                    samples = recorder.reads[slot]
                elif operation == "transfer":
                    await self._rewrite(key, other)
                else:
                    await self._rewrite(key)
            except errors.MultiraftError as error:
                recorder.failed.append(Failed(now(), slot, error.code, error.message))
            else:
                samples.add(began, now())
                recorder.ended_by_caller[number] = recorder.ended_by_caller.get(number, 0) + 1

    def _plan(
        self, number: int, own_slots: Sequence[int]
    ) -> Iterator[tuple[str, int, bytes, bytes]]:
        """Yield operations without end, at random keys of the caller's slots in turn.

        Each comes with its slot, its key, and for a transfer the other key, of the next slot.
        """
        operations = itertools.cycle(self._mix.cycle(number))
        choose = random.Random(number).choice
        slots = self._slots
        for slot, operation in zip(itertools.cycle(own_slots), operations, strict=False):
            if operation == "hot":
                yield operation, 0, slots[0][0], b""
            elif operation == "transfer":
                yield operation, slot, choose(slots[slot]), choose(slots[(slot + 1) % len(slots)])
            else:
                yield operation, slot, choose(slots[slot]), b""

    async def _rewrite(self, *keys: bytes) -> None:
        """Read the keys and write them again, in one transaction."""

        async def rewrite(txn: Transaction) -> None:
            for key in keys:
                await txn.get(key)
            for key in keys:
                await txn.put(key, self._value)

        await self._target.run(rewrite)

    async def _scan(self, start: bytes) -> int:
        count = 0
        async for _ in self._target.scan(start, limit=SCAN_ROWS):
            count += 1
        return count


def slots_of(number: int, callers: int, slots: int) -> Sequence[int]:
    """Return which slots a caller works on, so that a slot that stalls holds up only its own.

    With fewer callers than slots each one takes several in turn.
    """
    if callers >= slots:
        return (number % slots,)
    return range(number, slots, callers)
