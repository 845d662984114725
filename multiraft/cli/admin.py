"""The commands that look after a cluster: status, ranges, split, transfer."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table
from rich.text import Text

from multiraft.cli import cluster_view, keytext, tables
from multiraft.cli.cluster_view import RangeView, show_boundary
from multiraft.cli.data import KeyArgument
from multiraft.cli.failure import ExitCode
from multiraft.cli.session import AddressOption, HexOption, JsonOption, Session, TimeoutOption
from multiraft.client.database import Database
from multiraft.ids import NodeId, RangeId

_SAMPLE_S = 0.5
"""How long `ranges` watches before it tells requests per second."""


def status(
    context: typer.Context,
    json: JsonOption = False,
    address: AddressOption = None,
    timeout: TimeoutOption = None,
) -> None:
    """Show the nodes, which of them answer, and how many ranges there are.

    Exit status 3 if a node does not answer.
    """
    session = Session(context, json=json, address=address, timeout=timeout)
    cluster = session.run(lambda database: database.admin.status())
    if session.json:
        session.write_json(cluster)
    else:
        table = tables.table()
        for name in ("node", "address", "state"):
            table.add_column(name)
        for each in cluster.nodes:
            up, down = Text("up", "green"), Text.assemble(("down", "red"), f": {each.reason}")
            state = up if each.is_reachable else down
            table.add_row(f"n{each.node_id}", each.address, state)
        session.out.print(f"cluster {cluster.cluster_id}, {cluster.ranges} ranges")
        session.out.print(table)
    if not all(each.is_reachable for each in cluster.nodes):
        raise typer.Exit(ExitCode.UNAVAILABLE)


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
    """Show every range: span, leader, replicas, keys, size and requests per second."""
    session = Session(context, json=json, address=address, timeout=timeout)
    try:
        session.run(lambda database: _show_ranges(session, database, interval if watch else None))
    except KeyboardInterrupt:
        if not watch:
            raise


async def _show_ranges(session: Session, database: Database, interval_s: float | None) -> None:
    before, looked_at = await cluster_view.ranges(database), session.now()
    live = Live(console=session.out, auto_refresh=False, screen=False)
    with live:
        while True:
            await asyncio.sleep(_SAMPLE_S if interval_s is None else interval_s)
            views, now = await cluster_view.ranges(database), session.now()
            rates = cluster_view.requests_per_second(before, views, now - looked_at)
            if session.json:
                session.write_json([_range_members(view, rates) for view in views])
            else:
                live.update(_ranges_table(views, rates), refresh=True)
            if interval_s is None:
                return
            before, looked_at = views, now


def _ranges_table(views: Sequence[RangeView], rates: Mapping[RangeId, float]) -> Table:
    table = tables.table()
    for name in ("range", "from", "up to", "leader", "replicas"):
        table.add_column(name, overflow="fold")
    for name in ("keys", "size", "req/s"):
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


def show_size(size_bytes: int) -> str:
    """Return a number of bytes as people read it."""
    size, unit = float(size_bytes), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:,.0f} {unit}" if unit == "B" else f"{size:,.1f} {unit}"
