"""The command `bench`: throughput and latency of a cluster, whole and per range, and over a split.

Without --address it starts a durable cluster of three processes for the run, whose processor time
it can then count as well. Figures are of this machine and this run: compare them within one run.
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from multiraft.cli import cluster_process, machine, tables, workload
from multiraft.cli.bench_run import SPLIT_WINDOW_S, Bench, Round, Shape
from multiraft.cli.cluster_process import NodeProcess
from multiraft.cli.measure import Summary
from multiraft.cli.session import JsonOption, Session, TimeoutOption
from multiraft.client.database import Database


def bench(
    context: typer.Context,
    ranges: Annotated[int, typer.Option(min=1, max=1_000, help="Spread over so many ranges.")] = 1,
    callers: Annotated[
        str, typer.Option(metavar="N[,N...]", help="Concurrent callers; one round for each number.")
    ] = "1,16,64",
    value_bytes: Annotated[int, typer.Option(min=0, max=1 << 20, help="Size of a value.")] = 256,
    mix: Annotated[
        str,
        typer.Option(
            metavar="OP=N[,...]",
            help="Shares of put, get, scan (of 100 rows), and of the transactions update (a key), "
            "transfer (two keys, of two ranges if there are) and hot (one key for all callers).",
        ),
    ] = "put=100",
    seconds: Annotated[float, typer.Option(min=0.1, help="Length of each round.")] = 5.0,
    split_at: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Split the last range so far into the last round."),
    ] = None,
    keys: Annotated[int, typer.Option(min=1, help="Number of keys in all.")] = 10_000,
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where to make the run's own cluster; default: /tmp."),
    ] = None,
    json: JsonOption = False,
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            "-a",
            metavar="HOST:PORT[,...]",
            help="Measure this cluster instead of one of its own.",
        ),
    ] = None,
    timeout: TimeoutOption = None,
) -> None:
    """Measure throughput and latency, per range and over a live split."""
    session = Session(context, json=json, address=address, timeout=timeout)
    try:
        parsed_mix = workload.parse_mix(mix)
    except workload.MixError as error:
        raise typer.BadParameter(str(error)) from None
    if split_at is not None and not 0 <= split_at < seconds:
        raise typer.BadParameter(
            f"--split-at {split_at:g} lies outside the round of {seconds:g} seconds"
        )
    shape = Shape(ranges, _parse_callers(callers), value_bytes, parsed_mix, seconds, split_at, keys)
    rounds = session.run_main(_run(session, shape, data))
    here = machine.describe(data or Path(tempfile.gettempdir()))
    if session.json:
        session.write_json({"machine": here, "shape": shape, "rounds": rounds})
    else:
        session.out.print(machine.one_line(here), style="dim")
        _show(session, shape, rounds)


def _parse_callers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise typer.BadParameter(f"--callers {text!r} is not a list of numbers such as 1,16,64")
    return numbers


async def _run(session: Session, shape: Shape, data: Path | None) -> list[Round]:
    async with _cluster(session, data) as (database, nodes):
        work = Bench(database, shape, nodes, session.now)
        with session.notes.status("writing every key once"):
            await work.prepare()
        rounds = []
        for number, callers in enumerate(shape.callers, start=1):
            is_last = number == len(shape.callers)
            with session.notes.status(f"{callers} callers, {shape.seconds:g} s"):
                rounds.append(
                    await work.round(callers, split_at=shape.split_at if is_last else None)
                )
        return rounds


@contextlib.asynccontextmanager
async def _cluster(
    session: Session, data: Path | None
) -> AsyncIterator[tuple[Database, Sequence[NodeProcess]]]:
    """Connect to the cluster asked for, or to one that exists for this run only."""
    if session.names_a_cluster:
        async with session.connect(session.addresses) as database:
            yield database, ()
        return
    async with contextlib.AsyncExitStack() as stack:
        with session.notes.status("starting three nodes"):
            cluster = await stack.enter_async_context(cluster_process.temporary(data))
        database = await stack.enter_async_context(session.connect(cluster.addresses))
        yield database, cluster.nodes


def _show(session: Session, shape: Shape, rounds: Sequence[Round]) -> None:
    title = (
        f"{shape.slots} range{'s' * (shape.slots > 1)} · {shape.value_bytes}-byte values · "
        f"{shape.mix} · "
        f"{shape.seconds:g} s a round"
    )
    session.out.print(_rounds_table(title, rounds))
    if shape.slots > 1:
        last = rounds[-1]
        session.out.print(_ranges_table(f"per range, {last.callers} callers", last.per_range))
    for each in rounds:
        if shape.mix.hot:
            fewest, most = each.fewest_by_one_caller, each.most_by_one_caller
            session.out.print(f"{each.callers} callers: {fewest} to {most} requests by each")
        if each.split is not None:
            _show_split(session, each)
        if each.failures:
            told = ", ".join(f"{count} x {code}" for code, count in each.failures.items())
            session.out.print(f"[red]{each.callers} callers: failed requests: {told}")


def _rounds_table(title: str, rounds: Sequence[Round]) -> Table:
    table = _table(title, "callers")
    table.add_column("nodes\nCPU µs", justify="right")
    table.add_column("client\nCPU µs", justify="right")
    scans = any(each.rows_scanned_per_second for each in rounds)
    if scans:
        table.add_column("scanned\nrows/s", justify="right")
    for each in rounds:
        cpu = each.node_cpu_us_per_request
        row = [
            str(each.callers),
            *summary_cells(each.total),
            "-" if cpu is None else f"{cpu:.0f}",
            f"{each.client_cpu_us_per_request:.0f}",
        ]
        table.add_row(*row, *([f"{each.rows_scanned_per_second:,.0f}"] if scans else []))
    return table


def _ranges_table(title: str, summaries: Sequence[Summary]) -> Table:
    table = _table(title, "range")
    for number, summary in enumerate(summaries, start=1):
        table.add_row(str(number), *summary_cells(summary))
    return table


def _table(title: str, first_column: str) -> Table:
    table = tables.table(title)
    for name in (first_column, "req/s", "p50\nms", "p99\nms", "p99.9\nms", "max\nms", "failed"):
        table.add_column(name, justify="right")
    return table


def summary_cells(summary: Summary) -> list[str]:
    """Return the cells of requests/s, p50, p99, p99.9, max and failed."""
    latency = summary.latency_ms
    return [
        f"{summary.per_second:,.0f}",
        f"{latency.p50:.2f}",
        f"{latency.p99:.2f}",
        f"{latency.p999:.2f}",
        f"{latency.max:.1f}",
        f"[red]{summary.failed:,}[/]" if summary.failed else "0",
    ]


def _show_split(session: Session, each: Round) -> None:
    effect = each.split
    assert effect is not None, "asked for rounds with a split only"
    table = _table(f"the range that was split, {each.callers} callers", "")
    table.add_column("silent\nms", justify="right")
    for name, summary in (
        ("before", effect.before),
        (f"{SPLIT_WINDOW_S:g} s from then", effect.during),
    ):
        table.add_row(name, *summary_cells(summary), f"{summary.stall_ms:.1f}")
    session.out.print(table)
    session.out.print(
        f"the split took {effect.took_ms:.1f} ms; {effect.snapshots} snapshots sent\n"
    )
