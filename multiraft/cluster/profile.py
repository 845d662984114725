"""What a node spends its time on, by the stages in the life of a request.

Purpose
    `take` watches this process for a while. Asked of any node by the request NodeProfile, and shown
    by `multiraft debug profile`; docs/operations.md tells how to read it. Fields are only ever
    added, since nodes and clients of different versions meet here.
Caveats
    Stages are of a process: nodes that share one, in tests, each tell the stages of all of them,
    but for collect and write, whose methods simulated clusters keep bound.
    While a process is watched each run of a stage costs it some two microseconds more, and it wakes
    up every few milliseconds to see whether it can.
"""

import asyncio
import enum
from collections.abc import Sequence

import msgspec

from multiraft import runtime
from multiraft.cluster.instruments import (
    Instruments,
    Place,
    Reading,
    Watch,
    sends,
    stage,
    threaded,
    waits,
)
from multiraft.cluster.stalls import Stall, Stalls
from multiraft.ids import NodeId
from multiraft.net.connection import ConnectionEnd
from multiraft.net.inproc import InprocConnection
from multiraft.net.tcp import TcpConnection
from multiraft.net.transport import FrameKind
from multiraft.raft.messages import Entry
from multiraft.ranges.leaseholder import Leaseholder
from multiraft.ranges.outbox import Outbox
from multiraft.ranges.pending import PendingRead, PendingWrite
from multiraft.ranges.service import RequestConnection
from multiraft.ranges.store import Store
from multiraft.ranges.transactions import PendingPart
from multiraft.ranges.turns import Turns
from multiraft.storage.engine import Batch
from multiraft.storage.raft_log import RangeLog
from multiraft.storage.rocks import RocksEngine
from multiraft.storage.syncer import Syncer, SyncThread


class Stage(enum.StrEnum):
    """Where a loop spends its time, in the order in which a write comes through."""

    RECEIVE = "receive"
    """Frames of clients and peers are decoded."""
    EVALUATE = "evaluate"
    """Requests take latches, are evaluated, and are handed to the log, or answered."""
    STEP = "step"
    """Messages of other nodes are taken in: by Raft cores, and by liveness."""
    COLLECT = "collect"
    """A turn gathers what the cores of all dirty replicas want done."""
    LOG = "log"
    """Entries are put into the batch."""
    SEND = "send"
    """Frames to other nodes are encoded and given to the socket; one run is one frame."""
    WRITE = "write"
    """The engine takes a batch."""
    CONFIRM = "confirm"
    """A sync is done: cores are told, which makes messages and commits."""
    APPLY = "apply"
    """What is committed becomes effects in a batch."""
    SETTLE = "settle"
    """Those that waited for a command are told, and latches are released."""
    ANSWER = "answer"
    """Replies are encoded and given to the socket; one run is one frame."""


class Beside(enum.StrEnum):
    """What passes beside the loop, or, as collections do, within stages."""

    SYNC_WAIT = "sync wait"
    """From the wish for durability until the loop hears of it."""
    DISK = "disk"
    """The thread syncs."""
    GARBAGE = "garbage"
    """Python's garbage collections, in whichever thread."""


def _payload(_end: ConnectionEnd, _kind: FrameKind, payload: bytes) -> int:
    return len(payload)


def _entries(_log: RangeLog, _batch: Batch, entries: Sequence[Entry]) -> int:
    return sum(len(entry.payload) for entry in entries)


def _batch(_engine: object, batch: Batch) -> int:
    return batch.size_bytes


PLACES: tuple[Place, ...] = (
    stage(Stage.RECEIVE, ConnectionEnd, "take", size_in=_payload),
    stage(Stage.EVALUATE, Store, "submit"),
    stage(Stage.EVALUATE, Leaseholder, "begin_puts"),
    stage(Stage.EVALUATE, PendingRead, "_granted"),
    stage(Stage.EVALUATE, PendingWrite, "_granted"),
    stage(Stage.EVALUATE, PendingPart, "_granted"),
    stage(Stage.STEP, Store, "_take"),
    stage(Stage.COLLECT, Turns, "_take_turn"),
    stage(Stage.LOG, RangeLog, "append", size_out=_entries),
    stage(Stage.SEND, Outbox, "_send"),
    stage(Stage.WRITE, RocksEngine, "write", size_in=_batch),
    stage(Stage.CONFIRM, Turns, "_release"),
    stage(Stage.APPLY, Turns, "_carry_on"),
    stage(Stage.SETTLE, Turns, "_tell"),
    stage(Stage.ANSWER, RequestConnection, "_send"),
    sends(TcpConnection, "send", _payload),
    sends(InprocConnection, "send", _payload),
    waits(Beside.SYNC_WAIT, Syncer, "request"),
    threaded(Beside.DISK, SyncThread, "_attempt"),
)

LOOK_S = 0.005
"""So often a process that is watched looks whether its loop stands still."""

_CLOCK = runtime.SystemClock()
_NOW = _CLOCK.monotonic
INSTRUMENTS = Instruments(PLACES, Beside.GARBAGE, Watch(_NOW, runtime.thread_cpu_s))
"""Of this process: there is one of each class."""


class StageProfile(msgspec.Struct, frozen=True):
    """What one stage did."""

    name: str
    runs: int
    us: int
    cpu_us: int
    """Processor time; 0 where only waiting was measured."""
    bytes_in: int
    bytes_out: int
    longest_us: int
    """Of one run, beside the loop: since this, or another profile at the same time, began."""


class Profile(msgspec.Struct, frozen=True):
    """What a node did for `elapsed_us`: the stages, `other_us` and `idle_us` add up to it."""

    node_id: NodeId
    elapsed_us: int
    loop_cpu_us: int
    """Processor time of the loop's thread."""
    process_cpu_us: int
    """... of all threads: the engine's and the one that syncs are others."""
    requests: int
    """That came here; followers have none."""
    turns: int
    syncs: int
    frames: int
    """To other nodes."""
    log_bytes: int
    """Payloads of the entries that were put into logs."""
    stages: tuple[StageProfile, ...]
    other_us: int
    """Processor time of the loop outside of stages: sockets, timers, tasks, the loop itself."""
    idle_us: int
    """The rest: the loop had nothing to do or, outside of stages, no processor to do it on."""
    beside: tuple[StageProfile, ...]
    stalls: tuple[Stall, ...]
    """The longest, longest first."""


class _Moment(msgspec.Struct, frozen=True):
    """All that counts up, as it stands now."""

    at: float
    loop_cpu_s: float
    process_cpu_s: float
    requests: int
    turns: int
    syncs: int
    readings: dict[str, Reading]


def _moment(store: Store) -> _Moment:
    return _Moment(
        _NOW(),
        runtime.thread_cpu_s(),
        runtime.process_cpu_s(),
        store.requests,
        store.turns.taken,
        store.turns.syncs,
        INSTRUMENTS.read(),
    )


async def take(store: Store, duration_ms: int) -> Profile:
    """Watch this process for so long, and return what was seen, and what `store` did."""
    with INSTRUMENTS.watched():
        before = _moment(store)
        stalls = await _stalls(duration_ms / 1_000)
        after = _moment(store)
    return _between(store.context.node_id, before, after, stalls)


async def _stalls(duration_s: float) -> tuple[Stall, ...]:
    """Return how long the loop stood still in the next `duration_s`."""
    read, stages = INSTRUMENTS.read, frozenset(Stage)
    stalls = Stalls(_CLOCK, runtime.thread_cpu_s, read, stages, Beside.GARBAGE)
    loop = asyncio.get_running_loop()
    end = loop.time() + duration_s
    while (left_s := end - loop.time()) > 0:
        await asyncio.sleep(min(LOOK_S, left_s))
        stalls.look(min(LOOK_S, left_s))
    return stalls.longest()


def _between(
    node_id: NodeId, before: _Moment, after: _Moment, stalls: tuple[Stall, ...]
) -> Profile:
    stages = tuple(_stage_between(name, before, after) for name in Stage)
    of_stage = {each.name: each for each in stages}
    elapsed_us = _us(after.at - before.at)
    loop_cpu_us = _us(after.loop_cpu_s - before.loop_cpu_s)
    in_stages_us = sum(each.us for each in stages)
    other_us = max(0, loop_cpu_us - sum(each.cpu_us for each in stages))
    return Profile(
        node_id=node_id,
        elapsed_us=elapsed_us,
        loop_cpu_us=loop_cpu_us,
        process_cpu_us=_us(after.process_cpu_s - before.process_cpu_s),
        requests=after.requests - before.requests,
        turns=after.turns - before.turns,
        syncs=after.syncs - before.syncs,
        frames=of_stage[Stage.SEND].runs,
        log_bytes=of_stage[Stage.LOG].bytes_out,
        stages=stages,
        other_us=other_us,
        idle_us=max(0, elapsed_us - in_stages_us - other_us),
        beside=tuple(_stage_between(name, before, after) for name in Beside),
        stalls=stalls,
    )


def _stage_between(name: str, before: _Moment, after: _Moment) -> StageProfile:
    none = Reading()
    seen = after.readings.get(name, none).since(before.readings.get(name, none))
    return StageProfile(
        name,
        seen.runs,
        _us(seen.seconds),
        _us(seen.cpu_s),
        seen.bytes_in,
        seen.bytes_out,
        _us(seen.longest_s),
    )


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
