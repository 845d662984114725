"""SQLite: what one process without a network reaches on this disk, the floor of all others."""

import asyncio
import contextlib
import itertools
import math
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from bench.compare.peer import Data, Load, Operation
from multiraft.cli.measure import Recorder, Window

_PUT = "INSERT OR REPLACE INTO rows VALUES (?, ?)"


class SqlitePeer:
    """One table in one file, used by one thread of this process; no server, no replicas."""

    name = "sqlite"
    operations = frozenset({Operation.PUT, Operation.TXN, Operation.BATCH})
    is_durable = True
    callers_max = 1
    remark = (
        "One copy in one process: nothing is replicated and no request leaves the process, whose "
        "processor time counts as the client's. Its reads are look-ups in memory, and left out."
    )

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        return None

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningSqlite"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        connection = sqlite3.connect(
            directory / "db", isolation_level=None, check_same_thread=False
        )
        with contextlib.closing(connection):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE rows (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
            running = RunningSqlite(connection, data)
            running.put_all(range(data.keys))
            yield running


class RunningSqlite:
    """The open database."""

    pids: Sequence[int] = ()

    def __init__(self, connection: sqlite3.Connection, data: Data) -> None:
        self._connection = connection
        self._data = data
        self._value = data.value
        self.settings: Mapping[str, str] = {
            "version": sqlite3.sqlite_version,
            "servers": "none; journal_mode=WAL, synchronous=FULL, one transaction per request",
            "client": "sqlite3 in one thread of a Python process",
        }

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have one caller repeat the operation for that long."""
        assert callers == 1, "a single thread"
        stop = threading.Event()
        work = asyncio.create_task(asyncio.to_thread(self._repeat, operation, seconds, stop))
        try:
            return await asyncio.shield(work)
        finally:
            # When this is cancelled, the thread still uses what will be closed next.
            stop.set()
            await asyncio.wait([work])

    def _put(self, group: Sequence[int]) -> None:
        self._connection.execute(_PUT, (self._data.key(group[0]), self._value))

    def put_all(self, numbers: Sequence[int]) -> None:
        """Set these rows in one transaction."""
        self._connection.execute("BEGIN IMMEDIATE")
        rows = [(self._data.key(number), self._value) for number in numbers]
        self._connection.executemany(_PUT, rows)
        self._connection.execute("COMMIT")

    def _repeat(self, operation: Operation, seconds: float, stop: threading.Event) -> Load:
        put = self._put if operation is Operation.PUT else self.put_all
        recorder = Recorder(1)
        now = time.perf_counter
        cpu_before_s = time.process_time()
        began = ended = now()
        for group in itertools.cycle(self._data.groups(operation)):
            if ended - began >= seconds or stop.is_set():
                break
            began_call = ended
            put(group)
            ended = now()
            recorder.writes[0].add(began_call, ended)
        found = recorder.summary(Window(began, math.inf))
        cpu_s = time.process_time() - cpu_before_s
        return Load(found.requests, ended - began, found.latency_ms, cpu_s)
