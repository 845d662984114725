"""Profiles of nodes as the command line shows them.

What nodes tell is read into structs with a default for everything, as in node_view.py: nodes of
other versions may tell less, or more.
"""

from collections.abc import Iterator, Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from multiraft.cli import tables
from multiraft.client.admin import ProfileInfo

STALLS_SHOWN = 3


class StageReport(msgspec.Struct, frozen=True):
    """What a stage did; see cluster/profile.py."""

    name: str = ""
    runs: int = 0
    us: int = 0
    cpu_us: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    longest_us: int = 0


class StallReport(msgspec.Struct, frozen=True):
    """See cluster/stalls.py."""

    at_us: int = 0
    us: int = 0
    loop_cpu_us: int = 0
    garbage_us: int = 0
    stage: str = ""
    stage_us: int = 0

    def cause(self) -> str:
        """Return what the loop did for at least half of the time, as far as that can be told."""
        half = self.us / 2
        if self.garbage_us >= half:
            return "garbage collection"
        if self.stage_us >= half:
            return self.stage if self.loop_cpu_us >= half else f"waiting in {self.stage}"
        if self.loop_cpu_us >= half:
            return "work in several stages, or outside of them"
        return "no processor, or no interpreter"


class ProfileReport(msgspec.Struct, frozen=True):
    """See cluster/profile.py."""

    elapsed_us: int = 0
    loop_cpu_us: int = 0
    process_cpu_us: int = 0
    requests: int = 0
    turns: int = 0
    syncs: int = 0
    frames: int = 0
    log_bytes: int = 0
    stages: tuple[StageReport, ...] = ()
    other_us: int = 0
    idle_us: int = 0
    beside: tuple[StageReport, ...] = ()
    stalls: tuple[StallReport, ...] = ()


def render(found: Sequence[ProfileInfo]) -> Iterator[RenderableType]:
    """Yield what is shown of these nodes, which were watched at the same time."""
    read = [
        (info, msgspec.convert(info.profile, ProfileReport))
        for info in found
        if info.profile is not None
    ]
    requests = sum(report.requests for _, report in read)
    for info, report in read:
        yield _stages(info, report, requests)
        yield _beside(report, requests)
        yield _summary(report, requests)
    for info in found:
        if info.profile is None:
            yield Text(f"n{info.node_id}: {info.reason}", "red")
    if read:
        yield f"per request: of the {requests:,} that came to these nodes"


def _stages(info: ProfileInfo, report: ProfileReport, requests: int) -> Table:
    seconds = report.elapsed_us / 1e6
    table = tables.table(
        f"n{info.node_id} {info.address}: {report.requests:,} requests in {seconds:.1f} s"
    )
    table.add_column("stage", no_wrap=True)
    for name in ("runs", "ms", "CPU ms", "/run µs", "/request µs", "bytes in", "out", "of loop"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = (
        *report.stages,
        StageReport("other", 0, report.other_us, report.other_us),
        StageReport("idle", 0, report.idle_us),
    )
    for stage in rows:
        table.add_row(
            stage.name,
            _count(stage.runs),
            _milliseconds(stage.us),
            _milliseconds(stage.cpu_us),
            _quotient(stage.cpu_us, stage.runs),
            _quotient(stage.cpu_us, requests),
            _count(stage.bytes_in),
            _count(stage.bytes_out),
            f"{100 * stage.us / (report.elapsed_us or 1):.1f}%",
            style="dim" if not stage.cpu_us else "",
        )
    return table


def _beside(report: ProfileReport, requests: int) -> Table:
    table = tables.table()
    table.add_column("beside the loop", no_wrap=True)
    for name in ("runs", "ms", "longest ms", "/run µs", "/request µs"):
        table.add_column(name, justify="right", no_wrap=True)
    for stage in report.beside:
        table.add_row(
            stage.name,
            _count(stage.runs),
            _milliseconds(stage.us),
            _milliseconds(stage.longest_us),
            _quotient(stage.us, stage.runs),
            _quotient(stage.us, requests),
        )
    return table


def _count(number: int) -> str:
    return f"{number:,}" if number else ""


def _milliseconds(us: int) -> str:
    return f"{us / 1_000:,.1f}" if us else ""


def _summary(report: ProfileReport, requests: int) -> str:
    counts = (
        ("turns", report.turns),
        ("syncs", report.syncs),
        ("frames", report.frames),
        ("bytes to the log", report.log_bytes),
    )
    shown = ", ".join(f"{_quotient(count, requests or 1) or 0} {name}" for name, count in counts)
    loop, process = (
        100 * us / (report.elapsed_us or 1) for us in (report.loop_cpu_us, report.process_cpu_us)
    )
    of_what = "per request" if requests else "in all"
    return (
        f"{of_what}: {shown}\nprocessor: {loop:.0f}% by the loop, {process:.0f}% in all\n"
        f"{_longest_stalls(report)}"
    )


def _longest_stalls(report: ProfileReport) -> str:
    if not report.stalls:
        return ""
    shown = report.stalls[:STALLS_SHOWN]
    told = "; ".join(f"{each.us / 1_000:.1f} ms: {each.cause()}" for each in shown)
    return f"the loop stood still for {told}\n"


def _quotient(total: int, count: int) -> str:
    """Return one of `count` shares of `total`, to three digits or so; empty if it is none."""
    if not count or not total:
        return ""
    each = total / count
    return f"{each:,.0f}" if each >= 100 else f"{each:.3g}"
