"""The command `demo`: runs the phases one after another and tells what each one measured."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from multiraft.cli import cluster_process, machine
from multiraft.cli.admin import show_size
from multiraft.cli.cluster_process import LocalCluster
from multiraft.cli.demo import phases, report
from multiraft.cli.demo.characters import SECTIONS, all_characters
from multiraft.cli.demo.phases import Stage
from multiraft.cli.demo.workload import Rows
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import JsonOption, Session


def demo(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to put the run's own cluster; default: /tmp."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Watch three nodes load real data, split it under load, lose a node, and lose nothing.

    Takes about a minute, uses free ports and a temporary directory, and leaves nothing behind.
    Exit status 1 if a row was lost or a read was stale.
    """
    session = Session(context, json=json)
    console = Console(quiet=session.json, highlight=False)
    began = session.now()
    result = session.run_main(_run(session, console, data))
    seconds = round(session.now() - began, 1)
    if session.json:
        session.write_json({"seconds": seconds, "result": result})
    console.print(f"\n{seconds:.0f} s in all; every process has ended, every file is removed.")
    if not result.verified.is_right:
        raise typer.Exit(ExitCode.NEGATIVE)


async def _run(session: Session, console: Console, data: Path | None) -> report.Result:
    _head(console, 1, "Three processes, RocksDB on disk, every write synced")
    began = session.now()
    async with cluster_process.temporary(data) as cluster:
        _tell_started(console, cluster, session.now() - began)
        async with session.connect(cluster.addresses) as database:
            return await _run_phases(
                Stage(cluster, database, Rows(all_characters()), console, session.now)
            )


async def _run_phases(stage: Stage) -> report.Result:
    console = stage.console
    _head(console, 2, "Load the Unicode Character Database")
    loaded = await phases.load(stage)
    _tell_loaded(console, loaded)
    async with phases.busy(stage):
        _head(
            console, 3, f"Split into {len(SECTIONS)} ranges under {stage.workload.callers} callers"
        )
        split = await phases.split(stage)
        _tell_split(console, split)
        _head(console, 4, "Kill a node")
        victim, killed = await phases.kill(stage)
        _tell_killed(console, killed)
        _head(console, 5, "Start it again")
        restarted = await phases.restart(stage, victim)
        _tell_restarted(console, restarted)
    _head(console, 6, "Read everything back")
    verified = await phases.verify(stage)
    _tell_verified(console, verified)
    return report.Result(
        machine.describe(stage.cluster.directory), loaded, split, killed, restarted, verified
    )


def _head(console: Console, number: int, title: str) -> None:
    console.print(f"\n[bold cyan]{number}[/]  [bold]{title}[/]")


def _tell_started(console: Console, cluster: LocalCluster, seconds: float) -> None:
    for process in cluster.nodes:
        console.print(f"   n{process.node_id} at {process.address}, process {process.pid}")
    console.print(f"   ready after {seconds:.1f} s; data in {cluster.directory}")
    console.print(f"   {machine.one_line(machine.describe(cluster.directory))}", style="dim")


def _tell_loaded(console: Console, loaded: report.Loaded) -> None:
    console.print(
        f"   {loaded.rows:,} rows of Unicode {loaded.unicode_version}, "
        f"{show_size(loaded.bytes)}, in {loaded.seconds:.1f} s: {loaded.rows_per_second:,} rows/s"
    )


def _tell_split(console: Console, split: report.Split) -> None:
    console.print(report.split_table(split))
    console.print(
        f"   {len(split.each_split_ms)} splits in {split.seconds:.2f} s (each "
        f"{min(split.each_split_ms):.0f} to {max(split.each_split_ms):.0f} ms), "
        f"{split.snapshots} snapshots;\n   then {split.transfers} leaderships moved"
    )
    console.print(
        Text.assemble(
            f"   longest request while splitting {split.during.latency_ms.max:,.0f} ms; ",
            _count("failed request", split.failed),
        )
    )


def _tell_killed(console: Console, killed: report.Killed) -> None:
    console.print(
        f"   SIGKILL to n{killed.node_id} (process {killed.pid}), which led {killed.ranges_led} "
        f"of {len(killed.stalls)} ranges"
    )
    console.print(report.stall_table(killed))
    console.print(
        Text.assemble(
            f"   its ranges took no write for at most {killed.worst_stall_ms / 1_000:.2f} s; "
            f"{killed.requests:,} requests answered,\n   ",
            _count("failed request", killed.failed),
        )
    )


def _tell_restarted(console: Console, restarted: report.Restarted) -> None:
    console.print(
        f"   n{restarted.node_id} ready after {restarted.ready_seconds:.1f} s, "
        f"{restarted.entries_behind:,} log entries behind; "
        f"caught up after {restarted.caught_up_seconds:.1f} s"
    )


def _tell_verified(console: Console, verified: report.Verified) -> None:
    console.print(
        f"   {verified.rows:,} rows read in {verified.seconds:.1f} s and compared with what must "
        f"be there;\n   {verified.rewritten:,} of them had been rewritten, by {verified.writes:,} "
        "acknowledged writes"
    )
    console.print(
        Text.assemble(
            "   ",
            _count("row missing", verified.missing, plural="rows missing"),
            ", ",
            _count("wrong row", verified.wrong),
            ", ",
            _count("stale read", verified.stale_reads),
            f" among {verified.reads:,} reads",
        )
    )


def _count(what: str, count: int, *, plural: str = "") -> Text:
    """Return a number that ought to be 0, in the colour of what it means."""
    noun = what if count == 1 else plural or f"{what}s"
    return Text(f"{count:,} {noun}", style="bold red" if count else "green")
