"""One run of a spec against real processes: hurt, heal, judge.

Invariants
    - Nothing of a run outlives it but its directory.
    - Everything that is wrong is a problem of the result: an anomaly in a history, a call that did
      not end, replicas that differ, a node that ended by itself, a fault that could not be done.
    - Nothing is judged by how fast the machine is: `PATIENCE_S` only says when to give up.
"""

import asyncio
import contextlib
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import orjson

import multiraft
from multiraft import errors
from multiraft.cli import cluster_process
from multiraft.cli.cluster_process import LocalCluster, NodeProcess
from multiraft.cli.torture import proxy, replicas
from multiraft.cli.torture.cuts import Cuts
from multiraft.cli.torture.target import ProcessTarget
from multiraft.cli.torture.usage import NodeUsage, UsageWatch
from multiraft.client.database import Database
from multiraft.testing.checkers import Verdict
from multiraft.testing.faults import Fault
from multiraft.testing.history import History, Operation
from multiraft.testing.runner import DEADLINES_S
from multiraft.testing.spec import Spec
from multiraft.testing.workloads import ClientRun, Workload

PATIENCE_S = 60.0
"""How long a healed cluster may take to end every call and make all replicas equal."""
_POLL_S = 0.05


class TortureResult(msgspec.Struct, frozen=True):
    """What one run showed. `problems` is empty if nothing was wrong."""

    spec: str
    seed: int
    problems: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    outcomes: dict[str, int]
    faults: dict[str, int]
    ranges: int
    """Compared on disk, on all nodes."""
    recovered_s: float
    """How long after the last fault every call had ended and all replicas were equal."""
    longest_s: float
    """How long the longest call took that was answered."""
    seconds: float
    usage: tuple[NodeUsage, ...]
    """What each node used at first, early in the run, at its end, and at most."""

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not self.problems

    @property
    def operations(self) -> int:
        """How many calls were noted."""
        return sum(self.outcomes.values())

    @property
    def anomalies(self) -> int:
        """What no correct database can have answered."""
        return sum(len(verdict.anomalies) for verdict in self.verdicts)


def refuse_what_needs_simulation(spec: Spec) -> None:
    """Raise ConfigError for a fault, or a setting, that real processes cannot have."""
    if "liveness" in spec.config:
        raise errors.ConfigError(
            f"{spec.name}: [config.liveness] is for simulated clocks; real processes share one"
        )
    if spec.localities:
        raise errors.ConfigError(
            f"{spec.name}: localities are for simulated nodes; real processes share one machine"
        )
    for fault in spec.fault:
        if fault.needs_simulation:
            raise errors.ConfigError(
                f"{spec.name}: the fault {fault.name!r} needs a simulated cluster; run the spec "
                f"with `multiraft sim run {spec.name}`, or leave the fault out"
            )


class Clients:
    """The clients of one workload, and what they were told."""

    def __init__(self, workload: Workload, history: History) -> None:
        self.workload = workload
        self.history = history
        self.verdicts: tuple[Verdict, ...] = ()
        self.tasks: list[asyncio.Task[None]] = []


class TortureRun:
    """See the module. Used once."""

    def __init__(self, spec: Spec, seed: int, directory: Path) -> None:
        refuse_what_needs_simulation(spec)
        self.spec = spec
        self.seed = seed
        self.directory = directory
        self.random = random.Random(f"{spec.name}/{seed}")
        self.problems: list[str] = []
        self.clients: list[Clients] = []
        self.faults: Counter[str] = Counter()
        """How often each was done so far."""
        self._is_over = False
        self._ranges = 0
        self._recovered_s = 0.0
        self._usage: tuple[NodeUsage, ...] = ()

    async def execute(self) -> TortureResult:
        """Do all of it."""
        began = asyncio.get_running_loop().time()
        listening = cluster_process.free_addresses(2 * self.spec.nodes)
        addresses = [listening.pop() for _ in range(self.spec.nodes)]  # those of the proxies
        cluster_process.create(self.directory, addresses)
        with (self.directory / "config.toml").open("a") as file:
            file.write(_as_toml(self.spec.config))
        cuts = Cuts()
        cluster = LocalCluster(
            self.directory, listening, advertised=addresses, on_end=self._node_ended
        )
        async with (
            proxy.in_front_of(listening, addresses, cuts) as proxies,
            cluster,
            multiraft.connect(*addresses, deadline_s=PATIENCE_S) as admin,
        ):
            target = ProcessTarget(cluster, admin, proxies, cuts)
            self.faults = target.faults
            watch = UsageWatch(cluster.nodes, self.spec.seconds)
            watching = asyncio.create_task(watch.run())
            try:
                for key in self.spec.splits:
                    await admin.admin.split(key.encode())
                await self._work(admin, target, addresses)
                await self._recover(admin)
                await self._judge(admin)
                async with self._patience():
                    await replicas.come_to_rest(admin)
                watch.look()
            finally:
                watching.cancel()
                await target.close()
            self._usage = watch.found()
        self._compare([process.directory for process in cluster.nodes])
        return self._result(asyncio.get_running_loop().time() - began)

    def _node_ended(self, process: NodeProcess, status: int) -> None:
        how = f"killed by {signal.Signals(-status).name}" if status < 0 else process.last_words()
        self.problems.append(f"n{process.node_id} ended by itself: {how}")

    # -- the phases ------------------------------------------------------------------------------

    async def _work(self, admin: Database, target: ProcessTarget, addresses: list[str]) -> None:
        loop = asyncio.get_running_loop()
        async with contextlib.AsyncExitStack() as connections:
            faults: list[asyncio.Task[None]] = []
            try:
                await self._start_clients(admin, addresses, connections)
                for fault in self.spec.fault:
                    hurting = self._hurt(fault, target, self._generator())
                    faults.append(asyncio.create_task(hurting))
                await asyncio.sleep(self.spec.seconds)
            except asyncio.CancelledError:
                await target.close()  # no node need be started to heal what ends now
                raise
            finally:
                self._is_over = True
                await self._end_faults(faults)
            await target.heal_all()
            healed = loop.time()
            await self._end_clients()
            self._recovered_s = loop.time() - healed

    async def _start_clients(
        self, admin: Database, addresses: list[str], connections: contextlib.AsyncExitStack
    ) -> None:
        number = 0
        now = asyncio.get_running_loop().time
        for workload in self.spec.workload:
            clients = Clients(workload, History(now))
            self.clients.append(clients)
            await workload.set_up(admin, self._generator())
            for _ in range(workload.clients):
                number += 1
                deadline_s = self.random.choice(DEADLINES_S)
                db = multiraft.connect(*addresses, deadline_s=deadline_s)
                run = ClientRun(
                    db=await connections.enter_async_context(db),
                    rng=self._generator(),
                    number=number,
                    history=clients.history,
                    is_over=lambda: self._is_over,
                    think_s=workload.think_s,
                )
                task = asyncio.create_task(workload.client(run))
                connections.callback(task.cancel)
                clients.tasks.append(task)

    async def _hurt(self, fault: Fault, target: ProcessTarget, rng: random.Random) -> None:
        while True:
            await asyncio.sleep(rng.uniform(*fault.every_s))
            await fault.episode(target, rng)

    async def _end_faults(self, faults: list[asyncio.Task[None]]) -> None:
        for task in faults:
            task.cancel()
        for end in await asyncio.gather(*faults, return_exceptions=True):
            if isinstance(end, Exception):
                self.problems.append(f"a fault failed: {end!r}")

    async def _end_clients(self) -> None:
        """Every call under way must end: faults are over."""
        tasks = [task for clients in self.clients for task in clients.tasks]
        done, pending = await asyncio.wait(tasks, timeout=PATIENCE_S)
        for task in pending:
            task.cancel()
            self.problems.append(
                f"a call did not end within {PATIENCE_S:g} s of the last fault: {task.get_coro()!r}"
            )
        for task in done:
            error = task.exception()
            if error is not None:
                self.problems.append(f"a client failed: {error!r}")

    async def _recover(self, admin: Database) -> None:
        began = asyncio.get_running_loop().time()
        async with self._patience():
            while await replicas.settled(admin) is None:  # noqa: ASYNC110 - nodes decide it
                await asyncio.sleep(_POLL_S)
        self._recovered_s += asyncio.get_running_loop().time() - began

    @contextlib.asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                yield
        except (TimeoutError, errors.MultiraftError) as error:
            self.problems.append(f"replicas did not become equal within {PATIENCE_S:g} s: {error}")

    async def _judge(self, admin: Database) -> None:
        for clients in self.clients:
            try:
                await clients.workload.finish(admin, clients.history)
            except errors.MultiraftError as error:
                self.problems.append(f"a healed cluster refused the last reads: {error!r}")
            clients.verdicts = clients.workload.check(clients.history)
            self.problems += [str(each) for each in clients.verdicts if not each.ok]

    def _compare(self, directories: list[Path]) -> None:
        """Compare what the nodes, which do not run any more, have on disk."""
        found = replicas.compare(directories)
        self._ranges = found.ranges
        self.problems += found.differences
        if not self.problems and found.pairs != found.pairs_expected:
            self.problems.append(
                f"{found.pairs} replicas of {found.ranges} ranges were at the index of another, "
                f"{found.pairs_expected} should be"
            )

    # -- odds and ends ---------------------------------------------------------------------------

    def _generator(self) -> random.Random:
        return random.Random(self.random.getrandbits(64))

    @property
    def operations(self) -> int:
        """How many calls were noted so far."""
        return sum(len(clients.history) for clients in self.clients)

    def _answered(self) -> Iterator[Operation]:
        for clients in self.clients:
            yield from (each for each in clients.history if each.outcome == "ok")

    def _result(self, seconds: float) -> TortureResult:
        outcomes = Counter(
            operation.outcome for clients in self.clients for operation in clients.history
        )
        return TortureResult(
            spec=self.spec.name,
            seed=self.seed,
            problems=tuple(self.problems),
            verdicts=tuple(each for clients in self.clients for each in clients.verdicts),
            outcomes=dict(sorted(outcomes.items())),
            faults=dict(sorted(self.faults.items())),
            ranges=self._ranges,
            recovered_s=self._recovered_s,
            longest_s=max(map(_seconds_of, self._answered()), default=0.0),
            seconds=seconds,
            usage=self._usage,
        )


def _seconds_of(operation: Operation) -> float:
    assert operation.completed is not None, "it was answered"
    return operation.completed - operation.invoked


def _as_toml(config: Mapping[str, Mapping[str, Any]]) -> str:
    """Return settings of numbers, texts and truth values, which TOML writes as JSON does."""
    lines: list[str] = []
    for part, settings in config.items():
        lines.append(f"[{part}]")
        lines += [f"{name} = {orjson.dumps(value).decode()}" for name, value in settings.items()]
    return "\n".join([*lines, ""])
