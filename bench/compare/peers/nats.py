"""NATS JetStream with three replicas: a stream that keeps the last message of every subject."""

import asyncio
import contextlib
import functools
import importlib.util
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.compare import closed_loop, servers
from bench.compare.peer import Data, Load, Operation
from bench.compare.servers import Server
from multiraft.cli import cluster_process

NODES = 3
STREAM = "compare"
SYNC_ALWAYS_SINCE = (2, 10)
_FILLED_AT_ONCE = 256

CONFIG = """\
server_name: n{number}
listen: "{client}"
cluster {{ name: compare, listen: "{node}", routes: [{routes}] }}
jetstream {{ store_dir: "{directory}", {sync} }}
"""


class NatsPeer:
    """One way of publishing, with one setting of when a message is synced."""

    callers_max = None

    def __init__(self, name: str, *, is_pipelined: bool, syncs_always: bool) -> None:
        self.name = name
        self.is_durable = syncs_always
        self.operations = frozenset(
            {Operation.PUT} if is_pipelined else {Operation.PUT, Operation.IDLE}
        )
        self._is_pipelined = is_pipelined
        self._binary = shutil.which("nats-server")

    @property
    def _synced(self) -> str:
        return "sync_interval: always" if self.is_durable else "sync_interval: 2m (default)"

    @property
    def remark(self) -> str:
        """What is not comparable about it, in words."""
        told = "Puts are messages on a subject for each key; there is no transaction and no scan."
        if self._is_pipelined:
            told += " publish_async: as many acknowledgements are awaited as there are callers."
        if not self.is_durable:
            told += (
                " A message is acknowledged when a majority has written it, and synced to disk "
                "within two minutes."
            )
        return told

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        if self._binary is None:
            return "nats-server (Debian)"
        if importlib.util.find_spec("nats") is None:
            return "nats-py (PyPI)"
        version = version_of(self._binary)
        if self.is_durable and version < SYNC_ALWAYS_SINCE:
            found = ".".join(map(str, version))
            return f"nats-server 2.10 for sync_interval: always; this one is {found}"
        return None

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningNats"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        import nats

        assert self._binary is not None, "asked for what is missing before"
        addresses = cluster_process.free_addresses(2 * NODES)
        for_clients, for_nodes = addresses[:NODES], addresses[NODES:]
        commands = []
        for number in range(NODES):
            file = directory / f"n{number}.conf"
            file.write_text(
                CONFIG.format(
                    number=number,
                    client=for_clients[number],
                    node=for_nodes[number],
                    routes=", ".join(f'"nats://{each}"' for each in for_nodes),
                    directory=directory / f"node{number}",
                    sync=self._synced if self.is_durable else "",
                )
            )
            commands.append((self._binary, "--config", str(file)))
        async with servers.running(commands, directory) as nodes:
            await servers.until_ready(nodes, functools.partial(_all_listen, for_clients))
            leader = await _make_stream(nodes, for_clients)
            connection = await nats.connect(f"nats://{leader}", allow_reconnect=False)
            async with connection:
                settings = {
                    "version": ".".join(map(str, version_of(self._binary))),
                    "servers": f"3 processes, file storage, 3 replicas, {self._synced}",
                    "client": f"nats-py {metadata.version('nats-py')} in one Python process, "
                    "one connection to the stream's leader",
                }
                running = RunningNats(
                    [node.pid for node in nodes],
                    settings,
                    connection.jetstream(),
                    data,
                    is_pipelined=self._is_pipelined,
                )
                await running.fill()
                yield running


class RunningNats:
    """The cluster and a client of it."""

    def __init__(
        self,
        pids: Sequence[int],
        settings: Mapping[str, str],
        stream: Any,  # noqa: ANN401
        data: Data,
        *,
        is_pipelined: bool,
    ) -> None:
        self.pids = pids
        self.settings = settings
        self._is_pipelined = is_pipelined
        self._stream = stream
        self._data = data
        self._value = data.value

    async def fill(self) -> None:
        """Put every row."""
        for first in range(0, self._data.keys, _FILLED_AT_ONCE):
            numbers = range(first, min(self._data.keys, first + _FILLED_AT_ONCE))
            await asyncio.gather(*(self._put_pipelined([number]) for number in numbers))

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""
        call = self._put_pipelined if self._is_pipelined else self._put
        return await closed_loop.run(call, operation, self._data, callers, seconds)

    async def _put(self, group: Sequence[int]) -> None:
        await self._stream.publish(self._subject(group[0]), self._value)

    async def _put_pipelined(self, group: Sequence[int]) -> None:
        await (await self._stream.publish_async(self._subject(group[0]), self._value))

    def _subject(self, number: int) -> str:
        return f"{STREAM}.{number}"


@functools.cache
def version_of(binary: str) -> tuple[int, ...]:
    """Return the server's version."""
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"v(\d+)\.(\d+)\.(\d+)", told.stdout)
    assert found is not None, f"{binary} --version says {told.stdout!r}"
    return tuple(map(int, found.groups()))


async def _all_listen(addresses: Sequence[str]) -> bool:
    for address in addresses:
        host, _, port = address.rpartition(":")
        try:
            _, writer = await asyncio.open_connection(host, int(port))
        except OSError:
            return False
        writer.close()
    return True


async def _make_stream(nodes: Sequence[Server], addresses: Sequence[str]) -> str:
    """Make the stream as soon as the cluster can, and return its leader's address."""
    import nats
    from nats.js.api import StorageType, StreamConfig

    wanted = StreamConfig(
        name=STREAM,
        subjects=[f"{STREAM}.>"],
        storage=StorageType.FILE,
        num_replicas=NODES,
        max_msgs_per_subject=1,
    )
    async with await nats.connect(f"nats://{addresses[0]}", allow_reconnect=False) as connection:
        stream = connection.jetstream()
        leader = ""

        async def is_made() -> bool:
            nonlocal leader
            try:
                await stream.add_stream(wanted)
                leader = (await stream.stream_info(STREAM)).cluster.leader or ""
            except nats.errors.Error:
                return False
            return bool(leader)

        await servers.until_ready(nodes, is_made)
    return addresses[int(leader.removeprefix("n"))]
