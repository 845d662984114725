"""The demo's phases: each does one thing to the cluster and returns what it measured.

They share a `Stage`: cluster, database, rows, running callers, and where to show progress. The
order is the command's business.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from multiraft import errors
from multiraft.cli import cluster_view
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.cluster_view import RangeView
from multiraft.cli.demo import characters, report
from multiraft.cli.demo.characters import SECTIONS
from multiraft.cli.demo.workload import Rows, Workload
from multiraft.cli.measure import Window
from multiraft.client.database import Database
from multiraft.ids import NodeId
from multiraft.model import keys

STEADY_S = 4.0
"""How long the callers run undisturbed before, and again after, the splits."""
SETTLE_S = 1.0
"""Part of `during`: what follows the last split or transfer at once."""
HURT_S = 5.0
"""How long the callers run with a node dead."""
CAUGHT_UP_WITHIN_S = 30.0
_LOAD_ROWS = 2_048
_LOADS_IN_FLIGHT = 2
_LOOK_EVERY_S = 0.1


class Stage:
    """What all phases work on."""

    def __init__(
        self,
        cluster: LocalCluster,
        database: Database,
        rows: Rows,
        console: Console,
        now: Callable[[], float],
    ) -> None:
        self.cluster = cluster
        self.database = database
        self.rows = rows
        self.console = console
        self.now = now
        self.workload = Workload(database, rows, now)

    @contextlib.contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """Show a bar; the function given out moves it on."""
        with Progress(
            TextColumn(f"  {what}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        ) as bar:
            task = bar.add_task("", total=total)
            yield lambda count: bar.advance(task, count)


async def load(stage: Stage) -> report.Loaded:
    """Write every row."""
    rows = stage.rows
    starts = iter(range(0, len(rows), _LOAD_ROWS))
    size_bytes = 0
    began = stage.now()
    with stage.progress("loading", len(rows)) as advance:

        async def put_parts() -> None:
            nonlocal size_bytes
            for start in starts:
                part = range(start, min(start + _LOAD_ROWS, len(rows)))
                pairs = [(rows.keys[row], rows.value(row, 0)) for row in part]
                await stage.database.put_many(pairs)
                size_bytes += sum(len(key) + len(value) for key, value in pairs)
                advance(len(pairs))

        async with asyncio.TaskGroup() as group:
            for _ in range(_LOADS_IN_FLIGHT):
                group.create_task(put_parts())
    seconds = stage.now() - began
    return report.Loaded(
        unicode_version=characters.version(),
        rows=len(rows),
        bytes=size_bytes,
        seconds=round(seconds, 2),
        rows_per_second=round(len(rows) / seconds),
    )


@contextlib.asynccontextmanager
async def busy(stage: Stage) -> AsyncIterator[None]:
    """Keep the callers running inside the block; leave when the last request has ended."""
    running = asyncio.create_task(stage.workload.run())
    try:
        yield
        stage.workload.stop()
        await running
    finally:
        running.cancel()
        await asyncio.wait([running])


async def split(stage: Stage) -> report.Split:
    """Split the data into its sections and spread their leaders, under load."""
    began = stage.now()
    with stage.console.status("  measuring one range"):
        await asyncio.sleep(STEADY_S)
    snapshots = await cluster_view.snapshots_sent(stage.database)
    split_began = stage.now()
    with stage.console.status("  splitting"):
        took_ms = [await _split_at(stage, section.start_key) for section in SECTIONS[1:]]
        split_ended = stage.now()
        transfers = await _spread_leaders(stage)
        await asyncio.sleep(SETTLE_S)
    during_ended = stage.now()
    with stage.console.status(f"  measuring {len(SECTIONS)} ranges"):
        await asyncio.sleep(STEADY_S)
    windows = (
        Window(began, split_began),
        Window(split_began, during_ended),
        Window(during_ended, stage.now()),
    )
    views = await section_views(stage.database)
    recorder = stage.workload.recorder
    before, during, after = (recorder.summary(window) for window in windows)
    return report.Split(
        ranges=len(views),
        seconds=round(split_ended - split_began, 3),
        each_split_ms=tuple(took_ms),
        transfers=transfers,
        snapshots=await cluster_view.snapshots_sent(stage.database) - snapshots,
        failed=before.failed + during.failed + after.failed,
        before=before,
        during=during,
        after=after,
        sections=tuple(
            report.SectionLoad(
                section.name,
                section.start_key.decode(),
                view.range_id,
                view.leader,
                *(recorder.summary(window, [number]) for window in windows),
            )
            for number, (section, view) in enumerate(zip(SECTIONS, views, strict=True))
        ),
    )


async def _split_at(stage: Stage, key: bytes) -> float:
    began = stage.now()
    await stage.database.admin.split(key)
    return round(1_000 * (stage.now() - began), 2)


async def section_views(database: Database) -> list[RangeView]:
    """Return the ranges of the sections in order, once their addressing records are all there."""
    starts = [keys.PLAIN, *(keys.PLAIN + section.start_key for section in SECTIONS[1:])]
    async with asyncio.timeout(CAUGHT_UP_WITHIN_S):
        while True:
            by_start = {view.start: view for view in await cluster_view.ranges(database)}
            if all(start in by_start for start in starts):
                return [by_start[start] for start in starts]
            await asyncio.sleep(_LOOK_EVERY_S)


async def _spread_leaders(stage: Stage) -> int:
    """Give every node its share of the ranges to lead; return how many were moved."""
    nodes = [NodeId(process.node_id) for process in stage.cluster.nodes if process.node_id]
    moved = 0
    for number, view in enumerate(await section_views(stage.database)):
        target = nodes[number % len(nodes)]
        if view.leader != target:
            await stage.database.admin.transfer(view.range_id, target)
            moved += 1
    return moved


async def kill(stage: Stage) -> tuple[NodeProcess, report.Killed]:
    """End the node that leads most with SIGKILL, and watch writes come back."""
    views = await section_views(stage.database)
    victim = max(stage.cluster.nodes, key=lambda process: _count_led(views, process))
    led = [view.leader == victim.node_id for view in views]
    pid = victim.pid
    began = stage.now()
    await stage.cluster.kill_node(victim)
    with stage.console.status(f"  n{victim.node_id} is dead, its ranges elect new leaders"):
        await asyncio.sleep(HURT_S)
    window = Window(began, stage.now())
    recorder = stage.workload.recorder
    total = recorder.summary(window)
    assert victim.node_id is not None, "it was running"
    return victim, report.Killed(
        node_id=victim.node_id,
        pid=pid,
        ranges_led=sum(led),
        stalls=tuple(
            report.SectionStall(
                section.name,
                led[number],
                recorder.summary(window, [number], writes_only=True).stall_ms,
            )
            for number, section in enumerate(SECTIONS)
        ),
        requests=total.requests,
        failed=total.failed,
        failures=recorder.failures_by_code(),
    )


def _count_led(views: Sequence[RangeView], process: NodeProcess) -> int:
    return sum(view.leader == process.node_id for view in views)


async def restart(stage: Stage, victim: NodeProcess) -> report.Restarted:
    """Start the node again, and watch it take in what it missed. Raises DeadlineExceededError."""
    began = stage.now()
    with stage.console.status(f"  n{victim.node_id} starts") as shown:
        await stage.cluster.start_node(victim)
        ready = stage.now()
        assert victim.node_id is not None, "it is ready"
        node_id = NodeId(victim.node_id)
        most = 0
        async for behind in _watch_behind(stage, node_id):
            most = max(most, behind)
            shown.update(f"  n{node_id} is {behind:,} log entries behind")
    return report.Restarted(
        node_id=node_id,
        ready_seconds=round(ready - began, 2),
        entries_behind=most,
        caught_up_seconds=round(stage.now() - began, 2),
    )


async def _watch_behind(stage: Stage, node_id: NodeId) -> AsyncIterator[int]:
    """Yield how far behind the node is, until that is no more than what is in flight anyway."""
    give_up_at = stage.now() + CAUGHT_UP_WITHIN_S
    while True:
        behind = await cluster_view.entries_behind(stage.database, node_id)
        if behind is not None:
            yield behind
            if behind <= stage.workload.callers:
                return
        if stage.now() > give_up_at:
            raise errors.DeadlineExceededError(
                deadline_s=CAUGHT_UP_WITHIN_S, last_error=f"n{node_id} has not caught up"
            )
        await asyncio.sleep(_LOOK_EVERY_S)


async def verify(stage: Stage) -> report.Verified:
    """Read every row back, as of one time, and compare it with what it must hold."""
    rows, recorder = stage.rows, stage.workload.recorder
    numbers = {key: row for row, key in enumerate(rows.keys)}
    seen = wrong = unexpected = 0
    began = stage.now()
    with stage.progress("verifying", len(rows)) as advance:
        async for page in stage.database.scan_pages():
            for key, value in page:
                row = numbers.get(key)
                if row is None:
                    unexpected += 1
                    continue
                seen += 1
                wrong += not rows.accepts(row, value)
            advance(len(page))
    return report.Verified(
        rows=seen,
        rewritten=sum(revision > 0 for revision in rows.revisions),
        writes=sum(len(samples.ends) for samples in recorder.writes),
        reads=sum(len(samples.ends) for samples in recorder.reads),
        missing=len(rows) - seen,
        wrong=wrong,
        unexpected=unexpected,
        stale_reads=len(stage.workload.stale_reads),
        in_doubt=len(rows.in_doubt),
        seconds=round(stage.now() - began, 2),
    )
