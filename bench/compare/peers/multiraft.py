"""The product, through its Python client in this process."""

import asyncio
import base64
import contextlib
import functools
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from bench.compare import closed_loop, failover, programs
from bench.compare.peer import Data, Load, Operation
from bench.failover import leader_of
from multiraft.cli import cluster_process
from multiraft.cli.cluster_process import LocalCluster
from multiraft.cli.load import Summary
from multiraft.cli.measure import Latency
from multiraft.client.batch import Batch
from multiraft.client.database import Database, connect
from multiraft.client.transaction import Transaction

LOADED_ROWS_PER_S = 50_000
"""What decides how long the file of a bulk load is."""
_LOAD_TIMEOUT_S = 300.0


class MultiraftPeer:
    """Three nodes with the settings of `multiraft local`; one range."""

    name = "multiraft"
    operations = frozenset(Operation)
    is_durable = True
    callers_max = None
    remark = "Its client is Python, one process, and shares the machine with the servers."

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        return None

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningMultiraft"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        async with (
            cluster_process.temporary(directory) as cluster,
            connect(*cluster.addresses) as database,
        ):
            await database.put_many((data.key(n), data.value) for n in range(data.keys))
            yield RunningMultiraft(cluster, database, data, directory)


def version() -> str:
    """Return the version, with the commit where there is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "no commit"
    return f"{metadata.version('multiraft')} ({commit})"


def write_rows(file: Path, rows: int, value_bytes: int) -> None:
    """Write a file that `multiraft load` takes, with random values of so many characters."""
    rng = random.Random(rows)
    with file.open("w") as stream:
        for number in range(rows):
            value = base64.b64encode(rng.randbytes(value_bytes)).decode()[:value_bytes]
            stream.write(f'{{"key": "load/{number:08}", "value": "{value}"}}\n')


class RunningMultiraft:
    """The cluster and a client of it."""

    def __init__(
        self, cluster: LocalCluster, database: Database, data: Data, directory: Path
    ) -> None:
        self._cluster = cluster
        self._database = database
        self._data = data
        self._value = data.value
        self._directory = directory
        self._calls: Mapping[Operation, closed_loop.Call] = {
            Operation.PUT: self._put,
            Operation.GET: self._get,
            Operation.SCAN_100: functools.partial(self._scan, rows=100),
            Operation.SCAN_1000: functools.partial(self._scan, rows=1_000),
            Operation.TXN: self._transact,
            Operation.BATCH: self._put_batch,
        }
        self.settings: Mapping[str, str] = {
            "version": version(),
            "servers": "3 processes, defaults, every write synced by a majority; one range",
            "client": "multiraft.client in one Python process, one connection to each node",
        }

    @property
    def pids(self) -> Sequence[int]:
        """The processes of its servers."""
        return [node.pid for node in self._cluster.nodes if node.is_running]

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""
        if operation is Operation.FAILOVER:
            leader = await leader_of(self._database, self._cluster)
            kill_leader = functools.partial(self._cluster.kill_node, leader)
            return await failover.run(self._database, kill_leader, seconds)
        if operation is Operation.LOAD:
            return await self._load(round(seconds * LOADED_ROWS_PER_S))
        call = self._calls[operation]
        return await closed_loop.run(call, operation, self._data, callers, seconds)

    async def _load(self, rows: int) -> Load:
        """Load a new file; its rows lie behind those that there are."""
        file = self._directory / "rows.jsonl"
        await asyncio.to_thread(write_rows, file, rows, self._data.value_bytes)
        arguments = [sys.executable, "-m", "multiraft", "--json", "load", str(file)]
        arguments += ["--address", ",".join(self._cluster.addresses)]
        ended = await programs.run(arguments, timeout_s=_LOAD_TIMEOUT_S)
        summary = msgspec.json.decode(ended.output, type=Summary)
        return Load(summary.rows, summary.seconds, Latency(), ended.cpu_s)

    async def _put(self, group: Sequence[int]) -> None:
        await self._database.put(self._data.key(group[0]), self._value)

    async def _get(self, group: Sequence[int]) -> None:
        await self._database.get(self._data.key(group[0]))

    async def _scan(self, group: Sequence[int], *, rows: int) -> None:
        key = self._data.key(group[0])
        found = 0
        async for page in self._database.scan_pages(key, self._data.end, limit=rows):
            found += len(page)
        assert found == rows, f"a scan of {rows} rows found {found}"

    async def _transact(self, group: Sequence[int]) -> None:
        async def put_all(txn: Transaction) -> None:
            for number in group:
                await txn.put(self._data.key(number), self._value)

        await self._database.run(put_all)

    async def _put_batch(self, group: Sequence[int]) -> None:
        batch = Batch()
        for number in group:
            batch.put(self._data.key(number), self._value)
        await self._database.batch(batch)
