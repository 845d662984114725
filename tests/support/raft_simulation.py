"""Random runs of one group from a seed: real cores, a hostile network, disks and clocks.

Each event is one thing that may happen: a message arrives (late, twice, in any order), a host takes
a turn, a sync ends, a store crashes and loses what was not synced, support is granted or withdrawn,
the configuration changes, a leader hands over or serves. After every event `raft_checker` looks at
what has changed. At the end faults stop, and the group must come to rest with all members equal.
"""

import random
from collections.abc import Callable

from msgspec.structs import replace

from multiraft.config import RaftConfig
from multiraft.ids import NO_EPOCH, Epoch, Index, ReplicaId, Term, Timestamp
from multiraft.raft import election
from multiraft.raft.core import RaftCore
from multiraft.raft.membership import leaving
from multiraft.raft.messages import Configuration, Entry, EntryKind, Envelope, InstallSnapshot
from multiraft.raft.ready import HardState, Ready
from multiraft.raft.role import Role
from tests.support import raft_disk
from tests.support.raft_checker import Checker
from tests.support.raft_disk import Disk, Machine, State

SUPPORT_MS = 800
TINY = RaftConfig(
    append_bytes_max=24,
    inflight_bytes_max=60,
    inflight_messages_max=3,
    committed_bytes_max=24,
    uncommitted_bytes_max=400,
    election_timeout_ticks=4,
    support_loss_jitter_ticks=3,
    retry_ticks=2,
)
FIRST_INDEX = Index(10)
FIRST_TERM = Term(5)


class Grant:
    """What a supporter remembers of one asker: durable before anybody sees it (rule A6)."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.epoch = NO_EPOCH
        self.until = 0
        self.live = False


class Store:
    """One store with its one replica: disk, clock, grants, and a core while it is up."""

    def __init__(self, world: "World", replica_id: ReplicaId, disk: Disk) -> None:
        self.world = world
        self.id = replica_id
        self.disk = disk
        self.skew = world.random.randrange(-300, 301)
        self.clock = 0
        self.clock_durable = 0
        self.incarnation = 0
        self.grants: dict[ReplicaId, Grant] = {}
        self.acknowledged: dict[ReplicaId, tuple[Epoch, int]] = {}
        self.core: RaftCore | None = None
        self.turns = 1.0
        self.syncs = 1.0
        self.taken: list[Ready] = []
        """Readys that came with messages, to be carried out in the next turn."""
        self.unsynced: list[Ready | None] = []
        """What each unsynced batch of the disk was written for; None: a truncation of the log."""

    # Time: never back, not even over a restart (rule S3).

    def wall(self) -> int:
        return self.world.now + self.skew

    def forward(self, clock: int) -> None:
        self.clock = max(self.clock, clock)

    def read_clock(self) -> int:
        self.clock = max(self.clock + 1, self.wall())
        return self.clock

    # Support, as the core sees it.

    def support_for(self, replica: ReplicaId) -> Epoch:
        grant = self.grants.get(replica)
        return grant.epoch if grant is not None and grant.live else NO_EPOCH

    def support_from(self, replica: ReplicaId) -> tuple[Epoch, Timestamp]:
        epoch, until = self.acknowledged.get(replica, (NO_EPOCH, 0))
        if until <= self.clock:
            return NO_EPOCH, Timestamp(0)
        return epoch, Timestamp(until)

    # Life.

    def start(self) -> None:
        self.incarnation += 1
        self.clock = self.clock_durable
        self.acknowledged.clear()
        self.taken.clear()
        self.unsynced.clear()
        self.core = RaftCore(
            self.id,
            self.world.config,
            self.disk,
            self,
            self.world.random.randrange,
            self.forward,
        )

    def crash(self, survive: int) -> None:
        self.core = None
        self.disk.crash(survive)

    def has_work(self) -> bool:
        return bool(self.taken) or (self.core is not None and self.core.has_ready())

    def turn(self) -> None:
        """Carry out what was taken, and then one more Ready, if there is any."""
        core = self.core
        assert core is not None
        taken, self.taken = self.taken, []
        for ready in taken:
            self._carry_out(core, ready)
        if core.has_ready():
            self._carry_out(core, core.take_ready())

    def _carry_out(self, core: RaftCore, ready: Ready) -> None:
        """Write a Ready, apply, and send what may go now."""
        self.world.checker.saw_ready(self.id, core, ready, self.disk)
        if ready.committed and core.applied_index >= ready.committed[0].index:
            ready = replace(ready, committed=())
        restored = None
        if ready.snapshot is not None:
            restored = self.world.staged.pop((self.id, ready.snapshot.index))
        machines = self.disk.write_ready(ready, restored)
        for entry, machine in zip(ready.committed, machines, strict=True):
            self.world.checker.applied(self.id, entry, machine.checksum)
            if entry.kind is EntryKind.CONFIGURATION:
                core.apply_configuration(machine.configuration, entry.index)
            core.applied(entry.index)
        self.world.checker.confirmed(ready.reads)
        self.world.post(self, ready.messages)
        for target in ready.snapshot_targets:
            self.world.stream_snapshot(self, target)
        self.unsynced.append(ready)

    def sync(self, count: int) -> None:
        """The oldest `count` batches are durable: release what waited for exactly these."""
        core = self.core
        assert core is not None
        done = self.unsynced[:count]
        del self.unsynced[:count]
        self.disk.sync(count)
        for ready in done:
            if ready is None:
                continue
            self.world.post(self, ready.messages_after_sync)
            if ready.must_sync:
                core.synced(ready)


class Flight:
    """A message on its way, with the sender's clock."""

    def __init__(self, clock: int, envelope: Envelope) -> None:
        self.clock = clock
        self.envelope = envelope


class Stream:
    """A snapshot on its way from `source`, as it was when the stream began."""

    def __init__(self, source: ReplicaId, flight: Flight, machine: Machine) -> None:
        self.source = source
        self.flight = flight
        self.machine = machine


class World:
    """Everything that one seed decides."""

    def __init__(self, seed: int, voters: int = 3, stores: int = 5) -> None:
        self.random = random.Random(seed)
        self.config = TINY
        self.now = 10_000
        self.arrivals = 1.0
        self.checker = Checker()
        self.flights: list[Flight] = []
        self.streams: list[Stream] = []
        self.staged: dict[tuple[ReplicaId, Index], Machine] = {}
        self.cut: dict[tuple[ReplicaId, ReplicaId], None] = {}
        self.proposals = 0
        self.read_context = 0
        self.stores: dict[ReplicaId, Store] = {}
        self.removed: dict[ReplicaId, None] = {}
        self.counts: dict[str, int] = {}
        self._found(voters, stores)

    def _found(self, voters: int, stores: int) -> None:
        configuration = Configuration(tuple(ReplicaId(number) for number in range(1, voters + 1)))
        split = self.random.random() < 0.5
        for number in range(1, stores + 1):
            replica_id = ReplicaId(number)
            if number <= voters:
                hard_state = HardState(FIRST_TERM, ReplicaId(split), FIRST_INDEX)
                machine = Machine(FIRST_INDEX, 0, configuration)
                disk = Disk(State(hard_state, machine, FIRST_TERM))
            else:
                disk = raft_disk.empty_disk()
            store = self.stores[replica_id] = Store(self, replica_id, disk)
            store.start()
        if split:
            first = self.stores[ReplicaId(1)].core
            assert first is not None
            first.become_first_leader()

    # --- Network ------------------------------------------------------------------------------

    def post(self, sender: Store, envelopes: tuple[Envelope, ...]) -> None:
        clock = sender.read_clock() if envelopes else 0
        for envelope in envelopes:
            assert envelope.source == sender.id, "a replica speaks for itself"
            assert envelope.target != sender.id, "a replica does not talk to itself"
            self.flights.append(Flight(clock, envelope))

    def stream_snapshot(self, sender: Store, target: ReplicaId) -> None:
        core = sender.core
        assert core is not None
        machine = sender.disk.written.machine
        term = core.log.term(machine.index)
        assert term is not None
        message = InstallSnapshot(core.term, machine.index, term, machine.configuration)
        flight = Flight(sender.read_clock(), Envelope(sender.id, target, message))
        self.streams.append(Stream(sender.id, flight, machine))

    def deliver(self, flight: Flight) -> None:
        envelope = flight.envelope
        store = self.stores[envelope.target]
        if store.core is None or (envelope.source, envelope.target) in self.cut:
            return
        store.forward(flight.clock)
        ready = store.core.step_at_once(envelope) if self.random.random() < 0.5 else None
        if ready is None:
            store.core.step(envelope)
        else:
            self.count("at once")
            store.taken.append(ready)

    # --- Events -------------------------------------------------------------------------------

    def up(self) -> list[Store]:
        return [store for store in self.stores.values() if store.core is not None]

    def leaders(self) -> list[tuple[Store, RaftCore]]:
        return [
            (store, store.core)
            for store in self.stores.values()
            if store.core is not None and store.core.role is Role.LEADER
        ]

    def arrive(self) -> None:
        """A message arrives: mostly the oldest, sometimes any; sometimes it stays, or is lost."""
        if not self.flights:
            return
        chance = self.random.random()
        in_order = chance < 0.7
        position = 0 if in_order else self.random.randrange(len(self.flights))
        flight = self.flights[position]
        if chance < 0.95:
            del self.flights[position]
        if chance < 0.9 or chance >= 0.95:
            self.deliver(flight)

    def go_on(self) -> None:
        """Some messages arrive, some hosts take a turn, some syncs end, each at its own pace."""
        for _ in range(len(self.flights)):
            if self.random.random() < self.arrivals:
                self.arrive()
        for store in self.up():
            if store.has_work() and self.random.random() < store.turns:
                store.turn()
            if store.unsynced and self.random.random() < store.syncs:
                store.sync(self.random.randrange(1, len(store.unsynced) + 1))

    def pass_time(self) -> None:
        self.now += self.random.randrange(1, 120)
        for store in self.up():
            assert store.core is not None
            for _ in range(self.random.randrange(3)):
                if store.core.needs_tick:
                    store.core.tick()

    def ask_for_support(self) -> None:
        """Some stores ask some others; either leg may be lost."""
        for asker in self.up():
            for supporter in self.up():
                if self.random.random() < 0.5:
                    self._ask(asker, supporter, self.random.random() < 0.9)

    def _ask(self, asker: Store, supporter: Store, answered: bool) -> None:
        if (asker.id, supporter.id) in self.cut:
            return
        until = max(asker.wall(), asker.clock) + SUPPORT_MS
        asker.clock_durable = max(asker.clock_durable, until)
        supporter.forward(asker.read_clock())
        grant = supporter.grants.setdefault(asker.id, Grant())
        before = supporter.support_for(asker.id)
        if asker.incarnation > grant.incarnation:
            grant.incarnation = asker.incarnation
            grant.epoch = Epoch(grant.epoch + 1)
            grant.until = 0
            # What was granted before ends here, so this clock, past its end, is kept (rule S3).
            supporter.clock_durable = max(supporter.clock_durable, supporter.clock)
        grant.live = True
        grant.until = max(grant.until, until)
        if supporter.support_for(asker.id) != before:
            self._notice(supporter)
        if not answered or (supporter.id, asker.id) in self.cut:
            return
        asker.forward(supporter.read_clock())
        seen = asker.support_from(supporter.id)[0]
        asker.acknowledged[supporter.id] = (grant.epoch, grant.until)
        if asker.support_from(supporter.id)[0] != seen:
            self._notice(asker)

    def _notice(self, store: Store) -> None:
        if store.core is not None:
            store.core.support_changed()

    def withdraw_support(self) -> None:
        """A store whose clock has passed the end of a grant raises the epoch."""
        for store in self.up():
            for grant in store.grants.values():
                if grant.live and store.read_clock() > grant.until and self.random.random() < 0.5:
                    grant.live = False
                    grant.epoch = Epoch(grant.epoch + 1)
                    store.clock_durable = max(store.clock_durable, store.clock)
                    self._notice(store)

    def propose(self) -> None:
        for _, core in self.leaders():
            for _ in range(self.random.randrange(1, 5)):
                self.proposals += 1
                payload = f"{self.proposals}".encode() * self.random.randrange(1, 4)
                index = core.propose(payload, core.term)
                if index:
                    self.checker.proposed(Entry(core.term, index, EntryKind.COMMAND, payload))

    def change_configuration(self) -> None:
        for _, core in self.leaders():
            new = self._some_configuration(core)
            if new is None:
                continue
            payload = raft_disk.pack_configuration(new)
            if core.propose_configuration(payload, core.term, new):
                self.count("configuration")

    def _some_configuration(self, core: RaftCore) -> Configuration | None:
        present = core.configuration
        if present.is_joint:
            return leaving(present) if core.wants_to_leave_joint else None
        choice = self.random.randrange(3)
        fresh = [
            number
            for number in self.stores
            if number not in present.members and number not in self.removed
        ]
        if choice == 0 and fresh:
            added = self.random.choice(fresh)
            return Configuration(present.voters, (), tuple(sorted((*present.learners, added))))
        if choice == 1 and len(present.learners) > 1:
            gone = self.random.choice(present.learners)
            kept = tuple(each for each in present.learners if each != gone)
            self.removed[gone] = None
            return Configuration(present.voters, (), kept)
        if choice == 2 and present.learners:
            return self._some_joint(present)
        return None

    def _some_joint(self, present: Configuration) -> Configuration:
        added = self.random.choice(present.learners)
        voters = [*present.voters, added]
        while len(voters) > 1 and self.random.random() < 0.6:
            voters.remove(self.random.choice(voters))
        learners = tuple(each for each in present.learners if each not in voters)
        return Configuration(tuple(sorted(voters)), present.voters, learners)

    def serve(self) -> None:
        """A leader serves at some timestamp below its lease's end, however far ahead."""
        for store, core in self.leaders():
            end = core.lease_until()
            clock = store.read_clock()
            if clock < end:
                timestamp = self.random.randrange(clock, end)
                store.forward(timestamp)
                self.checker.served(core.term, timestamp)
                self.count("served")

    def hand_over(self) -> None:
        for store, core in self.leaders():
            voters = [each for each in core.electorate if each != store.id]
            if not voters:
                continue
            if core.transfer(self.random.choice(voters), Timestamp(store.read_clock())):
                self.count("transfer")

    def skip_pre_vote(self) -> None:
        """A pre-vote only saves disturbance: safety must hold without."""
        for store in self.up():
            core = store.core
            assert core is not None
            if self.random.random() < 0.3 and election.may_campaign(core):
                election.become_candidate(core, None)

    def interfere(self) -> None:
        """What a host may do at any time."""
        store = self.random.choice(self.up())
        core = store.core
        assert core is not None
        action: Callable[[], object] = self.random.choice(
            [core.campaign, core.ask_still_leading, core.support_changed, core.tick]
        )
        action()
        if self.random.random() < 0.1 and core.role is Role.LEADER:
            core.step_down(Timestamp(store.read_clock()))
        core.report_unreachable(self.random.choice(list(self.stores)))

    def read(self) -> None:
        for _, core in self.leaders():
            self.read_context += 1
            if core.read_index(self.read_context):
                self.checker.read_began(self.read_context)

    def truncate(self) -> None:
        store = self.random.choice(self.up())
        store.disk.truncate(store.disk.written.machine.index)
        store.unsynced.append(None)

    def end_stream(self) -> None:
        """A snapshot arrives, or its stream breaks."""
        if not self.streams:
            return
        stream = self.streams.pop(self.random.randrange(len(self.streams)))
        self._end(stream, ok=self.random.random() < 0.8)

    def _end(self, stream: Stream, *, ok: bool) -> None:
        envelope = stream.flight.envelope
        target = self.stores[envelope.target]
        ok = ok and target.core is not None and (envelope.source, envelope.target) not in self.cut
        if ok:
            self.staged[envelope.target, stream.machine.index] = stream.machine
            self.deliver(stream.flight)
            self.count("snapshot")
        source = self.stores[stream.source].core
        if source is not None:
            source.report_snapshot(envelope.target, delivered=ok)

    def crash(self) -> None:
        store = self.random.choice(self.up())
        store.crash(self.random.randrange(store.disk.unsynced + 1))
        self.count("crash")

    def bounce(self) -> None:
        """A store loses power and is back at once: nobody has noticed, but it has forgotten."""
        store = self.random.choice(self.up())
        store.crash(self.random.randrange(store.disk.unsynced + 1))
        self._start(store)
        self.count("crash")

    def restart(self) -> None:
        for store in self.stores.values():
            if store.core is None and self.random.random() < 0.5:
                self._start(store)

    def _start(self, store: Store) -> None:
        """Start a store, which asks for support first of all."""
        store.start()
        for supporter in self.up():
            self._ask(store, supporter, self.random.random() < 0.8)

    def cut_links(self) -> None:
        """Cut single directions, or cut the stores into two sides."""
        self.cut.clear()
        if self.random.random() < 0.6:
            sides = {each: self.random.random() < 0.5 for each in self.stores}
            for source in self.stores:
                for target in self.stores:
                    if sides[source] != sides[target]:
                        self.cut[source, target] = None
            return
        for source in self.stores:
            for target in self.stores:
                if source != target and self.random.random() < 0.2:
                    self.cut[source, target] = None

    def heal_links(self) -> None:
        self.cut.clear()

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    EVENTS = (
        (pass_time, 30),
        (ask_for_support, 16),
        (propose, 16),
        (serve, 12),
        (withdraw_support, 8),
        (change_configuration, 8),
        (end_stream, 6),
        (truncate, 4),
        (read, 2),
        (hand_over, 2),
        (interfere, 2),
        (skip_pre_vote, 3),
        (crash, 2),
        (bounce, 6),
        (restart, 8),
        (cut_links, 1),
        (heal_links, 2),
    )
    PHASE_EVENTS = 50

    # --- A whole run --------------------------------------------------------------------------

    def run(self, events: int) -> None:
        """Let `events` things happen, then heal, and demand rest.

        In each phase some kinds of event are frequent and others rare or absent: that reaches
        corners which an even mix never does.
        """
        actions = [action for action, _ in self.EVENTS]
        for _ in range(0, events, self.PHASE_EVENTS):
            self.arrivals = self.random.choice((0.5, 0.95))
            for store in self.stores.values():
                store.turns = self.random.choice((0.3, 0.9, 0.95))
                store.syncs = self.random.choice((0.05, 0.3, 0.95))
            weights = [weight * self.random.choice((0.2, 1, 1, 3)) for _, weight in self.EVENTS]
            for action in self.random.choices(actions, weights, k=self.PHASE_EVENTS):
                if self.up() or action is World.restart:
                    action(self)
                for _ in range(3):
                    self.go_on()
                    self.check()
        self.heal()

    def check(self) -> None:
        for store in self.stores.values():
            if store.core is not None:
                self.checker.look(store.id, store.incarnation, store.core, store.clock)

    def heal(self) -> None:
        """No more faults: within bounded time the group elects, catches up and falls silent."""
        self.cut.clear()
        for store in self.stores.values():
            if store.core is None:
                store.start()
        for _ in range(400):
            self.calm_round()
            if self.is_at_rest():
                break
        else:
            raise AssertionError("the group does not come to rest after all faults have ended")
        self.checker.at_rest(self.members())
        for store, core in self.leaders():
            if core.replica_id in self.leader_configuration().members:
                assert core.lease_until() > store.clock, "a leader at rest has its lease"

    def calm_round(self) -> None:
        self.now += 50
        for asker in self.stores.values():
            for supporter in self.stores.values():
                self._ask(asker, supporter, answered=True)
        for store in self.stores.values():
            for grant in store.grants.values():
                if grant.live and store.read_clock() > grant.until:
                    grant.live = False
                    grant.epoch = Epoch(grant.epoch + 1)
                    self._notice(store)
        for _ in range(40):
            if not self._calm_step():
                break
            self.check()
        for store in self.stores.values():
            assert store.core is not None
            if store.core.needs_tick:
                store.core.tick()

    def _calm_step(self) -> bool:
        moved = bool(self.flights or self.streams)
        flights, self.flights = self.flights, []
        for flight in flights:
            self.deliver(flight)
        streams, self.streams = self.streams, []
        for stream in streams:
            self._end(stream, ok=True)
        for _, core in self.leaders():
            if core.wants_to_leave_joint:
                new = leaving(core.configuration)
                core.propose_configuration(raft_disk.pack_configuration(new), core.term, new)
        for store in self.stores.values():
            assert store.core is not None
            if store.has_work():
                store.turn()
                moved = True
            if store.unsynced:
                store.sync(len(store.unsynced))
        return moved

    def leader_configuration(self) -> Configuration:
        _, core = max(self.leaders(), key=lambda each: each[1].term)
        return core.configuration

    def members(self) -> list[Store]:
        return [self.stores[each] for each in self.leader_configuration().members]

    def is_at_rest(self) -> bool:
        """One leader, nothing on the way, no joint configuration, and no member wants ticks."""
        if not self.leaders() or self.flights or self.streams:
            return False
        if self.leader_configuration().is_joint:
            return False
        return all(
            store.core is not None and not store.has_work() and not store.core.needs_tick
            for store in self.members()
        )
