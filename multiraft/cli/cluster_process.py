"""Nodes of a local cluster as processes of the operating system.

Purpose
    Start nodes, know when they are ready, notice when one ends, and end them, for `local`, `demo`,
    `bench` and the integration tests.
Invariants
    - No node outlives this process: each one reads its standard input, whose other end only we
      hold, and stops when that closes. Leaving `LocalCluster` waits until every node has ended.
    - Signals of the terminal reach this process only (nodes have a session of their own), so the
      order in which things end is ours.
    - A node is killed by its process ID, never by name.
Layout of the directory
    cluster.json     the addresses; they belong to the data, since the nodes know each other by them
    config.toml      the nodes' settings, made once and then the user's to edit
    node1/, node1.log, node2/, ...
"""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from multiraft import errors, runtime
from multiraft.cli import process_usage

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
LOOPBACK = "127.0.0.1"
_FREE_PORT_MIN = 10_000
_FREE_PORT_END = 32_000

CONFIG_TEXT = """\
# Settings of every node of this cluster; multiraft/config.py lists them all.
[liveness]
# All nodes are processes of one machine and share its clock.
clock_offset_ms_max = 10
"""

_LOG_TAIL_BYTES = 4 << 10


class ReadyLine(msgspec.Struct, frozen=True):
    """What a node prints to standard output once it serves."""

    event: str
    node_id: int
    address: str
    cluster_id: str


class Manifest(msgspec.Struct, frozen=True):
    """The contents of `cluster.json`."""

    cluster_id: str
    addresses: tuple[str, ...]


class NodeProcess:
    """One node. `number` counts from 1 and is the node's place in the cluster, not its ID.

    With `join`, the addresses of running nodes, a new directory joins their cluster. It listens at
    `address`, and tells others `advertise` if that is given, and `locality`.
    """

    def __init__(
        self,
        number: int,
        directory: Path,
        address: str,
        config_file: Path,
        *,
        join: Sequence[str] = (),
        advertise: str | None = None,
        locality: str | None = None,
    ) -> None:
        self.number = number
        self.directory = directory
        self.address = address
        self.log_file = directory.with_suffix(".log")
        self.node_id: int | None = None
        self._config_file = config_file
        self._join = tuple(join)
        self.advertised = advertise or address
        self.locality = locality
        """Where it says that it is when it is started; None: as it said last."""
        self._process: asyncio.subprocess.Process | None = None
        self._drain: asyncio.Task[None] | None = None
        self.is_told_to_end = False
        """Whether it was stopped or killed from here since it was last started."""

    @property
    def pid(self) -> int:
        """The process ID; the node must have been started."""
        assert self._process is not None, "the node was never started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start the process and return when the node serves.

        Raises StartupError with the node's own reason when it ends instead, and kills it when it is
        not ready in time.
        """
        assert not self.is_running, "the node runs already"
        self.is_told_to_end = False
        with self.log_file.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                self.node_id = (await self._ready_line()).node_id
        except TimeoutError:
            await self.kill()
            raise errors.StartupError(
                f"node {self.number} at {self.address} was not ready within {READY_TIMEOUT_S:g} s; "
                f"its log is {self.log_file}"
            ) from None
        except BaseException:
            await self.kill()
            raise
        self._drain = asyncio.create_task(self._read_to_end())

    def _command(self) -> Sequence[str]:
        return (
            *(sys.executable, "-m", "multiraft", "--json"),
            *(("join", *self._join) if self._join else ("start",)),
            *("--stop-when-stdin-closes", "--data", str(self.directory), "--listen", self.address),
            *(() if self.advertised == self.address else ("--advertise", self.advertised)),
            *(() if self.locality is None else ("--locality", self.locality)),
            *("--config", str(self._config_file)),
        )

    async def _ready_line(self) -> ReadyLine:
        assert self._process is not None, "started above"
        assert self._process.stdout is not None, "its output is a pipe"
        while line := await self._process.stdout.readline():
            with contextlib.suppress(msgspec.DecodeError):
                ready = msgspec.json.decode(line, type=ReadyLine)
                if ready.event == "ready":
                    return ready
        await self._process.wait()
        raise errors.StartupError(f"node {self.number} at {self.address}: {self.last_words()}")

    async def _read_to_end(self) -> None:
        # A full pipe would block the node.
        assert self._process is not None, "started before"
        assert self._process.stdout is not None, "its output is a pipe"
        while await self._process.stdout.read(1 << 16):
            pass

    def last_words(self) -> str:
        """Return the problem that the ended process wrote to its log last."""
        with self.log_file.open("rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        last = lines[-1] if lines else "it wrote nothing"
        with contextlib.suppress(msgspec.DecodeError):
            problem: str = msgspec.json.decode(last)["error"]["problem"]
            return problem
        return f"ended at its start: {last} (log: {self.log_file})"

    async def wait(self) -> int:
        """Return the exit status once the process has ended; negative numbers are signals."""
        assert self._process is not None, "the node was never started"
        status = await self._process.wait()
        if self._drain is not None:
            await asyncio.wait([self._drain])
        return status

    async def stop(self) -> None:
        """Ask the node to hand over and end (SIGTERM); kill it if it does not in time."""
        if not self.is_running:
            return
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self.wait()
        except TimeoutError:
            await self.kill()
        except asyncio.CancelledError:
            self._signal(signal.SIGKILL)  # a second Ctrl-C: the user does not want to wait
            raise

    async def kill(self) -> None:
        """End the process at once (SIGKILL), as a crash would."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None, "the node was never started"
        self.is_told_to_end = True
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def cpu_seconds(self) -> float:
        """Return the processor time that the process has used, of user and system together."""
        return process_usage.cpu_seconds(self.pid)


class LocalCluster:
    """Several nodes under one directory. Enter it to start them; leaving it ends them all.

    They listen at `addresses`, and are reached at `advertised` if that is another list.
    """

    def __init__(
        self,
        directory: Path,
        addresses: Sequence[str],
        *,
        advertised: Sequence[str] = (),
        on_end: Callable[[NodeProcess, int], None] | None = None,
    ) -> None:
        self.directory = directory
        self.nodes = [
            NodeProcess(
                number,
                directory / f"node{number}",
                address,
                directory / "config.toml",
                advertise=advertise,
            )
            for number, (address, advertise) in enumerate(
                zip(addresses, advertised or addresses, strict=True), start=1
            )
        ]
        self._on_end = on_end
        self._watches: dict[int, asyncio.Task[None]] = {}

    @property
    def addresses(self) -> list[str]:
        """The addresses of all nodes, in order."""
        return [process.address for process in self.nodes]

    async def __aenter__(self) -> Self:
        try:
            await _all(self.start_node(process) for process in self.nodes)
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    async def start_node(self, process: NodeProcess) -> None:
        """Start one node, for the first time or again after it ended."""
        await process.start()
        if not process.is_told_to_end:  # Killed when it was ready, and before its start returned.
            self._watches[process.number] = asyncio.create_task(self._watch(process))

    async def kill_node(self, process: NodeProcess) -> None:
        """Kill one node with SIGKILL; `on_end` is not told."""
        self._forget(process)
        await process.kill()

    async def stop_node(self, process: NodeProcess) -> None:
        """End one node in good order (SIGTERM); `on_end` is not told."""
        self._forget(process)
        await process.stop()

    async def stop(self) -> None:
        """End all nodes: politely, then by force. Nothing runs when this returns."""
        for process in self.nodes:
            self._forget(process)
        await _all(process.stop() for process in self.nodes)

    def _forget(self, process: NodeProcess) -> None:
        watch = self._watches.pop(process.number, None)
        if watch is not None:
            watch.cancel()

    async def _watch(self, process: NodeProcess) -> None:
        status = await process.wait()
        if self._on_end is not None:
            self._on_end(process, status)


def create(directory: Path, addresses: Sequence[str]) -> None:
    """Make the directories of a new cluster whose nodes will be reached at `addresses`."""
    # Imported late: only who makes a cluster needs the storage engine.
    from multiraft import node

    directory.mkdir(parents=True, exist_ok=True)
    nodes = [directory / f"node{number}" for number in range(1, len(addresses) + 1)]
    cluster_id = node.prepare_local_cluster(nodes, list(addresses))
    (directory / "config.toml").write_text(CONFIG_TEXT)
    # Written last: a directory without it was never finished.
    manifest = Manifest(cluster_id, tuple(addresses))
    (directory / "cluster.json").write_bytes(msgspec.json.encode(manifest) + b"\n")


@contextlib.asynccontextmanager
async def temporary(parent: Path | None = None, nodes: int = 3) -> AsyncIterator[LocalCluster]:
    """Run a new cluster on free ports; its directory, made in `parent`, is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="multiraft-", dir=parent) as name:
        addresses = free_addresses(nodes)
        create(Path(name), addresses)
        async with LocalCluster(Path(name), addresses) as cluster:
            yield cluster


def read_manifest(directory: Path) -> Manifest | None:
    """Return what cluster the directory holds, or None if it is missing or empty.

    Raises DirectoryFormatError if it holds something else.
    """
    try:
        return msgspec.json.decode((directory / "cluster.json").read_bytes(), type=Manifest)
    except FileNotFoundError:
        if not directory.exists() or not any(directory.iterdir()):
            return None
        problem = "holds files, but no cluster.json"
    except msgspec.DecodeError as error:
        problem = f"has an unreadable cluster.json ({error})"
    raise errors.DirectoryFormatError(
        f"{directory} {problem}: name an empty directory, or one that `multiraft local` made"
    )


def addresses_from(base_port: int, nodes: int) -> list[str]:
    """Return loopback addresses on consecutive ports."""
    return [f"{LOOPBACK}:{base_port + offset}" for offset in range(nodes)]


def free_addresses(nodes: int) -> list[str]:
    """Return loopback addresses whose ports nobody used a moment ago.

    They lie below the ports that systems give to outgoing connections: a node that is down for a
    moment must find its own free when it starts again.
    """
    rng = runtime.SystemRng()
    with contextlib.ExitStack() as stack:
        sockets: list[socket.socket] = []
        while len(sockets) < nodes:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind((LOOPBACK, _FREE_PORT_MIN + rng.below(_FREE_PORT_END - _FREE_PORT_MIN)))
                sockets.append(each)
        return [f"{LOOPBACK}:{each.getsockname()[1]}" for each in sockets]


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run all of `work` at once to its end, then raise the first error there was, if any."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
