"""What every command shares: which cluster, which form of output, and how failures are told.

Purpose
    A command builds its `Session` from its options and hands it the coroutine to run. The
    environment (how to connect, the options given before the command) comes from the context, so
    that tests run the very same commands against a database of their own.
"""

import dataclasses
import sys
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, TypeVar

import msgspec
import orjson
import typer
from rich.console import Console

from multiraft import errors, runtime
from multiraft.cli import tables
from multiraft.client.database import Database, connect
from multiraft.net import addresses
from multiraft.runtime import SystemClock

T = TypeVar("T")

BASE_PORT = 7400
DEFAULT_ADDRESSES = ",".join(f"127.0.0.1:{BASE_PORT + offset}" for offset in range(3))
"""The nodes of `multiraft local`."""

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        "-a",
        metavar="HOST:PORT[,...]",
        help="Nodes of the cluster; any one that runs will do. Also: MULTIRAFT_ADDRESS.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON instead of text.")]
HexOption = Annotated[bool, typer.Option("--hex", help="Keys and values are hexadecimal digits.")]
TimeoutOption = Annotated[
    float | None,
    typer.Option(
        "--timeout", min=0.001, metavar="SECONDS", help="Deadline of each request; default 10."
    ),
]

Connect = Callable[..., AbstractAsyncContextManager[Database]]


@dataclasses.dataclass
class Environment:
    """What lies around a command; `json` and `addresses` may be set before its name."""

    connect: Connect = connect
    run: Callable[[Coroutine[Any, Any, Any]], Any] = runtime.run
    now: Callable[[], float] = SystemClock().monotonic
    addresses: str | None = None
    json: bool = False


class Session:
    """One run of one command."""

    def __init__(
        self,
        context: typer.Context,
        *,
        json: bool = False,
        address: str | None = None,
        timeout: float | None = None,
    ) -> None:
        environment: Environment = context.obj
        # The group that reports failures looks here, too.
        environment.json = environment.json or json
        self._connect = environment.connect
        self._run_main = environment.run
        self.now = environment.now
        """What durations are measured with, in seconds."""
        self._timeout = timeout
        self.json = environment.json
        self._named = address or environment.addresses
        self.out = tables.console()
        self.notes = Console(stderr=True, highlight=False)
        """For progress and remarks: what a program reading our output must not see."""

    @property
    def names_a_cluster(self) -> bool:
        """Whether the user said which cluster, as opposed to the default."""
        return self._named is not None

    @property
    def addresses(self) -> list[str]:
        """Nodes of the cluster. Raises BadParameter if what names them is malformed."""
        return parse_addresses(self._named or DEFAULT_ADDRESSES)

    def run(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        """Connect, run `work` with the database, close, and return what it returned."""
        addresses = self.addresses

        async def main() -> T:
            async with self.connect(addresses) as database:
                return await work(database)

        return self.run_main(main())

    def run_main(self, main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on an event loop of its own and return what it returned."""
        result: T = self._run_main(main)
        return result

    def connect(self, addresses: list[str]) -> AbstractAsyncContextManager[Database]:
        """Return a connection to a cluster, to be entered, with the deadline asked for."""
        options = {} if self._timeout is None else {"deadline_s": self._timeout}
        return self._connect(*addresses, **options)

    def write_json(self, value: object) -> None:
        """Write one JSON value as a line of standard output."""
        write_line(orjson.dumps(value, default=msgspec.to_builtins))

    def note_json(self, value: object) -> None:
        """Write one JSON value as a line of standard error, when standard output holds data."""
        sys.stderr.write(orjson.dumps(value).decode() + "\n")


def write_line(line: bytes) -> None:
    """Write bytes and a line end to standard output exactly as they are."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def parse_addresses(text: str) -> list[str]:
    """Return the addresses of a comma-separated list. Raises BadParameter for a malformed one."""
    named = [part.strip() for part in text.split(",") if part.strip()]
    for address in named:
        check_address(address)
    if not named:
        raise typer.BadParameter("--address is empty: name at least one node as HOST:PORT")
    return named


def check_address(address: str) -> None:
    """Raise BadParameter unless `address` is HOST:PORT."""
    try:
        addresses.split(address)
    except errors.ConfigError as error:
        raise typer.BadParameter(error.message) from None
