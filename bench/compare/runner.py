"""Peers in turn: round after round, each on a cluster of its own with the same rows.

Order
    Operation, round, peer, number of callers. So the peers that are compared run within a minute of
    each other (A B A B), and never at the same time.
"""

import asyncio
import datetime
import gc
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from bench.compare import usage
from bench.compare.peer import Data, Load, Operation, Peer, Running
from bench.compare.records import Measured, Record
from multiraft.cli import machine, process_usage
from multiraft.cli.measure import Latency

WARM_UP_S_MAX = 1.0
SETTLING_S_MAX = 2.0
"""How long a cluster is left alone before it counts as idle."""
IDLE_TIMES = 5
"""Idling is that much longer than a load: processor time comes in ticks, and it takes few."""
ALONE = frozenset({Operation.LOAD, Operation.IDLE, Operation.FAILOVER})
"""Operations of one caller, or of none."""


class Plan(msgspec.Struct, frozen=True):
    """What is run."""

    operations: Sequence[Operation]
    callers: Sequence[int]
    rounds: int
    seconds: float
    data: Data
    directory: Path
    """Where clusters have their files for as long as they run."""


async def sync_disks() -> None:
    """Have the system write everything that it has not written yet."""
    await asyncio.to_thread(os.sync)


class Runner:
    """Carries out a plan. `note` is told what goes on, `keep` gets every record as it is made."""

    def __init__(
        self,
        plan: Plan,
        note: Callable[[str], None],
        keep: Callable[[Record], None],
        *,
        sync_disks: Callable[[], Awaitable[None]] = sync_disks,
    ) -> None:
        self._plan = plan
        self._note = note
        self._keep = keep
        self._sync_disks = sync_disks
        self._machine = machine.describe(plan.directory)

    async def run(self, peers: Sequence[Peer]) -> None:
        """Run everything that these peers can do."""
        for operation in self._plan.operations:
            able = [peer for peer in peers if operation in peer.operations]
            for number in range(1, self._plan.rounds + 1):
                for peer in able:
                    await self._turn(peer, operation, number)

    async def _turn(self, peer: Peer, operation: Operation, number: int) -> None:
        """Start a peer and run an operation with every number of callers."""
        record = Record(
            peer=peer.name,
            operation=operation,
            callers=0,
            round=number,
            seconds=self._plan.seconds,
            began_at=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            remark=peer.remark,
            is_durable=peer.is_durable,
            data=self._plan.data,
            machine=self._machine,
        )
        told = f"{operation}, round {number} of {self._plan.rounds}: {peer.name}"
        with tempfile.TemporaryDirectory(prefix="compare-", dir=self._plan.directory) as name:
            try:
                self._note(f"{told} starts")
                async with peer.start(Path(name), self._plan.data) as running:
                    record = msgspec.structs.replace(record, settings=running.settings)
                    await self._forget_the_past()
                    for callers in _numbers_of_callers(self._plan.callers, peer, operation):
                        self._note(f"{told}, {callers} callers")
                        record = msgspec.structs.replace(record, callers=callers)
                        found = await measure(running, operation, callers, self._plan.seconds)
                        self._keep(msgspec.structs.replace(record, measured=found))
            except Exception as error:  # whatever the peer's own library raises
                self._note(f"{told} FAILED: {error!r}")
                self._keep(msgspec.structs.replace(record, problem=repr(error)))

    async def _forget_the_past(self) -> None:
        """See to it that the loads to come pay for nothing that was before them.

        What others and the filling left unwritten would slow down syncs, and the objects that they
        left in this process, collections of its garbage.
        """
        await self._sync_disks()
        gc.unfreeze()
        gc.collect()
        gc.freeze()


async def measure(running: Running, operation: Operation, callers: int, seconds: float) -> Measured:
    """Run one load, after a shorter one that does not count, and see what it cost the servers."""
    if operation is Operation.IDLE:
        await asyncio.sleep(min(SETTLING_S_MAX, seconds))
    elif operation not in ALONE:
        await running.run(operation, callers, min(WARM_UP_S_MAX, seconds))
    pids = running.pids
    before = usage.now(pids)
    if operation is Operation.IDLE:
        load = await _idle(IDLE_TIMES * seconds)
    else:
        load = await running.run(operation, callers, seconds)
    if pids != running.pids:
        return Measured(load)  # what a killed server used is not known
    used = usage.now(pids).since(before)
    return Measured(
        load,
        round(used.servers_s, 3) if pids else None,
        sum(map(process_usage.resident_bytes, pids)) if pids else None,
        used.others_cores,
    )


async def _idle(seconds: float) -> Load:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await asyncio.sleep(seconds)
    return Load(0, loop.time() - began, Latency(), None)


def _numbers_of_callers(asked: Sequence[int], peer: Peer, operation: Operation) -> Sequence[int]:
    if operation in ALONE:
        return (1,)
    return [each for each in asked if peer.callers_max is None or each <= peer.callers_max]
