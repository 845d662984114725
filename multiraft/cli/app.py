"""The `multiraft` command: its sub-commands, the options before them, and how failures end.

Every failure passes through `ReportingGroup`, so no command needs a handler of its own and no
traceback reaches a user. Only mistakes in the command line itself are left to typer, which shows
the usage, unless JSON was asked for.
"""

import contextlib
import errno
import importlib.metadata
import itertools
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Annotated

import typer
from typer.core import TyperGroup

from multiraft import errors
from multiraft.cli import (
    admin,
    bench,
    check,
    contention,
    data,
    debug,
    export,
    failure,
    help_text,
    keytext,
    load,
    local,
    serve,
    sim,
    txn,
)
from multiraft.cli.demo.command import demo
from multiraft.cli.session import DEFAULT_ADDRESSES, Environment, JsonOption, Session
from multiraft.cli.torture.command import torture
from multiraft.testing.history_file import BadHistoryError

NAME = "multiraft"
EPILOG = (
    "Exit status: 0 done; 1 the answer is no; 2 wrong command line; 3 nobody answered in time; "
    "4 refused; 5 outcome unknown; 6 the node cannot start; 7 the store failed; 8 bad rows; "
    "9 undecided; 70 internal error; 130 interrupted; 141 nobody reads the output."
)


_ASKS_FOR_JSON = "multiraft.asks_for_json"
"""In the context's `meta`: whether `--json` stands on a command line that may not be understood."""


class ReportingGroup(TyperGroup):
    """Runs a sub-command and turns what it raises into one line and an exit code."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """Take the options before the sub-command's name."""
        options = itertools.takewhile(lambda word: word != "--", args)
        ctx.meta[_ASKS_FOR_JSON] = "--json" in options
        with _reporting(ctx):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Run the command named on the command line."""
        with _reporting(ctx):
            return super().invoke(ctx)


@contextlib.contextmanager
def _reporting(context: typer.Context) -> Iterator[None]:
    """Report what is raised inside, and choose the exit code."""
    asks_for_json: bool = context.meta[_ASKS_FOR_JSON]
    try:
        yield
    except Exception as error:
        told = _tell(error, asks_for_json=asks_for_json)
    else:
        return
    failure.report(told, as_json=asks_for_json)
    raise typer.Exit(told.exit_code)


def _tell(error: Exception, *, asks_for_json: bool) -> failure.Failure:
    """Return how an error is told; raise what typer itself deals with."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]  # of tasks that ran side by side: the first to fail
    if isinstance(error, keytext.KeyTextError | BadHistoryError):
        return failure.describe_usage(str(error))
    if isinstance(error, errors.MultiraftError):
        return failure.describe(error)
    if asks_for_json and hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        path = NAME if context is None else context.command_path
        problem = error.format_message() or "a command is missing"  # empty: the help was shown
        return failure.describe_usage(problem, f"`{path} --help` tells what it takes")
    if isinstance(error, typer.Abort) or hasattr(error, "exit_code"):
        raise error  # typer's own: a wrong command line, or a command that chose its exit code
    if isinstance(error, OSError):
        if error.errno == errno.EPIPE:
            raise error  # the reader of our output went away: see `main`
        return failure.describe_unreadable(error)
    return failure.describe_internal(error)


app = typer.Typer(
    name=NAME,
    cls=ReportingGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog=EPILOG,
)


def _version_line() -> str:
    return f"{NAME} {importlib.metadata.version(NAME)}"


def _tell_version(context: typer.Context, asked: bool) -> None:
    if asked:
        typer.echo(_version_line())
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            metavar="HOST:PORT[,...]",
            envvar="MULTIRAFT_ADDRESS",
            help=f"Nodes of the cluster; any one that runs will do. Default: {DEFAULT_ADDRESSES}",
        ),
    ] = None,
    json: JsonOption = False,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_tell_version, is_eager=True, help="Print the version and end."
        ),
    ] = False,
) -> None:
    """A range-sharded, replicated, serializable key-value database.

    Start a cluster with `multiraft local`, or watch one at work with `multiraft demo`.
    """
    environment = context.obj if isinstance(context.obj, Environment) else Environment()
    environment.addresses = address
    environment.json = json
    context.obj = environment


def _open_standard_files() -> None:
    """Open whichever of the standard files the caller had closed, on nothing.

    Otherwise the next file that is opened takes that place, perhaps one of the engine, and whatever
    prints writes into it.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def version(context: typer.Context, json: JsonOption = False) -> None:
    """Print the version."""
    session = Session(context, json=json)
    if session.json:
        session.write_json({"version": importlib.metadata.version(NAME)})
    else:
        session.out.print(_version_line())


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Try it": (demo, local.local, bench.bench),
    "Read and write": (data.get, data.put, data.delete, data.increment, data.scan),
    "Move data": (load.load, export.export),
    "Look after a cluster": (
        admin.status,
        admin.ranges,
        admin.split,
        admin.transfer,
        contention.locks,
    ),
    "Run one node": (serve.start, serve.join),
    "Test your own code": (check.check,),
    "Prove it": (torture,),
    "Other": (version,),
}

for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(rich_help_panel=_panel)(_command)

app.add_typer(txn.app, name="txn", rich_help_panel="Read and write")
app.add_typer(debug.app, name="debug", rich_help_panel="Look after a cluster")
app.add_typer(sim.app, name="sim", rich_help_panel="Prove it")

for _group in (app, txn.app, debug.app, sim.app):
    for _registered in _group.registered_commands:
        assert _registered.callback is not None, "a command does something"
        _registered.help = help_text.of(_registered.callback)


def main() -> None:
    """Run the command line; this is the entry point of the `multiraft` script."""
    _open_standard_files()
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A job in the background: Ctrl-C is meant for others, and waits until SIGTERM comes.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        app()
    except SystemExit as end:
        if not _is_unread(end):
            raise
    _discard_output()
    sys.exit(failure.ExitCode.UNREAD)


def _is_unread(end: SystemExit) -> bool:
    """Return whether it ends because whoever read the output is gone.

    Rich and typer each make a SystemExit of their own of that. What a command chose to end with,
    after a connection had broken perhaps, stays.
    """
    cause = end.__context__
    while cause is not None and not isinstance(cause, typer.Exit):
        if isinstance(cause, BrokenPipeError):
            return True
        cause = cause.__context__
    return False


def _discard_output() -> None:
    """Let what is still to be written go nowhere: it would fail again when Python ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End a command as Ctrl-C does, so that it stops its nodes and removes its files."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    signal.raise_signal(signal.SIGINT)
