"""Callers that keep a database busy: a mix of puts, gets and scans over slots of keys.

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
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from multiraft import errors
from multiraft.cli.measure import Failed, Recorder

OPERATIONS = ("put", "get", "scan")
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


class MixError(ValueError):
    """The text does not describe a mix of operations."""


class Mix(msgspec.Struct, frozen=True):
    """How many of a hundred, or of any other sum, are puts, gets and scans."""

    put: int = 100
    get: int = 0
    scan: int = 0

    def cycle(self, seed: int) -> list[str]:
        """Return operations in a random order with the shares of the mix."""
        weights = (self.put, self.get, self.scan)
        return random.Random(seed).choices(OPERATIONS, weights, k=_CYCLE)


def parse_mix(text: str) -> Mix:
    """Return the mix that `put=50,get=40,scan=10` describes. Raises MixError."""
    shares: dict[str, int] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in OPERATIONS or not share.isascii() or not share.isdigit():
            raise MixError(
                f"{part.strip()!r} is not an operation and its share: write put=50,get=40,scan=10"
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
        for operation, slot, key in self._plan(number, slots_of(number, callers, len(self._slots))):
            began = now()
            if began >= stop_at:
                return
            try:
                if operation == "put":
                    await self._target.put(key, self._value)
                    samples = recorder.writes[slot]
                elif operation == "get":
                    await self._target.get(key)
                    samples = recorder.reads[slot]
                else:
                    rows = await self._scan(key)
                    recorder.rows_read += rows
                    samples = recorder.reads[slot]
            except errors.MultiraftError as error:
                recorder.failed.append(Failed(now(), slot, error.code, error.message))
            else:
                samples.add(began, now())

    def _plan(self, number: int, own_slots: Sequence[int]) -> Iterator[tuple[str, int, bytes]]:
        """Yield operations without end, at random keys of the caller's slots in turn."""
        operations = itertools.cycle(self._mix.cycle(number))
        choose = random.Random(number).choice
        for slot, operation in zip(itertools.cycle(own_slots), operations, strict=False):
            yield operation, slot, choose(self._slots[slot])

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
