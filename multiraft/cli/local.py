"""The command `local`: a whole cluster on this machine, one process a node, until Ctrl-C."""

import asyncio
import contextlib
import errno
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group
from rich.panel import Panel
from rich.text import Text

from multiraft import errors
from multiraft.cli import cluster_process, tables
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.session import BASE_PORT, DEFAULT_ADDRESSES, JsonOption, Session
from multiraft.net import addresses as net_addresses

DEFAULT_DIRECTORY = Path("multiraft-data")
DEFAULT_NODES = 3


def local(
    context: typer.Context,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=9, help="How many; default 3.")
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Kept between runs; made if missing.")
    ] = DEFAULT_DIRECTORY,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Use a temporary directory, gone at the end.")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option("--port", min=1, max=65_000, help=f"The first port; default {BASE_PORT}."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run a cluster on this machine until Ctrl-C; run again, it goes on with its data."""
    session = Session(context, json=json)
    with _directory(data, ephemeral=ephemeral) as directory:
        addresses = _addresses(directory, nodes, port)
        session.run_main(_serve(session, directory, addresses, ephemeral=ephemeral))


@contextlib.contextmanager
def _directory(data: Path, *, ephemeral: bool) -> Iterator[Path]:
    if not ephemeral:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="multiraft-") as name:
        yield Path(name)


def _addresses(directory: Path, nodes: int | None, port: int | None) -> list[str]:
    """Return the addresses of the cluster in `directory`, which is made if there is none."""
    manifest = cluster_process.read_manifest(directory)
    if manifest is None:
        wanted = cluster_process.addresses_from(port or BASE_PORT, nodes or DEFAULT_NODES)
        _refuse_taken(wanted)
        cluster_process.create(directory, wanted)
        return wanted
    addresses = list(manifest.addresses)
    if nodes is not None and nodes != len(addresses):
        raise errors.ConfigError(
            f"{directory} holds a cluster of {len(addresses)} nodes, but --nodes is {nodes}: "
            "leave --nodes out, or name another directory"
        )
    if port is not None and port != int(addresses[0].rpartition(":")[2]):
        raise errors.ConfigError(
            f"the cluster in {directory} listens at {addresses[0]}, but --port is {port}: "
            "leave --port out, or name another directory"
        )
    return addresses


def _refuse_taken(addresses: list[str]) -> None:
    """Raise AddressInUseError for ports that others have: a cluster keeps those it is made with."""
    for address in addresses:
        host, port = net_addresses.split(address)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a node binds it
            try:
                probe.bind((host, port))
            except OSError as error:
                if error.errno == errno.EADDRINUSE:
                    raise errors.AddressInUseError(
                        f"{address} is in use by another process: choose other ports with --port, "
                        "or stop what listens there"
                    ) from None


async def _serve(
    session: Session, directory: Path, addresses: list[str], *, ephemeral: bool
) -> None:
    stop = asyncio.Event()

    def node_ended(process: NodeProcess, status: int) -> None:
        _tell_end(session, process, status)
        if not any(other.is_running for other in cluster.nodes):
            stop.set()

    cluster = LocalCluster(directory, addresses, on_end=node_ended)
    async with contextlib.AsyncExitStack() as stack:
        with session.notes.status("starting the nodes"):
            await stack.enter_async_context(cluster)
        _tell_start(session, cluster, ephemeral=ephemeral)
        # From here on Ctrl-C is the way to end this command, not an interruption of it.
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # as in `node.run_node`
        await stop.wait()
        if not any(process.is_running for process in cluster.nodes):
            raise errors.StoreFailedError(reason=f"every node has ended; their logs: {directory}")
        session.notes.print("stopping the nodes ...", style="dim")
    if not session.json:
        kept = "" if ephemeral else f"; `multiraft local{_data_option(directory)}` goes on"
        session.notes.print(Text(f"stopped{kept}", "dim"))


def _tell_start(session: Session, cluster: LocalCluster, *, ephemeral: bool) -> None:
    if session.json:
        session.write_json(
            {
                "event": "ready",
                "addresses": cluster.addresses,
                "pids": [process.pid for process in cluster.nodes],
                "directory": str(cluster.directory),
            }
        )
        return
    table = tables.table()
    table.add_column("node")
    table.add_column("address", style="bold")
    table.add_column("process", justify="right")
    table.add_column("log", style="dim", overflow="fold")
    for process in cluster.nodes:
        log = str(process.log_file)
        table.add_row(f"n{process.node_id}", process.address, str(process.pid), log)
    where = "a temporary directory, gone at the end" if ephemeral else str(cluster.directory)
    steps = Text.assemble(
        ("Next, in another terminal:\n", "bold"),
        *_next_steps(cluster.addresses),
        ("\nCtrl-C stops the cluster. ", "dim"),
        (f"Data: {where}", "dim"),
    )
    title = f"multiraft · {len(cluster.nodes)} nodes"
    session.out.print(Panel(Group(table, steps), title=title, expand=False))


def _next_steps(addresses: list[str]) -> Iterator[tuple[str, str]]:
    by_default = DEFAULT_ADDRESSES.startswith(addresses[0])
    if not by_default:
        some = ",".join(addresses[:3])  # the first that answers tells of the others
        yield f"  export MULTIRAFT_ADDRESS={some}\n", "cyan"
    for command, meaning in (
        ("multiraft put hello world", "write a key"),
        ("multiraft get hello", "read it"),
        ("multiraft split m", "cut its range in two, live"),
        ("multiraft ranges --watch", "see the ranges at work"),
        ("multiraft bench --address " + addresses[0], "measure this cluster"),
    ):
        yield f"  {command:<44}", "cyan"
        yield f"{meaning}\n", "dim"


def _tell_end(session: Session, process: NodeProcess, status: int) -> None:
    if session.json:
        session.write_json({"event": "node_ended", "node": process.node_id, "status": status})
        return
    how = f"killed by {signal.Signals(-status).name}" if status < 0 else process.last_words()
    told = Text.assemble(
        (f"n{process.node_id} ended", "bold red"),
        f": {how}\n",
        (
            f"its log: {process.log_file}\n"
            f"start it again: multiraft start --data {process.directory} "
            f"--listen {process.address} --config {process.directory.parent / 'config.toml'}",
            "dim",
        ),
    )
    session.notes.print(told, soft_wrap=True)


def _data_option(directory: Path) -> str:
    return "" if directory == DEFAULT_DIRECTORY else f" --data {directory}"
