"""One benchmark: lay out keys and ranges, keep callers busy, and work out what was measured."""

import asyncio
import time
from collections.abc import Callable, Sequence

import msgspec

from multiraft.cli import cluster_view, measure, workload
from multiraft.cli.cluster_process import NodeProcess
from multiraft.cli.measure import Summary, Window
from multiraft.client.database import Database

PREFIX = "multiraft-bench/"
WARM_UP_S = 1.0
SPLIT_WINDOW_S = 1.0
"""How long from a split's begin on its effect is looked at."""
_PRELOAD_ROWS = 500


class Shape(msgspec.Struct, frozen=True):
    """What is run."""

    ranges: int
    callers: tuple[int, ...]
    value_bytes: int
    mix: workload.Mix
    seconds: float
    split_at: float | None
    keys: int

    @property
    def slots(self) -> int:
        """Parts of the key space reported on their own: each is a range at the end of the run."""
        return self.ranges + (self.split_at is not None)


class SplitEffect(msgspec.Struct, frozen=True):
    """What a split did to requests of the two halves it made."""

    took_ms: float
    before: Summary
    during: Summary
    snapshots: int


class Round(msgspec.Struct, frozen=True):
    """One number of callers; the fields are the members of the JSON form."""

    callers: int
    total: Summary
    per_range: tuple[Summary, ...]
    rows_scanned_per_second: float
    node_cpu_us_per_request: float | None
    """Of all node processes together; None when they are not ours."""
    client_cpu_us_per_request: float
    failures: dict[str, int]
    fewest_by_one_caller: int
    most_by_one_caller: int
    """How many requests ended well, warm-up included: nobody may starve."""
    split: SplitEffect | None
    histogram: str
    """Latencies in microseconds, in HdrHistogram's own encoding (V2, compressed, base64)."""


class Bench:
    """One benchmark against one database. `nodes` are its processes, if they are ours."""

    def __init__(
        self,
        database: Database,
        shape: Shape,
        nodes: Sequence[NodeProcess],
        now: Callable[[], float],
    ) -> None:
        self._database = database
        self._shape = shape
        self._nodes = nodes
        self._now = now
        self._slots = _slots(shape)

    async def prepare(self) -> None:
        """Write every key once and split the key space into the ranges of the first round."""
        boundaries = [keys[0] for keys in self._slots[1:]]
        if self._shape.split_at is not None:
            boundaries.pop()
        for key in (self._slots[0][0], *boundaries):
            await self._database.admin.split(key)
        value = bytes(self._shape.value_bytes)
        for keys in self._slots:
            for first in range(0, len(keys), _PRELOAD_ROWS):
                pairs = [(key, value) for key in keys[first : first + _PRELOAD_ROWS]]
                await self._database.put_many(pairs)

    async def round(self, callers: int, *, split_at: float | None) -> Round:
        """Run one round and return what it measured; `split_at` seconds into it, split."""
        work = workload.Workload(
            self._database,
            self._slots,
            mix=self._shape.mix,
            value_bytes=self._shape.value_bytes,
            now=self._now,
        )
        began = self._now() + WARM_UP_S
        window = Window(began, began + self._shape.seconds)
        snapshots = await cluster_view.snapshots_sent(self._database)
        async with asyncio.TaskGroup() as group:
            group.create_task(work.run(callers, WARM_UP_S + self._shape.seconds))
            processor = group.create_task(self._measure_processor(window))
            split = None if split_at is None else group.create_task(self._split(began + split_at))
        total = work.recorder.summary(window)
        requests = max(1, total.requests)
        nodes_s, client_s = processor.result()
        by_caller = work.recorder.ended_by_caller
        ended_by_caller = [by_caller.get(number, 0) for number in range(callers)]
        effect = None
        if split is not None:
            snapshots = await cluster_view.snapshots_sent(self._database) - snapshots
            effect = _split_effect(work.recorder, window, split.result(), snapshots)
        return Round(
            callers=callers,
            total=total,
            per_range=tuple(
                work.recorder.summary(window, [slot]) for slot in range(len(self._slots))
            ),
            rows_scanned_per_second=round(
                work.recorder.rows_read / (WARM_UP_S + self._shape.seconds), 1
            ),
            node_cpu_us_per_request=(round(1e6 * nodes_s / requests, 1) if self._nodes else None),
            client_cpu_us_per_request=round(1e6 * client_s / requests, 1),
            failures=work.recorder.failures_by_code(),
            fewest_by_one_caller=min(ended_by_caller),
            most_by_one_caller=max(ended_by_caller),
            split=effect,
            histogram=_encode(work.recorder, window),
        )

    async def _measure_processor(self, window: Window) -> tuple[float, float]:
        """Return the processor seconds that nodes and client used in the window."""
        await self._sleep_until(window.start)
        nodes, client = self._nodes_cpu_s(), time.process_time()
        await self._sleep_until(window.end)
        return self._nodes_cpu_s() - nodes, time.process_time() - client

    def _nodes_cpu_s(self) -> float:
        return sum(process.cpu_seconds() for process in self._nodes)

    async def _split(self, at: float) -> Window:
        await self._sleep_until(at)
        began = self._now()
        await self._database.admin.split(self._slots[-1][0])
        return Window(began, self._now())

    async def _sleep_until(self, moment: float) -> None:
        await asyncio.sleep(max(0.0, moment - self._now()))


def _slots(shape: Shape) -> list[list[bytes]]:
    keys_per_slot = max(1, shape.keys // shape.slots)
    return [
        [f"{PREFIX}{slot:04}/{number:08}".encode() for number in range(keys_per_slot)]
        for slot in range(shape.slots)
    ]


def _split_effect(
    recorder: measure.Recorder, window: Window, split: Window, snapshots: int
) -> SplitEffect:
    halves = [len(recorder.writes) - 2, len(recorder.writes) - 1]
    during = Window(split.start, min(window.end, split.start + SPLIT_WINDOW_S))
    return SplitEffect(
        took_ms=round(1_000 * split.seconds, 2),
        before=recorder.summary(Window(window.start, split.start), halves),
        during=recorder.summary(during, halves),
        snapshots=snapshots,
    )


def _encode(recorder: measure.Recorder, window: Window) -> str:
    encoded: bytes = measure.histogram([*recorder.reads, *recorder.writes], window).encode()
    return encoded.decode()
