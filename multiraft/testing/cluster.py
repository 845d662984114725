"""A real cluster inside a test, and what can be done to it.

    async with multiraft.testing.Cluster(nodes=3) as cluster, cluster.connect() as db:
        await db.put(b"answer", b"42")
        await cluster.crash(cluster.leader(b"answer"))
        assert await db.get(b"answer") == b"42"

Purpose
    The nodes are those of production, on the running event loop, with engines in memory and a
    network inside the process: no port, no file, no thread. It is `sim.cluster` with names for
    users: what a test asks wrongly is answered with a reason.
Invariants
    - What is broken here stays broken until the test mends it, or the cluster ends.
    - When the cluster ends, no task, timer or connection of it is left, also if the test is
      cancelled, however often, or has nodes that are about to start.
    - A cluster that has seen the database break a promise fails the test: two leaders of one term,
      two entries in one place of a log, an exception that nobody expected.
"""

import asyncio
import random
import re
from collections.abc import Iterable, Sequence
from itertools import permutations
from types import TracebackType
from typing import Any

import msgspec

from multiraft import config as configuration
from multiraft.client.database import Database
from multiraft.config import ClientConfig, Config, RaftConfig
from multiraft.model import locality
from multiraft.sim.cluster import STEP_S
from multiraft.sim.cluster import Cluster as SimulatedCluster
from multiraft.sim.inspection import Member
from multiraft.testing import arguments
from multiraft.testing.cluster_status import (
    ClusterStatus,
    MisuseError,
    NodeState,
    NodeStatus,
    RangeStatus,
)
from multiraft.testing.completion import to_the_end

SETTINGS = Config(raft=RaftConfig(tick_ms=20), client=ClientConfig(attempt_timeout_ms=500))
"""Those of production, except that elections and attempts are as fast as memory is."""

LEADS_WITHIN_S = 10.0
CLOCK = "its clock was set wrong"
SKEW_S_MAX = 1e9
"""Some thirty years; the times of a cluster have room for as much."""

_NODE_NAME = re.compile(r"n\d+")


class Cluster:
    """See the module. Nodes have the numbers 1 to `nodes`.

    `seed` decides all that is drawn: election timeouts, what a crash leaves, `random`. On a loop
    with virtual time (`run_simulated`, `simulated`) it decides the whole run. `config` replaces the
    nodes' settings. A cluster starts with `async with`, once; that takes about a quarter of a
    second of the loop's time, nearly all of it the first election.

    All nodes have replicas of all ranges, unless `localities` tells where each node is, such as
    "host=a": then as many of the first nodes as `replication_factor` says, and those that share a
    host give replicas to others within a few seconds, if there are hosts enough.
    """

    def __init__(
        self,
        nodes: int = 3,
        *,
        seed: int = 1,
        config: Config = SETTINGS,
        localities: Sequence[str] = (),
    ) -> None:
        arguments.check_int("nodes", nodes, least=1)
        arguments.check_int("seed", seed)
        if localities and len(localities) != nodes:
            raise MisuseError(f"{len(localities)} localities are given for {nodes} nodes")
        for where in localities:
            locality.parse(where)
        configuration.check(config)
        self._nodes = nodes
        self._localities = localities
        self._seed = seed
        self._config = config
        self._simulated: SimulatedCluster | None = None
        self._is_over = False
        self._databases: list[Database] = []
        self._cuts: dict[tuple[str, str], None] = {}
        self._admin: Database | None = None
        self.random = random.Random(f"test {seed}")
        """For the test's own decisions: numbers from the seed that the cluster does not use."""

    async def __aenter__(self) -> "Cluster":
        if self._simulated is not None:
            raise MisuseError("this cluster was started before; make another one")
        self._simulated = SimulatedCluster(
            asyncio.get_running_loop(),
            nodes=self._nodes,
            localities=self._localities,
            config=self._config,
            seed=self._seed,
        )
        try:
            await self._simulated.start()
            self._admin = self.connect(name="admin")
            await self._admin.open()
        except BaseException:
            await to_the_end(self._stop())
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await to_the_end(self._stop())
        except AssertionError as found:
            if error is None:
                raise
            error.add_note(f"and the cluster is broken: {found}")

    async def _stop(self) -> None:
        self.heal()
        self._is_over = True
        for database in self._databases:
            await database.close()
        await self.simulated.stop()

    # -- looking -----------------------------------------------------------------------------------

    @property
    def simulated(self) -> SimulatedCluster:
        """The cluster below, for what has no name here: failing disks, lost frames.

        It is internal: what it offers may change.
        """
        if self._simulated is None:
            raise MisuseError("the cluster is not started: use it with `async with`")
        return self._simulated

    @property
    def nodes(self) -> tuple[int, ...]:
        """The numbers of all nodes, up or down."""
        return tuple(range(1, self._nodes + 1))

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where the nodes listen, in the order of their numbers.

        Inside this cluster's own network: `connect` reaches them, sockets do not.
        """
        return tuple(f"n{number}:7000" for number in self.nodes)

    def leader(self, key: bytes = b"") -> int | None:
        """Return the number of the node that serves `key` at this moment, or None if none does.

        It may be a paused node, as long as its lease lasts; nobody else serves until then.
        """
        running = self._running()
        arguments.check_key(key)
        if not running.running():
            return None
        member = running.leader(running.range_at(key).range_id)
        return None if member is None else member.number

    def status(self) -> ClusterStatus:
        """Return what each node and each range is doing at this moment."""
        running = self._running()
        leaders = {range_id: running.leader(range_id) for range_id in running.range_ids()}
        nodes = tuple(
            NodeStatus(
                number=member.number,
                address=member.address,
                locality=locality.show(member.locality or ()),
                state=self._state(member),
                clock_offset_s=member.clock.offset_s(),
                leads=tuple(r for r, leader in leaders.items() if leader is member),
            )
            for member in running.members.values()
        )
        ranges = []
        for range_id, leader in leaders.items():
            known = [r.descriptor for r in running.replicas(range_id) if r.descriptor is not None]
            if known:
                newest = max(known, key=lambda descriptor: descriptor.generation)
                number = None if leader is None else leader.number
                on_nodes = tuple(replica.node_id for replica in newest.replicas)
                ranges.append(RangeStatus(range_id, newest.start, newest.end, number, on_nodes))
        return ClusterStatus(nodes, tuple(ranges), tuple(self._cuts), running.loop.time())

    async def until_served(self, *, within_s: float = 30.0) -> None:
        """Wait until every range has a leader that serves. Raises TimeoutError."""
        running = self._running()
        arguments.check_seconds("within_s", within_s, least=0.0)
        async with asyncio.timeout(within_s):
            await running.until_served()

    # -- clients -----------------------------------------------------------------------------------

    def connect(self, *, name: str = "client", **settings: Any) -> Database:  # noqa: ANN401
        """Return a database of this cluster, to be used with `async with`.

        `settings` are those of `multiraft.config.ClientConfig`, such as `deadline_s=2.0`. `name` is
        what `partition` calls the client; several may share one. A database that is still open
        when the cluster ends is closed then.
        """
        running = self._running()
        arguments.check_name(name)
        if _NODE_NAME.fullmatch(name):
            raise MisuseError(f"{name} is a node's name; give the client another one")
        client = msgspec.structs.replace(self._config.client, **settings)
        configuration.check(msgspec.structs.replace(self._config, client=client))
        database = running.connect(name=name, **settings)
        self._databases.append(database)
        return database

    # -- faults: nodes -----------------------------------------------------------------------------

    async def crash(self, node: int) -> None:
        """Cut a node's power. Its connections break, and what it had not synced is lost.

        Of its unsynced writes a beginning of random length survives, as on a disk. The node stays
        down until `restart`. A paused node may crash, too.
        """
        member = self._up(node)
        await self._running().crash(member.number)

    async def restart(self, node: int) -> None:
        """Start a crashed node on what its disk holds.

        On return it takes part; it may still be catching up. With a clock that is far behind it
        refuses to start, so it is down again.
        """
        member = self._member(node)
        if member.node is not None:
            hint = f"resume({node}) lets it go on" if self._is_paused(member) else "crash it first"
            raise MisuseError(f"{member.name} is {self._state(member)}; {hint}")
        await self._running().restart(node)

    def pause(self, node: int) -> None:
        """Stop a node as SIGSTOP does: it neither runs nor answers, and keeps its connections.

        What is sent to it waits. On a loop with real time one process cannot stand still: there
        its code goes on running, but nothing it says or hears gets through until `resume`.
        """
        member = self._up(node)
        if self._is_paused(member):
            raise MisuseError(f"{member.name} is paused already; resume({node}) ends that")
        self._running().freeze(node)

    def resume(self, node: int) -> None:
        """Let a paused node go on: timers that became due run late, then what waits arrives."""
        member = self._up(node)
        if not self._is_paused(member):
            raise MisuseError(f"{member.name} is not paused")
        self._running().thaw(node)

    def skew(self, node: int, seconds: float) -> None:
        """Set a node's wall clock that far ahead of the true time, or behind if negative; 0 mends.

        The database keeps its promises as long as clocks are within `clock_offset_ms_max` (250) of
        each other. A node that finds itself more than 80 % of that away from a majority stops, so
        its status becomes "down"; `restart` it when its clock is right again.
        """
        member = self._member(node)
        arguments.check_seconds("seconds", seconds, least=-SKEW_S_MAX, most=SKEW_S_MAX)
        member.excuses = [CLOCK] if seconds else []
        member.clock.step_wall(seconds - member.clock.offset_s())

    # -- faults: network ---------------------------------------------------------------------------

    def partition(self, *groups: Iterable[int | str]) -> None:
        """Cut the network between the groups, until `heal`; within a group it works.

        A group holds numbers of nodes and names that were given to `connect`. Nodes that are in no
        group form one more: `partition([3])` cuts node 3 off from the other nodes. Clients that are
        in no group reach everybody. What is sent across waits, as TCP does, and arrives after
        `heal`. A second partition replaces the first.
        """
        running = self._running()
        for group in groups:
            arguments.check_group(group)
        names = [tuple(self._name(each) for each in group) for group in groups]
        listed = [name for group in names for name in group]
        twice = sorted({name for name in listed if listed.count(name) > 1})
        if twice:
            raise MisuseError(f"{', '.join(twice)} cannot be in two groups")
        rest = tuple(m.name for m in running.members.values() if m.name not in listed)
        self.heal()
        for one, other in permutations([*names, rest], 2):
            for source in one:
                for destination in other:
                    self._cuts[source, destination] = None
                    running.network.cut(source, destination)

    def heal(self) -> None:
        """Undo `partition`: what waited arrives, in order. Paused nodes stay paused."""
        cuts, self._cuts = self._cuts, {}
        for source, destination in cuts:
            self.simulated.network.heal(source, destination)

    def slow_down(self, *, link_s: float = 0.0, sync_s: float = 0.0) -> None:
        """Let every frame travel, and every sync of a disk take, that long from now on."""
        arguments.check_seconds("link_s", link_s, least=0.0)
        arguments.check_seconds("sync_s", sync_s, least=0.0)
        self._running().slow_down(link_s=link_s, sync_s=sync_s)

    # -- ranges ------------------------------------------------------------------------------------

    async def split(self, key: bytes) -> None:
        """Split the range that holds `key`, so that one starts there.

        On return everybody finds both halves. Nothing changes if a range starts there already.
        Raises AdminRefusedError.
        """
        admin = self._database().admin
        arguments.check_key(key)
        _, right = await admin.split(key)
        while True:
            found = await admin.ranges(with_status=False)
            if any(each.descriptor.range_id == right.range_id for each in found):
                return
            await asyncio.sleep(STEP_S)  # The addressing record is written behind the split.

    async def transfer(self, key: bytes, node: int) -> None:
        """Hand the range that holds `key` to a node; on return that node serves it.

        A hand-over ends the old leader's term, and then another node may be elected; the hand-over
        is repeated until this one is. Raises TimeoutError if it does not get there in ten seconds,
        AdminRefusedError if it must not lead.
        """
        member = self._up(node)
        arguments.check_key(key)
        running = self._running()
        admin = self._database().admin
        async with asyncio.timeout(LEADS_WITHIN_S):
            while (leader := self.leader(key)) != node:
                if leader is not None:
                    await admin.transfer(running.range_at(key).range_id, member.node_id)
                await running.until(lambda: self.leader(key) is not None)

    # -- inside ------------------------------------------------------------------------------------

    def _running(self) -> SimulatedCluster:
        if self._is_over:
            raise MisuseError("the cluster has ended")
        return self.simulated

    def _database(self) -> Database:
        self._running()
        assert self._admin is not None, "a started cluster has a client of its own"
        return self._admin

    def _name(self, member: int | str) -> str:
        if not isinstance(member, str):
            return self._member(member).name
        clients = self._running().client_names
        if member not in clients:
            known = ", ".join(map(repr, clients))
            raise MisuseError(
                f"there is no client {member!r}; there are {known}, and nodes are numbers"
            )
        return member

    def _member(self, node: int) -> Member:
        running = self._running()
        if type(node) is not int or node not in running.members:
            raise MisuseError(f"there is no node {node!r}; there are 1 to {len(running.members)}")
        return running.members[node]

    def _up(self, node: int) -> Member:
        member = self._member(node)
        if member.node is None:
            raise MisuseError(f"{member.name} is down; restart({node}) starts it")
        return member

    def _is_paused(self, member: Member) -> bool:
        return self._running().is_frozen(member.number)

    def _state(self, member: Member) -> NodeState:
        if member.node is None:
            return "down"
        return "paused" if self._is_paused(member) else "up"
