"""The command `check`: whether a recorded history can be, and if not, why not."""

import enum
import functools
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.text import Text

from multiraft.cli.failure import ExitCode
from multiraft.cli.session import JsonOption, Session
from multiraft.testing import history_file
from multiraft.testing.checkers import MODELS, Checker, Verdict, listappend, register

_SHOWN_MAX = 20

Model = enum.StrEnum("Model", {name.upper(): name for name in MODELS})  # type: ignore[misc]


def check(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(help="The history, as JSON lines.", metavar="HISTORY.jsonl")
    ],
    model: Annotated[Model, typer.Option("--model", "-m", help="What the operations must obey.")],
    real_time: Annotated[
        bool,
        typer.Option("--real-time", help="list-append: the order must also respect real time."),
    ] = False,
    steps: Annotated[
        int | None,
        typer.Option("--steps", min=1, help="register: give up after so many steps of search."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Judge a recorded history, and explain what no correct database can have answered.

    Exit status: 0 all is explained; 1 anomalies; 2 the file is no such history; 9 undecided
    within --steps. docs/history-format.md describes the file and the models.
    """
    session = Session(context, json=json)
    checker = _checker(model, real_time=real_time, steps=steps)
    try:
        verdict = checker(history_file.load(file))
    except history_file.BadHistoryError as error:
        raise history_file.BadHistoryError(f"{file}: {error}") from None
    if not verdict.operations:
        raise history_file.BadHistoryError(
            f"{file} holds no operation that the model {model} judges"
        )
    if session.json:
        session.write_json({"ok": verdict.ok, "file": str(file)} | msgspec.to_builtins(verdict))
    else:
        _tell(session, file, verdict)
    if verdict.anomalies:
        raise typer.Exit(ExitCode.NEGATIVE)
    if verdict.undecided:
        raise typer.Exit(ExitCode.UNDECIDED)


def _checker(model: str, *, real_time: bool, steps: int | None) -> Checker:
    if real_time and model != "list-append":
        raise typer.BadParameter("--real-time is for --model list-append")
    if steps is not None and model != "register":
        raise typer.BadParameter("--steps is for --model register")
    if real_time:
        return functools.partial(listappend.check, strict=True)
    if steps is not None:
        return functools.partial(register.check, steps_max=steps)
    return MODELS[model]


def _tell(session: Session, file: Path, verdict: Verdict) -> None:
    if verdict.anomalies:
        count = len(verdict.anomalies)
        word = Text(f"{count} anomalies" if count > 1 else "1 anomaly", style="bold red")
    elif verdict.undecided:
        word = Text("undecided", style="bold yellow")
    else:
        word = Text("ok", style="bold green")
    operations = "1 operation" if verdict.operations == 1 else f"{verdict.operations:,} operations"
    about = f"  {verdict.model} · {operations} · {file}"
    session.out.print(word.append(about, style="not bold default"), soft_wrap=True)
    for anomaly in verdict.anomalies[:_SHOWN_MAX]:
        session.out.print()
        text = Text(anomaly.name, style="bold red")
        text.append(f"  {anomaly.explanation}", style="not bold default")
        session.out.print(text, soft_wrap=True)
    if len(verdict.anomalies) > _SHOWN_MAX:
        more = len(verdict.anomalies) - _SHOWN_MAX
        session.out.print(f"\nand {more} more, which --json lists", style="dim")
    for note in verdict.notes:
        session.out.print(Text(note, style="dim"), soft_wrap=True)
