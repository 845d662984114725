"""etcd as a Python user has it: through aetcd, an asyncio client on gRPC's C core."""

import contextlib
import functools
import importlib.util
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.compare import closed_loop
from bench.compare.etcd import cluster
from bench.compare.etcd.cluster import EtcdCluster
from bench.compare.peer import WRITES_AND_READS, Data, Load, Operation


class EtcdPythonPeer:
    """The cluster of `etcd`; callers are tasks in this process, on one connection to the leader."""

    name = "etcd-python"
    operations = WRITES_AND_READS
    is_durable = True
    callers_max = None
    remark = "The servers of `etcd`, with a client in Python like the product's."

    def __init__(self, binary: Path | None) -> None:
        self._binary = binary

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        if self._binary is None:
            return cluster.NEEDS
        return None if importlib.util.find_spec("aetcd") else "aetcd (PyPI)"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningEtcdPython"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        import aetcd

        assert self._binary is not None, "asked for what is missing before"
        async with cluster.running(self._binary, directory) as nodes:
            await nodes.fill(data)
            host, _, port = nodes.addresses[await nodes.leader()].rpartition(":")
            async with aetcd.Client(host=host, port=int(port)) as client:
                version = cluster.version_of(self._binary)
                yield RunningEtcdPython(nodes, client, data, version)


class RunningEtcdPython:
    """The cluster and a client of it."""

    def __init__(self, nodes: EtcdCluster, client: Any, data: Data, version: str) -> None:  # noqa: ANN401
        self._nodes = nodes
        self._client = client
        self._data = data
        self._value = data.value
        self._calls: Mapping[Operation, closed_loop.Call] = {
            Operation.PUT: self._put,
            Operation.GET: self._get,
            Operation.SCAN_100: functools.partial(self._scan, rows=100),
            Operation.SCAN_1000: functools.partial(self._scan, rows=1_000),
            Operation.TXN: self._transact,
            Operation.BATCH: self._transact,
        }
        self.settings: Mapping[str, str] = {
            "version": version,
            "servers": cluster.SETTINGS,
            "client": f"aetcd {metadata.version('aetcd')} in one Python process, one connection",
        }

    @property
    def pids(self) -> Sequence[int]:
        """The processes of its servers."""
        return self._nodes.pids

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""
        call = self._calls[operation]
        return await closed_loop.run(call, operation, self._data, callers, seconds)

    async def _put(self, group: Sequence[int]) -> None:
        await self._client.put(self._data.key(group[0]), self._value)

    async def _get(self, group: Sequence[int]) -> None:
        await self._client.get(self._data.key(group[0]))

    async def _scan(self, group: Sequence[int], *, rows: int) -> None:
        # aetcd knows no limit, so the end is where the limit would be.
        start, end = (self._data.key(number) for number in (group[0], group[0] + rows))
        answer = await self._client.get_range(start, end)
        found = sum(1 for _ in answer)
        assert found == rows, f"a scan of {rows} rows found {found}"

    async def _transact(self, group: Sequence[int]) -> None:
        put = self._client.transactions.put
        puts = [put(self._data.key(number), self._value) for number in group]
        await self._client.transaction(compare=[], success=puts, failure=[])
