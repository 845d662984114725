"""The commands for who wants to know how it works inside, under `multiraft debug`."""

from typing import Annotated

import typer

from multiraft.cli import profile_view
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import AddressOption, JsonOption, Session, TimeoutOption
from multiraft.client.admin import ProfileInfo
from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.model.requests import PROFILE_MS_MAX

app = typer.Typer(help="Look inside running nodes.", no_args_is_help=True)

SecondsOption = Annotated[
    float,
    typer.Option("--seconds", min=0.001, max=PROFILE_MS_MAX / 1_000, help="For how long to watch."),
]
NodeOption = Annotated[
    int | None,
    typer.Option("--node", metavar="ID", help="Only this node.", show_default="all nodes"),
]


@app.callback()
def _debug() -> None:
    """Look inside running nodes."""


@app.command()
def profile(
    context: typer.Context,
    seconds: SecondsOption = 5.0,
    node: NodeOption = None,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show what nodes spend their time on: by stages in the life of a request, and per request.

    Nodes are a few per cent slower while they are watched, and not at all before and after. Exit
    status 3 if one does not answer.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    found = session.run(lambda database: _profiles(database, seconds, node))
    if session.json:
        session.write_json(found)
    else:
        for part in profile_view.render(found):
            session.out.print(part)
    if any(info.profile is None for info in found):
        raise typer.Exit(ExitCode.UNAVAILABLE)


async def _profiles(database: Database, seconds: float, node: int | None) -> list[ProfileInfo]:
    return await database.admin.profiles(seconds, None if node is None else NodeId(node))
