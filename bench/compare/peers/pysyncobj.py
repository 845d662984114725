"""PySyncObj: Raft in Python as a library, with its journal in a file."""

import contextlib
import importlib.util
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from bench.compare import servers
from bench.compare.peer import Data, Load, Operation
from bench.compare.servers import Server
from multiraft.cli import cluster_process

NODES = 3


class PysyncobjPeer:
    """Three processes with a replicated dictionary; callers run in the leader's process."""

    name = "pysyncobj"
    operations = frozenset({Operation.PUT, Operation.IDLE})
    is_durable = False
    callers_max = None
    remark = (
        "Its journal is mapped memory that is never synced to disk. "
        "Callers are in the leader's process, whose processor time is the client's too; reads are "
        "look-ups in the local dictionary, not linearizable, and so left out."
    )

    def missing(self) -> str | None:
        """Return what has to be installed before it can run here; None if nothing."""
        return None if importlib.util.find_spec("pysyncobj") else "pysyncobj (PyPI)"

    @contextlib.asynccontextmanager
    async def start(self, directory: Path, data: Data) -> AsyncIterator["RunningPysyncobj"]:
        """Run it with its files in `directory`, an empty one, and `data` in it."""
        addresses = cluster_process.free_addresses(NODES)
        commands = [
            (
                *(sys.executable, "-m", "bench.compare.peers.pysyncobj_node", own),
                *(other for other in addresses if other != own),
                str(directory / f"journal{number}"),
            )
            for number, own in enumerate(addresses)
        ]
        async with servers.running(commands, directory, are_asked=True) as nodes:
            led_by: set[str] = set()

            async def agree() -> bool:
                led_by.clear()
                for node in nodes:
                    led_by.add(msgspec.json.decode(await node.ask(b"leader"), type=str))
                return len(led_by) == 1 and "" not in led_by

            await servers.until_ready(nodes, agree)
            leader = nodes[addresses.index(led_by.pop())]
            await leader.ask(b"fill %d %d" % (data.keys, data.value_bytes))
            yield RunningPysyncobj(leader, [node.pid for node in nodes])


class RunningPysyncobj:
    """The cluster, and the node that leads it."""

    def __init__(self, leader: Server, pids: Sequence[int]) -> None:
        self._leader = leader
        self.pids = pids
        self.settings: Mapping[str, str] = {
            "version": metadata.version("pysyncobj"),
            "servers": "3 processes, journalFile, appendEntriesUseBatch=False, no log compaction",
            "client": "callbacks in the leader's process",
        }

    async def run(self, operation: Operation, callers: int, seconds: float) -> Load:
        """Have so many callers repeat the operation for that long. Raises PeerFailedError."""
        answer = await self._leader.ask(b"%s %d %f" % (operation.encode(), callers, seconds))
        return msgspec.json.decode(answer, type=Load)
