"""What the demo measured: structs that are the members of `--json`, and tables for people."""

import msgspec
from rich.table import Table

from multiraft.cli import tables
from multiraft.cli.machine import Machine
from multiraft.cli.measure import Summary


class Loaded(msgspec.Struct, frozen=True):
    """The load of all rows."""

    unicode_version: str
    rows: int
    bytes: int
    seconds: float
    rows_per_second: float


class SectionLoad(msgspec.Struct, frozen=True):
    """One section before, during and after the splits."""

    section: str
    start_key: str
    range_id: int
    leader: int | None
    before: Summary
    during: Summary
    after: Summary


class Split(msgspec.Struct, frozen=True):
    """The live splits, and the moves of leaderships that spread the new ranges."""

    ranges: int
    seconds: float
    each_split_ms: tuple[float, ...]
    transfers: int
    snapshots: int
    failed: int
    before: Summary
    during: Summary
    after: Summary
    sections: tuple[SectionLoad, ...]


class SectionStall(msgspec.Struct, frozen=True):
    """How long no write to a section was answered around the kill."""

    section: str
    was_led_by_killed: bool
    stall_ms: float


class Killed(msgspec.Struct, frozen=True):
    """A node was ended with SIGKILL under load."""

    node_id: int
    pid: int
    ranges_led: int
    stalls: tuple[SectionStall, ...]
    requests: int
    failed: int
    failures: dict[str, int]

    @property
    def worst_stall_ms(self) -> float:
        """The longest stall of a section that the node led."""
        return max((each.stall_ms for each in self.stalls if each.was_led_by_killed), default=0.0)


class Restarted(msgspec.Struct, frozen=True):
    """The killed node came back and caught up."""

    node_id: int
    ready_seconds: float
    entries_behind: int
    caught_up_seconds: float


class Verified(msgspec.Struct, frozen=True):
    """Every row was read back and compared."""

    rows: int
    rewritten: int
    writes: int
    reads: int
    missing: int
    wrong: int
    unexpected: int
    stale_reads: int
    in_doubt: int
    seconds: float

    @property
    def is_right(self) -> bool:
        """Whether nothing was lost, changed or stale."""
        return not (self.missing or self.wrong or self.unexpected or self.stale_reads)


class Result(msgspec.Struct, frozen=True):
    """The whole run."""

    machine: Machine
    loaded: Loaded
    split: Split
    killed: Killed
    restarted: Restarted
    verified: Verified


def split_table(split: Split) -> Table:
    """Return throughput and latency per range before, during and after the splits."""
    table = tables.table(f"Requests around {split.ranges - 1} live splits")
    table.add_column("range", no_wrap=True)
    table.add_column("led\nby")
    for phase in ("before", "during", "after"):
        table.add_column(f"{phase}\nreq/s", justify="right")
        table.add_column("p50/p99\nms", justify="right", style="dim")
    for each in split.sections:
        leader = "?" if each.leader is None else f"n{each.leader}"
        cells = _phase_cells(each.before, each.during, each.after)
        table.add_row(each.section, leader, *cells)
    table.add_section()
    table.add_row("all", "", *_phase_cells(split.before, split.during, split.after))
    return table


def _phase_cells(*phases: Summary) -> list[str]:
    cells = []
    for each in phases:
        latency = each.latency_ms
        cells += [f"{each.per_second:,.0f}", f"{latency.p50:.1f}/{latency.p99:.0f}"]
    return cells


def stall_table(killed: Killed) -> Table:
    """Return how long writes to each range waited around the kill."""
    table = tables.table("Longest silence of writes")
    table.add_column("range")
    table.add_column(f"led by n{killed.node_id}")
    table.add_column("ms", justify="right")
    for each in killed.stalls:
        table.add_row(
            each.section, "yes" if each.was_led_by_killed else "", f"{each.stall_ms:,.0f}"
        )
    return table
