"""The command itself: run after run until the time is up, and what came of them."""

import asyncio
import contextlib
import itertools
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from multiraft import runtime
from multiraft.cli import admin, tables
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import JsonOption, Session
from multiraft.cli.torture import evidence, usage
from multiraft.cli.torture import run as torture_run
from multiraft.cli.torture.run import TortureResult, TortureRun
from multiraft.testing import spec
from multiraft.testing.spec import Spec

SPECS = Path(__file__).parent / "specs"
DEFAULT_DIRECTORY = Path("multiraft-torture")
_REFRESH_S = 0.5
_SECONDS_MIN = 5.0
"""The last run is cut to the time that is left, but to no less."""


def torture(
    context: typer.Context,
    specs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SPEC", help="Names or TOML files; default: all made for processes."
        ),
    ] = None,
    minutes: Annotated[float, typer.Option("--minutes", "-m", min=0.01, help="For how long.")] = 5,
    seed: Annotated[
        int | None, typer.Option("--seed", help="What clients ask and which faults come.")
    ] = None,
    nodes: Annotated[
        int | None, typer.Option("--nodes", min=1, max=9, help="Instead of what specs say.")
    ] = None,
    data: Annotated[
        Path, typer.Option("--data", metavar="DIR", help="Where runs that fail are kept.")
    ] = DEFAULT_DIRECTORY,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on after a run that failed.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Hurt clusters of real processes, and check every answer.

    Nodes are killed, stopped and started on their data while clients work; afterwards every call
    must have ended and all replicas must be equal on disk. A run that fails keeps its histories,
    logs and data, and prints the lines that check the histories again.

    Exit status: 0 nothing was wrong; 1 something was; 6 a spec cannot be used; 130 interrupted,
    and then no process and no directory is left.
    """
    session = Session(context, json=json)
    chosen = [_adapted(_load(name), nodes) for name in (specs or builtin_names())]
    first = runtime.SystemRng().below(1 << 32) if seed is None else seed
    runs = _Runs(session, chosen, data, minutes)
    with _runs_directory(data):
        session.run_main(runs.execute(first, keep_going=keep_going))
    results = runs.results
    if session.json:
        session.write_json([msgspec.to_builtins(result) for result in results])
    else:
        _show_sums(session, results)
        _show_usage(session, results)
    if not all(result.ok for result in results):
        raise typer.Exit(ExitCode.NEGATIVE)


def builtin_names() -> list[str]:
    """Return the names of the specs made for real processes."""
    return sorted(path.stem for path in SPECS.glob("*.toml"))


def _load(name: str) -> Spec:
    builtin = SPECS / f"{name}.toml"
    return spec.load(str(builtin) if builtin.exists() else name)


def _adapted(loaded: Spec, nodes: int | None) -> Spec:
    torture_run.refuse_what_needs_simulation(loaded)
    return loaded if nodes is None else msgspec.structs.replace(loaded, nodes=nodes)


@contextlib.contextmanager
def _runs_directory(data: Path) -> Iterator[None]:
    """Make the directory, and remove it in the end unless it holds anything."""
    data.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            data.rmdir()


class _Runs:
    """Runs one after the other, until the time is up or one has failed."""

    def __init__(self, session: Session, specs: list[Spec], data: Path, minutes: float) -> None:
        self.results: list[TortureResult] = []
        self._session = session
        self._specs = specs
        self._data = data
        self._total_s = minutes * 60

    async def execute(self, first_seed: int, *, keep_going: bool) -> None:
        """Do all of it: every spec with one seed, then every spec with the next."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._total_s
        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._session.notes, transient=True) as bar:
            shown = bar.add_task("", total=self._total_s)
            for spec_, seed in self._wanted(first_seed):
                left_s = end - loop.time()
                if left_s <= 0:
                    return
                bar.update(shown, completed=self._total_s - left_s)
                seconds = min(spec_.seconds, max(left_s, _SECONDS_MIN))
                run = TortureRun(
                    msgspec.structs.replace(spec_, seconds=seconds), seed, self._new(spec_, seed)
                )
                watching = asyncio.create_task(_watch(run, bar, shown))
                try:
                    result = await self._execute(run)
                finally:
                    watching.cancel()
                if not result.ok and not keep_going:
                    return

    def _wanted(self, first_seed: int) -> Iterator[tuple[Spec, int]]:
        for seed in itertools.count(first_seed):
            for each in self._specs:
                yield each, seed

    def _new(self, spec_: Spec, seed: int) -> Path:
        """Make the directory of a run, beside those that earlier runs left."""
        for number in itertools.count(1):
            name = f"{spec_.name}-{seed}" + (f"-{number}" if number > 1 else "")
            with contextlib.suppress(FileExistsError):
                (self._data / name).mkdir()
                return self._data / name
        raise AssertionError("counting ends never")

    async def _execute(self, run: TortureRun) -> TortureResult:
        """Do one run, and remove its directory unless it failed."""
        is_kept = False
        try:
            result = await run.execute()
            self.results.append(result)
            is_kept = not result.ok
            _tell(self._session, run, result)
        finally:
            if not is_kept:
                shutil.rmtree(run.directory)
        return result


async def _watch(run: TortureRun, bar: Progress, shown: TaskID) -> None:
    """Show how a run goes."""
    while True:
        faults = sum(run.faults.values())
        told = f"{run.spec.name} seed {run.seed}: {run.operations:,} calls, {faults} faults"
        bar.update(shown, description=told)
        bar.advance(shown, _REFRESH_S)
        await asyncio.sleep(_REFRESH_S)


def _tell(session: Session, run: TortureRun, result: TortureResult) -> None:
    word = "[green]ok[/]" if result.ok else "[bold red]FAILED[/]"
    session.notes.print(
        f"{word} {result.spec} seed {result.seed}: {result.operations:,} calls, "
        f"{sum(result.faults.values())} faults, recovered in {result.recovered_s:.1f} s, "
        f"{result.ranges} ranges equal on disk"
        if result.ok
        else f"{word} {result.spec} seed {result.seed}",
        soft_wrap=True,
    )
    if result.ok:
        return
    for problem in result.problems:
        session.notes.print(f"  {problem}", markup=False, soft_wrap=True)
    session.notes.print(f"  kept: {run.directory}", markup=False, soft_wrap=True)
    for line in evidence.keep(run, result.problems):
        session.notes.print(f"  again: {line}", markup=False, soft_wrap=True)


def _show_sums(session: Session, results: list[TortureResult]) -> None:
    table = tables.table()
    table.add_column("spec")
    names = ("runs", "failed", "calls", "unknown", "anomalies", "faults")
    for name in (*names, "longest call", "recovery, at most"):
        table.add_column(name, justify="right")
    by_spec: dict[str, str] = {}
    for name in dict.fromkeys(result.spec for result in results):
        of_spec = [result for result in results if result.spec == name]
        table.add_row(
            name,
            f"{len(of_spec):,}",
            f"{sum(not result.ok for result in of_spec):,}",
            f"{sum(result.operations for result in of_spec):,}",
            f"{sum(result.outcomes.get('unknown', 0) for result in of_spec):,}",
            f"{sum(result.anomalies for result in of_spec):,}",
            f"{sum(sum(result.faults.values()) for result in of_spec):,}",
            f"{max(result.longest_s for result in of_spec):.1f} s",
            f"{max(result.recovered_s for result in of_spec):.1f} s",
        )
        by_spec[name] = _counts(of_spec)
    session.out.print(table)
    for name, counts in by_spec.items():
        session.out.print(f"{name}: {counts}", soft_wrap=True)


def _show_usage(session: Session, results: list[TortureResult]) -> None:
    """Of each spec and measure, show the node that grew most in a run."""
    table = tables.table("What nodes used: the one that grew most between early and end of a run.")
    for name in ("spec", "of what"):
        table.add_column(name)
    for name in ("node", "start", "early", "end", "at most"):
        table.add_column(name, justify="right")
    for name in dict.fromkeys(result.spec for result in results):
        found = [each for result in results if result.spec == name for each in result.usage]
        for measure in usage.MEASURES if found else ():
            node = usage.grown_most(found, measure)
            moments = (node.start, node.early, node.end, node.most)
            shown = [_show_measure(measure, getattr(each, measure)) for each in moments]
            what = measure.removesuffix("_bytes").replace("wal", "WAL")
            table.add_row(name, what, f"n{node.node}", *shown)
    session.out.print(table)


def _show_measure(measure: str, number: int) -> str:
    return admin.show_size(number) if measure.endswith("_bytes") else f"{number:,}"


def _counts(results: list[TortureResult]) -> str:
    counts: Counter[str] = Counter()
    for result in results:
        counts.update(result.faults)
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "none"
