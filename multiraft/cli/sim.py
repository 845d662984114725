"""The commands `sim run`, `sim replay` and `sim list`: the database in simulation.

A run is decided by its spec and its seed. What fails prints the line that repeats it.
"""

import shlex
from collections import Counter
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multiraft import errors
from multiraft.cli import sim_runs, tables
from multiraft.cli.session import JsonOption, Session
from multiraft.testing import runner, spec
from multiraft.testing.runner import RunResult
from multiraft.testing.spec import Spec

app = typer.Typer(no_args_is_help=True, help="Run the whole cluster in simulation, from a seed.")

SpecArgument = Annotated[
    list[str], typer.Argument(metavar="SPEC", help="Names (see `sim list`) or TOML files.")
]


@app.command("list")
def list_specs(context: typer.Context, json: JsonOption = False) -> None:
    """List the specs that come with the package."""
    session = Session(context, json=json)
    specs = [spec.load(name) for name in spec.names()]
    if session.json:
        session.write_json([{"name": s.name, "about": s.about} for s in specs])
        return
    table = tables.columns("spec", "clients", "faults", "about")
    for each in specs:
        table.add_row(
            each.name,
            ", ".join(workload.name for workload in each.workload),
            ", ".join(fault.name for fault in each.fault),
            each.about,
        )
    session.out.print(table)


@app.command("run")
def run(
    context: typer.Context,
    specs: SpecArgument,
    seeds: Annotated[
        str, typer.Option(metavar="A..B", help="Which seeds, both ends included; or one.")
    ] = "1..10",
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes side by side.")] = 1,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Run all seeds even if one fails.")
    ] = False,
    show_probes: Annotated[
        bool, typer.Option("--probes", help="Name the rare situations that no run reached.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Run specs with many seeds. Exit status 1 if any run failed."""
    session = Session(context, json=json)
    loaded = {name: _load(name) for name in (spec.names() if specs == ["all"] else specs)}
    wanted = [(name, seed) for seed in _seeds(seeds) for name in loaded]
    runs = [(loaded[name], seed) for name, seed in wanted]
    results: list[RunResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn(), console=session.notes) as bar:
        task = bar.add_task("simulating", total=len(wanted))
        found = sim_runs.run_all(runs, jobs, bar.console.print)
        for (name, _), result in zip(wanted, found, strict=True):
            results.append(result)
            bar.advance(task)
            if not result.ok:
                _show_failure(session, name, result)
                if not keep_going:
                    break
    if session.json:
        session.write_json(msgspec.to_builtins(results))
    else:
        _show_sums(session, results, show_probes=show_probes)
    if not all(result.ok for result in results):
        raise typer.Exit(1)


@app.command("replay")
def replay(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SPEC", help="A name or a TOML file.")],
    seed: Annotated[
        int,
        typer.Argument(
            min=0, metavar="SEED", help="Which run of it; `sim run` tells those that failed."
        ),
    ],
    trace: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write the run as a page to step through."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Run one seed again and tell everything about it. Exit status 1 if it failed."""
    session = Session(context, json=json)
    loaded = _load(name)
    if trace is not None:
        trace.open("ab").close()  # if that cannot be, one should hear of it before the run
    result = runner.run(loaded, seed, trace)
    if session.json:
        session.write_json(msgspec.to_builtins(result))
    else:
        session.out.print(f"drawn:    {', '.join(result.drawn) or 'nothing'}")
        session.out.print(f"faults:   {_counts(result.faults)}")
        session.out.print(f"calls:    {_counts(result.outcomes)}")
        session.out.print(
            f"time:     {result.virtual_s:.3f} virtual seconds, "
            f"calls ended in {result.ended_s:.3f} after the last fault, "
            f"recovered in {result.recovered_s:.3f}"
        )
        session.out.print(f"digest:   {result.digest} of {result.callbacks} callbacks")
        if trace is not None:
            session.out.print(f"trace:    {trace}", markup=False, soft_wrap=True)
        for verdict in result.verdicts:
            told = str(verdict)  # what was wrong is among the problems
            if not verdict.ok:
                told = told.splitlines()[0]
            session.out.print(f"verdict:  {told}", markup=False, soft_wrap=True)
        if not result.ok:
            _show_failure(session, name, result)
    if not result.ok:
        raise typer.Exit(1)


def _load(name: str) -> Spec:
    try:
        return spec.load(name)
    except errors.ConfigError as error:
        raise typer.BadParameter(error.message) from None


def _seeds(text: str) -> range:
    first, dots, last = text.partition("..")
    try:
        low = int(first)
        high = int(last) if dots else low
    except ValueError:
        raise typer.BadParameter(
            f"--seeds {text!r} is neither a number, such as 3, nor a span of them, such as 1..10"
        ) from None
    if low < 0:
        raise typer.BadParameter(f"--seeds {text}: the first seed is 0")
    if high < low:
        raise typer.BadParameter(f"--seeds {text} holds no seed: {high} is below {low}")
    return range(low, high + 1)


def _show_failure(session: Session, name: str, result: RunResult) -> None:
    """Tell what was wrong, and the line that repeats it; `name` is what the spec was called."""
    session.notes.print(f"[bold red]FAILED[/] {result.spec} seed {result.seed}")
    for problem in result.problems:
        session.notes.print(f"  {problem}", markup=False, soft_wrap=True)
    again = f"multiraft sim replay {shlex.quote(name)} {result.seed}"
    session.notes.print(f"  again: {again}", markup=False, soft_wrap=True)


def _show_sums(session: Session, results: list[RunResult], *, show_probes: bool) -> None:
    table = tables.columns("spec", "runs", "failed", "virtual s", "calls", "unknown", "faults")
    for name in dict.fromkeys(result.spec for result in results):
        of_spec = [result for result in results if result.spec == name]
        table.add_row(
            name,
            f"{len(of_spec):,}",
            f"{sum(not result.ok for result in of_spec):,}",
            f"{sum(result.virtual_s for result in of_spec):,.0f}",
            f"{sum(result.operations for result in of_spec):,}",
            f"{sum(result.outcomes.get('unknown', 0) for result in of_spec):,}",
            f"{sum(sum(result.faults.values()) for result in of_spec):,}",
        )
    session.out.print(table)
    faults: Counter[str] = Counter()
    for result in results:
        faults.update(result.faults)
    session.out.print(f"faults: {_counts(dict(sorted(faults.items())))}")
    probes: Counter[str] = Counter()
    for result in results:
        probes.update(result.probes)
    unseen = [name for name, seen in probes.items() if not seen]
    session.out.print(f"rare situations: {len(probes) - len(unseen)} of {len(probes)} reached")
    if unseen and show_probes:
        session.out.print(f"not reached: {', '.join(unseen)}")


def _counts(counted: dict[str, int]) -> str:
    return ", ".join(f"{name} {number:,}" for name, number in counted.items()) or "none"
