"""One run of a spec in simulation: a seed in, a verdict out, the same on every machine.

Purpose
    Build the cluster, let clients work while faults hurt it, heal everything, and judge: the
    histories by their models, the stores by the invariants, and the cluster by whether it recovers.
Invariants
    - The seed decides everything. `digest` covers every callback, message and answer, so two runs
      of one seed can be compared.
    - After the faults stop, all pending calls must end within `recovery_bound_s`, and the cluster
      must recover (recovery.py). Some nodes are not there then, as many as every group can do
      without; they return afterwards.
    - Of the clients of a round, what is left behind it are counts: no history, and no key. What
      nodes and watches hold is counted then, and has bounds.
Source
    FoundationDB's and TigerBeetle's simulators; the liveness phase is the VOPR's.
"""

import asyncio
import contextlib
import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from multiraft import errors
from multiraft.client.database import Database
from multiraft.sim import buggify, footprint, network, probes
from multiraft.sim.cluster import Cluster
from multiraft.sim.collector import without_collector
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.process import Process
from multiraft.sim.trace import Trace
from multiraft.testing import losses, trace_page
from multiraft.testing.checkers import Verdict
from multiraft.testing.faults import Fault, victims
from multiraft.testing.placement import Placement
from multiraft.testing.recovery import Recovery
from multiraft.testing.simulated_target import SimulatedTarget
from multiraft.testing.spec import Spec
from multiraft.testing.traced_history import TracedHistory
from multiraft.testing.workloads import ClientRun, Workload

LINKS = {
    "at-once": network.AT_ONCE,
    "lan": network.LAN,
    "wan": network.Delay(least_s=0.02, jitter_s=0.01, tail_chance=0.01, tail_s=0.2),
}
DEADLINES_S = (1.0, 3.0, 10.0)
"""What clients wait for an answer; the short ones make outcomes unknown."""
REMOVED_AT_ONCE = 1_000
"""How many keys of an earlier round one transaction removes."""
LIMIT_S = 10_000.0
"""A run is stuck if it takes so much longer than its clients are to work."""
RETRY_S = 0.2
"""How long to wait before a client that could not reach the cluster tries again."""
SYNC_DELAYS_S = (0.0, 0.000_3, 0.003, 0.02)
"""How long a sync takes, for each node: what a crash may find undone."""

Tell = Callable[[str], None]


class RunResult(msgspec.Struct, frozen=True):
    """What one run showed. `problems` is empty if nothing was wrong."""

    spec: str
    seed: int
    problems: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    operations: int
    outcomes: dict[str, int]
    faults: dict[str, int]
    drawn: tuple[str, ...]
    virtual_s: float
    recovered_s: float
    """How long after the last fault everything was served and equal again, without the lost or with
    them, whatever took longer."""
    ended_s: float
    """How long after the last fault the last call under way then had ended."""
    callbacks: int
    digest: str
    probes: dict[str, int] = {}
    """How often each rare situation was reached, by the names of multiraft.sim.probes."""
    needless_snapshots: int = 0
    """How many snapshots were sent where entries would have done."""
    held: dict[str, int] = {}
    """The most that was held at the end of a round, by the names of multiraft.sim.footprint."""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems


class _Life(NamedTuple):
    """A client from its start to its end."""

    process: Process
    task: asyncio.Task[None]


class _Clients:
    """The clients of one workload, and what they were told."""

    def __init__(self, workload: Workload, history: TracedHistory) -> None:
        self.workload = workload
        self.history = history
        self.tasks: list[asyncio.Task[None]] = []
        self.verdicts: tuple[Verdict, ...] = ()


class Run:
    """See the module. Used once."""

    def __init__(self, spec: Spec, seed: int, loop: VirtualLoop, trace: Trace, tell: Tell) -> None:
        self.trace = trace
        self._tell = tell
        self.spec = spec
        self.seed = seed
        self.loop = loop
        self.random = random.Random(f"{spec.name}/{seed}")
        self.config = spec.base_config()
        self.drawn: tuple[str, ...] = ()
        if spec.buggify:
            self.config, self.drawn = buggify.draw(self.config, self.random)
        self.cluster = Cluster(
            loop,
            nodes=spec.nodes,
            localities=spec.localities,
            config=self.config,
            seed=self.random.randrange(1 << 30),
            trace=trace,
        )
        self.problems: list[str] = []
        self._outcomes: Counter[str] = Counter()
        self._groups: list[_Clients] = []
        self._clients_started = 0
        self._is_over = False
        self._recovered_s = 0.0
        self._ended_s = 0.0
        self._held: Counter[str] = Counter()

    async def execute(self) -> RunResult:
        """Do all of it."""
        cluster, spec = self.cluster, self.spec
        cluster.conditions.delay = LINKS[spec.link]
        cluster.wiretap.tricks = spec.messages
        for member in cluster.members.values():
            off_us = self.random.randint(-spec.clock_offset_ms, spec.clock_offset_ms) * 1_000
            member.clock.step_wall(off_us / 1e6)
            member.sync_delay_s = self.random.choice(SYNC_DELAYS_S)
        await cluster.start()
        async with cluster.connect(name=victims.ADMIN) as admin:
            target = SimulatedTarget(cluster, admin)
            for key in spec.splits:
                await admin.admin.split(key.encode())
            for number in range(spec.rounds):
                if number:
                    await self._forget_round(admin)
                await self._work(admin, target, self._workloads(number))
                await self._recover(target)
                if not self.problems:
                    self._inspect()
                await self._judge(admin)
                self._count(number)
                if self.problems:
                    break
        with self._noted("at the end"):
            await cluster.stop()
        return self._result(target)

    # -- the phases ------------------------------------------------------------------------------

    def _workloads(self, number: int) -> list[Workload]:
        """Return the workloads of a round: of several, each has keys of its own."""
        if self.spec.rounds == 1:
            return list(self.spec.workload)
        return [
            msgspec.structs.replace(workload, space=f"{workload.key()}.{number:04}")
            for workload in self.spec.workload
        ]

    async def _forget_round(self, admin: Database) -> None:
        """Keep nothing of the round before: no history, no garbage, no keys."""
        for clients in self._groups:
            prefix = clients.workload.key("").encode()
            while keys := [
                key async for key, _ in admin.scan(prefix=prefix, limit=REMOVED_AT_ONCE)
            ]:
                await admin.delete_range(keys[0], keys[-1] + b"\0")
        self._groups.clear()
        self.cluster.forget_clients()
        self.cluster.invariants.forgetting.between_rounds(self.cluster.running())
        self.loop.forget_the_dead()
        gc.collect()
        self._is_over = False

    async def _work(
        self, admin: Database, target: SimulatedTarget, workloads: list[Workload]
    ) -> None:
        async with contextlib.AsyncExitStack() as connections:
            for workload in workloads:
                history = TracedHistory(self.loop.time, self.trace, workload.name)
                clients = _Clients(workload, history)
                self._groups.append(clients)
                await workload.set_up(admin, self._generator())
                for _ in range(workload.clients):
                    life = await self._start_client(clients, connections)
                    task = asyncio.create_task(self._replace(clients, life, connections))
                    clients.tasks.append(task)
            faults = [
                asyncio.create_task(self._hurt(fault, target, self._generator()))
                for fault in self.spec.fault
            ]
            await asyncio.sleep(self.spec.seconds)
            self._is_over = True
            for task in faults:
                task.cancel()
            for end in await asyncio.gather(*faults, return_exceptions=True):
                if isinstance(end, Exception):
                    self.problems.append(f"a fault failed: {end!r}")
            await target.heal_all()
            if self.spec.lose_nodes:
                for number in losses.draw(self.cluster, self._generator()):
                    target.note("lost", f"n{number}")
                    self.cluster.kill(number)
            await self._end_clients()

    async def _start_client(
        self, clients: _Clients, connections: contextlib.AsyncExitStack
    ) -> _Life:
        self._clients_started += 1
        number = self._clients_started
        name = f"c{number}"
        process = Process(name)
        deadline_s = self.random.choice(DEADLINES_S)
        db = self.cluster.connect(name=name, process=process, deadline_s=deadline_s)
        await db.open()
        connections.push_async_callback(_close, process, db)
        run = ClientRun(
            db=db,
            rng=self._generator(),
            number=number,
            history=clients.history,
            is_over=lambda: self._is_over,
            think_s=clients.workload.think_s,
        )
        self.cluster.mortals[name] = process
        return _Life(process, process.spawn(clients.workload.client(run)))

    async def _replace(
        self, clients: _Clients, life: _Life, connections: contextlib.AsyncExitStack
    ) -> None:
        """Return when a client has ended, and start another whenever one has vanished."""
        try:
            while not await life.process.outlives(life.task):
                if self._is_over:
                    return
                try:
                    life = await self._start_client(clients, connections)
                except errors.MultiraftError:
                    await asyncio.sleep(RETRY_S)  # Its cluster is hurt.
        except asyncio.CancelledError:
            life.task.cancel()
            raise
        life.task.result()

    async def _hurt(self, fault: Fault, target: SimulatedTarget, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.uniform(*fault.every_s))
            await fault.episode(target, rng)

    async def _end_clients(self) -> None:
        """Every call under way must end: faults are over."""
        tasks = [task for clients in self._groups for task in clients.tasks]
        healed = self.loop.time()
        await Recovery(self.cluster, self.recovery_bound_s).wait_until_able(tasks)
        done, pending = await asyncio.wait(tasks, timeout=self.answer_bound_s)
        self._ended_s = self.loop.time() - healed
        if pending:
            calls = [
                f"{each.function} of {each.key!r} by {each.process}, begun "
                f"{healed - each.invoked:.1f} s before that"
                for clients in self._groups
                for each in clients.history.open()
            ]
            self.problems.append(
                f"{len(pending)} clients did not end within {self.answer_bound_s:g} s after every "
                f"range could commit again; calls under way: {'; '.join(calls) or 'none'}"
            )
        for task in pending:
            task.cancel()
        for task in done:
            error = task.exception()
            if error is not None:
                self.problems.append(f"a client failed: {error!r}")

    @property
    def recovery_bound_s(self) -> float:
        """How long recovery may take: ten election timeouts, each after support ran out."""
        raft, liveness = self.config.raft, self.config.liveness
        election_ms = 2 * raft.election_timeout_ticks * raft.tick_ms
        return 10 * (election_ms + liveness.support_ms) / 1_000

    @property
    def answer_bound_s(self) -> float:
        """How long a call may take once every range can commit; patient clients wait for longer.

        What it can wait for, one after the other: a start, elections in place of the dead, and of
        those who are lost only now, and for locks that nobody holds any more.
        """
        return 3 * self.recovery_bound_s / 10 + self.config.ranges.transaction_expiry_ms / 1_000

    async def _recover(self, target: SimulatedTarget) -> None:
        """Wait until everything is served and equal again; then with those that were lost."""
        cluster = self.cluster
        for when in ("recovery", "recovery of the lost"):
            began = self.loop.time()
            with self._noted(when):
                await Recovery(cluster, self.recovery_bound_s).wait()
            self._recovered_s = max(self._recovered_s, self.loop.time() - began)
            await target.heal_all()
        if self.spec.localities and not self.problems:
            with self._noted("placement"):
                await Placement(cluster, self.recovery_bound_s).wait()
                await Recovery(cluster, self.recovery_bound_s).wait()

    def _inspect(self) -> None:
        """Look whether replicas hold the same, and whether the spec's own promises were kept."""
        cluster = self.cluster
        for range_id in cluster.range_ids():
            replicas = [m for m in cluster.running() if range_id in m.up.store.replicas]
            contents = {m.name: cluster.contents(m.number, range_id) for m in replicas}
            first = contents[replicas[0].name]
            for name, found in contents.items():
                if found != first:
                    self.problems.append(f"r{range_id}: {name} differs from {replicas[0].name}")
        with self._noted("statistics"):
            cluster.check_statistics()
        if self.spec.no_elections:
            for range_id in cluster.range_ids():
                terms = cluster.invariants.facts(range_id).terms_led
                if len(terms) > 1:
                    self.problems.append(
                        f"r{range_id} was led in the terms {terms}: one was enough"
                    )
        if self.spec.no_snapshots and cluster.snapshots_sent():
            self.problems.append(f"{cluster.snapshots_sent()} snapshots were sent, none was needed")
            self.problems += cluster.invariants.snapshots.needless

    async def _judge(self, admin: Database) -> None:
        for clients in self._groups:
            try:
                await clients.workload.finish(admin, clients.history)
            except errors.MultiraftError as error:
                self.problems.append(f"a healed cluster refused the last reads: {error!r}")
            clients.verdicts = clients.workload.check(clients.history)
            for verdict in clients.verdicts:
                if not verdict.ok:
                    self.problems.append(str(verdict))
            self._outcomes.update(operation.outcome for operation in clients.history)

    def _count(self, number: int) -> None:
        """Look at how much is held at the end of a round, and tell of it if there are several."""
        held = footprint.of(self.cluster)
        for name, count in held.items():
            self._held[name] = max(count, self._held[name])
            bound = self.spec.bounds.get(name, count)
            if count > bound:
                self.problems.append(
                    f"round {number + 1} ends with {count} {name}, more than {bound}"
                )
        if self.spec.rounds > 1:
            counts = " ".join(f"{name}={count}" for name, count in held.items())
            self._tell(
                f"round {number + 1} of {self.spec.rounds}: virtual_s={self.loop.time():.0f} "
                f"calls={sum(self._outcomes.values())} {counts}"
            )

    def marks(self) -> tuple[trace_page.Mark, ...]:
        """Return the anomalies found, for the page of the trace."""
        return tuple(
            mark
            for clients in self._groups
            for verdict in clients.verdicts
            for mark in clients.history.marks(verdict.anomalies)
        )

    # -- odds and ends ---------------------------------------------------------------------------

    def _generator(self) -> random.Random:
        return random.Random(self.random.getrandbits(64))

    @contextlib.contextmanager
    def _noted(self, when: str) -> Iterator[None]:
        try:
            yield
        except AssertionError as error:
            self.problems.append(f"{when}: {error}")

    def _result(self, target: SimulatedTarget) -> RunResult:
        return RunResult(
            spec=self.spec.name,
            seed=self.seed,
            problems=tuple(self.problems),
            verdicts=tuple(v for clients in self._groups for v in clients.verdicts),
            operations=sum(self._outcomes.values()),
            outcomes=dict(sorted(self._outcomes.items())),
            faults=dict(sorted(target.faults.items())),
            drawn=self.drawn,
            virtual_s=self.loop.time(),
            recovered_s=self._recovered_s,
            ended_s=self._ended_s,
            callbacks=self.loop.callbacks,
            digest=self.trace.digest(),
            needless_snapshots=len(self.cluster.invariants.snapshots.needless),
            held=dict(self._held),
        )


async def _close(process: Process, db: Database) -> None:
    """Close what a client that still lives has opened."""
    if not process.is_dead:
        await db.close()


def run(
    spec: Spec, seed: int, page: Path | None = None, tell: Tell = lambda line: None
) -> RunResult:
    """Run `spec` with `seed` to its end. Never raises for what the database does wrong.

    `tell` hears a line at the end of each round, if there are several. Writes the run as a page to
    look at to `page`, if that is given; raises OSError if it cannot.
    """
    with without_collector():
        return _run(spec, seed, page, tell)


def _run(spec: Spec, seed: int, page: Path | None, tell: Tell) -> RunResult:
    trace = Trace(keep=page is not None)
    limit_s = LIMIT_S + 2 * spec.rounds * spec.seconds
    loop = VirtualLoop(limit_s=limit_s, scheduling=random.Random(f"scheduling/{seed}"))
    started: list[Run] = []

    async def main() -> RunResult:
        started.append(Run(spec, seed, loop, trace, tell))
        started[0].cluster.wiretap.listeners.append(counts.hear)
        return await started[0].execute()

    with probes.counting() as counts, asyncio.Runner(loop_factory=lambda: loop) as runner:
        unhandled: list[str] = []
        loop.set_exception_handler(lambda _, context: unhandled.append(_told(context)))
        try:
            result = runner.run(main())
        except Exception as error:  # whatever it is, it is a finding
            result = _broken(spec, seed, started, error)
    result = msgspec.structs.replace(
        result, problems=(*result.problems, *unhandled), probes=dict(counts.seen)
    )
    if page is not None:
        marks = started[0].marks() if started else ()
        summary = "\n".join(result.problems) or "nothing was wrong"
        title = f"{spec.name}, seed {seed}"
        trace_page.write(page, trace, title, summary, is_failed=not result.ok, marks=marks)
    return result


def _broken(spec: Spec, seed: int, started: list[Run], error: BaseException) -> RunResult:
    """Return what is known of a run that could not be finished."""
    problems = [f"the run broke off: {error!r}"]
    if started:
        problems += [repr(found) for found in started[0].cluster.errors]
        problems += started[0].cluster.invariants.violations
    return RunResult(
        spec.name, seed, tuple(problems), (), 0, {}, {}, (), 0.0, 0.0, 0.0, 0, "broken"
    )


def _told(context: dict[str, Any]) -> str:
    return f"nobody handled: {context.get('message')}: {context.get('exception')!r}"
