"""The option `--at`: a command that reads can read the past."""

import contextlib
import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Annotated

import typer

from multiraft.client.database import Database
from multiraft.client.moment import Moment
from multiraft.client.snapshot import Snapshot

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="WHEN",
        help="Read what was there then: `10m` ago, `1h30m` ago, `2030-01-31 12:00:00`, or a "
        "timestamp of the cluster.",
        show_default=False,
    ),
]

_AGO = re.compile(r"-?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
_TIMESTAMP_DIGITS_MIN = 15
"""Fewer digits would be a time in 1970."""


def parse(text: str) -> Moment:
    """Return the moment meant. A time without a zone is one of the local zone.

    Raises BadParameter.
    """
    if text.isascii() and text.isdigit() and len(text) >= _TIMESTAMP_DIGITS_MIN:
        return int(text)
    ago = _AGO.fullmatch(text)
    if ago is not None and any(ago.groups()):
        days, hours, minutes, seconds = (float(each or 0) for each in ago.groups())
        try:
            return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        except OverflowError:
            raise typer.BadParameter(f"--at {text} is too long ago") from None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"--at {text!r} is no time: write how long ago, such as 10m, or a time, such as "
            "2030-01-31T12:00:00Z"
        ) from None
    return moment if moment.tzinfo is not None else moment.astimezone()


@contextlib.asynccontextmanager
async def reading(
    database: Database, at: str | None, owner: str
) -> AsyncIterator[Database | Snapshot]:
    """Yield what to read from: the database, or with `at`, the database as it was then."""
    if at is None:
        yield database
        return
    async with database.snapshot(parse(at), owner=owner) as then:
        yield then
