"""Rows from a reader into the database, many at a time, in the order that matters.

Purpose
    Keep several batches in flight, because a single one waits for the disk most of the time, and
    know at each moment up to where the input is acknowledged.
Invariants
    - `acknowledged` moves over the input in order: every row before it is durable or reported bad.
    - Of two rows with one key the later one wins: two batches in flight never share a key.
    - A row that the database refuses is found and reported by its line; its neighbours are put.
    - When `run` returns or raises, nothing is in flight.
"""

import asyncio
import collections
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import msgspec

from multiraft import errors
from multiraft.cli.rows import START, BadRow, Place, Row

BATCH_ROWS_MAX = 500
BATCH_BYTES_MAX = 512 << 10
BATCHES_IN_FLIGHT_MAX = 8


class Writer(Protocol):
    """The part of a `Database` that a load needs."""

    async def put(self, key: bytes, value: bytes) -> None:
        """Set one key."""

    async def put_many(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """Set many keys; atomic within each range only."""


class Position(msgspec.Struct, frozen=True):
    """How far a load has come, and what it met on the way."""

    place: Place = START
    rows: int = 0
    bad_rows: int = 0


class Batch:
    """Rows next to each other in the input that are sent together, the last one of each key."""

    __slots__ = ("bad", "good", "size_bytes", "winners")

    def __init__(self) -> None:
        self.good: list[Row] = []
        self.bad: list[BadRow] = []
        self.winners: dict[bytes, Row] = {}
        self.size_bytes = 0

    def add(self, row: Row | BadRow) -> None:
        """Take in the next row of the input."""
        if isinstance(row, BadRow):
            self.bad.append(row)
            return
        self.good.append(row)
        self.winners[row.key] = row
        self.size_bytes += len(row.key) + len(row.value)

    @property
    def is_full(self) -> bool:
        """Whether it should be sent before another row is added."""
        return (
            len(self.good) + len(self.bad) >= BATCH_ROWS_MAX or self.size_bytes >= BATCH_BYTES_MAX
        )


def cut_batches(rows: Iterable[Row | BadRow], *, stop_at_bad_row: bool) -> Iterator[Batch]:
    """Yield the rows in batches, in order; none is empty. What follows a stop is not even read."""
    batch = Batch()
    for row in rows:
        batch.add(row)
        if stop_at_bad_row and batch.bad:
            break
        if batch.is_full:
            yield batch
            batch = Batch()
    if batch.good or batch.bad:
        yield batch


class StoppedAtBadRowError(Exception):
    """A bad row was met, and the load was asked to stop there. `row` says where and why."""

    def __init__(self, row: BadRow) -> None:
        super().__init__(f"line {row.line}: {row.reason}")
        self.row = row


class Loader:
    """One load. `on_progress` is called with each new acknowledged position."""

    def __init__(
        self,
        writer: Writer,
        *,
        stop_at_bad_row: bool,
        on_progress: Callable[[Position], None],
        on_bad_row: Callable[[BadRow], None],
        start: Position,
    ) -> None:
        self._writer = writer
        self._stop_at_bad_row = stop_at_bad_row
        self._on_progress = on_progress
        self._on_bad_row = on_bad_row
        self._in_flight: collections.deque[tuple[Batch, asyncio.Task[list[BadRow]]]] = (
            collections.deque()
        )
        self.acknowledged = start

    async def run(self, rows: Iterable[Row | BadRow]) -> None:
        """Put all rows. Raises StoppedAtBadRowError, or the error of a put that did not succeed.

        Either way `acknowledged` says how far it came.
        """
        try:
            for batch in cut_batches(rows, stop_at_bad_row=self._stop_at_bad_row):
                await self._make_room_for(batch)
                self._in_flight.append((batch, asyncio.create_task(self._put(batch))))
            while self._in_flight:
                await self._finish_oldest()
        finally:
            await self._abandon()

    async def _make_room_for(self, batch: Batch) -> None:
        while len(self._in_flight) >= BATCHES_IN_FLIGHT_MAX or self._shares_a_key(batch):
            await self._finish_oldest()

    def _shares_a_key(self, batch: Batch) -> bool:
        keys = batch.winners.keys()
        return any(not keys.isdisjoint(other.winners.keys()) for other, _ in self._in_flight)

    async def _put(self, batch: Batch) -> list[BadRow]:
        """Put the batch and return the rows that the database refused."""
        if not batch.winners:
            return []
        try:
            await self._writer.put_many([(row.key, row.value) for row in batch.winners.values()])
        except errors.RequestError:
            return await self._put_one_by_one(batch)
        return []

    async def _put_one_by_one(self, batch: Batch) -> list[BadRow]:
        refused = []
        for row in batch.winners.values():
            try:
                await self._writer.put(row.key, row.value)
            except errors.RequestError as error:
                refused.append(BadRow(row.line, error.message, row.end))
        return refused

    async def _finish_oldest(self) -> None:
        batch, task = self._in_flight.popleft()
        try:
            refused = await task
        except BaseException:
            # Let `_abandon` see it: a cancelled load must not leave this put running.
            self._in_flight.appendleft((batch, task))
            raise
        bad = sorted([*batch.bad, *refused])
        for row in bad:
            self._on_bad_row(row)
            if self._stop_at_bad_row:
                self._acknowledge([good for good in batch.good if good.line < row.line], [])
                raise StoppedAtBadRowError(row)
        refused_lines = {row.line for row in refused}
        self._acknowledge([row for row in batch.good if row.line not in refused_lines], bad)

    def _acknowledge(self, good: list[Row], bad: list[BadRow]) -> None:
        if not good and not bad:
            return
        before = self.acknowledged
        last_end = max(row.end for rows in (good[-1:], bad[-1:]) for row in rows)
        self.acknowledged = Position(
            place=last_end,
            rows=before.rows + len(good),
            bad_rows=before.bad_rows + len(bad),
        )
        self._on_progress(self.acknowledged)

    async def _abandon(self) -> None:
        tasks = [task for _, task in self._in_flight]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._in_flight.clear()
