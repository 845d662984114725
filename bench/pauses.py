"""How long nothing moves while writers are kept busy, and why: `python -m bench.pauses`.

Three durable nodes, callers that put without a pause, for `--seconds`; with `--ranges`, so many
more ranges that nobody uses. A silence is a time in which no put of any caller ended. Beside the
longest ones stands what else happened then: loops that stood still, of a node or of the client
(cluster/stalls.py tells how that is seen), and flushes and compactions of RocksDB. Nodes watch
themselves all along, as for `multiraft debug profile`, which makes them a few per cent slower.
"""

import argparse
import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence

import msgspec
from rich.console import Console
from rich.table import Table

from bench import many_ranges, rocksdb_diary
from bench.rocksdb_diary import Activity
from multiraft import runtime
from multiraft.cli import cluster_process
from multiraft.cli.measure import Summary, Window
from multiraft.cli.profile_view import ProfileReport, StageReport, StallReport
from multiraft.cli.workload import Mix, Workload
from multiraft.client.database import Database, connect
from multiraft.cluster.instruments import Instruments, Watch
from multiraft.cluster.stalls import Stalls

WARM_UP_S = 2.0
PROFILE_S = 10.0
"""Nodes are asked anew this often: a profile may not last for long, and tells when it was."""
LOOK_S = 0.005
KEYS = 10_000
VALUE_BYTES = 256
SHOWN = 8
GARBAGE = "garbage"
_CLOCK = runtime.SystemClock()


class Silence(msgspec.Struct, frozen=True):
    """A time in which nothing ended, in microseconds since 1970."""

    began_us: int
    ended_us: int

    @property
    def ms(self) -> float:
        """How long it was."""
        return (self.ended_us - self.began_us) / 1_000


class Loop(msgspec.Struct, frozen=True):
    """What the loop of a process was seen to do."""

    name: str
    stalls: tuple[StallReport, ...]
    """The longest, longest first."""
    beside: tuple[StageReport, ...] = ()
    """Added up over all profiles; the longest run of any."""
    diary: tuple[Activity, ...] = ()


class Found(msgspec.Struct, frozen=True):
    """What one run found."""

    ranges: int
    callers: int
    began_us: int
    puts: Summary
    silences: tuple[Silence, ...]
    loops: tuple[Loop, ...]


def longest_silences(ends: Sequence[float], window: Window) -> list[Window]:
    """Return the longest times within the window in which nothing ended, longest first."""
    inside = [end for end in ends if window.start <= end < window.end]
    moments = [window.start, *inside, window.end]
    gaps = [Window(*pair) for pair in itertools.pairwise(moments)]
    return sorted(gaps, key=lambda gap: -gap.seconds)[:SHOWN]


def reasons(silence: Silence, loops: Sequence[Loop]) -> Iterator[str]:
    """Yield what happened at the time of a silence, and may have caused it."""
    for loop in loops:
        for stall in loop.stalls:
            if stall.at_us - stall.us < silence.ended_us and silence.began_us < stall.at_us:
                yield f"{loop.name} stood still for {stall.us / 1_000:.0f} ms: {stall.cause()}"
        for activity in loop.diary:
            if activity.began_us < silence.ended_us and silence.began_us < activity.ended_us:
                yield f"{loop.name} in a {activity.kind} of {activity.ms:.0f} ms"


def added_up(name: str, reports: Sequence[ProfileReport], diary: Sequence[Activity]) -> Loop:
    """Return what several profiles of a node, one after the other, say together."""
    stalls = sorted((s for each in reports for s in each.stalls), key=lambda stall: -stall.us)
    totals: dict[str, StageReport] = {}
    for stage in (stage for each in reports for stage in each.beside):
        before = totals.get(stage.name, StageReport())
        totals[stage.name] = StageReport(
            stage.name,
            before.runs + stage.runs,
            before.us + stage.us,
            longest_us=max(before.longest_us, stage.longest_us),
        )
    return Loop(name, tuple(stalls), tuple(totals.values()), tuple(diary))


async def watch_client(seconds: float) -> Loop:
    """Return when the loop of this process stood still in the next `seconds`."""
    watch = Watch(_CLOCK.monotonic, runtime.thread_cpu_s)
    instruments = Instruments((), GARBAGE, watch)
    until = _CLOCK.monotonic() + seconds
    with instruments.watched():
        stalls = Stalls(_CLOCK, runtime.thread_cpu_s, instruments.read, frozenset(), GARBAGE)
        while _CLOCK.monotonic() < until:
            await asyncio.sleep(LOOK_S)
            stalls.look(LOOK_S)
    collections = instruments.read()[GARBAGE]
    beside = StageReport(
        GARBAGE,
        collections.runs,
        round(1e6 * collections.seconds),
        longest_us=round(1e6 * collections.longest_s),
    )
    told = [msgspec.convert(msgspec.to_builtins(stall), StallReport) for stall in stalls.longest()]
    return Loop("client", tuple(told), (beside,))


async def watch_nodes(db: Database, seconds: float) -> dict[int, list[ProfileReport]]:
    """Return what the nodes tell of the next `seconds`, some at a time."""
    found: dict[int, list[ProfileReport]] = {}
    until = _CLOCK.monotonic() + seconds
    while (left_s := until - _CLOCK.monotonic()) > 0:
        for info in await db.admin.profiles(min(PROFILE_S, max(left_s, 0.001))):
            report = msgspec.convert(info.profile or {}, ProfileReport)
            found.setdefault(info.node_id, []).append(report)
    return found


async def measure(callers: int, seconds: float, ranges: int, told: Callable[[str], None]) -> Found:
    """Run a cluster and callers, and return what was found."""
    keys = [b"busy/%08d" % number for number in range(KEYS)]
    async with (
        cluster_process.temporary() as cluster,
        connect(*cluster.addresses) as db,
    ):
        took_s = await many_ranges.make_idle(db, ranges)
        told(f"{ranges:,} idle ranges in {took_s:.1f} s")
        work = Workload(db, [keys], mix=Mix(), value_bytes=VALUE_BYTES, now=_CLOCK.monotonic)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run(callers, WARM_UP_S + seconds))
            await asyncio.sleep(WARM_UP_S)
            wall_us, began = _CLOCK.wall_us(), _CLOCK.monotonic()
            client = group.create_task(watch_client(seconds))
            nodes = group.create_task(watch_nodes(db, seconds))
        window = Window(began, began + seconds)

        def us(moment: float) -> int:
            return wall_us + round(1e6 * (moment - began))

        end_us = us(window.end)
        loops = [client.result()]
        for node in cluster.nodes:
            diary = rocksdb_diary.read(node.directory)
            within = [each for each in diary if wall_us <= each.began_us < end_us]
            loops.append(added_up(f"n{node.node_id}", nodes.result()[node.node_id or 0], within))
    return Found(
        ranges=ranges,
        callers=callers,
        began_us=wall_us,
        puts=work.recorder.summary(window),
        silences=tuple(
            Silence(us(gap.start), us(gap.end))
            for gap in longest_silences(work.recorder.writes[0].ends, window)
        ),
        loops=tuple(loops),
    )


def show(found: Found, out: Console) -> None:
    """Print what was found."""
    puts, latency = found.puts, found.puts.latency_ms
    out.print(
        f"{puts.per_second:,.0f} puts/s with {found.callers} callers; p50 {latency.p50:.1f}, "
        f"p99 {latency.p99:.1f} ({latency.p99 / max(latency.p50, 0.001):.1f} times), "
        f"longest {latency.max:.1f} ms; {puts.failed} failed"
    )
    silences = Table("at s", "silent ms", "what happened then")
    for silence in found.silences:
        at_s = (silence.began_us - found.began_us) / 1e6
        told = "\n".join(reasons(silence, found.loops)) or "nothing that was seen"
        silences.add_row(f"{at_s:.2f}", f"{silence.ms:.1f}", told)
    out.print(silences)
    stalls = Table("loop", "stood still at s", "ms", "cause")
    for loop in found.loops:
        for stall in loop.stalls[:SHOWN]:
            at_s = (stall.at_us - found.began_us) / 1e6
            stalls.add_row(loop.name, f"{at_s:.2f}", f"{stall.us / 1_000:.1f}", stall.cause())
    out.print(stalls)
    beside = Table("beside the loop", "", "times", "ms in all", "longest ms")
    for loop in found.loops:
        for name, times in _durations_ms(loop):
            beside.add_row(loop.name, name, *times)
    out.print(beside)


def _durations_ms(loop: Loop) -> Iterator[tuple[str, tuple[str, str, str]]]:
    """Yield what went on beside a loop: how often, how long in all, and how long at most."""
    for stage in loop.beside:
        yield stage.name, _cells(stage.runs, stage.us / 1_000, stage.longest_us / 1_000)
    for kind in (rocksdb_diary.FLUSH, rocksdb_diary.COMPACTION, rocksdb_diary.WRITERS_HELD_UP):
        took = [each.ms for each in loop.diary if each.kind == kind]
        if took:
            yield kind, _cells(len(took), sum(took), max(took))


def _cells(times: int, all_ms: float, longest_ms: float) -> tuple[str, str, str]:
    return f"{times:,}", f"{all_ms:,.1f}", f"{longest_ms:,.1f}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.pauses", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--callers", type=int, default=64)
    parser.add_argument("--ranges", type=int, default=0, help="idle ones, beside the busy one")
    parser.add_argument("--json", action="store_true", help="print all that was found")
    options = parser.parse_args()
    notes = Console(stderr=True, style="dim")
    found = runtime.run(measure(options.callers, options.seconds, options.ranges, notes.print))
    if options.json:
        print(msgspec.json.encode(found).decode())
    else:
        show(found, Console())


if __name__ == "__main__":
    main()
