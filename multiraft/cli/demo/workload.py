"""Readers and writers of the demo, which know at each moment what every row must hold.

Purpose
    Show under splits, a crash and a restart that nothing acknowledged is lost and no read is stale,
    while measuring how long requests take.
Invariants
    - A row has one writer, so after an acknowledged write its revision is known exactly.
    - A read that began after a write was acknowledged sees that write or a later one.
    - A write whose outcome is unknown leaves its row with two possible revisions; nobody writes it
      again, so that the last check can still tell right from wrong.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence

import msgspec

from multiraft import errors
from multiraft.cli.demo import characters
from multiraft.cli.demo.characters import SECTIONS, Character
from multiraft.cli.measure import Failed, Recorder
from multiraft.client.database import Database

WRITERS_PER_SECTION = 2
READERS_PER_SECTION = 1


class Rows:
    """The rows of the data, in key order, and the revision each was last known to have."""

    def __init__(self, source: Iterable[tuple[int, Character]]) -> None:
        self.keys: list[bytes] = []
        self.contents: list[Character] = []
        self.sections: list[list[int]] = [[] for _ in SECTIONS]
        """For each section, the numbers of its rows."""
        for code_point, character in source:
            self.sections[characters.section_of(code_point)].append(len(self.keys))
            self.keys.append(characters.key_of(code_point))
            self.contents.append(character)
        self.revisions = [0] * len(self.keys)
        self.in_doubt: set[int] = set()
        """Rows that may also hold the revision after the known one."""

    def __len__(self) -> int:
        return len(self.keys)

    def value(self, row: int, revision: int) -> bytes:
        """Return what the row holds at that revision."""
        return characters.value_of(self.contents[row], revision)

    def accepts(self, row: int, value: bytes) -> bool:
        """Return whether `value` is what the row must hold, now that nobody writes."""
        known = self.revisions[row]
        if value == self.value(row, known):
            return True
        return row in self.in_doubt and value == self.value(row, known + 1)


class StaleRead(msgspec.Struct, frozen=True):
    """A read that saw less than was acknowledged before it began, or more than was ever written."""

    key: str
    revision: int
    known: int


class Workload:
    """Callers that run until they are told to stop."""

    def __init__(self, database: Database, rows: Rows, now: Callable[[], float]) -> None:
        self._database = database
        self._rows = rows
        self._now = now
        self._stopping = False
        self.recorder = Recorder(len(SECTIONS))
        self.stale_reads: list[StaleRead] = []

    @property
    def callers(self) -> int:
        """How many requests are in flight all the time."""
        return len(SECTIONS) * (WRITERS_PER_SECTION + READERS_PER_SECTION)

    async def run(self) -> None:
        """Keep every section busy until `stop`; then finish what is in flight."""
        async with asyncio.TaskGroup() as group:
            for section, rows in enumerate(self._rows.sections):
                for number in range(WRITERS_PER_SECTION):
                    own = rows[number::WRITERS_PER_SECTION]
                    group.create_task(self._write(section, own))
                for _ in range(READERS_PER_SECTION):
                    group.create_task(self._read(section, rows))

    def stop(self) -> None:
        """Let `run` come to its end."""
        self._stopping = True

    async def _write(self, section: int, own: Sequence[int]) -> None:
        rows, samples = self._rows, self.recorder.writes[section]
        choose = random.Random(own[0]).choice
        while not self._stopping:
            row = choose(own)
            if row in rows.in_doubt:
                continue
            revision = rows.revisions[row] + 1
            value = rows.value(row, revision)
            began = self._now()
            try:
                await self._database.put(rows.keys[row], value)
            except errors.MultiraftError as error:
                if not isinstance(error, errors.DeadlineExceededError):
                    rows.in_doubt.add(row)
                self._fail(section, error)
            else:
                samples.add(began, self._now())
                rows.revisions[row] = revision

    async def _read(self, section: int, own: Sequence[int]) -> None:
        rows, samples = self._rows, self.recorder.reads[section]
        choose = random.Random(section).choice
        while not self._stopping:
            row = choose(own)
            known = rows.revisions[row]
            began = self._now()
            try:
                value = await self._database.get(rows.keys[row])
            except errors.MultiraftError as error:
                self._fail(section, error)
                continue
            samples.add(began, self._now())
            revision = -1 if value is None else characters.revision_of(value)
            # One write may have been on its way when the answer was made.
            if not known <= revision <= rows.revisions[row] + 1:
                self.stale_reads.append(StaleRead(rows.keys[row].decode(), revision, known))

    def _fail(self, section: int, error: errors.MultiraftError) -> None:
        self.recorder.failed.append(Failed(self._now(), section, error.code, error.message))
