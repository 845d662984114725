"""The commands about transactions, under `multiraft txn`."""

import typer

from multiraft.cli import contention

app = typer.Typer(no_args_is_help=True, help="Look at transactions.")

app.command("list")(contention.list_transactions)
