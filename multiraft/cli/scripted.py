"""`multiraft txn run`: a script of operations as one transaction, from a file or at a prompt.

Purpose
    A file is carried out as a whole: it is read and checked first, runs again as often as others
    get in its way, and what it printed is shown once it has committed. At a prompt each line is
    carried out as it is typed, so nothing can run again: when somebody got in the way, one says so.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from multiraft import errors
from multiraft.cli import failure, keytext, script
from multiraft.cli.data import STDIN, as_counter
from multiraft.cli.prompt import Prompt
from multiraft.cli.script import Step
from multiraft.cli.session import (
    AddressOption,
    HexOption,
    JsonOption,
    Session,
    TimeoutOption,
    write_line,
)
from multiraft.client.batch import ANY
from multiraft.client.database import Database
from multiraft.client.transaction import Transaction

PROMPT = "txn> "
LATE_S = 5.0
LATE = "no answer yet: `multiraft status` or `multiraft locks` may tell why; Ctrl-C gives up"
"""Told once when a line at a prompt takes that long; it may take as long as the transaction."""
GREETING = (
    "One transaction: `commit` ends it, `rollback` or Ctrl-D ends it without a trace. "
    "`help` lists what else there is."
)
HELP = "\n".join(f"  {usage}" for usage in script.USAGES.values())
PROMPT_S = 300.0
"""How long a transaction at a prompt may take unless --timeout says otherwise."""

Tell = Callable[[Step, dict[str, Any], str], None]
"""Takes what a step gave, as members of a JSON object and as text."""


def run(
    context: typer.Context,
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="FILE", help="The script; - reads it from stdin. Default: a prompt, or stdin."
        ),
    ] = None,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    r"""Carry out a script of operations as one transaction: all of it happens, or none.

    One operation stands on a line, and `#` begins a remark:

        get KEY [--for-update] [--counter]
        put KEY VALUE [--if-absent | --expect VALUE]
        delete KEY
        increment KEY [N]
        scan [START [END]] [--prefix P] [--limit N]
             [--reverse] [--for-update]
        delete-range START END
        commit
        rollback

    The end of a file commits; at a prompt, only `commit` does.
    """
    if file is None and sys.stdin.isatty():
        limit_s = PROMPT_S if timeout is None else timeout
        session = Session(context, json=json, address=address, timeout=timeout)
        read_line = Prompt(PROMPT, sys.stdin.fileno()).read_line
        session.run(lambda database: converse(database, session, read_line, limit_s, as_hex=as_hex))
        return
    session = Session(context, json=json, address=address, timeout=timeout)
    from_stdin = file is None or file == STDIN
    data = sys.stdin.buffer.read() if from_stdin else Path(str(file)).read_bytes()
    steps = read(data.decode("utf-8", "surrogateescape"), as_hex=as_hex)
    session.run(lambda database: carry_out(database, session, steps, as_hex=as_hex))


def read(text: str, *, as_hex: bool) -> list[Step]:
    """Return the steps of a script. Raises ScriptError with the number of the line."""
    lines = enumerate(text.splitlines(), start=1)
    parsed = [script.parse(line, number, as_hex=as_hex) for number, line in lines]
    steps = [step for step in parsed if step is not None]
    for place, step in enumerate(steps[:-1]):
        if step.verb in {"commit", "rollback"}:
            after = steps[place + 1].line
            raise script.ScriptError(f"line {after}: nothing can follow the {step.verb}")
    return steps


async def carry_out(
    database: Database, session: Session, steps: Sequence[Step], *, as_hex: bool
) -> None:
    """Carry out a script until it commits, then tell what it gave."""
    told: list[tuple[Step, dict[str, Any], str]] = []
    is_rolled_back = bool(steps) and steps[-1].verb == "rollback"

    async def attempt(transaction: Transaction) -> int | None:
        told.clear()
        for step in steps:
            await _do(transaction, step, lambda *each: told.append(each), as_hex=as_hex)
        if is_rolled_back:
            await transaction.rollback()
            return None
        return await transaction.commit()

    timestamp = await database.run(attempt)
    for step, members, text in told:
        _show(session, step, members, text)
    _show_end(session, timestamp)


async def converse(
    database: Database,
    session: Session,
    read_line: Callable[[], Awaitable[str | None]],
    limit_s: float,
    *,
    as_hex: bool,
) -> None:
    """Carry out what is typed, line by line; None from `read_line` is the end of the input."""
    line = 0
    timestamp: int | None = None
    if not session.json:
        session.notes.print(GREETING, style="dim")
    async with database.transaction(deadline_s=limit_s) as transaction:
        while not transaction.has_ended:
            typed = await read_line()
            if typed is None:
                await transaction.rollback()
                break
            line += 1
            if typed.strip() == "help":
                session.notes.print(HELP, markup=False, soft_wrap=True)
                continue
            try:
                step = script.parse(typed, line, as_hex=as_hex)
                if step is None:
                    continue
                with _telling_when_late(session):
                    if step.verb == "commit":
                        timestamp = await transaction.commit()
                    elif step.verb == "rollback":
                        await transaction.rollback()
                    else:
                        await _do(transaction, step, lambda *e: _show(session, *e), as_hex=as_hex)
            except script.ScriptError as error:
                failure.report(failure.describe_usage(str(error)), as_json=session.json)
            except errors.RequestError as error:
                failure.report(failure.describe(error), as_json=session.json)
    _show_end(session, timestamp)


@contextlib.contextmanager
def _telling_when_late(session: Session) -> Iterator[None]:
    remark = asyncio.get_running_loop().call_later(LATE_S, session.notes.print, LATE)
    try:
        yield
    finally:
        remark.cancel()


async def _do(transaction: Transaction, step: Step, tell: Tell, *, as_hex: bool) -> None:
    """Carry out one step; an error of it names its line."""
    try:
        await _DOINGS[step.verb](transaction, step, tell, as_hex)
    except (errors.MultiraftError, keytext.KeyTextError) as error:
        named = f"line {step.line}: "
        if isinstance(error, keytext.KeyTextError):
            raise script.ScriptError(f"{named}{error}") from None
        if not error.message.startswith(named):
            error.message = named + error.message
        raise


async def _get(transaction: Transaction, step: Step, tell: Tell, as_hex: bool) -> None:
    value = await transaction.get(step.key, for_update=step.for_update)
    members: dict[str, Any] = keytext.to_json("key", step.key) | {"found": value is not None}
    if value is None:
        tell(step, members, "not found")
    elif step.counter:
        number = as_counter(value)
        tell(step, members | {"value": number}, str(number))
    else:
        text = keytext.show_value(value, as_hex=as_hex)
        tell(step, members | keytext.to_json("value", value), text)


async def _put(transaction: Transaction, step: Step, tell: Tell, _as_hex: bool) -> None:
    expected = step.expected if step.is_conditional else ANY
    await transaction.put(step.key, step.value, expected=expected)
    tell(step, keytext.to_json("key", step.key), "")


async def _delete(transaction: Transaction, step: Step, tell: Tell, _as_hex: bool) -> None:
    existed = await transaction.delete(step.key)
    members = keytext.to_json("key", step.key) | {"existed": existed}
    tell(step, members, "" if existed else "not found")


async def _increment(transaction: Transaction, step: Step, tell: Tell, _as_hex: bool) -> None:
    number = await transaction.increment(step.key, step.delta)
    tell(step, keytext.to_json("key", step.key) | {"value": number}, str(number))


async def _scan(transaction: Transaction, step: Step, tell: Tell, as_hex: bool) -> None:
    rows = transaction.scan(
        step.key,
        step.end,
        prefix=step.prefix,
        reverse=step.reverse,
        limit=step.limit,
        for_update=step.for_update,
    )
    async for key, value in rows:
        shown = keytext.show(key, as_hex=as_hex), keytext.show_value(value, as_hex=as_hex)
        members = keytext.to_json("key", key) | keytext.to_json("value", value)
        tell(step, members, "\t".join(shown))


async def _delete_range(transaction: Transaction, step: Step, tell: Tell, _as_hex: bool) -> None:
    count = await transaction.delete_range(step.key, step.end)
    tell(step, {"deleted": count}, str(count))


async def _nothing(_transaction: Transaction, _step: Step, _tell: Tell, _as_hex: bool) -> None:
    """The end of a script is dealt with by who carries it out."""


_DOINGS: dict[str, Callable[[Transaction, Step, Tell, bool], Awaitable[None]]] = {
    "get": _get,
    "put": _put,
    "delete": _delete,
    "increment": _increment,
    "scan": _scan,
    "delete-range": _delete_range,
    "commit": _nothing,
    "rollback": _nothing,
}
"""One for each of script.VERBS."""


def _show(session: Session, step: Step, members: dict[str, Any], text: str) -> None:
    if session.json:
        session.write_json({"line": step.line, "operation": step.verb} | members)
    elif text:
        write_line(text.encode())


def _show_end(session: Session, timestamp: int | None) -> None:
    if session.json:
        members = {} if timestamp is None else {"timestamp": timestamp}
        session.write_json({"committed": timestamp is not None} | members)
    elif timestamp is None:
        session.notes.print("rolled back", style="yellow")
    else:
        session.notes.print("committed", style="green")
