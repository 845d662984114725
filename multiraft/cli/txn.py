"""The commands about transactions, under `multiraft txn`."""

import typer
from typer.core import TyperGroup

from multiraft.cli import contention, scripted

HELP_OPTIONS = frozenset({"--help", "-h"})


class ScriptGroup(TyperGroup):
    """Takes what names no command for the arguments of `run`: `multiraft txn FILE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override]
        """See click."""
        if not args or (args[0] not in self.commands and args[0] not in HELP_OPTIONS):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=ScriptGroup,
    help=(
        "Run a script as one transaction (FILE alone will do), or look at those under way.\n\n"
        "`multiraft txn run --help` lists what may stand in a script, and its options."
    ),
)

app.command("run")(scripted.run)
app.command("list")(contention.list_transactions)
