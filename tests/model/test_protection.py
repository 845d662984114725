"""No collector reaches a protected time, however late it acts on what it has read."""

import random

from multiraft.ids import Timestamp
from multiraft.model import protection
from multiraft.model.protection import Protection
from multiraft.ranges import protections
from multiraft.ranges.protections import Stored

TTL = Timestamp(6)


class World:
    """One protection that is written and renewed, and collectors that read it and act later."""

    def __init__(self) -> None:
        self.now = 100
        self.stored: tuple[Protection, int] | None = None
        self.granted: Protection | None = None
        self.read: list[tuple[int, list[Stored]]] = []

    def write(self, timestamp: int, lasts: int) -> None:
        continues_until = 0
        if self.stored is not None:
            before, written_at = self.stored
            if before.timestamp <= timestamp and before.is_kept(Timestamp(written_at), TTL):
                continues_until = before.expires
        made = Protection(
            Timestamp(timestamp), Timestamp(self.now + lasts), Timestamp(continues_until)
        )
        # The node that writes it may die before it takes back what it cannot grant.
        self.stored = made, self.now
        self.granted = made if made.is_kept(Timestamp(self.now), TTL) else None

    def step(self, what: str, number: int) -> None:
        if what == "pass":
            self.now += number
        elif what == "read":
            found = [] if self.stored is None else [Stored(b"k", b"", self.stored[0])]
            self.read.append((self.now, found))
            self.now += 1
        elif what == "raise" and self.read:
            at, found = self.read[number % len(self.read)]
            threshold = protections.ceiling(Timestamp(at), found, TTL)
            if self.granted is not None and self.granted.expires >= self.now:
                assert threshold < self.granted.timestamp
        elif what == "protect":
            self.write(self.now - number, 4)
            self.now += 1
        elif what == "renew" and self.stored is not None:
            self.write(self.stored[0].timestamp, number)
            self.now += 1


STEPS = ("pass", "read", "raise", "raise", "protect", "renew", "renew")


def test_whatever_is_granted_stays_above_every_threshold() -> None:
    grants = 0
    for seed in range(2_000):
        rng = random.Random(seed)
        world = World()
        for _ in range(40):
            world.step(rng.choice(STEPS), rng.randint(1, 8))
            grants += world.granted is not None
    assert grants > 10_000


def test_a_protection_has_the_documented_bytes() -> None:
    made = Protection(Timestamp(5), Timestamp(6), Timestamp(7), "me")
    assert protection.pack(made).hex() == "94050607a26d65"
    assert protection.unpack(protection.pack(made)) == made
    assert protection.unpack(bytes.fromhex("920506")) == Protection(Timestamp(5), Timestamp(6))


def test_without_a_time_to_live_everything_is_kept() -> None:
    old = Protection(Timestamp(1), Timestamp(2))
    assert old.is_kept(Timestamp(100), Timestamp(0))
    assert not old.is_kept(Timestamp(100), TTL)
