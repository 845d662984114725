"""A whole cluster on one loop: real nodes, memory engines, in-process network, own clocks.

Purpose
    Everything but engine, network and clock is production code. The methods hurt the cluster;
    `until` lets time pass. All frames between stores pass a `Wiretap`, and `Invariants` look at
    everything.
Invariants
    - One seed decides everything that is drawn here.
    - A store fails only if its member has an excuse, such as a disk that was made to fail: it is
      dead then, as its process would be. Any other failure, and whatever escapes a handler, is kept
      in `errors`.
    - Faults may overlap: what was frozen or isolated twice is free when both are undone.
    - Whatever hurts the cluster is noted in its trace, if it has one.
"""

import asyncio
import contextvars
import random
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

import multiraft
from multiraft import errors
from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config, RaftConfig
from multiraft.ids import RangeId, Timestamp
from multiraft.model import hlc, locality
from multiraft.model.requests import BatchReply, BatchRequest, Operation
from multiraft.net.inproc import InprocTransport
from multiraft.net.links import InprocNetwork
from multiraft.net.transport import NodeAddress
from multiraft.node import Node
from multiraft.ranges import bootstrap
from multiraft.ranges.bootstrap import USER_RANGE_ID
from multiraft.sim import trace as events
from multiraft.sim.clock import VirtualClock
from multiraft.sim.inspection import Inspection, Member
from multiraft.sim.invariants import Invariants
from multiraft.sim.loop import VirtualLoop
from multiraft.sim.network import Conditions, Delay
from multiraft.sim.observer import Observer
from multiraft.sim.process import Condition, Process, TransportOf
from multiraft.sim.randomness import SeededRng
from multiraft.sim.trace import Trace
from multiraft.sim.wiretap import Wiretap
from multiraft.storage.identity import Identity

FAST = Config(
    raft=RaftConfig(tick_ms=20),
    client=ClientConfig(attempt_timeout_ms=500, deadline_s=30.0),
)
"""Short ticks, so that elections take tens of virtual milliseconds."""

STEP_S = 0.005
CLUSTER_ID = "test-cluster"


class Cluster(Inspection):
    """See the module. Runs on any loop; `freeze` is weaker on one with real time.

    `localities` tells where each node is. Ranges are on all nodes at first, but if that is told on
    no more than they should be on: the first nodes, wherever these are.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        nodes: int = 3,
        localities: Sequence[str] = (),
        config: Config = FAST,
        seed: int = 1,
        trace: Trace | None = None,
    ) -> None:
        self.loop = loop
        self.config = config
        self.random = random.Random(seed)
        self.conditions = Conditions(self.random)
        self.network = InprocNetwork(config.net, self.conditions.link)
        self.errors: list[BaseException] = []
        self.wiretap = Wiretap(self.random)
        self.client_names: dict[str, None] = {}
        """Under which the clients' links are known."""
        self.mortals: dict[str, Process] = {}
        """Clients that may vanish: whoever starts them starts others in their place."""
        self.snapshots_of_the_dead = 0
        self._starting: dict[int, asyncio.Task[None]] = {}
        """The last start of each node that lives."""
        self._dying: dict[int, asyncio.Task[None]] = {}
        """Nodes whose store failed on a loop with real time, where to end them takes a moment."""
        self.members = {number: Member(number, loop) for number in range(1, nodes + 1)}
        self.trace = trace
        self._observer: Observer | None = None
        if trace is not None:
            trace.bind(loop)
            if trace.keeps:
                self._observer = Observer(trace, self.members)
        self.invariants = Invariants(self.running, loop.time, self._violated)
        self.wiretap.listeners.append(self.invariants.hear)
        for number, where in enumerate(localities, start=1):
            self.members[number].locality = locality.parse(where)
        addresses = tuple(
            NodeAddress(m.node_id, m.address, m.locality or ()) for m in self.members.values()
        )
        factor = config.ranges.replication_factor
        voters = tuple(m.node_id for m in self.members.values())[: factor if localities else None]
        # One for all, or replicas would begin with other rows where time passes meanwhile.
        beginning = hlc.from_us(VirtualClock(loop).wall_us() - 1)
        for member in self.members.values():
            bootstrap.write(
                member.engine,
                Identity(CLUSTER_ID, member.node_id),
                addresses,
                beginning,
                voters,
            )

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Start every node that is down, and wait until every range has a serving leader."""
        for member in self.members.values():
            if member.node is None:
                await self.start_node(member.number)
        await self.until_served()

    async def start_node(self, number: int) -> None:
        """Start one node on what its engine holds; return when it takes part, or is dead again.

        It may be killed while it starts, and die of what its member has an excuse for. The start
        goes on if whoever waits for it is cancelled, until the node is crashed or stopped.
        """
        member = self.members[number]
        assert member.node is None, f"{member.name} is up"
        member.incarnation += 1
        self.note(number, events.Started(member.incarnation))
        member.process = process = Process(member.name)
        try:
            self.invariants.attach_disk(member)
            member.node = node = cast("Node", process.run(self._make_node, member, process))
        except errors.StoreFailedError:
            if not member.excuses:
                raise
            member.engine.close()
            member.engine = member.engine.reopen()
            return
        starting = process.spawn(node.start(member.address, locality=member.locality))
        self._starting[number] = starting
        if not await process.outlives(starting) or starting.cancelled():
            return
        if starting.exception() is not None:
            await self.crash(number)
            if not member.excuses:
                starting.result()

    async def _give_up_start(self, number: int) -> None:
        """End the start of a living node, if it is still under way."""
        starting = self._starting.pop(number, None)
        if starting is not None and not starting.done():
            starting.cancel()
            await asyncio.wait((starting,))

    def _make_node(self, member: Member, process: Process) -> Node:
        transport = InprocTransport(self.network, member.name, self._erred)
        node = Node(
            Identity(CLUSTER_ID, member.node_id),
            member.engine,
            TransportOf(transport, process),
            member.clock,
            SeededRng(self.random.randrange(1 << 30)),
            self.config,
        )
        node.failed.add_done_callback(
            lambda failed: self._store_failed(member, node, failed.result()),
            context=contextvars.Context(),
        )
        send = node.store.outbox.send_frame
        if self.trace is not None:
            send = self.trace.covering(member.number, send)
        if self._observer is not None:
            send = self._observer.carrying(member.number, node, send)
        send = self.wiretap.splice(member.number, member.incarnation, send)
        if self._observer is not None:
            send = self._observer.saying(member.number, send)
        node.store.outbox.send_frame = send
        self.invariants.attach(member, node)
        return node

    def _store_failed(self, member: Member, node: Node, error: BaseException) -> None:
        if not member.excuses:
            self._erred(error)
        elif member.node is node and isinstance(self.loop, VirtualLoop):
            self.kill(member.number)
        elif member.node is node:
            self._dying[member.number] = self.loop.create_task(self.crash(member.number))

    def _erred(self, error: BaseException) -> None:
        self.errors.append(error)
        self._violated(f"{type(error).__name__}: {error}")

    def _violated(self, text: str) -> None:
        self.note(events.WORLD, events.Violation(text))

    def note(self, number: int, what: events.What) -> None:
        """Note an event at a node, or of the world, in the trace if there is one."""
        if self.trace is not None:
            self.trace.note(number, what)

    async def stop(self) -> None:
        """Stop every node in good order.

        Fails if a store had failed before, or if an invariant was violated.
        """
        await asyncio.gather(*self._dying.values())
        self.invariants.check()
        for member in self.members.values():
            if member.node is not None:
                node, member.node = member.node, None
                self.note(member.number, events.Stopped())
                while member.process.is_frozen:
                    self._thaw(member)
                self.wiretap.hang_up(member.number)
                await self._give_up_start(member.number)
                await member.process.spawn(node.stop())
        assert not self.errors, self.errors
        assert not self.invariants.violations, "\n".join(self.invariants.violations)

    # -- faults: processes -----------------------------------------------------------------------

    def kill(self, number: int, *, keep: int | None = None) -> None:
        """End a node between two callbacks, and its machine, on virtual time: a power cut.

        Of its unsynced batches only the first `keep` survive; None: a random number of them.
        """
        member = self.members[number]
        self.invariants.promises.look_at_all(member)
        node, member.node = member.up, None
        self.invariants.detach(number)
        self.snapshots_of_the_dead += node.store.snapshots.sent
        if member.process.is_frozen:
            self.network.rejoin(member.name)
        member.process.kill()
        self._starting.pop(number, None)
        self.wiretap.hang_up(number)
        self.network.crash(member.name)
        unsynced = member.engine.unsynced_count
        kept = self.random.randint(0, unsynced) if keep is None else keep
        member.engine.crash(kept)
        member.engine = member.engine.reopen()
        self.note(number, events.Crashed(max(0, unsynced - kept)))
        if self._observer is not None:
            self._observer.ended(number)

    async def crash(self, number: int, *, keep: int | None = None) -> None:
        """As `kill`, on any loop; on one with real time, the node's tasks are cancelled."""
        if not isinstance(self.loop, VirtualLoop):
            member = self.members[number]
            node = member.up
            await self._give_up_start(number)
            await node.kill()
            if member.node is not node:
                return  # Its store failed meanwhile, and that was faster.
        self.kill(number, keep=keep)

    async def restart(self, number: int) -> None:
        """Start a crashed node again."""
        await self.start_node(number)

    def freeze(self, number: int) -> None:
        """Stop a node as SIGSTOP does, between two callbacks; what is sent to it waits.

        On a loop with real time its callbacks go on, but nothing it says or hears gets through.
        """
        member = self.members[number]
        if not member.process.is_frozen:
            self.network.isolate(member.name)
            self.note(number, events.Frozen())
        member.process.freeze()

    def freeze_when(self, number: int, condition: Condition) -> None:
        """Stop a node before its first callback at which `condition()` holds."""
        self.members[number].process.when(condition, lambda: self.freeze(number))

    def kill_when(self, number: int, condition: Condition) -> None:
        """End a node before its first callback at which `condition()` holds."""
        self.members[number].process.when(condition, lambda: self.kill(number))

    def vanish(self, name: str) -> None:
        """End one of the `mortals` between two callbacks, as kill -9 does."""
        self.mortals[name].kill()
        self.network.crash(name)

    def is_frozen(self, number: int) -> bool:
        """Whether the node stands still."""
        return self.members[number].process.is_frozen

    def thaw(self, number: int) -> None:
        """Undo `freeze`: timers that became due run late, then what waits in the sockets comes."""
        member = self.members[number]
        if member.process.is_frozen:
            self._thaw(member)

    def _thaw(self, member: Member) -> None:
        if isinstance(self.loop, VirtualLoop):
            self.loop.thaw(member.process)
        else:
            member.process.thaw()
        if not member.process.is_frozen:
            self.network.rejoin(member.name)
            self.note(member.number, events.Thawed())

    # -- faults: network and disks ---------------------------------------------------------------

    def slow_down(self, *, sync_s: float, link_s: float) -> None:
        """Let every sync, and every way of a frame, take that long from now on."""
        self.conditions.delay = Delay(link_s)
        for member in self.members.values():
            member.sync_delay_s = sync_s
        detail = f"each sync takes {sync_s:g} s, each way {link_s:g} s"
        self.note(events.WORLD, events.Fault("slow disks and links", detail))

    def cut(self, source: int, target: int) -> None:
        """Hold what one node sends to another from now on; the other way still works."""
        self.network.cut(f"n{source}", f"n{target}")
        self.note(source, events.LinkCut(source, target))

    def heal(self, source: int, target: int) -> None:
        """Undo `cut`: what was held arrives."""
        self.network.heal(f"n{source}", f"n{target}")
        self.note(source, events.LinkHealed(source, target))

    def isolate(self, number: int) -> None:
        """Cut a node off from everybody, clients included."""
        self.network.isolate(f"n{number}")
        self.note(number, events.Isolated())

    def rejoin(self, number: int) -> None:
        """Undo `isolate`."""
        self.network.rejoin(f"n{number}")
        self.note(number, events.Rejoined())

    def break_connections(self, number: int) -> None:
        """Break every connection between a node and the others, losing what travels."""
        self._break(number, tuple(other for other in self.members if other != number))

    def reset(self, one: int, other: int) -> None:
        """Break every connection between two nodes, losing what travels."""
        self._break(one, (other,))

    def _break(self, number: int, others: tuple[int, ...]) -> None:
        for other in others:
            self.network.break_connections(f"n{number}", f"n{other}")
        self.note(number, events.ConnectionsBroken(others))
        if self._observer is not None:
            self._observer.broken(number, others)

    # -- clients ---------------------------------------------------------------------------------

    def connect(
        self,
        *,
        name: str = "client",
        process: Process | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> Database:
        """Return a database of this cluster, to be used with `async with`.

        `settings` are those of ClientConfig. `process` is whose the connections are: a new one,
        unless it is given.
        """
        config = msgspec.structs.replace(
            self.config, client=msgspec.structs.replace(self.config.client, **settings)
        )
        self.client_names[name] = None
        transport = InprocTransport(self.network, name, self._erred)
        return multiraft.connect(
            *(m.address for m in self.members.values()),
            settings=config,
            transport=TransportOf(transport, process or Process(name)),
            clock=VirtualClock(self.loop),
            rng=SeededRng(self.random.randrange(1 << 30)),
        )

    def forget_clients(self) -> None:
        """All `mortals` have ended, or vanished, and others will have other names."""
        for name in self.mortals:
            self.client_names.pop(name, None)
            self.network.forget(name)
        self.mortals.clear()

    def submit(
        self, number: int, operations: tuple[Operation, ...], *, range_id: int = USER_RANGE_ID
    ) -> list[BatchReply]:
        """Hand a request to a node's store, past client and network; return where it answers."""
        replies: list[BatchReply] = []
        member = self.members[number]
        store = member.up.store
        request = BatchRequest(
            RangeId(range_id),
            operations,
            id=self.random.randbytes(16),
            issued_at=Timestamp(store.context.hlc.now() - hlc.from_ms(250)),
        )
        member.process.run(store.submit, request, replies.append)
        return replies

    # -- waiting ---------------------------------------------------------------------------------

    async def until(
        self, condition: Callable[[], bool], *, within_s: float = 30.0, step_s: float = STEP_S
    ) -> None:
        """Let virtual time pass until `condition()`; fails the test if it never comes true."""
        deadline = self.loop.time() + within_s
        while not condition():
            assert not self.errors, self.errors
            assert self.loop.time() < deadline, f"not within {within_s:g} virtual seconds"
            await asyncio.sleep(step_s)

    async def until_served(self) -> None:
        """Wait until every range has a leader that may serve."""
        await self.until(lambda: all(self.leader(r) is not None for r in self.range_ids()))

    async def until_applied(self, range_id: int = USER_RANGE_ID) -> None:
        """Wait until all running replicas of a range have applied the same, which is everything."""

        def equal() -> bool:
            indexes = {r.applied.index for r in self.replicas(range_id)}
            commits = {r.core.last_index for r in self.replicas(range_id)}
            return len(indexes) == 1 and indexes == commits

        await self.until(equal)
