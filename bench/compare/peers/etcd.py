"""etcd as fast as it gets: driven by a client in C, which costs the machine little."""

import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from bench.compare import failover
from bench.compare.etcd import calls, client, cluster
from bench.compare.etcd.client import Client
from bench.compare.etcd.cluster import EtcdCluster
from bench.compare.peer import WRITES_AND_READS, Data, Load, Operation


class EtcdPeer:
    """Three nodes with default settings; callers are streams to the leader."""

    name = "etcd"
    operations = WRITES_AND_READS | {Operation.IDLE, Operation.FAILOVER}
    is_durable = True
    callers_max = None
    remark = (
        "Its client is written in C and knows the leader; a user's client would cost more. "
        "Old revisions of a key are kept, as the product keeps old versions. After SIGKILL of the "
        f"leader its writer asks another node every {cluster.TRY_S * 1_000:.0f} ms; etcd's own "
        "clients wait for an answer, which may take seven seconds."
    )

    def __init__(self, binary: Path | None) -> None:
        self._binary = binary

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        if self._binary is None:
            return cluster.NEEDS
        return client.missing()

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningEtcd"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        assert self._binary is not None, "asked for what is missing before"
        made = await client.prepare(directory)
        async with cluster.running(self._binary, directory) as nodes:
            await nodes.fill(data)
            yield RunningEtcd(nodes, made, data, cluster.version_of(self._binary))


class RunningEtcd:
    """The cluster and its client."""

    def __init__(self, nodes: EtcdCluster, made: Client, data: Data, version: str) -> None:
        self._nodes = nodes
        self._client = made
        self._data = data
        self.settings: Mapping[str, str] = {
            "version": version,
            "servers": cluster.SETTINGS,
            "client": made.description,
        }

    @property
    def pids(self) -> Sequence[int]:
        """The processes of its servers."""
        return self._nodes.pids

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""
        leader = await self._nodes.leader()
        if operation is Operation.FAILOVER:
            kill_leader = functools.partial(self._nodes.kill, leader)
            return await failover.run(self._nodes, kill_leader, seconds)
        address = self._nodes.addresses[leader]
        made = calls.calls(operation, self._data)
        return await self._client.run(address, made, callers, seconds)
