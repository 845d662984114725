"""The commands that are a node: `start` and `join` run one in this process until told to stop.

The configuration file is TOML with one table per part of `multiraft/config.py`, such as
`[liveness]` with `clock_offset_ms_max = 50`; what is not named keeps its default.
"""

import os
import signal
import threading
import time
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from multiraft import config, errors, runtime
from multiraft.cli.session import BASE_PORT, JsonOption, Session, check_address
from multiraft.model import locality as localities
from multiraft.model.locality import Locality

DEFAULT_LISTEN = f"127.0.0.1:{BASE_PORT}"
_KILLED_AFTER_S = 15.0
"""How long a node whose parent is gone may take to stop before it ends at once."""

DataOption = Annotated[
    Path, typer.Option("--data", metavar="DIR", help="The node's directory; made if it is missing.")
]
ListenOption = Annotated[
    str, typer.Option("--listen", metavar="HOST:PORT", help="Where clients and nodes reach it.")
]
AdvertiseOption = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        metavar="HOST:PORT",
        help="Where they reach it if that is another address: behind NAT, or in a container.",
    ),
]
LocalityOption = Annotated[
    str | None,
    typer.Option(
        "--locality",
        metavar="KEY=VALUE[,...]",
        help="Where it is, the largest part first, such as zone=b,host=alpha: replicas of a range "
        "are kept apart. Default: as it was told last; '' for nowhere.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="Settings as TOML.")
]
NoFsyncOption = Annotated[
    bool,
    typer.Option(
        "--unsafe-no-fsync", help="Do not sync to disk: a power failure may lose acknowledged data."
    ),
]
StdinOption = Annotated[
    bool,
    typer.Option(
        "--stop-when-stdin-closes", hidden=True, help="Stop when the parent process ends."
    ),
]


def start(
    context: typer.Context,
    data: DataOption,
    listen: ListenOption = DEFAULT_LISTEN,
    advertise: AdvertiseOption = None,
    locality: LocalityOption = None,
    config_file: ConfigOption = None,
    unsafe_no_fsync: NoFsyncOption = False,
    stop_when_stdin_closes: StdinOption = False,
    json: JsonOption = False,
) -> None:
    """Run the first node of a new cluster, or start the node of an existing directory again.

    It runs until Ctrl-C or SIGTERM, and hands its leaderships over before it ends.
    """
    Session(context, json=json)
    _watch_parent(stop_when_stdin_closes)
    settings = read_config(config_file, unsafe_no_fsync=unsafe_no_fsync)
    _run(data, listen, advertise, locality, (), settings)


def join(
    context: typer.Context,
    existing: Annotated[
        list[str], typer.Argument(help="Addresses of nodes that run.", metavar="HOST:PORT")
    ],
    data: DataOption,
    listen: ListenOption = DEFAULT_LISTEN,
    advertise: AdvertiseOption = None,
    locality: LocalityOption = None,
    config_file: ConfigOption = None,
    unsafe_no_fsync: NoFsyncOption = False,
    stop_when_stdin_closes: StdinOption = False,
    json: JsonOption = False,
) -> None:
    """Run a new node that joins an existing cluster."""
    Session(context, json=json)
    for address in existing:
        check_address(address)
    _watch_parent(stop_when_stdin_closes)
    settings = read_config(config_file, unsafe_no_fsync=unsafe_no_fsync)
    _run(data, listen, advertise, locality, tuple(existing), settings)


def read_config(path: Path | None, *, unsafe_no_fsync: bool = False) -> config.Config:
    """Return the settings of a TOML file. Raises ConfigError that names what is wrong."""
    try:
        given = tomllib.loads("" if path is None else path.read_text())
        _check_names(given)
        settings = msgspec.convert(given, config.Config)
    except ValueError as error:
        raise errors.ConfigError(f"{path}: {error}") from None
    if unsafe_no_fsync:
        storage = msgspec.structs.replace(settings.storage, unsafe_no_fsync=True)
        settings = msgspec.structs.replace(settings, storage=storage)
    config.check(settings)
    return settings


def read_locality(text: str) -> Locality:
    """Return the tiers of an option's text. Raises BadParameter that says what is wrong."""
    try:
        return localities.parse(text)
    except errors.ConfigError as error:
        raise typer.BadParameter(error.message) from None


def _check_names(given: dict[str, Any]) -> None:
    """Raise ValueError for a name that no setting has: a typing error must not go unnoticed."""
    parts = {field.name: field.type for field in msgspec.structs.fields(config.Config)}
    for part, settings in given.items():
        if part not in parts:
            raise ValueError(f"there is no table {part!r}; there are {', '.join(parts)}")
        known = parts[part].__struct_fields__
        for name in settings if isinstance(settings, dict) else ():
            if name not in known:
                raise ValueError(f"[{part}] has no {name!r}; it has {', '.join(known)}")


def _run(
    data: Path,
    listen: str,
    advertise: str | None,
    locality: str | None,
    existing: tuple[str, ...],
    settings: config.Config,
) -> None:
    # Imported late: the commands of a client need no storage engine and start faster without.
    from multiraft import node

    check_address(listen)
    if advertise is not None:
        check_address(advertise)
    runtime.run(
        node.run_node(
            node.NodeSettings(
                directory=data,
                listen=listen,
                join=existing,
                bootstrap=not existing,
                config=settings,
                advertise=advertise or "",
                locality=None if locality is None else read_locality(locality),
            )
        )
    )


def _watch_parent(stop_when_stdin_closes: bool) -> None:
    if stop_when_stdin_closes:
        threading.Thread(target=_stop_with_parent, name="parent-watch", daemon=True).start()


def _stop_with_parent() -> None:
    # The parent holds the other end of our standard input and never writes. The kernel closes it
    # when the parent ends, however it ends, so no node outlives the command that started it.
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_KILLED_AFTER_S)
    os.kill(os.getpid(), signal.SIGKILL)
