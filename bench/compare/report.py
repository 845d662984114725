"""From records to what people read: one table for each operation, and the remarks beside them."""

from collections.abc import Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from bench.compare.peer import FORMS, Operation
from bench.compare.records import Measured, Record
from bench.compare.series import NOT_DURABLE, Series, Spread, series_of, spread
from multiraft.cli import machine, tables

BASELINE = "etcd"
NONE = "-"
WIDTH = 112
"""Of the widest table, in characters: more than most terminals have, where lines are broken."""


class Section(msgspec.Struct, frozen=True):
    """One table; `rows` are cells as they are shown."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def sections(records: Sequence[Record]) -> list[Section]:
    """Return one table for each operation that was run."""
    found = series_of(records)
    operations = dict.fromkeys(each.operation for each in found)
    makers = {Operation.IDLE: _idle_section, Operation.FAILOVER: _failover_section}
    return [
        makers.get(operation, _rate_section)([s for s in found if s.operation is operation])
        for operation in operations
    ]


def _rate_section(found: Sequence[Series]) -> Section:
    form = found[0].form
    columns = (
        *("callers", "peer", form.unit, f"times {BASELINE}", "p50\nms", "p99\nms"),
        *("servers\nCPU µs", "client\nCPU µs", "servers\nMB"),
    )
    baselines = {each.callers: each for each in found if each.peer == BASELINE}
    rows = []
    for each in sorted(found, key=lambda each: each.callers):
        baseline = baselines.get(each.callers)
        rows.append(
            (
                str(each.callers),
                each.label,
                _told(each.rate(), ",.0f"),
                NONE if baseline is None else _told(each.ratio_to(baseline), ".2f"),
                _median(each.latency_ms("p50"), ".2f"),
                _median(each.latency_ms("p99"), ".1f"),
                _median(each.cpu_us(lambda measured: measured.server_cpu_s), ",.0f"),
                _median(each.cpu_us(lambda measured: measured.load.client_cpu_s), ",.0f"),
                _median(each.spread(_resident_mb), ",.0f"),
            )
        )
    return Section(form.title, columns, rows)


def _idle_section(found: Sequence[Series]) -> Section:
    def cores(measured: Measured) -> float | None:
        used = measured.server_cpu_s
        return None if used is None else used / measured.load.seconds

    rows = [
        (each.label, _told(each.spread(cores), ".3f"), _median(each.spread(_resident_mb), ",.0f"))
        for each in found
    ]
    form = FORMS[Operation.IDLE]
    return Section(form.title, ("peer", f"servers\nCPU {form.unit}", "servers\nMB"), rows)


def _failover_section(found: Sequence[Series]) -> Section:
    rows = [
        (
            each.label,
            _told(each.latency_ms("max"), ",.0f"),
        )
        for each in found
    ]
    form = FORMS[Operation.FAILOVER]
    return Section(form.title, ("peer", form.unit), rows)


def _resident_mb(measured: Measured) -> float | None:
    resident = measured.server_resident_bytes
    return None if resident is None else resident / 1e6


def _told(found: Spread | None, form: str) -> str:
    return NONE if found is None else found.told(form)


def _median(found: Spread | None, form: str) -> str:
    return NONE if found is None else f"{found.median:{form}}"


def remarks(records: Sequence[Record]) -> list[str]:
    """Return what must be said beside the tables: settings, what cannot be compared, failures."""
    told: dict[str, None] = {}
    if not all(record.is_durable for record in records):
        told[f"{NOT_DURABLE} NOT DURABLE: acknowledges what is not on disk yet."] = None
    for record in records:
        if record.settings:
            settings = "; ".join(f"{name}: {value}" for name, value in record.settings.items())
            told[f"{record.peer}: {settings}"] = None
        if record.remark:
            told[f"{record.peer}: {record.remark}"] = None
    for record in records:
        if record.problem:
            where = f"{record.callers} callers" if record.callers else "at its start"
            failed = f"{record.peer} FAILED: {record.operation}, {where}, round {record.round}"
            told[f"{failed}: {record.problem}"] = None
    return list(told)


def heading(records: Sequence[Record]) -> str:
    """Return what the figures are of, and how quiet the machine was meanwhile."""
    lines = dict.fromkeys(
        f"{machine.one_line(each.machine)}; {each.data.keys:,} keys, "
        f"{each.data.value_bytes}-byte values; loads of {each.seconds:g} s, "
        f"rounds: {max(other.round for other in records if other.seconds == each.seconds)}"
        for each in records
    )
    found = [each.measured for each in records if each.measured is not None]
    others = spread(each.others_cores for each in found if each.others_cores is not None)
    told = f"cores that other processes kept busy during the loads: {_told(others, '.2f')}"
    return "\n".join((*lines, told))


def markdown(records: Sequence[Record]) -> str:
    """Return the whole report as Markdown."""
    parts = [heading(records)]
    for section in sections(records):
        names = [name.replace("\n", " ") for name in section.columns]
        header = "| " + " | ".join(names) + " |"
        ruler = "| --- " * len(section.columns) + "|"
        lines = ["| " + " | ".join(row) + " |" for row in section.rows]
        parts += [f"## {section.title.capitalize()}", "\n".join((header, ruler, *lines))]
    parts.append("\n".join(f"- {remark}" for remark in remarks(records)))
    return "\n\n".join(parts) + "\n"


def show(records: Sequence[Record], console: Console) -> None:
    """Print the whole report."""
    console.print(Text(heading(records), "dim"), soft_wrap=True)
    for section in sections(records):
        console.print(Text(section.title, "bold"))
        made = tables.table()
        for name in section.columns:
            is_text = name == "peer"
            made.add_column(name, justify="left" if is_text else "right", no_wrap=is_text)
        for row in section.rows:
            made.add_row(*row)
        console.print(made)
    for remark in remarks(records):
        console.print(Text(f"· {remark}"), soft_wrap=True)
