"""The commands that look after a cluster: status, ranges, split, transfer."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from multiraft.cli import cluster_view, keytext, node_view, tables
from multiraft.cli.cluster_view import RangeView, show_boundary
from multiraft.cli.data import KeyArgument
from multiraft.cli.failure import ExitCode
from multiraft.cli.node_view import NodeReport
from multiraft.cli.session import AddressOption, HexOption, JsonOption, Session, TimeoutOption
from multiraft.client.admin import ClusterStatus
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId, show_time

_SAMPLE_S = 0.5
"""How long `ranges` watches before it tells requests per second."""


def status(
    context: typer.Context,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the nodes: which of them answer, what they do, and what is wrong.

    Requests and syncs are counted from the start of each node. With --json, everything that the
    nodes tell of themselves. Exit status 3 if a node does not answer, or a majority is gone.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    cluster = session.run(lambda database: database.admin.status())
    if session.json:
        session.write_json(cluster)
    else:
        _show_status(session, cluster)
    if cluster.ranges is None or not all(each.is_reachable for each in cluster.nodes):
        raise typer.Exit(ExitCode.UNAVAILABLE)


def _show_status(session: Session, cluster: ClusterStatus) -> None:
    table = tables.table()
    for name in ("node", "address"):
        table.add_column(name, no_wrap=True)
    table.add_column("state")
    for name in ("ranges", "leads", "requests", "syncs", "memory", "free"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("support")
    remarks: list[Text] = []
    for each in cluster.nodes:
        name = f"n{each.node_id}"
        where = f"{each.address}\n{each.locality}".rstrip()
        if each.status is None:
            table.add_row(name, where, Text("down", "red"))
            remarks.append(Text(f"{name}: {each.reason}"))
            continue
        report = node_view.read(each.status)
        worries = list(node_view.problems(report))
        up_for = f"up {node_view.show_duration(report.uptime_s)}"
        state = Text(f"{up_for} !", "yellow") if worries else Text(up_for, "green")
        table.add_row(name, where, state, *_figures(report))
        remarks.extend(Text(f"{name}: {worry}") for worry in worries)
    ranges = "ranges unknown" if cluster.ranges is None else f"{cluster.ranges} ranges"
    session.out.print(f"cluster {cluster.cluster_id}, {ranges}")
    session.out.print(table)
    for remark in remarks:
        session.out.print(remark)
    for protected in cluster.protections or ():
        session.out.print(
            Text(f"{show_time(protected.timestamp)} is kept readable by {protected.owner}")
        )
    if cluster.ranges is None:
        session.out.print("the ranges cannot be read: most nodes that keep their list are gone")


def _figures(report: NodeReport) -> tuple[str, ...]:
    store = report.store
    return (
        f"{store.replicas:,}",
        f"{store.leaders:,}",
        f"{store.requests:,}",
        f"{store.syncs:,}",
        show_size(report.memory_bytes, digits=0),
        show_size(report.free_disk_bytes, digits=0),
        " ".join(f"n{node_id}" for node_id in node_view.supporters(report)),
    )


def ranges(
    context: typer.Context,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Show again until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="How often --watch looks.")
    ] = 1.0,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show every range: span, leader, replicas, keys, size, versions and requests per second.

    With --json also `gc_threshold`: the time up to which its past cannot be read any more.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    try:
        session.run(lambda database: _show_ranges(session, database, interval if watch else None))
    except KeyboardInterrupt:
        if not watch:
            raise


async def _show_ranges(session: Session, database: Database, interval_s: float | None) -> None:
    before, looked_at = await cluster_view.ranges(database), session.now()
    live = Live(console=session.out, auto_refresh=False, screen=False)
    with live if session.out.is_terminal else contextlib.nullcontext():
        while True:
            await asyncio.sleep(_SAMPLE_S if interval_s is None else interval_s)
            views, now = await cluster_view.ranges(database), session.now()
            rates = cluster_view.requests_per_second(before, views, now - looked_at)
            if session.json:
                session.write_json([_range_members(view, rates) for view in views])
            elif session.out.is_terminal:
                live.update(_ranges_table(views, rates), refresh=True)
            else:  # `Live` would write nothing before the end.
                session.out.print(_ranges_table(views, rates))
            if interval_s is None:
                return
            before, looked_at = views, now


def _ranges_table(views: Sequence[RangeView], rates: Mapping[RangeId, float]) -> Table:
    table = tables.table()
    for name in ("range", "from", "up to", "leader", "replicas"):
        table.add_column(name, overflow="fold")
    for name in ("keys", "size", "versions", "req/s"):
        table.add_column(name, justify="right")
    for view in views:
        report = view.report
        table.add_row(
            f"r{view.range_id}",
            Text(show_boundary(view.start)),
            Text(show_boundary(view.end)),
            "[red]none[/]" if view.leader is None else f"n{view.leader}",
            " ".join(f"n{node_id}" for node_id in view.replicas),
            "?" if report is None else f"{report.live_keys:,}",
            "?" if report is None else show_size(report.live_bytes),
            "?" if report is None else f"{report.versions:,}",
            "?" if view.range_id not in rates else f"{rates[view.range_id]:,.0f}",
        )
    return table


def _range_members(view: RangeView, rates: Mapping[RangeId, float]) -> dict[str, Any]:
    report = view.report
    return {
        "range_id": view.range_id,
        **keytext.to_json("start", view.start),
        **keytext.to_json("end", view.end),
        "generation": view.generation,
        "leader": view.leader,
        "replicas": view.replicas,
        "keys": None if report is None else report.live_keys,
        "bytes": None if report is None else report.live_bytes,
        "versions": None if report is None else report.versions,
        "gc_threshold": None if report is None else report.gc_threshold,
        "requests_per_second": rates.get(view.range_id),
    }


def split(
    context: typer.Context,
    key: KeyArgument,
    as_hex: HexOption = False,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Split the range that holds KEY, so that a range begins there; requests go on meanwhile."""
    session = Session(context, json=json, address=address, timeout=timeout)
    key_bytes = keytext.parse(key, as_hex=as_hex)
    left, right = session.run(lambda database: database.admin.split(key_bytes))
    if session.json:
        session.write_json({"left": left.range_id, "right": right.range_id})
        return
    for name, half in (("left", left), ("right", right)):
        span = f"{show_boundary(half.start)} up to {show_boundary(half.end)}"
        session.out.print(Text(f"{name:<6} r{half.range_id}: {span}"))


def transfer(
    context: typer.Context,
    range_name: Annotated[str, typer.Argument(metavar="RANGE", help="The range, such as r3 or 3.")],
    node_name: Annotated[str, typer.Argument(metavar="NODE", help="The node, such as n2 or 2.")],
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Hand the leadership of a range to the replica on a node."""
    session = Session(context, json=json, address=address, timeout=timeout)
    range_id = RangeId(_number(range_name, "r", "RANGE"))
    node_id = NodeId(_number(node_name, "n", "NODE"))
    session.run(lambda database: database.admin.transfer(range_id, node_id))
    if session.json:
        session.write_json({"range_id": range_id, "leader": node_id})
    else:
        session.out.print(f"r{range_id} is led by n{node_id}")


def _number(text: str, letter: str, what: str) -> int:
    digits = text.removeprefix(letter)
    if not (digits.isascii() and digits.isdigit()):
        raise typer.BadParameter(f"{what} {text!r} is not a number such as {letter}3 or 3")
    return int(digits)


def show_size(size_bytes: int, *, digits: int = 1) -> str:
    """Return a number of bytes as people read it."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.{0 if unit == 'B' else digits}f} {unit}"
