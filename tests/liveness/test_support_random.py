"""The promise between stores, under everything that can go wrong at once, from seeds.

Three stores; messages are lost, doubled and reordered; disks stall; stores crash, with or without
what was being synced, and stay down for a while; clocks drift, jump while a store runs, and are
set back over restarts. Whatever happens: an epoch that a supporter ever acknowledged until U is
given up by it only at an HLC above U, over restarts of both.
"""

import random
from collections import defaultdict

import pytest

from multiraft import errors
from multiraft.ids import Epoch, NodeId, Timestamp
from multiraft.liveness.messages import SupportMessage
from multiraft.liveness.records import NOTHING, Granted, Stored
from multiraft.liveness.support import Effects, Support
from multiraft.model import hlc
from multiraft.model.hlc import HybridClock

NODES = (NodeId(1), NodeId(2), NodeId(3))
SUPPORT = hlc.from_ms(1_000)
INTERVAL = hlc.from_ms(200)
STEPS = 3_000


class DriftingClock:
    """One machine's wall clock: its own rate, and an error that jumps."""

    def __init__(self, world: "World", rate: float) -> None:
        self._world = world
        self._rate = rate
        self.error_us = 0

    def monotonic(self) -> float:
        return self._world.now_us / 1e6

    def wall_us(self) -> int:
        return 1_000_000_000 + round(self._world.now_us * self._rate) + self.error_us


class Store:
    """A process and its disk. `core` is None while it is down or waits for its clock."""

    def __init__(self, world: "World", node_id: NodeId, clock: DriftingClock) -> None:
        self.world = world
        self.node_id = node_id
        self.clock = clock
        self.asked = NOTHING.asked
        self.granted: dict[NodeId, Granted] = {}
        self.core: Support | None = None
        self.in_flight: Effects | None = None
        self.open()

    def open(self) -> None:
        """Start the process: record the raised epochs, then wait for the clock."""
        self.hlc = HybridClock(self.clock, self.world.offset_ms_max)
        stored = Stored(self.asked, tuple(self.granted.items()))
        self.floor = stored.clock_floor
        self.opening = Support(self.node_id, support=SUPPORT, interval=INTERVAL, stored=stored)
        effects = self.opening.take_effects(self.hlc.now())
        assert effects is not None
        self.save(effects)
        self.opening.synced(effects, self.hlc.now())
        for node in NODES:
            self.opening.add_peer(node)

    def advance(self) -> None:
        if self.core is None:
            if self.hlc.wall() > self.floor:
                self.hlc.forward(self.floor)
                self.core = self.opening
            return
        if self.world.random.random() < 0.7:
            self.core.tick(self.hlc.now())
        else:
            self.core.withdraw_expired(self.hlc.now())
        self.flush()

    def crash(self, *, keep_in_flight: bool) -> None:
        if keep_in_flight and self.in_flight is not None:
            self.save(self.in_flight)
        self.in_flight = None
        self.core = None

    def deliver(self, source: NodeId, clock: Timestamp, message: SupportMessage) -> None:
        if self.core is None:
            return
        try:
            self.hlc.forward_from_peer(clock)
        except errors.ClockOffsetError:
            return
        self.core.receive(source, message, self.hlc.now())
        self.flush()

    def flush(self) -> None:
        assert self.core is not None
        effects = self.core.take_effects(self.hlc.now())
        if effects is not None:
            self.in_flight = effects

    def complete_sync(self) -> None:
        effects, self.in_flight = self.in_flight, None
        if effects is None or self.core is None:
            return
        self.save(effects)
        self.core.synced(effects, self.hlc.now())
        for node, message in effects.messages:
            self.world.post(self.node_id, node, self.hlc.now(), message)
        self.flush()

    def save(self, effects: Effects) -> None:
        if effects.asked is not None:
            self.asked = effects.asked
        self.granted.update(effects.granted)


class World:
    """Everything there is, driven by one random number generator."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = 0
        # Half of the worlds take any clock in, so that the promise is seen to need no bound.
        self.offset_ms_max = self.random.choice((250, 1_000_000))
        self.posts: list[tuple[NodeId, NodeId, Timestamp, SupportMessage]] = []
        self.acknowledged: dict[tuple[NodeId, NodeId], dict[Epoch, Timestamp]] = defaultdict(dict)
        self.counted = 0
        self.ended = 0
        self.stores = {
            node: Store(self, node, DriftingClock(self, self.random.uniform(0.99, 1.01)))
            for node in NODES
        }

    def post(
        self, source: NodeId, target: NodeId, clock: Timestamp, message: SupportMessage
    ) -> None:
        self.posts.append((source, target, clock, message))

    def step(self) -> None:
        rng = self.random
        store = self.stores[rng.choice(NODES)]
        action = rng.random()
        if action < 0.35:
            self.deliver_one()
        elif action < 0.60:
            store.complete_sync()
        elif action < 0.97:
            self.now_us += rng.randrange(60_000)
            store.advance()
        elif action < 0.98:
            self.now_us += rng.randrange(3_000_000)
        elif action < 0.99:
            store.clock.error_us = rng.choice((0, rng.randrange(-2_000_000, 2_000_000)))
        else:
            self.restart(store)
        self.check()

    def deliver_one(self) -> None:
        if not self.posts:
            return
        at = self.random.randrange(len(self.posts))
        source, target, clock, message = self.posts[at]
        if self.random.random() < 0.8:
            self.posts.pop(at)
        if self.random.random() < 0.9:
            self.stores[target].deliver(source, clock, message)

    def restart(self, store: Store) -> None:
        store.crash(keep_in_flight=self.random.random() < 0.5)
        self.now_us += self.random.choice((0, self.random.randrange(2_000_000)))
        if self.random.random() < 0.5:
            store.clock.error_us -= self.random.randrange(2_000_000)
        store.open()

    def check(self) -> None:
        for asker in NODES:
            for supporter in NODES:
                self.note_belief(asker, supporter)
                self.check_promise(asker, supporter)

    def note_belief(self, asker: NodeId, supporter: NodeId) -> None:
        core = self.stores[asker].core
        if core is None:
            return
        epoch, until = core.support_from(supporter)
        promised = self.acknowledged[asker, supporter]
        if until > promised.get(epoch, hlc.ZERO):
            promised[epoch] = until
            self.counted += 1

    def check_promise(self, asker: NodeId, supporter: NodeId) -> None:
        store = self.stores[supporter]
        if store.core is None:
            return  # It neither votes nor sends.
        supported = store.core.support_for(asker)
        for epoch, until in self.acknowledged[asker, supporter].items():
            if epoch == supported:
                assert store.granted[asker].until >= until, "a durable grant is too short"
                continue
            self.ended += 1
            assert store.hlc.last > until, (
                f"n{supporter} gave up epoch {epoch} of n{asker} at {store.hlc.last}, "
                f"before {until}; it supports {supported}"
            )


@pytest.mark.parametrize("seed", range(60))
def test_no_supporter_gives_up_an_epoch_before_its_clock_has_passed_the_end(seed: int) -> None:
    world = World(seed)
    for _ in range(STEPS):
        world.step()


def test_the_random_worlds_give_and_end_support_often() -> None:
    worlds = [World(seed) for seed in range(3)]
    for world in worlds:
        for _ in range(STEPS):
            world.step()
    assert min(world.counted for world in worlds) > 30
    assert min(world.ended for world in worlds) > 30
