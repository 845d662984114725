"""A cluster of real processes to hurt: RocksDB on disk, fsync on, sockets on loopback.

The nodes are those of `multiraft local`; what is added here is what a bad day needs: pauses, kills
of several at once, and a comparison of what the nodes have on disk once they are stopped.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import orjson

import multiraft
from multiraft import errors, runtime
from multiraft.cli import cluster_process, process_usage
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.torture import replicas
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId
from multiraft.model.descriptor import RangeDescriptor, ReplicaKind

T = TypeVar("T")

PATIENCE_S = 30.0
"""How long anything that must happen may take; far more than it does on a busy machine."""

SMALL_LOGS = """
[ranges]
log_keep_bytes = 16384
log_bytes_max = 65536
"""
"""Logs are truncated so early that a node which was away needs a snapshot."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a test on the loop that applications use."""
    return runtime.run(main)


@contextlib.asynccontextmanager
async def running(
    directory: Path, *, nodes: int = 3, settings: str = "", localities: Sequence[str] = ()
) -> AsyncIterator[LocalCluster]:
    """Run a new cluster in `directory`; nothing runs afterwards.

    `localities` are where the first nodes are, if they are to say so.
    """
    addresses = cluster_process.free_addresses(nodes)
    cluster_process.create(directory, addresses)
    with (directory / "config.toml").open("a") as file:
        file.write(settings)
    cluster = LocalCluster(directory, addresses)
    for node, locality in zip(cluster.nodes, localities, strict=False):
        node.locality = locality
    async with cluster:
        yield cluster


async def join_one(cluster: LocalCluster, *, locality: str | None = None) -> NodeProcess:
    """Start a new node that joins the cluster."""
    number = len(cluster.nodes) + 1
    node = NodeProcess(
        number,
        cluster.directory / f"node{number}",
        cluster_process.free_addresses(1)[0],
        cluster.directory / "config.toml",
        join=cluster.addresses[:2],
        locality=locality,
    )
    cluster.nodes.append(node)
    await cluster.start_node(node)
    assert node.node_id == number
    return node


def connect(cluster: LocalCluster, *, deadline_s: float = PATIENCE_S) -> Database:
    """Return a client that waits longer than any outage a test makes."""
    return multiraft.connect(*cluster.addresses, deadline_s=deadline_s)


async def until(condition: Callable[[], bool], what: str) -> None:
    """Return when `condition` holds; AssertionError when it does not in time."""
    await until_async(_answer(condition), what)


def _answer(condition: Callable[[], bool]) -> Callable[[], Coroutine[Any, Any, bool]]:
    async def ask() -> bool:
        return condition()

    return ask


async def until_async(
    condition: Callable[[], Coroutine[Any, Any, bool]], what: str, *, within_s: float = PATIENCE_S
) -> None:
    """As `until`, for a condition that has to ask somebody."""
    try:
        async with asyncio.timeout(within_s):
            while not await condition():  # noqa: ASYNC110 - others decide when it holds
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise AssertionError(f"not within {within_s:g} s: {what}") from None


# -- hurting ---------------------------------------------------------------------------------------


def pause(process: NodeProcess) -> None:
    """Stop the process where it stands (SIGSTOP)."""
    os.kill(process.pid, signal.SIGSTOP)


def resume(process: NodeProcess) -> None:
    """Let a paused process go on (SIGCONT)."""
    os.kill(process.pid, signal.SIGCONT)


async def kill(cluster: LocalCluster, victims: Iterable[NodeProcess]) -> None:
    """Kill nodes at the same time."""
    await asyncio.gather(*(cluster.kill_node(victim) for victim in victims))


async def restart(cluster: LocalCluster, victims: Iterable[NodeProcess]) -> None:
    """Start nodes again, at the same time."""
    await asyncio.gather(*(cluster.start_node(victim) for victim in victims))


async def start_and_kill(cluster: LocalCluster, victim: NodeProcess, after_s: float) -> None:
    """Start a node and kill it so long after its process began, ready or not."""
    starting = asyncio.create_task(cluster.start_node(victim))
    await asyncio.sleep(after_s)
    await cluster.kill_node(victim)
    with contextlib.suppress(errors.StartupError):
        await starting
    await cluster.kill_node(victim)


async def user_range(db: Database) -> RangeId:
    """Return the range that holds all keys of a cluster that was not split."""
    return (await db.admin.ranges(with_status=False))[-1].descriptor.range_id


async def leader_of(db: Database, cluster: LocalCluster, range_id: RangeId) -> NodeProcess:
    """Return the node that leads a range, once one does."""
    found: NodeProcess | None = None

    async def leads() -> bool:
        nonlocal found
        for node in cluster.nodes:
            if node.node_id is None or not node.is_running:
                continue
            status = await db.admin.replica_status(range_id, NodeId(node.node_id))
            if status is not None and status["role"] == "leader" and status["lease_ms"]:
                found = node
                return True
        return False

    await until_async(leads, f"r{range_id} has a leader")
    assert found is not None
    return found


def peak_bytes(process: NodeProcess) -> int:
    """Return the most memory that the process ever held."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) << 10  # type: ignore[index]


def open_files(process: NodeProcess) -> int:
    """Return how many descriptors the process has open."""
    return process_usage.open_files(process.pid)


# -- commands --------------------------------------------------------------------------------------


class Failure(NamedTuple):
    """How a command failed."""

    status: int
    error: dict[str, Any]
    notes: str


def failure_of(*arguments: str, environment: dict[str, str] | None = None) -> Failure:
    """Run a command that must fail, to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "multiraft", "--json", *arguments],
        capture_output=True,
        timeout=PATIENCE_S,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    notes = done.stderr.decode()
    assert done.returncode != 0, f"{arguments} should have failed"
    assert "Traceback" not in notes, notes
    return Failure(done.returncode, orjson.loads(notes.splitlines()[-1])["error"], notes)


# -- what is on disk -------------------------------------------------------------------------------


async def check_replicas_agree(db: Database, cluster: LocalCluster) -> int:
    """Kill all nodes when all have applied the same, and compare what they have, byte by byte.

    Nobody may be writing. Returns how many ranges there are.
    """
    async with asyncio.timeout(PATIENCE_S):
        ranges = await replicas.come_to_rest(db)
    await kill(cluster, cluster.nodes)
    found = replicas.compare(node.directory for node in cluster.nodes)
    assert not found.differences, found.differences
    assert found.pairs >= ranges, (
        f"{found.pairs} pairs of replicas of {ranges} ranges were at one index"
    )
    return ranges


def voters(descriptor: RangeDescriptor) -> list[NodeId]:
    """Return the nodes that vote in a range, sorted."""
    return sorted(r.node_id for r in descriptor.replicas if r.kind is ReplicaKind.VOTER)
